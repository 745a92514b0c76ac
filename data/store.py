"""A cache on disk for arrays that can be computed again; their keys describe how they were computed.

An entry is a folder named by the hash of its description. It holds `values.npy`, which numpy maps to memory, and
`entry.json`, which says what it is. It is written under another name and renamed when complete, so it exists in full or
not at all, however the process ends. The least recently used entries are deleted first.

Each entry has a lock, which a process holds to compute, open or delete the entry; mapped arrays stay readable when
their entry is deleted. There are no deadlocks: deleting never waits for a lock, and several locks are taken in the
order of their names.
"""

import contextlib
import hashlib
import json
import os
import shutil
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from filelock import FileLock, Timeout

from app.errors import cannot_write
from app.files import FULL_DISK, write_text
from app.interrupts import put_off
from app.terminal import show_stage
from data.entries import PARTIAL, RECORD, Entry, disk_size, freed, map_values, remove_folder
from data.rows import PROGRESS, VALUES, Writer, checksum

FORMAT = 2
"""Part of every description: raise it when older entries must not be used any more."""
NAME_LENGTH = 32
"""Hexadecimal digits of an entry's name."""
SPARE = 2**30
"""Bytes of the disk that always stay free."""

Description = dict[str, Any]
"""JSON value with all that the values of an entry depend on."""


class Stored(NamedTuple):
    """The values of an entry."""

    values: np.ndarray
    """Mapped to memory, read-only."""
    seconds: float
    """Seconds that computing the values took."""
    notes: dict[str, Any]
    """Notes of the writer."""


def open_store(cache_dir: Path, cache_gb: float) -> "Store":
    """Opens the store of a cache folder; the arguments are settings of `app.config.TrainConfig`, explained there."""
    return Store(cache_dir / "store", round(cache_gb * 1e9))


