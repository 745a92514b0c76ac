"""Pictures are opened as one looks at them."""

from pathlib import Path

from PIL import Image

from inference.drawing import open_upright


def test_a_picture_is_shown_upright_and_in_colour(tmp_path: Path):
    turned = Image.Exif()
    turned[0x0112] = 6  # to be rotated by 90 degrees
    Image.new("L", (40, 20)).save(tmp_path / "grey.jpg", exif=turned)
    shown = open_upright(tmp_path / "grey.jpg")
    assert (shown.size, shown.mode) == ((20, 40), "RGB")
