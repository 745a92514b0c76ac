"""Where an export goes: a folder that is complete or absent, and never one that holds something else."""

import contextlib
import os
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path

from config import UsageError

PARITY_FILE = "parity.json"
"""In every export, and so the sign of one."""


def check_folders(folders: Iterable[Path]) -> None:
    """Raises a UsageError if something else than an earlier export is where one is to be written."""
    for folder in folders:
        if folder.exists() and not (folder / PARITY_FILE).is_file():
            raise UsageError(f"'{folder}' is no earlier export, and is kept. Move it, or name another --output.")


@contextlib.contextmanager
def complete_folder(folder: Path) -> Iterator[Path]:
    """Gives a folder to fill, and puts it in the place of `folder` once it is complete; leaves nothing if it is not."""
    is_new = not folder.parent.exists()
    folder.parent.mkdir(parents=True, exist_ok=True)
    try:
        with tempfile.TemporaryDirectory(prefix=f".{folder.name}-", dir=folder.parent) as aside:
            new, replaced = Path(aside) / folder.name, Path(aside) / "replaced"
            new.mkdir()  # the temporary folder itself may be read by nobody else
            yield new
            if folder.exists():
                os.replace(folder, replaced)
            os.replace(new, folder)
    finally:
        if is_new:
            with contextlib.suppress(OSError):  # it is not empty
                folder.parent.rmdir()
