"""What the terminal tells about pictures with boxes before training."""

from pathlib import Path

from app.config import TrainConfig
from tests.conftest import make_picture
from training.inputs import load_inputs

TRAIN = {f"{number}.png": ("cat",) for number in range(20)}


def told(tmp_path: Path, capsys, labels: dict[str, tuple[str, ...]], split: dict[str, str]) -> str:
    """Returns what a run shows about a table of pictures with the classes of their boxes."""
    rows = ["path,label,x1,y1,x2,y2,split"]
    for number, (name, classes) in enumerate(labels.items()):
        make_picture(number, size=(60, 40)).save(tmp_path / name)
        where = split.get(name, "train")
        rows += [f"{name},{label},5,5,25,25,{where}" for label in classes] or [f"{name},,,,,,{where}"]
    (tmp_path / "boxes.csv").write_text("\n".join(rows))
    config = TrainConfig.of(
        data=str(tmp_path / "boxes.csv"), image_size=64, weights="none", val_fraction=0, cache_dir=tmp_path / "cache"
    )
    load_inputs(config)
    return " ".join(capsys.readouterr().out.split())


def test_pictures_without_boxes_are_counted(tmp_path, capsys):
    labels = {**TRAIN, "3.png": (), "4.png": (), "test.png": ("cat",)}
    shown = told(tmp_path, capsys, labels, {"test.png": "test"})
    assert "2 of 21 pictures have no box; they count as background" in shown
    assert "warning" not in shown


def test_nothing_is_told_if_every_picture_has_a_box(tmp_path, capsys):
    assert "no box" not in told(tmp_path, capsys, {**TRAIN, "test.png": ("cat",)}, {"test.png": "test"})


def test_a_split_without_boxes_is_a_warning(tmp_path, capsys):
    shown = told(tmp_path, capsys, {**TRAIN, "test.png": ()}, {"test.png": "test"})
    assert "1 of 21 pictures has no box; it counts as background" in shown
    assert "warning no picture of test has a box, so test measures nothing: add its annotations" in shown


def test_uneven_classes_of_boxes_come_without_advice_that_is_refused(tmp_path, capsys):
    shown = told(tmp_path, capsys, {**TRAIN, "3.png": ("cat", "dog"), "test.png": ("cat",)}, {"test.png": "test"})
    assert "'cat' has 20 training pictures and 'dog' 1: look at the AP of each class in the report" in shown
    assert "--class-weights" not in shown
