"""Files of COCO in all the shapes that tools write."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from app.errors import UsageError
from data.sources import Source, load_source
from tests.data.boxes.forms import CAT, DOG, WANTED, as_coco


def load(root: Path, change: Callable[[dict[str, list[dict[str, Any]]]], Any]) -> Source:
    """Changes the content of the file before it is read; its images are a.jpg, b.jpg and c.jpg."""
    path = Path(as_coco(root))
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))
    return load_source(str(path), root)


def test_numbers_of_a_box_may_be_texts(tmp_path):
    def write_texts(content):
        for each in content["annotations"]:
            each["bbox"] = [str(number) for number in each["bbox"]]
        content["annotations"][2]["bbox"][0] = "left"

    source = load(tmp_path / "data", write_texts)
    assert source.examples[0].boxes.corners == (CAT[1], DOG[1])
    assert [reason for _, reason in source.set_aside] == ["box 1 is not four numbers: left, 5.0, 20.0, 20.0"]


def split_entry(content, width: int) -> None:
    """Lists a.jpg a second time, with the second of its boxes, and with the first once more."""
    content["images"].append({**content["images"][0], "id": "again", "width": width, "file_name": "./a.jpg"})
    content["annotations"][1]["image_id"] = "again"
    content["annotations"].append({**content["annotations"][0], "image_id": "again"})


def test_two_entries_of_one_file_are_one_picture_with_the_boxes_of_both(tmp_path):
    source = load(tmp_path / "data", lambda content: split_entry(content, width=60))
    assert [each.path.name for each in source.examples] == ["a.jpg", "b.jpg", "c.jpg"]
    assert source.examples[0].boxes.corners == (CAT[1], DOG[1])


def test_two_entries_of_one_file_that_contradict_each_other_set_it_aside(tmp_path):
    source = load(tmp_path / "data", lambda content: split_entry(content, width=80))
    assert [each.path.name for each in source.examples] == ["b.jpg", "c.jpg"]
    assert [(path.name, reason) for path, reason in source.set_aside] == [
        ("a.jpg", "listed twice, with different sizes")
    ]


def test_a_category_may_be_named_by_the_number_0(tmp_path):
    def name_by_numbers(content):
        for number, category in enumerate(content["categories"]):
            category["name"] = number

    source = load(tmp_path / "data", name_by_numbers)
    assert source.examples[0].boxes.labels == ("0", "1")
    assert source.set_aside == []


def test_an_id_of_two_categories_is_refused(tmp_path):
    with pytest.raises(UsageError, match="must give each category an id of its own; 7 is that of 'cat' and 'cow'"):
        load(tmp_path / "data", lambda content: content["categories"].append({"id": 7.0, "name": "cow"}))


def test_a_category_may_be_listed_twice(tmp_path):
    source = load(tmp_path / "data", lambda content: content["categories"].append({"id": 7, "name": "cat"}))
    assert source.examples[0].boxes.labels == ("cat", "dog")


def test_an_id_may_be_a_number_in_one_place_and_a_text_in_another(tmp_path):
    def mix(content):
        for number, image in enumerate(content["images"]):
            for each in content["annotations"]:
                each["image_id"] = str(number) if each["image_id"] == image["id"] else each["image_id"]
                each["category_id"] = str(each["category_id"])
            image["id"] = number

    source = load(tmp_path / "data", mix)
    assert [each.boxes.labels for each in source.examples] == [("cat", "dog"), ("cat",), ()]
    assert source.set_aside == []


@pytest.mark.parametrize("folder", ["train2017", "images/train2017", "images", "."])
def test_pictures_are_found_where_coco_has_them(tmp_path, folder):
    path = Path(as_coco(tmp_path / "coco"))
    root = tmp_path / "data"
    (root / folder).parent.mkdir(parents=True, exist_ok=True)
    (path.parent / "images").rename(root / folder)
    (root / "annotations").mkdir()
    moved = path.rename(root / "annotations" / "instances_train2017.json")
    source = load_source(str(moved), tmp_path)
    assert {each.path: len(each.boxes.corners) for each in source.examples} == {
        root / folder / name: len(boxes) for name, boxes in WANTED.items()
    }
    assert source.root == root


def test_names_of_files_may_come_from_windows(tmp_path):
    def write_backslashes(content):
        for image in content["images"]:
            image["file_name"] = f".\\images\\{image['file_name']}"

    source = load(tmp_path / "data", write_backslashes)
    assert [each.path for each in source.examples] == [tmp_path / "data" / "images" / name for name in WANTED]
