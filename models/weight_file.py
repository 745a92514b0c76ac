"""Checks a weight file before Keras opens it: it must be a tree of plain arrays of numbers, as Keras writes it.

HDF5 can do far more: point to other files and to itself, declare values that it does not hold, compress. No weights
need that. The HDF5 library also never finishes reading some damaged files. So this file is a program as well, which
reads everything in a process of its own.
"""

import functools
import io
import math
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import h5py
import numpy as np

if TYPE_CHECKING:
    import keras

COPIES = 6
"""Copies of the network's float32 weights that a file may take: they may be float64, with two values of Adam each."""
TOP_BYTES = 1536 * 2**20
"""Bytes for the 1000 ImageNet classes: the top of VGG16, with two values of Adam each."""
REFUSED_STATUS = 3
"""Exit status of the process that refuses a file, with the reason on its standard output."""
SECONDS = 30.0
"""Time that reading may take, and a second more for each `BYTES_PER_SECOND`."""
BYTES_PER_SECOND = 2**24
LARGEST_WEIGHT = 1e15
"""A sum of squares of larger values, a hundred million of them, exceeds float32. An activation that is cut off at 6
would hide such values in one graph of the network and not in another."""
LONGEST_NAME = 80
"""Characters of a name in a message."""
PLAIN = (h5py.h5t.INTEGER, h5py.h5t.FLOAT, h5py.h5t.STRING, h5py.h5t.ENUM)
"""Types of attributes that Keras writes."""


class RefusedFileError(Exception):
    """Refuses a file; the message is the end of a sentence that begins with its name: 'is damaged'."""


def most_bytes(parameters: float) -> int:
    """Returns the most bytes that the weights of a network may take; `parameters` without top, in millions."""
    return COPIES * int(4e6 * parameters) + TOP_BYTES


def check_weights(content: Path | bytes, most: int) -> None:
    """Reads an HDF5 file in another process; all its arrays together may take `most` bytes.

    Raises:
        RefusedFileError: it is damaged, or holds anything but a tree of uncompressed arrays of numbers of that size.
    """
    if isinstance(content, bytes):
        _read_elsewhere("-", most, len(content), content)
    else:
        found = content.stat()
        _read_once(str(content.resolve()), most, found.st_size, (found.st_ino, found.st_mtime_ns, found.st_ctime_ns))


@functools.lru_cache(maxsize=8)
def _read_once(path: str, most: int, size: int, state: tuple[int, ...]) -> None:
    """Reads a file once for as long as its state does not change."""
    _read_elsewhere(path, most, size)


def _read_elsewhere(path: str, most: int, size: int, content: bytes | None = None) -> None:
    command = [sys.executable, "-P", __file__, path, str(most)]
    try:
        done = subprocess.run(command, input=content, capture_output=True, timeout=SECONDS + size / BYTES_PER_SECOND)
    except subprocess.TimeoutExpired:
        raise RefusedFileError("is damaged (reading it comes to no end)") from None
    if done.returncode == REFUSED_STATUS:
        raise RefusedFileError(done.stdout.decode(errors="replace"))
    if done.returncode != 0:
        last = (done.stderr.decode(errors="replace").strip().splitlines() or [f"status {done.returncode}"])[-1]
        raise RefusedFileError(f"is damaged (reading it ends with {last[:LONGEST_NAME]})")


def read_weights(content: Path | io.BytesIO, most: int) -> None:
    """Reads an HDF5 file in this process; arguments and errors are those of `check_weights`."""
    try:
        with h5py.File(content, "r") as file:
            left = most
            for name in _names(file):
                item = file[name]
                if not isinstance(item, h5py.Group | h5py.Dataset):
                    raise RefusedFileError(f"has something at {_shown(name)} that is neither a group nor an array")
                _check_attributes(name, item)
                if isinstance(item, h5py.Dataset):
                    left -= _check_dataset(name, item)
                    if left < 0:
                        raise RefusedFileError(
                            f"holds more than {most:,} bytes of arrays, the most that the network takes"
                        )
                    item[()]
    except RefusedFileError:
        raise
    except Exception as error:  # h5py raises anything on a damaged file
        raise RefusedFileError(f"is damaged ({first_line(error)})") from error


