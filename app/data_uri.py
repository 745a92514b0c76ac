"""Files inside a page, which then loads nothing."""

import base64


def data_uri(media_type: str, content: bytes) -> str:
    """Returns the content of a file as a data URI, such as that of an 'image/png'."""
    return f"data:{media_type};base64,{base64.b64encode(content).decode()}"
