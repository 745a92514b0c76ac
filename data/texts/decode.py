"""Reads one text in UTF-8, or in UTF-16 or UTF-32 with a byte order mark."""

import re
from collections.abc import Iterable

from data.content import UnreadableError, content_of
from data.encoding import encoding_of
from data.kinds import Content

CONTROL = re.compile(r"[\x00-\x08\x0e-\x1b\x7f]")
"""Characters that only binary files contain."""


def decode_text(content: bytes) -> str:
    """Reads a text unchanged.

    Raises:
        UnreadableError: the text is empty or blank, in another encoding, or the file is not a text.
    """
    if not content:
        raise UnreadableError("empty")
    try:
        text = content.decode(encoding_of(content))
    except UnicodeDecodeError:
        raise UnreadableError("not UTF-8") from None
    if CONTROL.search(text):
        raise UnreadableError("control characters")
    if not text.strip():
        raise UnreadableError("only white space")
    return text


def texts_of(places: Iterable[Content]) -> list[str]:
    """Reads texts that are known to be readable."""
    texts = []
    for place in places:
        with content_of(place) as content:
            texts.append(decode_text(content))
    return texts
