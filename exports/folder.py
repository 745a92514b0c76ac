"""Where an export goes: a folder that is complete or absent, and never one that holds something else."""

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
"""In every export, and so the sign of one."""
_LOCK, _REPLACED = "lock", "replaced"
"""Beside what is written: a lock that its process holds, and the earlier export while the new one takes its place."""


def check_folders(folders: Iterable[Path]) -> None:
    """Raises a UsageError if something else than an earlier export is where one is to be written."""
    for folder in folders:
        if folder.exists() and not (folder / PARITY_FILE).is_file():
            raise UsageError(f"'{folder}' is no earlier export, and is kept. Move it, or name another --output.")


@contextlib.contextmanager
def complete_folder(folder: Path) -> Iterator[Path]:
    """Gives a folder to fill, and puts it in the place of `folder` once it is complete; leaves nothing if it is not.

    Raises:
        RunError: the disk is full.
    """
    is_new = not folder.parent.exists()
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        _clear_abandoned(folder)
        with (
            tempfile.TemporaryDirectory(prefix=f".{folder.name}-", dir=folder.parent) as aside,
            FileLock(Path(aside) / _LOCK),  # says that this process lives
        ):
            new, replaced = Path(aside) / folder.name, Path(aside) / _REPLACED
            new.mkdir()  # the temporary folder itself may be read by nobody else
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
            with contextlib.suppress(OSError):  # it is not empty, or was never made
                folder.parent.rmdir()


def _clear_abandoned(folder: Path) -> None:
    """Deletes what killed processes left beside an export; an earlier one that was moved there comes back."""
    for lock_file in folder.parent.glob(f".{glob.escape(folder.name)}-*/{_LOCK}"):
        with contextlib.suppress(OSError), FileLock(lock_file, timeout=0):  # held by a process at work, or gone by now
            if not folder.exists() and (lock_file.parent / _REPLACED).exists():
                os.replace(lock_file.parent / _REPLACED, folder)
            shutil.rmtree(lock_file.parent)
