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


def picture_element(picture: "Image.Image", title: str) -> Markup:
    """Returns a picture as an element of a page, a JPEG."""
    written = io.BytesIO()
    picture.save(written, "JPEG", quality=85)
    uri = data_uri("image/jpeg", written.getvalue())
    return Markup('<img src="{}" alt="{}" loading="lazy">').format(uri, title)
