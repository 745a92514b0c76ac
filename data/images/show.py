"""Pictures as parts of pages."""

import base64
import io

import numpy as np
from markupsafe import Markup
from PIL import Image

LONGEST_SIDE = 224
"""Larger pictures are shrunk to this for a page, pixels."""
JPEG_QUALITY = 85


def as_html(pixels: np.ndarray, title: str) -> Markup:
    """Returns a picture, uint8 (height, width, 3), as an element of a page that loads nothing."""
    picture = Image.fromarray(np.ascontiguousarray(pixels))
    picture.thumbnail((LONGEST_SIDE, LONGEST_SIDE), Image.Resampling.BOX)
    written = io.BytesIO()
    picture.save(written, "JPEG", quality=JPEG_QUALITY)
    uri = f"data:image/jpeg;base64,{base64.b64encode(written.getvalue()).decode()}"
    return Markup('<img src="{}" alt="{}" loading="lazy">').format(uri, title)
