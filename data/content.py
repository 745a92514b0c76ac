"""Reads the files of users safely: no pipes, a bounded number of bytes at a time, no links out of the folder."""

import contextlib
import errno
import io
import os
import threading
from collections.abc import Iterator
from pathlib import Path

from app.files import open_regular
from data.kinds import Content, Part
from data.sources import LINK_OUT, is_within

LOOP = "a link that leads to itself"
MAX_BYTES = 200_000_000
"""Largest file, bytes; all threads together hold no more at a time. Larger files are refused without reading them."""


class UnreadableError(Exception):
    """The file cannot be used as an example; the message says why in a few words."""


class UnreadableNowError(UnreadableError):
    """The system could not read the file now; a later try may succeed."""


class Budget:
    """An amount that threads share; a thread that asks for more than is left waits, first come, first served."""

    def __init__(self, amount: int):
        self._left = amount
        self._next = threading.Lock()
        self._changed = threading.Condition()

    @contextlib.contextmanager
    def spend(self, amount: int) -> Iterator[None]:
        """Holds an amount while a block runs; an amount above the total would wait for ever."""
        with self._next, self._changed:
            self._changed.wait_for(lambda: self._left >= amount)
            self._left -= amount
        try:
            yield
        finally:
            with self._changed:
                self._left += amount
                self._changed.notify()


_content = Budget(MAX_BYTES)


@contextlib.contextmanager
def content_of(place: Content | str, within: Path | str | None = None) -> Iterator[bytes]:
    """Yields the bytes of a file; may wait until other threads release theirs.

    Args:
        place: path of the file, or a part of one; bytes are yielded as they are.
        within: real path of the folder that links must not leave, not even links made after the folder was walked;
            None follows all links.

    Raises:
        UnreadableError: the file is missing, empty, too large, outside `within`, or its permissions forbid reading.
    """
    if isinstance(place, bytes):
        yield place
        return
    if isinstance(place, Part):
        with open_file(place.path, within) as file:
            yield place.cut(file, place.start, place.end)
        return
    with open_file(place, within) as file:
        size = os.fstat(file.fileno()).st_size
        if size == 0:
            raise UnreadableError("empty file")
        if size > MAX_BYTES:
            raise UnreadableError(f"{size:,} bytes, more than the limit of {MAX_BYTES:,}")
        with _content.spend(size):
            try:
                content = file.read(size)
            except OSError as error:
                raise UnreadableNowError(error.strerror or str(error)) from None
            yield content


def open_file(path: Path | str, within: Path | str | None) -> io.BufferedReader:
    """Opens a regular file: no pipe, which would wait, and no link out of the folder; see `content_of`."""
    try:
        real = os.path.realpath(path)
        if within is not None and not is_within(real, str(within)) and os.path.exists(real):
            raise UnreadableNowError(LINK_OUT)
        return open_regular(path if within is None else real, follow_links=within is None)
    except OSError as error:
        is_broken_link = error.errno == errno.ENOENT and os.path.islink(path)
        reason = "a broken link" if is_broken_link else LOOP if error.errno == errno.ELOOP else error.strerror
        raise UnreadableNowError(reason or str(error)) from None
    except ValueError as error:  # a name that no file can have
        raise UnreadableError(str(error)) from None