class Store:
    """Entries in a folder, within a limit."""

    def __init__(self, folder: Path, limit: int):
        """Opens a store.

        Args:
            folder: created by the first entry.
            limit: most bytes of all entries together; 0 stores nothing.
        """
        self.folder = folder
        self.limit = limit

    def load(self, description: Description, check: bool = True) -> Stored | None:
        """Returns the values of an entry whose lock is held; None if there is no such entry.

        Args:
            description: description of the entry.
            check: whether to verify the checksum; a damaged entry is deleted with a warning.
        """
        folder = self._folder_of(description)
        try:
            record = json.loads((folder / RECORD).read_text())
            if check and checksum(folder / VALUES) != record["checksum"]:
                raise ValueError("its checksum is wrong")
            stored = Stored(map_values(folder), record["seconds"], record["notes"])
            os.utime(folder / RECORD)
        except FileNotFoundError:
            if not folder.exists():
                return None
            reason = "one of its files is missing"
        except (OSError, ValueError, KeyError, TypeError) as error:
            reason = str(error)
        else:
            return stored
        show_stage("warning", f"a stored entry is damaged and will be computed again ({reason})")
        remove_folder(folder)
        return None

    @contextlib.contextmanager
    def writing(
        self, description: Description, title: str, shape: Sequence[int], dtype: np.typing.DTypeLike
    ) -> Iterator[Writer]:
        """Adds an entry, or resumes one that another process could not finish; the caller holds its lock.

        When the block ends, the entry is complete and the writer's `values` are its values. If the block is interrupted
        or the disk is full, the partial entry is kept to be resumed; after any other failure it is deleted.

        Args:
            description: key of the entry.
            title: title in lists of entries.
            shape: shape of the values.
            dtype: dtype of the values.
        """
        started = time.perf_counter()
        folder = self._folder_of(description)
        partial = folder.with_suffix(PARTIAL)
        partial.mkdir(parents=True, exist_ok=True)
        writer = Writer(partial, shape, np.dtype(dtype))
        try:
            yield writer
            with put_off():
                writer.complete()
                seconds = time.perf_counter() - started
                record = {"title": title, "seconds": seconds, "checksum": writer.checksum, "notes": writer.notes}
                write_text(partial / RECORD, json.dumps({**record, "description": description}))
                (partial / PROGRESS).unlink(missing_ok=True)
                os.replace(partial, folder)
                writer.values = map_values(folder)
        except (KeyboardInterrupt, MemoryError):
            writer.stop()
            raise
        except OSError as error:
            with contextlib.suppress(OSError):
                writer.close()
            if not (partial / PROGRESS).exists():
                shutil.rmtree(partial, ignore_errors=True)
            if error.errno in FULL_DISK:
                raise cannot_write("--cache-dir", self.folder, error) from error
            raise
        except BaseException:
            writer.close()
            shutil.rmtree(partial, ignore_errors=True)
            raise

    @contextlib.contextmanager
    def locked(self, descriptions: Sequence[Description]) -> Iterator[None]:
        """Keeps other processes from computing the same entries; waits for one that already does."""
        with contextlib.ExitStack() as locks:
            # The same order in all processes prevents deadlocks.
            for name in sorted(self._folder_of(description).name for description in descriptions):
                lock = self._lock(name)
                try:
                    lock.acquire(timeout=0)
                except Timeout:
                    show_stage("cache", "another run is computing the same values; waiting for it")
                    lock.acquire()
                locks.callback(lock.release)
            yield

    def room(self) -> int:
        """Returns the bytes that the disk has for entries if all existing ones are deleted; the limit may be lower."""
        return max(0, self._free() + sum(map(freed, self.deletable())))

    def make_room(self, needed: int, descriptions: Sequence[Description] = ()) -> bool:
        """Deletes least recently used entries until `needed` bytes fit; if they cannot, deletes none, returns False.

        Entries in use by a process stay, even if the store then exceeds its limit for a while.

        Args:
            needed: bytes.
            descriptions: entries to write; bytes already in their partial files count.
        """
        partials = [self._folder_of(description).with_suffix(PARTIAL) for description in descriptions]
        needed -= sum(map(disk_size, partials))
        entries, free = self.deletable(), self._free()
        if needed > min(self.limit, free + sum(map(freed, entries))):
            return False
        used = sum(entry.size for entry in entries)
        for entry in entries:
            if used + needed <= self.limit and needed <= free:
                break
            used -= entry.size
            with contextlib.suppress(OSError):
                self._delete(entry)
                free += freed(entry)
        return needed <= free

    def entries(self) -> list[Entry]:
        """Returns all complete entries, least recently used first; other files are ignored."""
        entries = []
        for folder in self._folders():
            try:
                title = json.loads((folder / RECORD).read_text())["title"]
                entries.append(Entry(folder, title, disk_size(folder), (folder / RECORD).stat().st_mtime))
            except (FileNotFoundError, NotADirectoryError):
                continue
            except (OSError, ValueError, KeyError, TypeError):
                entries.append(Entry(folder, "damaged", disk_size(folder), last_used=0.0))
        return sorted(entries, key=lambda entry: entry.last_used)

    def remove(self, description: Description) -> None:
        """Deletes an entry; the caller holds its lock."""
        remove_folder(self._folder_of(description))

    def clear(self) -> tuple[list[Entry], list[tuple[Entry, str]]]:
        """Deletes every entry that no process is using.

        Returns:
            The deleted entries; and the remaining ones, with the reason.
        """
        deleted, remaining = [], []
        for entry in self.deletable():
            try:
                self._delete(entry)
                deleted.append(entry)
            except Timeout:
                remaining.append((entry, "a run is using it"))
            except OSError as error:
                remaining.append((entry, error.strerror or str(error)))
        return deleted, remaining

    def _folder_of(self, description: Description) -> Path:
        text = json.dumps({"format": FORMAT, **description}, sort_keys=True)
        return self.folder / hashlib.sha256(text.encode()).hexdigest()[:NAME_LENGTH]

    def _free(self) -> int:
        """Returns the bytes of the disk that entries may still take."""
        self._make(self.folder)
        return shutil.disk_usage(self.folder).free - SPARE

    def _lock(self, name: str) -> FileLock:
        locks = self.folder / "locks"
        self._make(locks)
        return FileLock(locks / f"{name}.lock")

    def _make(self, folder: Path) -> None:
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise cannot_write("--cache-dir", self.folder, error) from None

    def _folders(self, suffix: str = "") -> Iterator[Path]:
        """Yields the folders whose name is that of an entry."""
        names = self.folder.glob("[0-9a-f]" * NAME_LENGTH + suffix)
        return (folder for folder in names if not folder.is_symlink())

    def deletable(self) -> list[Entry]:
        """Returns the entries that may be deleted unless a process is using them, least recently used first."""
        found = self.entries()
        for partial in self._folders(PARTIAL):
            with contextlib.suppress(FileNotFoundError):
                found.append(Entry(partial, "half written", disk_size(partial), partial.stat().st_mtime))
        return sorted(found, key=lambda entry: entry.last_used)

    def _delete(self, entry: Entry) -> None:
        """Deletes an entry.

        Raises:
            OSError: the entry cannot be deleted; a Timeout if a process is using it.
        """
        with self._lock(entry.folder.stem).acquire(timeout=0):
            remove_folder(entry.folder)
