"""Writes examples that do not come as files into a folder of class folders, once: complete or absent, never half."""

import os
import re
import shutil
import tempfile
import unicodedata
from collections.abc import Callable, Sequence
from pathlib import Path

from app.errors import cannot_write
from data.folder import is_leftover

LONGEST_NAME = 200
"""Most bytes of a name; file systems take 255, and a number may follow."""


def unpack_once(folder: Path, write_files: Callable[[Path], None]) -> Path:
    """Fills `folder` by `write_files(temporary folder)` unless it is there already, and returns it.

    The files are written beside it and renamed when complete; if another process was faster, its folder is taken.

    Raises:
        UsageError: the place cannot be written.
        RunError: its disk is full.
    """
    if folder.is_dir():
        return folder
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    except OSError as error:
        raise cannot_write("--cache-dir", folder.parent, error) from None
    try:
        write_files(temporary)
        try:
            os.replace(temporary, folder)
        except OSError:
            if not folder.is_dir():
                raise
    except OSError as error:
        raise cannot_write("--cache-dir", folder, error) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return folder


def folder_names(class_names: Sequence[str]) -> list[str]:
    """Turns names of classes, any texts, into names of folders: each a visible folder of its own on every system."""
    names, taken = [], set()
    for class_name in class_names:
        text = re.sub(r"[\x00-\x1f\x7f-\x9f/\\]", "_", class_name).encode(errors="replace")
        cleaned = text[:LONGEST_NAME].decode(errors="ignore").strip()
        if not cleaned or is_leftover(cleaned):
            cleaned = f"_{cleaned}"
        name, number = cleaned, 1
        while _as_macos_sees(name) in taken:
            number += 1
            name = f"{cleaned}_{number}"
        taken.add(_as_macos_sees(name))
        names.append(name)
    return names


def write_example(folder: Path, number: int, content: bytes, ending: str) -> str:
    """Writes one example as `folder/NUMBER` with an ending; returns its name."""
    folder.mkdir(parents=True, exist_ok=True)
    name = f"{number:06d}{ending}"
    (folder / name).write_bytes(content)
    return name


def ending_of(picture: bytes) -> str:
    """Returns the ending of an encoded picture's name, by its first bytes; '' if they tell none."""
    return next((ending for magic, ending in _ENDINGS.items() if picture.startswith(magic)), "")


def _as_macos_sees(name: str) -> str:
    """Returns one text for names that are one folder there: capitals do not count, nor how an accent is stored."""
    return unicodedata.normalize("NFC", name.casefold())


_ENDINGS = {b"\x89PNG": ".png", b"\xff\xd8": ".jpg", b"GIF8": ".gif", b"BM": ".bmp"}
