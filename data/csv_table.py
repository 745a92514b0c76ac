"""Examples in a CSV file with the columns `path,label` or `text,label`, and optionally `split` and `group`.

Paths are relative to the file's folder; a text is itself the example. Several labels of one example are joined by `|`;
the task is then multi-label. Examples of one group stay on one side of a split. For recordings, `start` and `end`, in
seconds, may choose a part of the file as the example.
"""

import csv
import functools
import itertools
import math
import os
import re
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Literal, NamedTuple, TextIO

from app.errors import UsageError
from data.csv_header import COLUMNS, check_columns
from data.encoding import encoding_of_file
from data.kinds import Kind, Part, find_kind, kind_of, kinds
from data.sources import LINK_OUT, SPLIT_FOLDERS, Example, Source, Split, is_within, printable

HAS_COLUMNS = TAKES_KIND = True
CONTENT = "\0content"
"""Name of the column with the examples themselves, while rows are read; no header has it."""
SEPARATORS = ",;\t"
"""Signs that may divide the fields of a file: the one that its first line has most of, and of equals the first."""
MOST_CHARACTERS = 2**20
"""Most characters of a line or of a field."""
MOST_SHOWN = 100
"""Most characters of a field in a message."""
FEW_ODD_LINES = 10
"""Texts in another encoding that are set aside one by one; of more, if they are over 1 %, the file is in another
encoding."""
csv.field_size_limit(MOST_CHARACTERS)


class Row(NamedTuple):
    """Fields of a row, without blanks around them."""

    line: int
    """Line on which it begins."""
    path: str = ""
    label: str = ""
    split: str = ""
    group: str = ""
    content: str | None = None
    """The example itself, in a table without paths."""
    others: Mapping[str, str] = {}
    """Fields of all other columns."""


def accepts(data: str) -> bool:
    """Says whether `--data` names a CSV file, there or not."""
    return Path(data).suffix.lower() == ".csv" and not Path(data).is_dir()


def load(
    data: str,
    cache_dir: Path,
    outside: bool = False,
    labelled: bool = True,
    text_column: str | None = None,
    kind: Kind | None = None,
) -> Source:
    """Reads the table; missing files are noticed later, when they are read.

    Args:
        data, cache_dir, outside: arguments of every source, see `data.sources.SOURCES`.
        labelled: whether to read labels; if not, a column of paths or examples is enough.
        text_column: name of the column of texts; None for 'text', in a table without paths.
        kind: kind of the files; None to infer it from their names.

    Raises:
        UsageError: the file cannot be read, lacks a column, or has an invalid value; the message names the line.
    """
    path = Path(data)
    rows, kind_of_column, repeated = _read_rows(path, labelled, text_column and text_column.lower())
    rows = [row if labelled else row._replace(label="") for row in rows]
    multi_label = any(len(_labels(row)) > 1 for row in rows)
    _check_complete(path, rows, multi_label or not labelled)
    way_out = find_way_out(path.parent)
    examples: list[Example] = []
    set_aside: list[Example] = []
    used: list[Row] = []
    for row in rows:
        row = row._replace(path=without_backslashes(path.parent, row.path))
        example = _example(path, row)
        way = None if outside or kind_of_column else way_out(row.path)
        if way == "path":
            raise outside_error(path, row.line, row.path, kind_of([example.path]).noun)
        (examples if way is None else set_aside).append(example)
        used += [row] if way is None else []
    kind = kind_of_column or kind or kind_of(example.path for example in examples)
    if not rows:
        raise UsageError(f"A CSV file needs a line for each example; '{path}' has none.")
    left = {label for example in examples for label in example.labels}
    for lost in set_aside:
        if missing := set(lost.labels) - left:
            raise UsageError(
                f"Every class needs {kind.nouns}; '{min(missing)}' of '{path}' has none: '{lost.path}' is {LINK_OUT}."
            )
    links = [(example.path, LINK_OUT) for example in set_aside]
    names = dict.fromkeys(name for row in rows for name in row.others)  # a short row lacks the last
    columns = {name: [row.others.get(name, "") for row in used] for name in names}
    if labelled:
        columns["group"] = [row.group for row in used]
        columns |= {} if kind_of_column else {"path": [row.path for row in used]}
    examples = [_part(path, row, example, kind) for row, example in zip(used, examples, strict=True)]
    return Source(path.stem, path.parent, examples, kind, multi_label, links, columns, repeated)


