"""Recognises the encoding of a text by its first bytes."""

import codecs
from pathlib import Path

MARKS = {
    codecs.BOM_UTF8: "utf-8-sig",
    codecs.BOM_UTF32_LE: "utf-32",
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}
"""Byte order marks, the longer ones first, and their encodings."""


def encoding_of(start: bytes) -> str:
    """Returns the encoding of a text, given its first bytes: UTF-8 if no mark says otherwise."""
    return next((encoding for mark, encoding in MARKS.items() if start.startswith(mark)), "utf-8")


def encoding_of_file(path: Path) -> str:
    """Returns the encoding of a file; see `encoding_of`."""
    with path.open("rb") as file:
        return encoding_of(file.read(4))