def check_finite(model: "keras.Model") -> None:
    """Raises a RefusedFileError if a weight of a model is NaN, infinite or absurd: its answers would mean nothing."""
    for variable in model.weights:
        values = np.asarray(variable)
        largest = max(float(values.max(initial=0)), -float(values.min(initial=0)))
        if not np.isfinite(values).all():
            raise RefusedFileError(f"holds values that are no numbers, in {_shown(variable.path)}")
        if largest > LARGEST_WEIGHT:
            raise RefusedFileError(f"holds values above {LARGEST_WEIGHT:g}, in {_shown(variable.path)}")


def first_line(error: Exception) -> str:
    """Shortens an exception of a library for a message of one line."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:160]


def _names(file: h5py.File) -> list[str]:
    """Returns the names of all objects, and refuses links and objects of several names."""
    names = ["/"]
    file.visit(lambda name: names.append(f"/{name}"))  # follows no link, and gives each object one name
    known = set(names)

    def find_link(name: str, link: object) -> str | None:
        if not isinstance(link, h5py.HardLink):
            kind = "a link to another file" if isinstance(link, h5py.ExternalLink) else "a soft link"
            return f"has {kind} at {_shown(f'/{name}')}, which no weight file needs"
        return None if f"/{name}" in known else f"has one object at two places, of which one is {_shown(f'/{name}')}"

    if found := file.visititems_links(find_link):
        raise RefusedFileError(found)
    return names


def _check_dataset(name: str, dataset: h5py.Dataset) -> int:
    """Returns the bytes that an array takes in the file."""
    creation = dataset.id.get_create_plist()
    if creation.get_external_count() or creation.get_layout() == h5py.h5d.VIRTUAL:
        raise RefusedFileError(f"takes the values of {_shown(name)} from other files")
    if creation.get_nfilters():
        raise RefusedFileError(
            f"has compressed arrays, such as {_shown(name)}, which Keras does not write; "
            f"'h5repack -f NONE FILE NEW' makes an uncompressed copy"
        )
    if not _holds_numbers(dataset):
        raise RefusedFileError(f"has something else than numbers at {_shown(name)}")
    stored = dataset.id.get_storage_size()
    if stored < math.prod(dataset.shape) * dataset.id.get_type().get_size():
        raise RefusedFileError(f"declares more values at {_shown(name)} than it holds")
    return stored


def _holds_numbers(dataset: h5py.Dataset) -> bool:
    dtype = dataset.dtype
    if dataset.shape is None or dtype.names or dtype.subdtype:
        return False
    if dtype.kind == "V":  # a type without a name in HDF5
        return dtype.itemsize == 2 and dataset.attrs.get("dtype") == "bfloat16"
    return dtype.kind in "biuf" and dtype.itemsize <= 8


def _check_attributes(name: str, item: h5py.Group | h5py.Dataset) -> None:
    """Refuses attributes other than numbers and texts, and reads the others."""
    for index in range(h5py.h5a.get_num_attrs(item.id)):
        if h5py.h5a.open(item.id, index=index).get_type().get_class() not in PLAIN:
            raise RefusedFileError(f"has an attribute at {_shown(name)} that is neither numbers nor text")
    dict(item.attrs)


def _shown(name: str) -> str:
    """Quotes a name out of a file for a message: it may hold anything."""
    shown = repr(name)
    return shown if len(shown) <= LONGEST_NAME else f"{shown[: LONGEST_NAME - 1]}…"


def main() -> None:
    """Reads the file of the first argument, or standard input for '-'."""
    path, most = sys.argv[1:]
    try:
        read_weights(io.BytesIO(sys.stdin.buffer.read()) if path == "-" else Path(path), int(most))
    except RefusedFileError as error:
        sys.stdout.buffer.write(str(error).encode(errors="backslashreplace"))
        sys.exit(REFUSED_STATUS)


if __name__ == "__main__":
    main()