def without_backslashes(folder: Path, path: str) -> str:
    """Returns a path of a table; one that was written on Windows gets the separators of this system."""
    is_of_windows = os.sep == "/" and "\\" in path and not os.path.exists(folder / path)
    return path.replace("\\", "/") if is_of_windows else path


def _check_complete(table: Path, rows: Sequence[Row], may_lack_labels: bool) -> None:
    unnamed = [row.line for row in rows if not row.path and row.content is None]
    unlabelled = [row.line for row in rows if not (may_lack_labels or _labels(row))]
    for what, lines in (("path", unnamed), ("label", unlabelled)):
        if lines:
            of_several = f" ({len(lines):,} lines have none)" if len(lines) > 1 else ""
            raise UsageError(f"Line {lines[0]} of '{table}' has no {what}{of_several}.")


def _example(table: Path, row: Row) -> Example:
    given = _labels(row), split_of(table, row.line, row.split)
    if row.content is None:
        return Example(table.parent / row.path, *given, group=row.group)
    content = row.content.encode(errors="surrogateescape")
    return Example(table.parent / f"{table.name}:{row.line}", *given, content, row.group)


def _labels(row: Row) -> tuple[str, ...]:
    return tuple(sorted({printable(part.strip()) for part in row.label.split("|")} - {""}))


def _part(table: Path, row: Row, example: Example, kind: Kind) -> Example:
    """Returns the example of a row: a part of a file if the row has a start or an end."""
    start, end = (row.others.get(name, "") for name in ("start", "end"))
    if kind.cut is None or not (start or end):
        return example
    try:
        seconds = float(start), float(end)
    except ValueError:
        seconds = math.nan, math.nan
    if not 0 <= seconds[0] < seconds[1] < math.inf:
        raise UsageError(
            f"A part of a {kind.noun} is from start to end, in seconds; line {row.line} of '{table}' has "
            f"'{printable(start)}' and '{printable(end)}'."
        )
    part = Part(example.path, *seconds, kind.cut)
    return example._replace(path=part.name, content=part)


def split_of(table: Path, line: int, name: str) -> Split | None:
    """Returns the split that a line of a table names; None if it names none.

    Raises:
        UsageError: there is no such split.
    """
    split = SPLIT_FOLDERS.get(name.lower())
    if name and split is None:
        raise UsageError(
            f"A split must be train, val, test or empty; line {line} of '{table}' has '{printable(name)}'."
        )
    return split


def outside_error(table: Path, line: int, path: str, noun: str) -> UsageError:
    """Makes the error for a line whose path is outside the folder of its table."""
    return UsageError(
        f"Line {line} of '{table}' names a {noun} outside the folder of that file: '{printable(path)}'. Move it into "
        f"the folder, or allow such paths by --outside."
    )


def find_way_out(folder: Path) -> Callable[[str], Literal["path", "link"] | None]:
    """Returns a function that tells whether a path leaves a folder by itself, by a link, or not at all."""
    absolute, real = os.path.abspath(folder), os.path.realpath(folder)
    is_inside = functools.cache(functools.partial(is_within, real_folder=real))

    def way_out(name: str) -> Literal["path", "link"] | None:
        file = os.path.join(absolute, name)
        parent, last = os.path.split(file)
        try:
            # Resolving links is slow: unless the file itself is a link, its folder is resolved, once for all its files.
            if is_inside(file if os.path.islink(file) or last in ("", "..") else parent):
                return None
        except ValueError:  # no file can have such a name; reading reports it
            return None
        if os.path.commonpath([os.path.normpath(file), absolute]) != absolute:
            return "path"
        return "link" if os.path.exists(file) else None  # reading reports a broken link as well

    return way_out


