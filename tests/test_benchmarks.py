"""What the benchmarks compare on: every side has the same pictures in the same splits."""

from benchmarks.processes import link_pictures, load_pictures, our_command
from cli import parse_config
from training.inputs import load_inputs


def test_linked_pictures_are_the_same_in_the_same_splits(make_folder, tmp_path):
    made = load_pictures(str(make_folder()), "mobilenet", "none", 32, tmp_path / "scratch")
    link_pictures(made, tmp_path / "linked")
    _, script, *flags = our_command("train.py", made, tmp_path / "linked", seed=3)
    assert script.endswith("train.py")
    linked = load_inputs(parse_config([*flags, "--cache-dir", str(tmp_path / "cache")]))
    for split in ("train", "val"):
        of_made, of_linked = ({each.data.digests[row] for row in each.data.splits[split]} for each in (made, linked))
        assert of_linked == of_made != set()
    assert len(linked.data.splits["test"]) == 0
    assert linked.data.quarantine == []
