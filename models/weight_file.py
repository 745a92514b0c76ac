"""Checks an HDF5 file of weights before Keras opens it: it may hold only groups and uncompressed arrays of numbers.

HDF5 can do far more: point to other files and to itself, declare values that it does not hold, compress. Weights need
none of it. The HDF5 library also never finishes reading some damaged files. So `check_weights` runs this file as a
program of its own, with a time limit.
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
"""Largest file, in multiples of the network's float32 weights: a float64 takes 2, and Adam keeps two more for each."""
TOP_BYTES = 1536 * 2**20
"""Bytes for a top with 1000 ImageNet classes: the largest is that of VGG16, with two values of Adam for each weight."""
REFUSED_STATUS = 3
"""Exit status of the process when it refuses a file and prints the reason."""
SECONDS = 30.0
"""Seconds that reading may take, plus one for each `BYTES_PER_SECOND`."""
BYTES_PER_SECOND = 2**24
LARGEST_WEIGHT = 1e15
"""Largest weight allowed: the sum of a hundred million squares of larger ones exceeds float32. An activation that is
clipped at 6 could hide such values in one graph of the network but not in another."""
LONGEST_NAME = 80
"""Most characters of a name in a message."""
PLAIN = (h5py.h5t.INTEGER, h5py.h5t.FLOAT, h5py.h5t.STRING, h5py.h5t.ENUM)
"""Types of attributes that Keras writes."""


class RefusedFileError(Exception):
    """A file is refused; the message completes a sentence that begins with its name, such as 'is damaged'."""


def most_bytes(parameters: float) -> int:
    """Returns the most bytes of a network's weights; `parameters` is without top, in millions."""
    return COPIES * int(4e6 * parameters) + TOP_BYTES


def check_weights(content: Path | bytes, most: int) -> None:
    """Reads an HDF5 file in another process; its arrays together may take `most` bytes.

    Raises:
        RefusedFileError: the file is damaged, too large, or not a tree of uncompressed arrays of numbers.
    """
    if isinstance(content, bytes):
        _read_elsewhere("-", most, len(content), content)
    else:
        found = content.stat()
        _read_once(str(content.resolve()), most, found.st_size, (found.st_ino, found.st_mtime_ns, found.st_ctime_ns))


@functools.lru_cache(maxsize=8)
def _read_once(path: str, most: int, size: int, state: tuple[int, ...]) -> None:
    """Reads a file; the result is cached until the state of the file changes."""
    _read_elsewhere(path, most, size)


def _read_elsewhere(path: str, most: int, size: int, content: bytes | None = None) -> None:
    command = [sys.executable, "-P", __file__, path, str(most)]
    try:
        done = subprocess.run(command, input=content, capture_output=True, timeout=SECONDS + size / BYTES_PER_SECOND)
    except subprocess.TimeoutExpired:
        raise RefusedFileError("is damaged (reading it does not end)") from None
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
    except Exception as error:  # h5py may raise any exception on a damaged file
        raise RefusedFileError(f"is damaged ({first_line(error)})") from error


def check_finite(model: "keras.Model") -> None:
    """Raises a RefusedFileError if a weight is NaN, infinite or absurdly large: answers would mean nothing."""
    for variable in model.weights:
        values = np.asarray(variable)
        largest = max(float(values.max(initial=0)), -float(values.min(initial=0)))
        if not np.isfinite(values).all():
            raise RefusedFileError(f"holds NaN or infinity, in {_shown(variable.path)}")
        if largest > LARGEST_WEIGHT:
            raise RefusedFileError(f"holds values above {LARGEST_WEIGHT:g}, in {_shown(variable.path)}")


def first_line(error: Exception) -> str:
    """Shortens an exception of a library for a message of one line."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:160]


def _names(file: h5py.File) -> list[str]:
    """Returns the names of all objects, and refuses links and objects of several names."""
    names = ["/"]
    file.visit(lambda name: names.append(f"/{name}"))  # follows no links, and visits each object once
    known = set(names)

    def find_link(name: str, link: object) -> str | None:
        if not isinstance(link, h5py.HardLink):
            kind = "a link to another file" if isinstance(link, h5py.ExternalLink) else "a soft link"
            return f"has {kind} at {_shown(f'/{name}')}, which no weight file needs"
        return None if f"/{name}" in known else f"has one object under two names, of which one is {_shown(f'/{name}')}"

    if found := file.visititems_links(find_link):
        raise RefusedFileError(found)
    return names


def _check_dataset(name: str, dataset: h5py.Dataset) -> int:
    """Checks an array, and returns the bytes that it takes in the file."""
    creation = dataset.id.get_create_plist()
    if creation.get_external_count() or creation.get_layout() == h5py.h5d.VIRTUAL:
        raise RefusedFileError(f"takes the values of {_shown(name)} from other files")
    if creation.get_nfilters():
        raise RefusedFileError(
            f"has compressed arrays, such as {_shown(name)}, which Keras does not write; "
            f"'h5repack -f NONE FILE NEW' makes an uncompressed copy"
        )
    if not _holds_numbers(dataset):
        raise RefusedFileError(f"has something other than numbers at {_shown(name)}")
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
    """Refuses attributes that are neither numbers nor texts, and reads the rest."""
    for index in range(h5py.h5a.get_num_attrs(item.id)):
        if h5py.h5a.open(item.id, index=index).get_type().get_class() not in PLAIN:
            raise RefusedFileError(f"has an attribute at {_shown(name)} that is neither numbers nor text")
    dict(item.attrs)


def _shown(name: str) -> str:
    """Quotes a name from a file, which may hold anything, for a message."""
    shown = repr(name)
    return shown if len(shown) <= LONGEST_NAME else f"{shown[: LONGEST_NAME - 1]}…"


def main() -> None:
    """Reads the file that the first argument names, or standard input for '-'."""
    path, most = sys.argv[1:]
    try:
        read_weights(io.BytesIO(sys.stdin.buffer.read()) if path == "-" else Path(path), int(most))
    except RefusedFileError as error:
        sys.stdout.buffer.write(str(error).encode(errors="backslashreplace"))
        sys.exit(REFUSED_STATUS)


if __name__ == "__main__":
    main()
