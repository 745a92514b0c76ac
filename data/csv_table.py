"""Examples named in a CSV file with the columns `path,label` and optionally `split`.

Paths are relative to the file's folder. Several labels of one example are joined by `|`; the task is then multi-label.
"""

import csv
import functools
import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Literal, NamedTuple, TextIO

from app.errors import UsageError
from data.kinds import kind_of
from data.sources import LINK_OUT, SPLIT_FOLDERS, Example, Source, is_within, printable

COLUMNS = ("path", "label", "split")
MOST_CHARACTERS = 2**20
"""Longest line."""
WINDOWS_ROOT = re.compile(r"[A-Za-z]:[\\/]|\\\\")
"""Beginning of an absolute path of Windows: `C:\\photos`, `\\\\server\\photos`."""


class Row(NamedTuple):
    """Fields of a line, without blanks around them."""

    line: int
    path: str
    label: str
    split: str


def accepts(data: str) -> bool:
    """Says whether `--data` names a CSV file, there or not."""
    return Path(data).suffix.lower() == ".csv" and not Path(data).is_dir()


def load(data: str, cache_dir: Path, outside: bool = False) -> Source:
    """Reads the table. Whether the files exist is found out by decoding them.

    Args:
        data: the value of `--data`.
        cache_dir: not used: the files stay where they are.
        outside: whether paths and links may lead out of the file's folder.

    Raises:
        UsageError: the file cannot be read, lacks a column, or has an impossible value; the message has the line.
    """
    path = Path(data)
    rows = _read_rows(path)
    multi_label = any("|" in row.label for row in rows)
    way_out = _find_way_out(path.parent)
    examples: list[Example] = []
    set_aside: list[Example] = []
    for written in rows:
        row = written._replace(path=_own_path(path, written))
        example = _check_row(path, row, multi_label)
        way = None if outside else way_out(row.path)
        if way == "path":
            raise UsageError(
                f"Line {row.line} of '{path}' names a {kind_of([example.path]).noun} outside the folder of that file: "
                f"'{printable(row.path)}'. Move it into the folder, or allow such paths by --outside."
            )
        (examples if way is None else set_aside).append(example)
    _check_classes_left(path, examples, set_aside)
    links = [(example.path, LINK_OUT) for example in set_aside]
    kind = kind_of(example.path for example in examples)
    return Source(path.stem, path.parent, examples, kind, multi_label, links)


def _own_path(path: Path, row: Row) -> str:
    """The path of a row as this system writes it: `cat\\0.png`, of Windows, is `cat/0.png` elsewhere."""
    absolute = WINDOWS_ROOT.match(row.path)
    if os.sep == "\\" or not (absolute or "\\" in row.path) or os.path.exists(path.parent / row.path):
        return row.path
    if absolute:
        raise UsageError(
            f"Line {row.line} of '{path}' has a path of a Windows machine, '{printable(row.path)}', that is not found "
            "here. Write paths from the folder of that file on, such as cat/1.jpg."
        )
    return row.path.replace("\\", "/")


def _check_row(path: Path, row: Row, multi_label: bool) -> Example:
    labels = tuple(sorted({printable(part.strip()) for part in row.label.split("|")} - {""}))
    if not row.path or not (labels or multi_label):
        raise UsageError(f"Line {row.line} of '{path}' has no {'path' if not row.path else 'label'}.")
    split = row.split.lower()
    if split and split not in SPLIT_FOLDERS:
        raise UsageError(
            f"A split must be train, val, test or empty; line {row.line} of '{path}' has '{printable(row.split)}'."
        )
    return Example(path.parent / row.path, labels, SPLIT_FOLDERS.get(split))


def _check_classes_left(path: Path, examples: list[Example], set_aside: list[Example]) -> None:
    if not examples and not set_aside:
        raise UsageError(f"A CSV file needs a line for each example; '{path}' has none.")
    nouns = kind_of(example.path for example in examples).nouns
    left = {label for example in examples for label in example.labels}
    for example in set_aside:
        for label in example.labels:
            if label not in left:
                raise UsageError(
                    f"Every class needs {nouns}; '{label}' of '{path}' has none: '{example.path}' is {LINK_OUT}."
                )


