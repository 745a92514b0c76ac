"""The sources that `--data` may name, one module each. To add one, see CONTRIBUTING.md.

A source finds examples, their labels and their kind, without reading the examples. Data that does not come as files
(the bundled animals, TensorFlow Datasets) is unpacked to files once.
"""

import importlib
import os
import re
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any, Literal, NamedTuple

from app.config import DataConfig
from app.errors import UsageError, did_you_mean_path
from app.escapes import visible
from data.kinds import Content, Kind, Part, find_kind, promised_kind

Split = Literal["train", "val", "test"]
SPLITS: tuple[Split, ...] = ("train", "val", "test")
SPLIT_FOLDERS: dict[str, Split] = {
    "train": "train",
    "training": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "test": "test",
    "testing": "test",
}
"""Names that users give to splits, in lower case."""

SOURCES = {
    "animals": "data.images.animals",
    "canvases": "data.boxes.canvases",
    "docstrings": "data.texts.docstrings",
    "notes": "data.sounds.notes",
    "tfds:NAME": "data.tfds",
    "FILE.json": "data.boxes.coco",
    "data.yaml": "data.boxes.yolo",
    "Annotations/": "data.boxes.voc",
    "path,label,x1,y1,x2,y2": "data.boxes.csv_boxes",
    "FILE.csv": "data.csv_table",
    "FOLDER": "data.folder",
}
"""Modules of the sources, by the value of `--data`. Each has `load(data, cache_dir, outside) -> Source` and, unless it
is in `MADE_HERE`, `accepts(data) -> bool`.

`cache_dir` is where data that does not come as files is unpacked; `outside` says whether links and paths may lead out
of the folder. A module sets `IS_NAME = True` if its value is a name and not a path. With `HAS_COLUMNS = True`, its
`load` also takes a `text_column`, the column with the text. With `TAKES_KIND = True`, its `load` also takes the `kind`
of the examples.
"""
MADE_HERE = [name for name in SOURCES if name.isalpha() and name.islower()]
"""Values of `--data` that work without files of the user."""
ARCHIVE_ENDINGS = (".zip", ".tar", ".gz", ".tgz", ".bz2", ".xz", ".zst", ".7z", ".rar")
LINK_OUT = "a link out of the folder, which --outside would follow"
"""Reason for not reading a file."""


class Boxes(NamedTuple):
    """Boxes in a picture."""

    labels: tuple[str, ...]
    """Name of the class of each box."""
    corners: tuple[tuple[float, ...], ...]
    """x1, y1, x2, y2 of each box, pixels, inside the upright picture."""
    ignored: tuple[bool, ...]
    """True for each box of a crowd or a difficult object: neither learnt nor measured."""
    size: tuple[int, int]
    """Width and height of the upright picture, pixels; (0, 0) for one that cannot be read."""


class Example(NamedTuple):
    """One thing to learn from: a file, or a part of one."""

    path: Path
    """The file; for an example without one, a path below the data's folder that names the example in tables."""
    labels: tuple[str, ...]
    """Names of its classes: one, or any number in a multi-label task."""
    split: Split | None = None
    """The split that the source gives; None lets `splits.py` decide."""
    content: bytes | Part | None = None
    """Bytes of an example without a file, or a part of the file; None if the whole file is the example."""
    group: str = ""
    """Examples of one group stay on one side of a split; '' means no group."""
    boxes: Boxes | None = None
    """Boxes in a picture, for detection; `labels` are their classes."""

    @property
    def place(self) -> Content:
        """File or bytes to read."""
        return self.path if self.content is None else self.content


class Source(NamedTuple):
    """Examples that a source found."""

    name: str
    """Short name for folders and titles."""
    root: Path
    """Folder to which shown paths are relative."""
    examples: list[Example]
    kind: Kind
    multi_label: bool = False
    set_aside: Sequence[tuple[Path, str]] = ()
    """Files set aside before any is read, with the reason."""
    columns: Mapping[str, Sequence[str]] = {}
    """Other columns of a table, by name in lower case: one value per example."""
    repeated: Collection[str] = ()
    """Names that several columns of the table have."""
    within: Path | None = None
    """Real path of the folder that links must not leave; None if they may. `load_source` sets it."""
    has_boxes: bool = False
    """True if the task is to find boxes in its pictures."""
    doubt: str = ""
    """Sentence that says why its labels are probably not the intended classes; `train.py` refuses such data."""


def load_source(
    data: str,
    cache_dir: Path,
    outside: bool = False,
    kind: str | None = None,
    group_by: str | None = None,
    text_column: str | None = None,
) -> Source:
    """Finds the examples and labels that `--data` means.

    Args:
        data: the value of `--data`.
        cache_dir: where data that does not come as files is unpacked.
        outside: whether links and paths may lead to files outside its folder.
        kind: kind of the examples; None lets the source decide.
        group_by: column or pattern that defines groups, see `DataConfig`; None for groups of the source.
        text_column: column with the text; None lets the source decide.

    Raises:
        UsageError: there is no such data, its form is not supported, or it has no such groups.
    """
    module = _module_of(data)
    if module is None:
        raise _no_source(data)
    if text_column is not None and not has_columns(data):
        raise UsageError(f"--text-column is for a .csv of texts and for 'tfds:NAME'; '{data}' has no columns of texts.")
    named: dict[str, Any] = {} if text_column is None else {"text_column": text_column}
    if kind and getattr(module, "TAKES_KIND", False):
        named["kind"] = find_kind(kind)
    source = module.load(data, cache_dir, outside, **named)
    within = None if outside else Path(os.path.realpath(source.root))
    if group_by is not None:
        source = source._replace(examples=_grouped(source, group_by))
    return source._replace(kind=find_kind(kind) if kind else source.kind, within=within)


