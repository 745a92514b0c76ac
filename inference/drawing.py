"""Opens pictures as one looks at them, and draws boxes on them."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import matplotlib
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from data.images.decode import to_rgb, turn_upright

COLOURS = ("#d1603d", "#3e6a94", "#5c9a72", "#8d6cab", "#bf9433", "#3f95a6")
"""Colours of classes, by their number."""
FONT = Path(matplotlib.get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf"
"""Font of the names on boxes, as in the report's figures; Pillow's own font has Latin letters alone."""


class Drawn(NamedTuple):
    """A box to draw."""

    corners: np.ndarray
    """x1, y1, x2, y2, pixels of the picture."""
    colour: str
    text: str = ""


def open_upright(path: Path | str) -> Image.Image:
    """Opens a whole picture upright, as its EXIF orientation says, and in RGB."""
    with Image.open(path) as picture:
        turn_upright(picture)
        return to_rgb(picture, picture.format)


def draw_boxes(picture: Image.Image | np.ndarray, boxes: Sequence[Drawn]) -> Image.Image:
    """Returns a copy of a picture, in RGB, with boxes and their texts on it."""
    drawn = Image.fromarray(np.ascontiguousarray(picture)) if isinstance(picture, np.ndarray) else picture
    drawn = drawn.convert("RGB")
    canvas = ImageDraw.Draw(drawn)
    line = max(1, round(max(drawn.size) / 300))
    font = ImageFont.truetype(FONT, max(10, round(max(drawn.size) / 40)))
    for box in boxes:
        canvas.rectangle([*box.corners], outline=box.colour, width=line)
        if box.text:
            x, y = box.corners[:2]
            x = max(0, min(x, drawn.width - math.ceil(font.getlength(box.text))))  # as a whole, if it fits
            left, top, right, bottom = canvas.textbbox((x, y), box.text, font=font)
            up = min(bottom - top + 2 * line, y)
            canvas.rectangle([left, top - up, right, bottom - up], fill=box.colour)
            canvas.text((x, y - up), box.text, fill="white", font=font)
    return drawn
