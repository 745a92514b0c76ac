"""What a weight file may be: a tree of plain arrays of numbers, as Keras writes it. Checked before Keras opens one.

HDF5 can do far more: point to other files and to itself, declare what it does not hold, compress. No weights need that.
Besides, the HDF5 library runs forever on some damaged files. So this file is also a program, which reads everything in
a process of its own.
"""

import functools
import io
import math
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import h5py
import numpy as np

if TYPE_CHECKING:
    import keras

MOST_OBJECTS = 50_000
"""Groups and arrays of a file; the largest network with its optimizer has a fifth of that."""
MOST_LEVELS = 100
MOST_ATTRIBUTES = 1_000
"""Of one object."""
MOST_ATTRIBUTE_BYTES = 2**24
COPIES = 6
"""How often a file may hold the network's float32 weights: as float64, and with the two values that Adam keeps of each.
"""
TOP_BYTES = 1536 * 2**20
"""What a file with the 1000 ImageNet classes may take beside: the top of VGG16, with what Adam keeps."""
REFUSED_STATUS = 3
"""Of the process, with the reason on its standard output."""
SECONDS = 30.0
"""That reading may take, and one more for each of `BYTES_PER_SECOND`."""
BYTES_PER_SECOND = 2**24
LARGEST_WEIGHT = 1e15
"""Squares of larger values, a hundred million of them, are no float32 any more. An activation that is cut off at 6
would hide what they lead to, in one graph of the network and not in another."""
LONGEST_NAME = 80
"""Of a name in a message."""


class RefusedFileError(Exception):
    """Why a file is not opened, as the end of a sentence that begins with its name: 'is damaged'."""


def most_bytes(parameters: float) -> int:
    """The most that weights of a network may take, bytes.

    Args:
        parameters: of the network without top, millions.
    """
    return COPIES * int(4e6 * parameters) + TOP_BYTES


def check_weights(content: Path | bytes, most: int) -> None:
    """Reads an HDF5 file in another process.

    Args:
        content: the file.
        most: bytes that all its arrays may take together.

    Raises:
        RefusedFileError: it is damaged, or holds anything but a tree of uncompressed arrays of numbers of that size.
    """
    if isinstance(content, bytes):
        _read_elsewhere("-", most, len(content), content)
    else:
        found = content.stat()
        state = found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns
        _read_file_elsewhere(str(content.resolve()), most, state)


@functools.lru_cache(maxsize=8)
def _read_file_elsewhere(path: str, most: int, state: tuple[int, ...]) -> None:
    """`_read_elsewhere`, once for a file as long as it does not change."""
    _read_elsewhere(path, most, state[1])


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
    """Reads an HDF5 file, and first what it declares; arguments and errors are those of `check_weights`."""
    size = content.stat().st_size if isinstance(content, Path) else content.getbuffer().nbytes
    try:
        with h5py.File(content, "r") as file:
            total = 0
            for name, dataset in _datasets(file):
                total += _check_dataset(name, dataset)
                if total > size:
                    raise RefusedFileError(f"declares arrays of more than the {size:,} bytes that it has")
                if total > most:
                    raise RefusedFileError(f"holds more than {most:,} bytes of arrays, the most that the network takes")
                dataset[()]
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
    """An exception of a library, short enough for a message of one line."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:160]


def _datasets(file: h5py.File) -> Iterator[tuple[str, h5py.Dataset]]:
    """Walks the tree; whatever is no group in it is yielded with its name."""
    groups, seen = [("", 0, file)], {_address(file)}
    _check_attributes("/", file)
    while groups:
        path, level, group = groups.pop()
        if level > MOST_LEVELS:
            raise RefusedFileError(f"has more than {MOST_LEVELS} levels")
        for name in group:
            place = f"{path}/{name}"
            link = group.get(name, getlink=True)
            if not isinstance(link, h5py.HardLink):
                kind = "a link to another file" if isinstance(link, h5py.ExternalLink) else "a soft link"
                raise RefusedFileError(f"has {kind} at {_shown(place)}, which no weight file needs")
            item = group[name]
            address = _address(item)
            if address in seen:
                raise RefusedFileError(f"has one object at two places, of which one is {_shown(place)}")
            seen.add(address)
            if len(seen) > MOST_OBJECTS:
                raise RefusedFileError(f"has more than {MOST_OBJECTS:,} groups and arrays")
            _check_attributes(place, item)
            if isinstance(item, h5py.Group):
                groups.append((place, level + 1, item))
            elif isinstance(item, h5py.Dataset):
                yield place, item
            else:
                raise RefusedFileError(f"has something at {_shown(place)} that is neither a group nor an array")


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
    if dtype.kind == "V":  # what HDF5 has no name for
        return dtype.itemsize == 2 and dataset.attrs.get("dtype") == "bfloat16"
    return dtype.kind in "biuf" and dtype.itemsize <= 8


def _check_attributes(name: str, item: h5py.Group | h5py.Dataset) -> None:
    """Attributes are numbers and texts, and few."""
    count = h5py.h5a.get_num_attrs(item.id)
    if count > MOST_ATTRIBUTES:
        raise RefusedFileError(f"has {count:,} attributes at {_shown(name)}")
    for index in range(count):
        attribute = h5py.h5a.open(item.id, index=index)
        kind = attribute.get_type()
        if kind.get_class() not in (h5py.h5t.INTEGER, h5py.h5t.FLOAT, h5py.h5t.STRING, h5py.h5t.ENUM):
            raise RefusedFileError(f"has an attribute at {_shown(name)} that is neither numbers nor text")
        if math.prod(attribute.shape or ()) * kind.get_size() > MOST_ATTRIBUTE_BYTES:
            raise RefusedFileError(f"has an attribute of more than {MOST_ATTRIBUTE_BYTES:,} bytes at {_shown(name)}")
    dict(item.attrs)


def _address(item: h5py.HLObject) -> tuple[int, int]:
    info = h5py.h5o.get_info(item.id)
    return info.fileno, info.addr


def _shown(name: str) -> str:
    """A name out of a file, in a message: it may hold anything."""
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
