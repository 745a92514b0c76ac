"""Arrays on disk that can be computed again, found by what they were computed from.

An entry is a folder named by the hash of its description: `values.npy`, which numpy maps to memory, and `entry.json`,
which says what it is. It is written aside and renamed when complete, so it is there as a whole or not at all, however
the process ends; a lock lets one process compute what others wait for. What was unused for longest makes room first.
"""

import contextlib
import errno
import hashlib
import json
import os
import shutil
import time
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Self

import numpy as np
from filelock import FileLock, Timeout

from config import UsageError
from terminal import show_stage

FORMAT = 1
"""Part of every description: raise it when entries of before can no longer be used."""
BLOCK = 2**24
"""Bytes read at once when an entry is checked."""
NAME_LENGTH = 32
"""Letters of an entry's name; nothing else in the folder has as many."""
PARTIAL = ".partial"
SPARE = 2**30
"""Bytes of the disk that are never filled."""

Description = dict[str, Any]
"""Everything that can change a value of an entry, as JSON has it."""


class Stored(NamedTuple):
    """The values of an entry."""

    values: np.ndarray
    """Mapped to memory, read-only."""
    seconds: float
    """How long it took to compute them."""


class Entry(NamedTuple):
    """What is in the store."""

    folder: Path
    title: str
    size: int
    """Bytes."""
    last_used: float
    """Seconds since 1970."""


class Writer:
    """Fills an entry from its first row to its last; only a complete one becomes part of the store."""

    def __init__(self, path: Path, shape: Sequence[int], dtype: np.dtype):
        self._file = path.open("wb")
        header = {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False, "shape": tuple(shape)}
        np.lib.format.write_array_header_2_0(self._file, header)
        self._dtype = dtype
        self._missing = shape[0]
        self.checksum = 0

    def append(self, rows: np.ndarray) -> None:
        """Adds the next rows."""
        content = np.ascontiguousarray(rows, self._dtype)
        self._file.write(content)
        self.checksum = zlib.crc32(content, self.checksum)
        self._missing -= len(rows)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, error: type | None, *_) -> None:
        with self._file:
            if error is None:
                self._file.flush()
                os.fsync(self._file.fileno())
        if error is None and self._missing:
            raise ValueError(f"{self._missing} rows of the entry are missing")


class MemoryWriter:
    """Takes rows as `Writer` does, for which the store has no room."""

    def __init__(self, shape: Sequence[int], dtype: np.dtype):
        self.values = np.empty(shape, dtype)
        self._filled = 0

    def append(self, rows: np.ndarray) -> None:
        """Adds the next rows."""
        self.values[self._filled : self._filled + len(rows)] = rows
        self._filled += len(rows)


def open_store(cache_dir: Path, cache_gb: float) -> "Store":
    """Opens the store of a cache folder; the arguments are settings of `config.TrainConfig`, explained there."""
    return Store(cache_dir / "features", round(cache_gb * 1e9))


