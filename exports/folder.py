"""Writes folders of exports: complete or absent, and never over other files."""

import contextlib
import glob
import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path

from filelock import FileLock

from app.errors import RunError, UsageError
from app.files import is_full_disk

PARITY_FILE = "parity.json"
"""File of every export, by which an earlier one is recognised."""
_LOCK, _REPLACED = "lock", "replaced"
"""Files beside the new export: a lock that its process holds, and the earlier export while it is replaced."""


def check_folders(folders: Iterable[Path]) -> None:
    """Raises a UsageError if a folder to write holds anything but an earlier export."""
    for folder in folders:
        if folder.exists() and not (folder / PARITY_FILE).is_file():
            raise UsageError(f"'{folder}' is not an earlier export, and is kept. Move it, or name another --output.")


@contextlib.contextmanager
def complete_folder(folder: Path) -> Iterator[Path]:
    """Yields a folder to fill, which replaces `folder` after the block; an error leaves nothing.

    Raises:
        RunError: the disk is full.
    """
    is_new = not folder.parent.exists()
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        _clear_abandoned(folder)
        with (
            tempfile.TemporaryDirectory(prefix=f".{folder.name}-", dir=folder.parent) as aside,
            FileLock(Path(aside) / _LOCK),  # shows that this process is alive
        ):
            new, replaced = Path(aside) / folder.name, Path(aside) / _REPLACED
            new.mkdir()  # other users may not read the temporary folder itself
            yield new
            if folder.exists():
                os.replace(folder, replaced)
            os.replace(new, folder)
    except Exception as error:
        if is_full_disk(error):
            raise RunError(f"The disk of '{folder}' is full. Make room, or choose another --output.") from error
        raise
    finally:
        if is_new:
            with contextlib.suppress(OSError):  # not empty, or never made
                folder.parent.rmdir()


def _clear_abandoned(folder: Path) -> None:
    """Deletes files that killed processes left beside an export, and restores an export that they had moved there."""
    for lock_file in folder.parent.glob(f".{glob.escape(folder.name)}-*/{_LOCK}"):
        with contextlib.suppress(OSError), FileLock(lock_file, timeout=0):  # held by a process at work, or gone by now
            if not folder.exists() and (lock_file.parent / _REPLACED).exists():
                os.replace(lock_file.parent / _REPLACED, folder)
            shutil.rmtree(lock_file.parent)
