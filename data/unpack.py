"""Writes examples that do not come as files into class folders, once; the result is complete or absent."""

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
"""Most bytes of a name: file systems allow 255, and a number may follow."""


def unpack_once(folder: Path, write_files: Callable[[Path], None]) -> Path:
    """Fills `folder` by `write_files(temporary folder)` unless it exists, and returns it.

    The temporary folder is beside it and is renamed when complete; if another process was faster, its folder is used.

    Raises:
        UsageError: the folder is not writable.
        RunError: the disk is full.
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
    """Turns names of classes into names of folders that are distinct, visible and valid on every system."""
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
    """Writes one example as `folder/NUMBER` plus an ending; returns the name of the file."""
    folder.mkdir(parents=True, exist_ok=True)
    name = f"{number:06d}{ending}"
    (folder / name).write_bytes(content)
    return name


def ending_of(picture: bytes) -> str:
    """Returns the file ending for an encoded picture, by its first bytes; '' if they are unknown."""
    return next((ending for magic, ending in _ENDINGS.items() if picture.startswith(magic)), "")


def _as_macos_sees(name: str) -> str:
    """Returns the same text for names that macOS takes as one folder: ignores capitals and how accents are stored."""
    return unicodedata.normalize("NFC", name.casefold())


_ENDINGS = {b"\x89PNG": ".png", b"\xff\xd8": ".jpg", b"GIF8": ".gif", b"BM": ".bmp"}