class Store:
    """Entries in a folder, within a limit."""

    def __init__(self, folder: Path, limit: int):
        """Opens a store.

        Args:
            folder: made when something is written.
            limit: bytes that its entries may take together; 0 keeps nothing.
        """
        self.folder = folder
        self.limit = limit

    def load(self, description: Description, check: bool = True) -> Stored | None:
        """Returns the values of an entry; None if there is no such entry.

        Args:
            description: of the entry.
            check: whether to read all of it; if it is damaged, it is deleted, with a warning.
        """
        folder = self._folder_of(description)
        try:
            record = json.loads((folder / "entry.json").read_text())
            if check and _checksum(folder / "values.npy") != record["checksum"]:
                raise ValueError("its checksum is wrong")
            stored = Stored(np.load(folder / "values.npy", mmap_mode="r"), record["seconds"])
            os.utime(folder / "entry.json")
        except FileNotFoundError:
            if not folder.exists():
                return None
            reason = "a file of it is missing"
        except (OSError, ValueError, KeyError, TypeError) as error:
            reason = str(error)
        else:
            return stored
        show_stage("warning", f"a stored entry is damaged and will be computed again ({reason})")
        _remove(folder)
        return None

    @contextlib.contextmanager
    def writing(
        self, description: Description, title: str, shape: Sequence[int], dtype: np.typing.DTypeLike
    ) -> Iterator[Writer]:
        """Adds an entry; it is complete when the block ends, and absent if the block fails.

        Args:
            description: by which it is found.
            title: what a list of entries shows.
            shape: of the values.
            dtype: of the values.
        """
        started = time.perf_counter()
        folder = self._folder_of(description)
        partial = folder.with_suffix(f".{os.getpid()}{PARTIAL}")
        _remove(partial)  # of a process of the same number, as they all are in a container
        partial.mkdir(parents=True)
        try:
            with Writer(partial / "values.npy", shape, np.dtype(dtype)) as writer:
                yield writer
            seconds = time.perf_counter() - started
            record = {"title": title, "seconds": seconds, "checksum": writer.checksum, "description": description}
            (partial / "entry.json").write_text(json.dumps(record, indent=2))
            os.replace(partial, folder)
        except OSError as error:
            if error.errno == errno.ENOSPC:
                raise UsageError(f"The disk of --cache-dir is full, '{self.folder}'. Make room.") from error
            if not folder.exists():  # else another process was faster, and its entry is as good
                raise
        finally:
            _remove(partial)

    @contextlib.contextmanager
    def locked(self, descriptions: Sequence[Description]) -> Iterator[None]:
        """Keeps other processes from computing the same entries; waits for one that already does."""
        with contextlib.ExitStack() as locks:
            # In one order, so that no two processes wait for each other.
            for name in sorted(self._folder_of(description).name for description in descriptions):
                lock = self._lock(name)
                try:
                    lock.acquire(timeout=0)
                except Timeout:
                    show_stage("features", "another run computes the same features; waiting for it")
                    lock.acquire()
                locks.callback(lock.release)
            yield

    def has_room(self, needed: int) -> bool:
        """Whether `needed` bytes would fit, if everything else were deleted."""
        return needed <= min(self.limit, self._free() + sum(entry.size for entry in self.entries()))

    def make_room(self, needed: int) -> bool:
        """Deletes what was unused for longest until `needed` bytes fit; False, and nothing deleted, if they cannot."""
        if not self.has_room(needed):
            return False
        self._remove_abandoned()
        entries, free = self.entries(), self._free()
        used = sum(entry.size for entry in entries)
        for entry in entries:
            if used + needed <= self.limit and needed <= free:
                break
            _remove(entry.folder)
            used, free = used - entry.size, free + entry.size
        return True

    def entries(self) -> list[Entry]:
        """Everything in the store, longest unused first."""
        entries = []
        for folder in self.folder.glob("?" * NAME_LENGTH):
            size = sum(file.stat().st_size for file in folder.glob("*"))
            try:
                title = json.loads((folder / "entry.json").read_text())["title"]
                entries.append(Entry(folder, title, size, (folder / "entry.json").stat().st_mtime))
            except (OSError, ValueError, KeyError, TypeError):
                entries.append(Entry(folder, "damaged", size, last_used=0.0))
        return sorted(entries, key=lambda entry: entry.last_used)

    def clear(self) -> None:
        """Deletes every entry."""
        for entry in self.entries():
            _remove(entry.folder)
        self._remove_abandoned()

    def _folder_of(self, description: Description) -> Path:
        text = json.dumps({"format": FORMAT, **description}, sort_keys=True)
        return self.folder / hashlib.sha256(text.encode()).hexdigest()[:NAME_LENGTH]

    def _free(self) -> int:
        """Bytes of the disk that may be filled."""
        self.folder.mkdir(parents=True, exist_ok=True)
        return shutil.disk_usage(self.folder).free - SPARE

    def _lock(self, name: str) -> FileLock:
        locks = self.folder / "locks"
        locks.mkdir(parents=True, exist_ok=True)
        return FileLock(locks / f"{name}.lock")

    def _remove_abandoned(self) -> None:
        """Deletes what processes that were killed left half written: what no process holds the lock of."""
        for partial in self.folder.glob(f"*{PARTIAL}"):
            with contextlib.suppress(Timeout), self._lock(partial.name.partition(".")[0]).acquire(timeout=0):
                _remove(partial)


def _checksum(file: Path) -> int:
    """CRC-32 of the values of a .npy file."""
    checksum = 0
    with file.open("rb") as stream:
        np.lib.format.read_magic(stream)
        np.lib.format.read_array_header_2_0(stream)
        while block := stream.read(BLOCK):
            checksum = zlib.crc32(block, checksum)
    return checksum


def _remove(folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)