def _read_rows(path: Path, labelled: bool, text_column: str | None) -> tuple[list[Row], Kind | None, Collection[str]]:
    """Reads the rows that are not empty; bytes that are not UTF-8 are reported with the example that has them.

    Returns:
        The rows, the kind of the examples in them (None if they have paths), and names that several columns have.
    """
    if path.exists() and not path.is_file():
        raise UsageError(f"--data must be a CSV file; '{path}' is not a file.")
    try:
        with open(path, encoding=encoding_of_file(path), errors="surrogateescape", newline="") as file:
            rows = numbered_fields(path, file)
            names = [name.lower() for name in _in_utf8(path, *next(rows, (1, [])))]
            if text_column is None or not (labelled or text_column in names):
                kind = None if "path" in names else next((kind for kind in kinds() if kind.column in names), None)
                what = kind.column if kind and kind.column else "path"
            else:
                kind, what = find_kind("text"), text_column
            check_columns(path, names, (what, "label") if labelled else (what,))
            names = [CONTENT if kind and name == what else name for name in names]
            found = [_row(path, line, names, fields, labelled) for line, fields in rows]
    except FileNotFoundError:
        raise UsageError(f"--data names '{path}', and there is no such file.") from None
    except (OSError, UnicodeError) as error:
        raise UsageError(f"'{path}' must be a CSV file in UTF-8; it cannot be read: {error}.") from None
    _check_encoding(path, found)
    used = [row for row in found if any(row[1:-1]) or (row.content is not None and not labelled)]
    return used, kind, {name for name, count in Counter(names).items() if count > 1}


def _check_encoding(path: Path, rows: list[Row]) -> None:
    """Refuses a file in another encoding; a few odd texts are set aside later."""
    odd = [row.line for row in rows if row.content and re.search("[\udc80-\udcff]", row.content)]
    if len(odd) > max(FEW_ODD_LINES, len(rows) / 100):
        raise UsageError(
            f"'{path}' must be a CSV file in UTF-8; {len(odd):,} of its texts are not, the first in line {odd[0]}. "
            f"Save it as UTF-8."
        )


def _row(path: Path, line: int, names: list[str], fields: list[str], labelled: bool) -> Row:
    if any(fields[len(names) :]):
        raise UsageError(f"Line {line} of '{path}' has more fields than the first; quote values with commas.")
    given = dict(zip(names, fields, strict=False))
    known = {name: given[name] for name in COLUMNS if name in given}
    _in_utf8(path, line, [field for name, field in given.items() if name != CONTENT])
    used = (*COLUMNS, CONTENT) if labelled else ("path", CONTENT)
    others = {name: field for name, field in given.items() if name and name not in used}
    return Row(line, **known, content=given.get(CONTENT), others=others)


def _in_utf8(path: Path, line: int, fields: list[str]) -> list[str]:
    """Returns fields of a line, if all are UTF-8; reports or tables could not contain others."""
    for field in fields:
        if re.search("[\ud800-\udfff]", field):
            raise UsageError(
                f"'{path}' must be a CSV file in UTF-8; line {line} is not: it has '{printable(field)[:MOST_SHOWN]}'. "
                f"Save it as UTF-8."
            )
    return fields


def numbered_fields(path: Path, file: TextIO) -> Iterator[tuple[int, list[str]]]:
    """Yields the number of the first line of each row, and its fields: between commas, semicolons or tabs."""
    line, lines = 1, _lines(path, file)
    header = next(lines, "")
    separator = max(SEPARATORS, key=re.sub('"[^"]*"', "", header).count)
    try:
        reader = csv.reader(itertools.chain([header], lines), delimiter=separator, skipinitialspace=True, strict=True)
        for fields in reader:
            yield line, [field.strip() for field in fields]
            line = reader.line_num + 1
    except csv.Error as error:
        raise UsageError(f"Line {line} of '{path}' is damaged, or lacks a quotation mark: {error}.") from None


def _lines(path: Path, file: TextIO) -> Iterator[str]:
    """Yields lines and rejects any too long to name a file, which might not fit into memory."""
    while text := file.readline(MOST_CHARACTERS):
        if len(text) == MOST_CHARACTERS:
            raise UsageError(
                f"A line of '{path}' has more than {MOST_CHARACTERS:,} characters. Put each example on a line."
            )
        yield text
