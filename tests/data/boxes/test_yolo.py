"""Folders of YOLO in all the shapes that its own tools write."""

from pathlib import Path

import pytest

from app.errors import UsageError
from data.sources import LINK_OUT, load_source
from tests.data.boxes.forms import WANTED, as_yolo


def describe(root: Path, text: str) -> None:
    (root / "data.yaml").write_text(f"names: [cat, dog]\n{text}")


def counts(root: Path) -> dict[str, int]:
    """Returns the number of boxes of each picture."""
    return {each.path.name: len(each.boxes.labels) for each in load_source(str(root), root.parent).examples}


ALL = {name: len(boxes) for name, boxes in WANTED.items()}


def test_keypoints_after_a_box_are_no_outline(tmp_path):
    root = Path(as_yolo(tmp_path / "data"))
    describe(root, "kpt_shape: [2, 2]\n")
    (root / "labels" / "a.txt").write_text("0 0.5 0.5 0.2 0.2 0.45 0.45 0.55 0.55\n")
    first = load_source(str(root), tmp_path).examples[0]
    assert first.boxes.corners == ((24.0, 16.0, 36.0, 24.0),)


def test_a_split_may_be_a_list_of_pictures(tmp_path):
    root = Path(as_yolo(tmp_path / "data"))
    describe(root, "train: lists/train.txt\nval: lists/val.txt\n")
    (root / "lists").mkdir()
    (root / "lists" / "train.txt").write_text(
        "images/a.jpg\n\n./../images/b.jpg\n./../images/a.jpg\nimages\\a.jpg\nimages/a.txt\n"
    )
    (root / "lists" / "val.txt").write_text(f"{root}/images/c.jpg\nimages/gone.jpg", encoding="utf-16")
    source = load_source(str(root), tmp_path)
    found = [(each.path.name, each.split, len(each.boxes.labels)) for each in source.examples]
    assert found == [("a.jpg", "train", 2), ("b.jpg", "train", 1), ("c.jpg", "val", 0), ("gone.jpg", "val", 0)]
    reason = "names 1 file that is not a picture, the first 'images/a.txt'"
    assert source.set_aside == [(root / "lists" / "train.txt", reason)]


def test_a_list_that_leads_out_of_the_folder_is_refused(tmp_path):
    root = Path(as_yolo(tmp_path / "data"))
    describe(root, "train: train.txt\n")
    (tmp_path / "secret.txt").write_text("password hunter2")
    (root / "train.txt").symlink_to(tmp_path / "secret.txt")
    with pytest.raises(UsageError, match=f"must be a list of pictures; it cannot be read: {LINK_OUT}"):
        load_source(str(root), tmp_path)


def test_a_split_that_is_not_there_is_told(tmp_path):
    root = Path(as_yolo(tmp_path / "data"))
    describe(root, "train: train.txt\n")
    with pytest.raises(UsageError, match=r"that its data.yaml names; there is no 'train\.txt'\.$"):
        load_source(str(root), tmp_path)


def test_a_folder_called_images_above_the_data_has_no_labels(tmp_path):
    root = Path(as_yolo(tmp_path / "images" / "data"))
    (root / "images").rename(root / "train")
    describe(root, "train: train\n")
    for file in (root / "labels").iterdir():
        file.rename(root / "train" / file.name)
    other = tmp_path / "labels" / "data" / "train"
    other.mkdir(parents=True)
    (other / "c.txt").write_text("0 0.5 0.5 0.1 0.1\n")
    assert counts(root) == ALL


def test_labels_may_be_beside_pictures_in_a_folder_called_images(tmp_path):
    root = Path(as_yolo(tmp_path / "data"))
    for file in (root / "labels").iterdir():
        file.rename(root / "images" / file.name)
    assert counts(root) == ALL


def test_an_empty_file_of_labels_says_that_there_are_no_boxes(tmp_path):
    root = Path(as_yolo(tmp_path / "data"))
    (root / "labels" / "b.txt").rename(root / "images" / "b.txt")
    (root / "labels" / "b.txt").touch()
    assert counts(root) == {**ALL, "b.jpg": 0}


@pytest.mark.parametrize("text", ["name: pets\nsource: web\n", "# names: none\nfile_names: [a, b]\nfunc: 3\n"])
def test_a_yaml_file_that_names_no_classes_is_not_of_yolo(make_folder, tmp_path, text):
    root = make_folder()
    (root / "dataset.yaml").write_text(text)
    assert not load_source(str(root), tmp_path).has_boxes


@pytest.mark.parametrize(
    "text", ["names: [cat, dog]", "{'train': images, 'names': [cat, dog]}", "names:\n- cat\n- dog"]
)
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_a_yaml_file_that_names_classes_is_of_yolo(tmp_path, text, encoding):
    root = Path(as_yolo(tmp_path / "data"))
    (root / "data.yaml").write_text("source: web\n")
    (root / "dataset.yaml").write_text(text, encoding=encoding)
    assert counts(root) == ALL


def test_a_file_with_the_number_of_classes_alone_is_told_to_name_them(tmp_path):
    root = Path(as_yolo(tmp_path / "data"))
    (root / "data.yaml").write_text("nc: 2\n")
    with pytest.raises(UsageError, match="must name the classes"):
        load_source(str(root), tmp_path)
