"""Pictures are opened as one looks at them."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from inference.drawing import Drawn, draw_boxes, open_upright


def test_a_picture_is_shown_upright_and_in_colour(tmp_path: Path):
    turned = Image.Exif()
    turned[0x0112] = 6  # to be rotated by 90 degrees
    Image.new("L", (40, 20)).save(tmp_path / "grey.jpg", exif=turned)
    shown = open_upright(tmp_path / "grey.jpg")
    assert (shown.size, shown.mode) == ((20, 40), "RGB")


@pytest.mark.parametrize("names", [("кот", "пёс"), ("γάτα", "σκύλος"), ("חתול", "כלב")])
def test_names_of_other_alphabets_are_drawn_with_their_letters(names):
    drawn = [draw_boxes(Image.new("RGB", (400, 100)), [box(20, "red", name)]) for name in names]
    assert np.any(np.asarray(drawn[0]) != np.asarray(drawn[1]))
    missing = draw_boxes(Image.new("RGB", (400, 100)), [box(20, "red", "\U000f0000" * len(names[0]))])
    assert np.any(np.asarray(drawn[0]) != np.asarray(missing))


def test_a_name_at_the_right_edge_is_drawn_as_a_whole():
    pictures = [draw_boxes(Image.new("RGB", (400, 100)), [box(left, "red", "a long name 97%")]) for left in (20, 390)]
    white = [np.argwhere(np.asarray(picture).min(axis=2) > 128) for picture in pictures]
    assert len(white[0]) == len(white[1]) > 50


def box(left: int, colour: str, text: str) -> Drawn:
    return Drawn(np.array([left, 50, left + 10, 90]), colour, text)
