"""Pictures with boxes in a CSV file: a line per box with the columns `path,label,x1,y1,x2,y2`, in pixels, and
optionally `split` and `group`. Corners may be named `xmin,ymin,xmax,ymax`. A picture without boxes has one line that
ends after its path."""

import os
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from app.errors import UsageError
from data.boxes.annotated import Annotated, Box, make_source
from data.csv_table import find_way_out, numbered_fields, outside_error, split_of, without_backslashes
from data.encoding import encoding_of_file
from data.images.kind import KIND
from data.sources import LINK_OUT, SPLIT_FOLDERS, Source, printable

CORNERS = ("x1", "y1", "x2", "y2")
SYNONYMS = dict(zip(("xmin", "ymin", "xmax", "ymax"), CORNERS, strict=True))
COLUMNS = ("path", "label", *CORNERS)
Line = tuple[int, dict[str, str]]
"""Number of a line, and its fields by the name of their column."""


class Columns(Mapping[str, Sequence[str]]):
    """Columns of a table that may name groups: one value for each picture, given by all its lines.

    A column that describes boxes may differ within a picture; only asking for it is an error.
    """

    def __init__(self, table: Path, pictures: Sequence[Sequence[Line]]):
        self._table = table
        self._pictures = pictures
        names = dict.fromkeys(name for lines in pictures for _, row in lines for name in row if name)
        self._names = [name for name in names if name not in (*COLUMNS, "split", "group")] + ["group"]

    def __getitem__(self, name: str) -> list[str]:
        """Returns the values of a column.

        Raises:
            KeyError: there is no such column.
            UsageError: the lines of a picture have different values.
        """
        if name not in self._names:
            raise KeyError(name)
        return [_one_value(self._table, lines, name) for lines in self._pictures]

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)


def accepts(data: str) -> bool:
    """Says whether `--data` names a CSV file with columns for boxes."""
    path = Path(data)
    if path.suffix.lower() != ".csv" or not path.is_file():
        return False
    with path.open(encoding=encoding_of_file(path), errors="replace") as file:
        names = file.readline(10_000).replace('"', "").lower()
    return set(_named([name.strip() for name in names.split(",")])) >= set(CORNERS)


def load(data: str, cache_dir: Path, outside: bool = False) -> Source:
    """Reads the table; missing pictures are noticed later, when they are read.

    Raises:
        UsageError: the file cannot be read, lacks a column, or has an invalid value; the message names the line.
    """
    table = Path(data)
    way_out = find_way_out(table.parent)
    pictures: dict[str, list[Line]] = defaultdict(list)
    for line, row in _rows(table):
        path = row.get("path", "")
        if not path:
            raise UsageError(f"Line {line} of '{table}' has no path.")
        row["split"] = split_of(table, line, row.get("split", "")) or ""
        pictures[os.path.normpath(without_backslashes(table.parent, path))].append((line, row))
    annotated: list[Annotated] = []
    set_aside: list[tuple[Path, str]] = []
    for path, lines in pictures.items():
        split = SPLIT_FOLDERS.get(_one_value(table, lines, "split"))
        if not outside and (way := way_out(path)):
            if way == "path":
                raise outside_error(table, lines[0][0], path, KIND.noun)
            set_aside.append((table.parent / path, LINK_OUT))
            continue
        annotated.append(Annotated(table.parent / path, _boxes(lines), split))
    source = make_source(table.stem, table.parent, annotated, set_aside)
    lines_of = {table.parent / path: lines for path, lines in pictures.items()}
    columns = Columns(table, [lines_of[example.path] for example in source.examples])
    grouped = zip(source.examples, columns["group"], strict=True)
    return source._replace(examples=[each._replace(group=group) for each, group in grouped], columns=columns)


def _one_value(table: Path, lines: Sequence[Line], name: str) -> str:
    """Returns the value that the lines of a picture have in a column; '' where a line has no such field.

    Raises:
        UsageError: they have different values.
    """
    value = lines[0][1].get(name, "")
    for line, row in lines[1:]:
        if (other := row.get(name, "")) != value:
            raise UsageError(
                f"All lines of a picture must have one {printable(name)}; line {line} of '{table}' has "
                f"'{printable(other)}', and line {lines[0][0]} '{printable(value)}'. Make them equal."
            )
    return value


def _boxes(lines: Sequence[Line]) -> list[Box]:
    """Returns the boxes of a picture; a line with a path alone has none."""
    boxes = [Box(row.get("label"), [row.get(name, "") for name in CORNERS]) for _, row in lines]
    return [box for box in boxes if box.label or any(box.corners)]


def _named(columns: Sequence[str]) -> list[str]:
    """Returns the names of columns with synonyms of the corners replaced, unless the corners are there themselves."""
    return [name if set(CORNERS) <= set(columns) else SYNONYMS.get(name, name) for name in columns]


def _rows(table: Path) -> list[Line]:
    """Reads the lines that are not empty, as fields by the name of their column."""
    try:
        with table.open(encoding=encoding_of_file(table), newline="") as file:
            lines = numbered_fields(table, file)
            given = [name.lower() for name in next(lines, (1, []))[1]]
            names = _named(given)
            if any(names.count(name) != 1 for name in COLUMNS):
                raise UsageError(
                    f"A CSV of boxes needs the columns {', '.join(COLUMNS)} once each; '{table}' has "
                    f"{printable(', '.join(given))[:200]}. Rename its columns."
                )
            return [(line, dict(zip(names, fields, strict=False))) for line, fields in lines if any(fields)]
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"'{table}' must be a CSV file in UTF-8; it cannot be read: {error}.") from None
