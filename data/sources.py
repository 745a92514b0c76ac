"""What `--data` may be. To add a source, write a module with `accepts` and `load`, and give it a line in `SOURCES`.

A source finds picture files and their labels; it decodes nothing. Data that does not come as files (the bundled
animals, TensorFlow Datasets) is unpacked to files once, so that everything behind this has one kind of input.
"""

import importlib
import re
from collections.abc import Collection
from pathlib import Path
from typing import Literal, NamedTuple

from config import UsageError, did_you_mean

Split = Literal["train", "val", "test"]
SPLITS: tuple[Split, ...] = ("train", "val", "test")

SOURCES = {
    "animals": "data.animals",
    "tfds:NAME": "data.tfds",
    "FILE.csv": "data.csv_table",
    "FOLDER": "data.folder",
}
"""What the user types, and the module that has `accepts(data) -> bool` and `load(data, cache_dir) -> Source` for it."""


class Picture(NamedTuple):
    """One labelled picture file."""

    path: Path
    labels: tuple[str, ...]
    """Names of its classes: one, or in a multi-label task any number."""
    split: Split | None = None
    """The split the source itself puts it in; None lets `splits.py` decide."""


class Source(NamedTuple):
    """What every source returns."""

    name: str
    """Short name for folders and titles."""
    root: Path
    """Folder the paths are shown relative to."""
    pictures: list[Picture]
    multi_label: bool = False


def load_source(data: str, cache_dir: Path) -> Source:
    """Finds the pictures and labels that `--data` means.

    Args:
        data: the value of `--data`.
        cache_dir: where data that does not come as files is unpacked.

    Raises:
        UsageError: there is no such data, or its shape is not one of the supported.
    """
    for module_name in SOURCES.values():
        module = importlib.import_module(module_name)
        if module.accepts(data):
            return module.load(data, cache_dir)
    path = Path(data)
    if path.exists():
        problem = "which is neither a folder nor a .csv file."
    else:
        siblings = [entry.name for entry in path.parent.iterdir()] if path.parent.is_dir() else []
        problem = f"and there is no such file or folder.{did_you_mean(path.name, ['animals', *siblings])}"
    raise UsageError(f"--data must be 'animals', a folder, a .csv file or 'tfds:NAME'; received '{data}', {problem}")


def choose_judged(splits: Collection[str]) -> Split | None:
    """The split of those that were judged that says how good a model is: test, or val where there is no test."""
    return next((split for split in ("test", "val") if split in splits), None)


def natural_order(name: str) -> tuple[list[tuple[int, int, str]], str]:
    """Sort key that puts '9' before '10', and tells '1' from '01'."""
    parts = re.split(r"(\d+)", name)
    return [(0, int(part), "") if part.isdecimal() else (1, 0, part) for part in parts if part], name


def printable(name: str) -> str:
    """A file name as text: bytes that are no UTF-8, and characters that steer a terminal, become escapes like \\xff."""
    text = name.encode(errors="surrogateescape").decode(errors="backslashreplace")
    return re.sub(r"[\x00-\x1f\x7f-\x9f]", lambda found: f"\\x{ord(found[0]):02x}", text)
