"""What a run begins with is told; with --strict it begins only if every file of the data can be used."""

import pytest
from PIL import Image

from app.config import TrainConfig
from app.errors import UsageError
from training.inputs import SET_ASIDE_SHOWN, load_inputs
from tuning.inputs import load_candidates, load_search_inputs
from tuning.space import TuneConfig


def settings(root, tmp_path) -> dict:
    return {
        "data": str(root),
        "image_size": 32,
        "cache_dir": tmp_path / "cache",
        "output": tmp_path / "run",
        "strict": True,
    }


def test_the_seed_of_the_split_is_kept_with_the_settings(make_folder, tmp_path):
    root = make_folder()
    for given, kept in (({"seed": 3}, 3), ({"seed": 3, "split_seed": 0}, 0)):
        config = TrainConfig.of(**settings(root, tmp_path), **given)
        assert load_inputs(config).config.to_json()["split_seed"] == kept


@pytest.mark.parametrize(
    ("flags", "told"),
    [
        ({"sensitivity": 0.9}, "0.9 at 95 % confidence takes 29 independent pictures that are 'dog', all"),
        ({"specificity": 0.9}, "at 95 % confidence takes 29 independent pictures that are not 'dog', all"),
        ({"sensitivity": 0.1}, None),  # 2 will do
        ({"threshold": 0.9}, None),
        ({"precision_at_least": 0.9}, None),
    ],
)
def test_a_promise_that_the_measured_split_cannot_show_is_told_before_training(
    make_folder, tmp_path, capsys, flags, told
):
    photos = make_folder(count=10)
    for test_fraction, have in ((0.4, "val has 4 and test has 4"), (0.0, "val has 4")):
        fractions = {"val_fraction": 0.4, "test_fraction": test_fraction}
        load_inputs(TrainConfig.of(**settings(photos, tmp_path), **fractions, **flags))
        shown = " ".join(capsys.readouterr().out.split())
        assert "confidence" not in shown if told is None else f"{told} right; {have}" in shown


def test_strict_ends_with_the_reasons_if_a_picture_is_set_aside(make_folder, tmp_path, capsys):
    root = make_folder()
    for index in range(25):
        (root / "dog" / f"page{index}.jpg").write_text("<html>")
    (root / "cat" / "link.png").symlink_to("/etc/hostname")
    message = r"^--strict lets no picture be set aside; of 'photos' 26 would be, the first 'cat/link.png': a link out"
    with pytest.raises(UsageError, match=message):
        load_inputs(TrainConfig.of(**settings(root, tmp_path)))
    shown = capsys.readouterr().out.splitlines()
    assert "dog/page0.jpg: a web page, not a picture" in [line.strip() for line in shown]
    assert sum(": a " in line and "/" in line for line in shown) == SET_ASIDE_SHOWN
    assert not (tmp_path / "run").exists()


def test_the_positive_class_is_told_and_kept(make_folder, tmp_path, capsys):
    root = make_folder()
    (root / "cat" / "5.png").unlink()
    assert load_inputs(TrainConfig.of(**settings(root, tmp_path))).config.to_json()["positive"] == "cat"
    assert "'cat' is the positive class, the one to find; --positive names another" in capsys.readouterr().out
    named = load_inputs(TrainConfig.of(**settings(root, tmp_path), positive="dog"))
    assert (named.config.data.positive, named.data.class_names) == ("dog", ("cat", "dog"))
    _, searched = load_search_inputs(TuneConfig.of(**settings(root, tmp_path), positive="dog"))
    assert searched[0].config.data.positive == "dog"


def test_strict_lets_good_pictures_pass(make_folder, tmp_path):
    root = make_folder()
    (root / "cat" / ".DS_Store").touch()
    assert load_inputs(TrainConfig.of(**settings(root, tmp_path))).data.quarantine == []


def test_a_search_can_be_strict(make_folder, tmp_path):
    root = make_folder()
    (root / "cat" / "empty.jpg").touch()
    with pytest.raises(UsageError, match=r"1 would be, the first 'cat/empty.jpg': empty file. Repair or remove"):
        load_search_inputs(TuneConfig.of(**settings(root, tmp_path)))


@pytest.mark.parametrize("load", [load_search_inputs, load_candidates])
@pytest.mark.parametrize("place", ["output", "cache_dir"])
def test_a_search_writes_nothing_into_the_data(make_folder, tmp_path, load, place):
    root = make_folder()
    before = sorted(tmp_path.rglob("*"))
    flag = f"--{place.replace('_', '-')}"
    with pytest.raises(UsageError, match=f"{flag} must be outside the folder of --data"):
        load(TuneConfig.of(**{**settings(root, tmp_path), place: root / "cat" / "deep"}))
    assert sorted(tmp_path.rglob("*")) == before


def test_what_was_taken_from_the_training_pictures_is_told(make_folder, tmp_path, capsys):
    root = make_folder()
    for name in ("cat", "dog"):
        (root / "train").mkdir(exist_ok=True)
        (root / name).rename(root / "train" / name)
        (root / "val" / name).mkdir(parents=True)
        (root / "train" / name / "0.png").rename(root / "val" / name / "0.png")
    load_inputs(TrainConfig.of(**settings(root, tmp_path)))
    assert "test taken from the training pictures: the data has none of its own" in capsys.readouterr().out
    load_inputs(TrainConfig.of(**settings(root, tmp_path), test_fraction=0.0))
    assert "taken from" not in capsys.readouterr().out


def test_look_alikes_of_given_splits_are_told_as_what_they_are(make_folder, tmp_path, capsys):
    root = make_folder(count=8)
    for name in ("cat", "dog"):
        for split in ("train", "val", "test"):
            (root / split / name).mkdir(parents=True)
        for index in range(8):
            split = "val" if index == 0 else "test" if index == 1 else "train"
            (root / name / f"{index}.png").rename(root / split / name / f"{index}.png")
        (root / name).rmdir()
    with Image.open(root / "val" / "cat" / "0.png") as picture:
        picture.save(root / "train" / "cat" / "again.jpg", quality=95)
    load_inputs(TrainConfig.of(**(settings(root, tmp_path) | {"strict": False})))
    shown = capsys.readouterr().out
    assert "1 val picture looks like a training picture; the splits are the data's own" in shown
    assert "stay on one side" not in shown


@pytest.mark.parametrize(("groups", "told"), [(3, "1 group"), (6, "2 groups"), (20, None)])
def test_a_split_of_one_or_two_groups_is_told(make_folder, tmp_path, capsys, groups, told):
    root = make_folder(count=20)
    for path in root.glob("*/*.png"):
        path.rename(path.with_stem(f"patient{int(path.stem) % groups}_{path.stem}"))
    fractions = {"val_fraction": 0.3, "test_fraction": 0.3, "group_by": r"(patient\d+)"}
    load_inputs(TrainConfig.of(**settings(root, tmp_path), **fractions))
    shown = " ".join(capsys.readouterr().out.split())
    sentence = f"all of test are of {told}: what is measured there may not hold for others"
    assert f"look like another or share one of {groups} groups; they stay" in shown
    assert sentence in shown if told else "may not hold" not in shown
