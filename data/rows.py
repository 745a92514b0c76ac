"""Writes the rows of an array to a file in order, so that another process can resume an interrupted one."""

import json
import math
import os
import struct
import time
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from app.files import write_text
from data.arrays import release

VALUES, PROGRESS = "values.npy", "progress.json"
HEADER_BYTES = 256
"""Length of the header of values.npy: fixed, so that the number of rows can be corrected."""
RECORD_SECONDS = 10.0
"""Seconds between two records of the progress: the most work that a kill costs."""
BLOCK = 2**24
"""Bytes read at once when a file is checked."""


class Writer:
    """Fills an entry from its first row to its last; keeps the rows that an interrupted process has written."""

    values: np.ndarray
    """The whole array, mapped to memory; set when the entry is complete."""

    def __init__(self, folder: Path, shape: Sequence[int], dtype: np.dtype):
        """Opens the files of an entry; resumes those of an earlier process if shape and dtype are the same.

        Args:
            folder: folder of the entry.
            shape: shape of the values.
            dtype: dtype of the values.
        """
        self._folder, self._shape, self._dtype = folder, tuple(shape), dtype
        self._ends_early = False
        self._row_bytes = math.prod(shape[1:]) * dtype.itemsize
        self.rows, self.notes, self.checksum = 0, {}, 0
        path = folder / VALUES
        before = self._read_progress()
        self._file = path.open("r+b" if before else "w+b")
        self._file.write(_header(self._shape, dtype))
        if before:
            self.notes = before["notes"]
            self.rewind(before["rows"])
        self._recorded = time.perf_counter()

    def append(self, rows: np.ndarray) -> None:
        """Adds the next rows."""
        content = np.ascontiguousarray(rows, self._dtype).data
        self._file.write(content)
        self.checksum = zlib.crc32(content, self.checksum)
        self.rows += len(rows)
        if time.perf_counter() - self._recorded >= RECORD_SECONDS:
            self.record_progress()

    def rewind(self, rows: int) -> None:
        """Forgets all but the first rows."""
        self._file.flush()
        self._file.truncate(HEADER_BYTES + rows * self._row_bytes)
        self.checksum = checksum(self._folder / VALUES)
        self._file.seek(0, os.SEEK_END)
        self.rows = rows

    def record_progress(self) -> None:
        """Records the progress, so that another process can resume here."""
        self._file.flush()
        os.fsync(self._file.fileno())
        kind = {"shape": self._shape, "dtype": self._dtype.str}
        write_text(self._folder / PROGRESS, json.dumps({**kind, "rows": self.rows, "notes": self.notes}))
        self._recorded = time.perf_counter()

    def end_here(self) -> None:
        """Shortens the array to the rows written so far."""
        self._ends_early = True

    def complete(self) -> None:
        """Makes sure that all rows are written, and closes the file.

        Raises:
            ValueError: rows are missing.
        """
        if self._ends_early:
            self._file.seek(0)
            self._file.write(_header((self.rows, *self._shape[1:]), self._dtype))
        elif self.rows != self._shape[0]:
            raise ValueError(f"{self._shape[0] - self.rows} rows of the entry are missing")
        self._file.flush()
        os.fsync(self._file.fileno())
        self._file.close()

    def stop(self) -> None:
        """Leaves the rows so far for another process to resume, unless the array is complete."""
        if not self._file.closed:
            self.record_progress()
            self._file.close()

    def close(self) -> None:
        """Closes the file without a check."""
        self._file.close()

    def _read_progress(self) -> dict[str, Any] | None:
        """Reads the progress of an earlier process; None if there was none, or it wrote other values."""
        try:
            before = json.loads((self._folder / PROGRESS).read_text())
            same = before["shape"] == list(self._shape) and before["dtype"] == self._dtype.str
            size = (self._folder / VALUES).stat().st_size
            return before if same and size >= HEADER_BYTES + before["rows"] * self._row_bytes else None
        except (OSError, ValueError, KeyError, TypeError):
            return None


class ArrayWriter:
    """Fills an array in place of an entry, see `Writer`, if the store has no room."""

    def __init__(self, values: np.ndarray):
        """Starts at the first row."""
        self.values = values
        self.rows = 0
        self.notes: dict[str, Any] = {}

    def append(self, rows: np.ndarray) -> None:
        """Adds the next rows."""
        self.values[self.rows : self.rows + len(rows)] = rows
        self.rows += len(rows)
        release(self.values)


def checksum(file: Path) -> int:
    """Returns the CRC-32 of the values in a file that `Writer` wrote."""
    found = 0
    with file.open("rb") as stream:
        stream.seek(HEADER_BYTES)
        while block := stream.read(BLOCK):
            found = zlib.crc32(block, found)
    return found


def _header(shape: Sequence[int], dtype: np.dtype) -> bytes:
    """Returns the header of a .npy file of version 2, padded with spaces."""
    described = {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False, "shape": tuple(shape)}
    start = np.lib.format.magic(2, 0)
    length = HEADER_BYTES - len(start) - 4
    return start + struct.pack("<I", length) + repr(described).ljust(length - 1).encode() + b"\n"
