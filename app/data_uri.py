"""Embeds files in a page as data URIs, so that the page loads nothing."""

import base64
import io
from typing import TYPE_CHECKING

from markupsafe import Markup

if TYPE_CHECKING:
    from PIL import Image


def data_uri(media_type: str, content: bytes) -> str:
    """Returns the content of a file as a data URI, such as that of an 'image/png'."""
    return f"data:{media_type};base64,{base64.b64encode(content).decode()}"


def picture_uri(picture: "Image.Image", file_format: str = "PNG") -> str:
    """Returns a picture as a data URI."""
    written = io.BytesIO()
    picture.save(written, file_format, quality=85)
    return data_uri(f"image/{file_format.lower()}", written.getvalue())


def picture_element(picture: "Image.Image", title: str) -> Markup:
    """Returns a picture as an element of a page, a JPEG."""
    return Markup('<img src="{}" alt="{}" loading="lazy">').format(picture_uri(picture, "JPEG"), title)
