"""Folders of YOLO in all the shapes that its own tools write."""

from pathlib import Path

from data.sources import load_source
from tests.data.boxes.forms import as_yolo


def describe(root: Path, text: str) -> None:
    (root / "data.yaml").write_text(f"names: [cat, dog]\n{text}")


def test_keypoints_after_a_box_are_no_outline(tmp_path):
    root = Path(as_yolo(tmp_path / "data"))
    describe(root, "kpt_shape: [2, 2]\n")
    (root / "labels" / "a.txt").write_text("0 0.5 0.5 0.2 0.2 0.45 0.45 0.55 0.55\n")
    first = load_source(str(root), tmp_path).examples[0]
    assert first.boxes.corners == ((24.0, 16.0, 36.0, 24.0),)
