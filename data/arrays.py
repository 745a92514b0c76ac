"""Arrays in files, larger than memory: numpy maps them, and what was read is let go of again."""

import math
import mmap
import shutil
import tempfile
from pathlib import Path

import numpy as np

from app.errors import RunError, cannot_write


def temporary_array(shape: tuple[int, ...], dtype: np.dtype, folder: Path) -> np.ndarray:
    """Makes an array in a file without a name: memory stays free, and nothing is left however the process ends.

    Args:
        shape: of the array.
        dtype: of its values.
        folder: where the file takes its space; made if it is not there.

    Raises:
        UsageError: the folder cannot be written.
        RunError: it has too little space.
    """
    needed = math.prod(shape) * dtype.itemsize
    try:
        folder.mkdir(parents=True, exist_ok=True)
        free = shutil.disk_usage(folder).free
        if needed > free:
            raise RunError(
                f"The pictures need {needed / 2**20:,.0f} MiB in '{folder}', which has {free / 2**20:,.0f} MiB left. "
                f"Make room, choose another --cache-dir or a smaller --image-size."
            )
        with tempfile.TemporaryFile(dir=folder) as file:
            return np.memmap(file, dtype, "w+", shape=shape)
    except OSError as error:
        raise cannot_write("--cache-dir", folder, error) from error


def release(array: np.ndarray) -> None:
    """Takes the pages of a mapped array out of the process's memory; they are read again when they are needed.

    Without this, a pass over a file counts all of it as memory of the process. Other arrays stay as they are.
    """
    base: object = array
    while isinstance(base, np.ndarray):
        base = base.base
    if isinstance(base, mmap.mmap) and hasattr(mmap, "MADV_DONTNEED"):
        base.madvise(mmap.MADV_DONTNEED)