def _find_way_out(folder: Path) -> Callable[[str], Literal["path", "link"] | None]:
    """Returns a function that says how a path leads out of a folder: by itself, by a link, or not at all."""
    absolute, real = os.path.abspath(folder), os.path.realpath(folder)
    is_inside = functools.cache(functools.partial(is_within, real_folder=real))

    def way_out(name: str) -> Literal["path", "link"] | None:
        file = os.path.join(absolute, name)
        parent, last = os.path.split(file)
        try:
            # Following a link takes long: where the file is none, its folder is asked, once for all files in it.
            if is_inside(file if os.path.islink(file) or last in ("", "..") else parent):
                return None
        except ValueError:  # a name that no file can have, which is told when it is read
            return None
        if os.path.commonpath([os.path.normpath(file), absolute]) != absolute:
            return "path"
        return "link" if os.path.exists(file) else None  # so is a broken link

    return way_out


def _read_rows(path: Path) -> list[Row]:
    """Reads the lines that say something; columns of other names do not count."""
    if path.exists() and not path.is_file():
        raise UsageError(f"--data must be a CSV file; '{path}' is no file.")
    try:
        with open(path, encoding="utf-8-sig", newline="") as file:
            lines = _numbered_fields(path, file)
            _, names = next(lines, (1, []))
            columns = _find_columns(path, names)
            rows = [_make_row(path, line, fields, len(names), columns) for line, fields in lines]
            return [row for row in rows if row.path or row.label or row.split]
    except FileNotFoundError:
        raise UsageError(f"--data names '{path}', and there is no such file.") from None
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"--data must be a CSV file in UTF-8; '{path}' cannot be read: {error}.") from None


def _numbered_fields(path: Path, file: TextIO) -> Iterator[tuple[int, list[str]]]:
    """The fields of each row, and the number of the line on which it begins."""
    line = 1
    reader = csv.reader(_lines(path, file), skipinitialspace=True, strict=True)
    try:
        for fields in reader:
            yield line, fields
            line = reader.line_num + 1
    except csv.Error as error:
        raise UsageError(f"Line {line} of '{path}' is damaged, or lacks a quotation mark: {error}.") from None


def _lines(path: Path, file: TextIO) -> Iterator[str]:
    """The lines of a file, none of which is longer than any that names a file: a disk may hold more than memory."""
    while text := file.readline(MOST_CHARACTERS):
        if len(text) == MOST_CHARACTERS:
            raise UsageError(
                f"A line of '{path}' has more than {MOST_CHARACTERS:,} characters. Put each example on a line."
            )
        yield text


def _find_columns(path: Path, names: list[str]) -> dict[str, int]:
    """The position of each column that is known."""
    names = [name.strip().lower() for name in names]
    if not any(names):
        raise UsageError(f"A CSV file of data needs the columns path and label; the first line of '{path}' is empty.")
    missing = [column for column in ("path", "label") if column not in names]
    if missing or any(names.count(column) > 1 for column in COLUMNS):
        problem = f"lacks {' and '.join(missing)}" if missing else "repeats one"
        found = printable(", ".join(names))
        hint = " Put commas between the columns." if len(names) == 1 and set(";\t") & set(names[0]) else ""
        raise UsageError(
            f"A CSV file of data needs the columns path and label once each (and may have split); '{path}' {problem}: "
            f"it has {found[:200]}.{hint}"
        )
    return {column: names.index(column) for column in COLUMNS if column in names}


def _make_row(path: Path, line: int, fields: list[str], num_columns: int, columns: dict[str, int]) -> Row:
    if any(field.strip() for field in fields[num_columns:]):
        raise UsageError(f"Line {line} of '{path}' has more fields than the first; quote what has a comma in it.")
    found = {column: fields[place].strip() for column, place in columns.items() if place < len(fields)}
    return Row(line, **{column: found.get(column, "") for column in COLUMNS})