def _no_source(data: str) -> UsageError:
    """Makes the error for a value of `--data` that no source knows."""
    path = Path(data)
    if path.suffix.lower() in ARCHIVE_ENDINGS and path.exists():
        problem = "which is an archive. Unpack it first, and name the folder that comes out."
    elif (promised := promised_kind(path)) and path.exists():
        problem = f"which is one {promised.noun}. Name the folder that has a folder of {promised.nouns} for each class."
    elif path.exists():
        problem = "which is none of these."
    else:
        problem = f"and there is no such file or folder.{did_you_mean_path(path, MADE_HERE)}"
    made_here = ", ".join(f"'{name}'" for name in MADE_HERE)
    forms = "a folder, a .csv file, a .json of COCO or 'tfds:NAME'"
    return UsageError(f"--data must be {made_here}, {forms}; received '{data}', {problem}")


def source_of(about: DataConfig, cache_dir: Path) -> Source:
    """Finds the examples and labels that the settings of a run mean; see `load_source`."""
    return load_source(about.data, cache_dir, about.outside, about.kind, about.group_by, about.text_column)


def _grouped(source: Source, group_by: str) -> list[Example]:
    """Returns the examples with groups by a column, or by a pattern in their paths."""
    column = source.columns.get(group_by.lower())
    if group_by.lower() in source.repeated:
        raise UsageError(
            f"--group-by must name one column; '{source.name}' has several called '{group_by}'. Rename all but one."
        )
    if column is not None and not any(column):
        raise UsageError(
            f"--group-by must name a column with groups; '{group_by}' of '{source.name}' is empty in every line. Fill "
            f"it, or leave --group-by out."
        )
    if column is not None:
        return [each._replace(group=group) for each, group in zip(source.examples, column, strict=True)]
    try:
        pattern = re.compile(group_by)
    except re.error as error:
        raise UsageError(f"--group-by must be a regular expression; received '{group_by}': {error}.") from None
    if pattern.groups != 1:
        known = f" (it has {', '.join(source.columns)})" if source.columns else ""
        raise UsageError(
            f"--group-by must be a column of the .csv{known}, or a pattern with one pair of parentheses, such as "
            f"'_(.+)_'; received '{group_by}'."
        )
    grouped = []
    for example in source.examples:
        name = os.path.relpath(example.path, source.root).replace(os.sep, "/")
        found = pattern.search(name)
        if found is None or not found[1]:
            raise UsageError(f"--group-by '{group_by}' finds no group in '{printable(name)}'. Change the pattern.")
        grouped.append(example._replace(group=found[1]))
    return grouped


def is_same(data: str, other: str) -> bool:
    """Returns whether two values of `--data` mean the same examples."""
    return data == other or (os.path.exists(data) and os.path.exists(other) and os.path.samefile(data, other))


def is_name(data: str) -> bool:
    """Says whether `--data` is a name that a source knows, not a path."""
    return data in MADE_HERE or getattr(_module_of(data), "IS_NAME", False)


def has_columns(data: str) -> bool:
    """Says whether the source that `--data` names can have several columns of texts."""
    return getattr(_module_of(data), "HAS_COLUMNS", False)


def _module_of(data: str) -> ModuleType | None:
    if data in MADE_HERE:
        return importlib.import_module(SOURCES[data])
    modules = (importlib.import_module(module) for name, module in SOURCES.items() if name not in MADE_HERE)
    return next((module for module in modules if module.accepts(data)), None)


def is_within(path: Path | str, real_folder: str) -> bool:
    """Says whether the real path of a file is inside a folder, given by its real path."""
    return os.path.commonpath([os.path.realpath(path), real_folder]) == real_folder


def choose_measured(splits: Collection[str]) -> Split | None:
    """Returns the split whose measures rate a model: test, or val if there is no test."""
    return next((split for split in ("test", "val") if split in splits), None)


def natural_order(name: str) -> tuple[list[tuple[int, int, str]], str]:
    """Returns a sort key that puts '9' before '10', and distinguishes '1' from '01'."""
    parts = re.split(r"(\d{1,600})", name)  # Python refuses much longer numbers
    return [(0, int(part), "") if part.isdecimal() else (1, 0, part) for part in parts if part], name


def printable(name: str) -> str:
    """Returns a file name as text: escapes control characters, see `app.escapes.visible`, and apparent escapes.

    So no two names become the same text, and `file_name` restores the name.
    """
    return visible(re.sub(r"\\(?=x[0-9a-f]{2}|u[0-9a-f]{4})", r"\\x5c", name))


def file_name(text: str) -> str:
    """Returns the file name from which `printable` made a text."""
    return re.sub(r"\\x([0-9a-f]{2})|\\u([0-9a-f]{4})", _character, text)


def _character(escape: re.Match[str]) -> str:
    code = int(escape[1] or escape[2], 16)
    return chr(code + 0xDC00 if escape[1] and code >= 0x80 else code)
