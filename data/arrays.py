"""Tensors of many examples, dense or ragged, in memory or in memory-mapped files, which may be larger than memory."""

import math
import mmap
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import numpy as np

from app.errors import RunError, cannot_write

LENGTH_STEP = 4
"""Step of lengths: a batch of ragged rows is padded to a multiple of this, so that few graphs are traced."""


@dataclass(frozen=True, eq=False)
class Ragged:
    """Rows of different lengths, stored one after the other: the words of texts, the frames of recordings."""

    values: np.ndarray
    """The rows as one array, (total length, ...)."""
    offsets: np.ndarray
    """Row i is `values[offsets[i] : offsets[i + 1]]`; int64 (rows + 1,), from 0 to the total length."""

    @classmethod
    def from_rows(cls, rows: Sequence[np.ndarray]) -> "Ragged":
        """Joins rows, each (length, ...), of one dtype."""
        return cls(np.concatenate(rows), np.cumsum([0, *map(len, rows)]))

    @classmethod
    def from_padded(cls, rows: np.ndarray, lengths: np.ndarray) -> "Ragged":
        """Copies padded rows, (n, longest, ...), without their padding."""
        cut = (row[:length] for row, length in zip(rows, lengths, strict=True))
        values = np.concatenate([rows[:0].reshape(0, *rows.shape[2:]), *cut])
        release(rows)
        return cls(values, np.cumsum([0, *lengths], dtype=np.int64))

    def without_last(self) -> "Ragged":
        """Leaves out the last row."""
        return Ragged(self.values[: self.offsets[-2]], self.offsets[:-1])

    @property
    def lengths(self) -> np.ndarray:
        """Length of each row, int64 (rows,)."""
        return np.diff(self.offsets)

    @property
    def shape(self) -> tuple[int | None, ...]:
        """Number of rows, None for their differing lengths, and the shape of each value."""
        return (len(self), None, *self.values.shape[1:])

    @property
    def dtype(self) -> np.dtype:
        return self.values.dtype

    def __len__(self) -> int:
        return len(self.offsets) - 1


Tensor: TypeAlias = np.ndarray | Ragged
"""One value per example, of any dtype: (examples, ...), or rows of different lengths."""


def row_of(tensor: Tensor, row: int) -> np.ndarray:
    """Returns one row of a tensor."""
    return tensor.values[tensor.offsets[row] : tensor.offsets[row + 1]] if isinstance(tensor, Ragged) else tensor[row]


def take_rows(tensor: Tensor, rows: np.ndarray) -> Tensor:
    """Returns some rows of a tensor, int (n,), in the given order, copied to memory."""
    if isinstance(tensor, Ragged):
        lengths = tensor.lengths[rows]
        offsets = np.cumsum([0, *lengths])
        starts = np.repeat(tensor.offsets[rows] - offsets[:-1], lengths)
        taken: Tensor = Ragged(tensor.values[starts + np.arange(offsets[-1])], offsets)
    else:
        taken = tensor[rows]
    release(tensor)
    return taken


def mask_of(lengths: np.ndarray, longest: int) -> np.ndarray:
    """Marks the places that rows fill when padded to `longest`, bool (n, longest)."""
    return np.arange(longest) < lengths[:, None]


def padded(tensor: Ragged, longest: int) -> np.ndarray:
    """Pads rows with zeros, (rows, longest, ...)."""
    dense = np.zeros((len(tensor), longest, *tensor.values.shape[1:]), tensor.dtype)
    dense[mask_of(tensor.lengths, longest)] = tensor.values
    return dense


def joined(tensors: Sequence[Tensor]) -> Tensor:
    """Concatenates the rows of tensors of the same form."""
    if isinstance(tensors[0], Ragged):
        ragged = [tensor for tensor in tensors if isinstance(tensor, Ragged)]
        lengths = np.concatenate([tensor.lengths for tensor in ragged])
        return Ragged(np.concatenate([tensor.values for tensor in ragged]), np.cumsum([0, *lengths]))
    return np.concatenate([np.asarray(tensor) for tensor in tensors])


def rounded_up(lengths: np.ndarray) -> int:
    """Returns the length to which rows of these lengths are padded."""
    return -(-max(1, lengths.max(initial=0)) // LENGTH_STEP) * LENGTH_STEP


def filled(tensors: Sequence[Tensor]) -> tuple[np.ndarray, ...]:
    """Returns the inputs of a network: ragged tensors are padded, and their mask comes last."""
    ragged = [tensor.lengths for tensor in tensors if isinstance(tensor, Ragged)]
    if not ragged:
        return tuple(np.asarray(tensor) for tensor in tensors)
    longest = rounded_up(ragged[0])
    dense = (padded(tensor, longest) if isinstance(tensor, Ragged) else tensor for tensor in tensors)
    return (*dense, mask_of(ragged[0], longest))


def temporary_array(shape: tuple[int, ...], dtype: np.dtype, folder: Path) -> np.ndarray:
    """Makes an array in a nameless file: it takes no memory, and the system deletes it however the process ends.

    Args:
        shape: of the array.
        dtype: of its values.
        folder: where the file takes its space; created if missing.

    Raises:
        UsageError: the folder is not writable.
        RunError: the disk has too little space.
    """
    needed = math.prod(shape) * dtype.itemsize
    try:
        folder.mkdir(parents=True, exist_ok=True)
        free = shutil.disk_usage(folder).free
        if needed > free:
            raise RunError(
                f"The examples need {needed / 2**20:,.0f} MiB in '{folder}', which has {free / 2**20:,.0f} MiB left. "
                f"Make room, choose another --cache-dir or a smaller --image-size."
            )
        with tempfile.TemporaryFile(dir=folder) as file:
            return np.memmap(file, dtype, "w+", shape=shape)
    except OSError as error:
        raise cannot_write("--cache-dir", folder, error) from error


def release(tensor: Tensor) -> None:
    """Drops the pages of a mapped array from the process's memory; they are read again when needed.

    Without this, a file that was read once counts in full as memory of the process. Unmapped arrays stay as they are.
    """
    base: object = tensor.values if isinstance(tensor, Ragged) else tensor
    while isinstance(base, np.ndarray):
        base = base.base
    if isinstance(base, mmap.mmap) and hasattr(mmap, "MADV_DONTNEED"):
        base.madvise(mmap.MADV_DONTNEED)
