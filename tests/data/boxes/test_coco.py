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
