"""Writes files that are complete or absent, however the process ends, and reads files safely."""

import contextlib
import errno
import json
import os
import stat
from collections.abc import Callable, Iterator
from io import BufferedReader
from pathlib import Path
from typing import Any

FULL_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
"""Error numbers for a file that cannot grow: the disk, the user's quota, or the file has reached its limit."""
YEARS_OF_ZIP = range(1980, 2108)
"""Years that a zip file can store; checkpoints and models are zip files."""
NOT_A_FILE = "not a file"
"""Reason for not reading a folder, a pipe or a device."""
MOST_JSON_BYTES = 2**26
"""Largest JSON file, bytes; the longest one, for 20,000 classes, has a tenth of that."""

_READ = os.O_RDONLY | getattr(os, "O_BINARY", 0) | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_NONBLOCK", 0)
"""Flags of `os.open` for reading, as far as the system has them; without O_NONBLOCK, opening a pipe would wait for its
other end."""


def open_regular(path: Path | str, follow_links: bool = True) -> BufferedReader:
    """Opens a regular file for reading; a pipe or a device might never end.

    Args:
        path: path of the file.
        follow_links: whether the last part of the path may be a link.

    Raises:
        OSError: the file cannot be opened, or is not a regular file.
    """
    descriptor = os.open(path, _READ | (0 if follow_links else getattr(os, "O_NOFOLLOW", 0)))
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise OSError(errno.EINVAL, NOT_A_FILE, str(path))
        return open(descriptor, "rb")
    except BaseException:
        os.close(descriptor)
        raise


def is_full_disk(error: BaseException) -> bool:
    """Returns True if an error means a full disk. TensorFlow and HDF5 have errors of their own, with a text."""
    if isinstance(error, OSError) and error.errno in FULL_DISK:
        return True
    return any(os.strerror(code) in str(error) for code in FULL_DISK)


@contextlib.contextmanager
def written_aside(path: Path) -> Iterator[Path]:
    """Yields a temporary name in the same folder for writing; renames the file when the block ends without an error.

    The temporary name is always the same, so a file left by a killed process is overwritten.
    """
    path = path.resolve()  # the target of a link, not the link
    temporary = path.with_name(f".partial-{path.name}")  # same ending, which selects the format
    try:
        yield temporary
        os.replace(temporary, path)
    except BaseException as error:
        if isinstance(error, OSError) and error.errno in FULL_DISK and error.filename is None:
            error.filename = str(path)  # a failed write has no name
        temporary.unlink(missing_ok=True)
        raise


def write_text(path: Path, text: str) -> None:
    """Writes a text file."""
    with written_aside(path) as temporary:
        temporary.write_text(text, encoding="utf-8", newline="")


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Writes a JSON file without NaN, which other languages could not read."""
    text = json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False, default=str)
    try:
        text.encode()
    except UnicodeEncodeError:  # a path that is not UTF-8
        text = json.dumps(content, indent=2, allow_nan=False, default=str)
    write_text(path, f"{text}\n")


def as_read(content: dict[str, Any]) -> dict[str, Any]:
    """Returns the content as it would be read from a JSON file: lists in place of tuples."""
    return json.loads(json.dumps(content))


def read_json(path: Path) -> Any:
    """Reads a JSON file from an untrusted source.

    Raises:
        OSError: the file cannot be read.
        ValueError: it is not JSON, has NaN, or has a name twice in one object.
    """
    with open_regular(path) as file:
        return parse_json(file.read(MOST_JSON_BYTES + 1))


def parse_json(content: bytes) -> Any:
    """Reads JSON as `read_json` does.

    Raises:
        ValueError: as in `read_json`.
    """
    if len(content) > MOST_JSON_BYTES:
        raise ValueError(f"more than {MOST_JSON_BYTES:,} bytes")
    try:
        return json.loads(content.decode(), parse_constant=_refuse_constant, object_pairs_hook=_unique)
    except RecursionError:
        raise ValueError("nested too deeply") from None


def newest_beside(folder: Path, fits: Callable[[Path], bool]) -> str:
    """Returns the end of an error message about a missing folder: the newest fitting folder beside it, or ''."""
    beside = [path for path in folder.parent.iterdir() if fits(path)] if folder.parent.is_dir() else []
    return f" The newest there is '{max(beside, key=lambda path: path.stat().st_mtime)}'." if beside else ""


def weights_path(weights: str) -> Path | None:
    """Returns the file or folder that `--weights` names; None for its words 'imagenet' and 'none'."""
    return None if weights in ("imagenet", "none") else Path(weights)


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is no number")


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    settings = dict(pairs)
    if len(settings) < len(pairs):
        raise ValueError("a name is twice in one object")
    return settings
