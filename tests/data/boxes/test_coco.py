"""Files of COCO in all the shapes that tools write."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from data.sources import Source, load_source
from tests.data.boxes.forms import CAT, DOG, as_coco


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
