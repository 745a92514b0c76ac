"""Reads the files of users: no pipe, no more than a bound at a time, and nothing that a link leads away to."""

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
"""Larger files are refused without reading them; all threads together hold no more bytes at a time."""


class UnreadableError(Exception):
    """The file is no example that can be trusted; the message says why in a few words."""


class UnreadableNowError(UnreadableError):
    """The system could not read the file, which may be otherwise later."""


class Budget:
    """An amount that threads share; who asks for more than is left waits, and those who ask later wait behind."""

    def __init__(self, amount: int):
        self._left = amount
        self._next = threading.Lock()
        self._changed = threading.Condition()

    @contextlib.contextmanager
    def spend(self, amount: int) -> Iterator[None]:
        """Holds an amount while a block runs; more than there is would wait for ever."""
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
    """Yields the bytes of a file, which may wait until other threads have let go of theirs.

    Args:
        place: path of the file, or a part of one; bytes that are at hand are yielded as they are.
        within: folder, named without links, that links may not lead out of, not even those put there after the folder
            was walked; None follows all links.

    Raises:
        UnreadableError: the file is missing, empty, too large, elsewhere or may not be read.
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
    """Opens a file, and nothing that waits, such as a pipe, or that a link leads away to; see `content_of`."""
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
