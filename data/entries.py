"""An entry of the store as it lies on the disk: a folder, complete or half written."""

import contextlib
import os
import shutil
from pathlib import Path
from typing import NamedTuple

import numpy as np

from data.rows import VALUES

RECORD = "entry.json"
"""File in an entry that is complete."""
PARTIAL = ".partial"
"""End of the name of a folder that is half written."""


class Entry(NamedTuple):
    """An entry, complete or half written."""

    folder: Path
    title: str
    size: int
    """Bytes."""
    last_used: float
    """Seconds since 1970."""


def freed(entry: Entry) -> int:
    """Returns the bytes of the disk that are free when an entry is deleted."""
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
    """Deletes an entry, or what is half written of it; a process that is killed here leaves it half written.

    Args:
        folder: whose lock is held; nothing happens if it is not there.
    """
    partial = folder.with_suffix(PARTIAL)
    with contextlib.suppress(FileNotFoundError):
        if not partial.exists():
            os.replace(folder, partial)
            folder = partial
        shutil.rmtree(folder)


_MAPPED: set[Path] = set()
"""Entries that this process reads: to delete them frees no disk before it ends."""
