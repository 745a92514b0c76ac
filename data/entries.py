"""Entries of the store on the disk: each is a folder, complete or partly written."""

import contextlib
import os
import shutil
from pathlib import Path
from typing import NamedTuple

import numpy as np

from data.rows import VALUES

RECORD = "entry.json"
"""File that only a complete entry has."""
PARTIAL = ".partial"
"""End of the name of a partly written folder."""


class Entry(NamedTuple):
    """An entry, complete or partly written."""

    folder: Path
    title: str
    size: int
    """Bytes."""
    last_used: float
    """Seconds since 1970."""


def freed(entry: Entry) -> int:
    """Returns the bytes of the disk that deleting an entry frees."""
    return 0 if entry.folder in _MAPPED else entry.size


def disk_size(folder: Path) -> int:
    """Returns the bytes of the files in a folder; another process may delete them at any time."""
    size = 0
    for file in folder.glob("*"):
        with contextlib.suppress(FileNotFoundError):
            size += file.stat().st_size
    return size


def map_values(folder: Path) -> np.ndarray:
    """Maps the values of an entry to memory, read-only."""
    _MAPPED.add(folder)
    return np.load(folder / VALUES, mmap_mode="r")


def remove_folder(folder: Path) -> None:
    """Deletes an entry, complete or partly written; after a kill in between, it counts as partly written.

    Args:
        folder: of the entry, whose lock the caller holds; a missing folder is no error.
    """
    partial = folder.with_suffix(PARTIAL)
    with contextlib.suppress(FileNotFoundError):
        if not partial.exists():
            os.replace(folder, partial)
            folder = partial
        shutil.rmtree(folder)


_MAPPED: set[Path] = set()
"""Entries that this process has mapped: deleting them frees the disk only when the process ends."""
