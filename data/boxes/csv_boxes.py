"""Pictures with boxes in a CSV file: a line per box with the columns `path,label,x1,y1,x2,y2`, in pixels, and an
optional `split`. A picture without boxes has one line that ends after its path."""

import os
from pathlib import Path

from app.errors import UsageError
from data.boxes.annotated import Annotated, Box, make_source
from data.csv_table import find_way_out, numbered_fields, outside_error, split_of, without_backslashes
from data.encoding import encoding_of_file
from data.images.kind import KIND
from data.sources import LINK_OUT, SPLIT_FOLDERS, Source

CORNERS = ("x1", "y1", "x2", "y2")
COLUMNS = ("path", "label", *CORNERS)


def accepts(data: str) -> bool:
    """Says whether `--data` names a CSV file with columns for boxes."""
    path = Path(data)
    if path.suffix.lower() != ".csv" or not path.is_file():
        return False
    with path.open(encoding=encoding_of_file(path), errors="replace") as file:
        names = file.readline(10_000).replace('"', "").lower()
    return {name.strip() for name in names.split(",")} >= set(CORNERS)


def load(data: str, cache_dir: Path, outside: bool = False) -> Source:
    """Reads the table; missing pictures are noticed later, when they are read.

    Raises:
        UsageError: the file cannot be read, lacks a column, or has an invalid value; the message names the line.
    """
    table = Path(data)
    way_out = find_way_out(table.parent)
    boxes: dict[str, list[Box]] = {}
    splits: dict[str, str] = {}
    set_aside: list[tuple[Path, str]] = []
    for line, row in _rows(table):
        path, split = row.get("path", ""), row.get("split", "").lower()
        if not path:
            raise UsageError(f"Line {line} of '{table}' has no path.")
        path = os.path.normpath(without_backslashes(table.parent, path))
        split_of(table, line, split)
        if splits.setdefault(path, split) != split:
            raise UsageError(f"All lines of a picture must have one split; line {line} of '{table}' has another.")
        if not outside and (way := way_out(path)):
            if way == "path":
                raise outside_error(table, line, path, KIND.noun)
            set_aside.append((table.parent / path, LINK_OUT))
            continue
        mine = boxes.setdefault(path, [])
        corners = [row.get(name, "") for name in CORNERS]
        if any(corners) or row.get("label"):
            mine.append(Box(row.get("label"), corners))
    annotated = [Annotated(table.parent / path, mine, SPLIT_FOLDERS.get(splits[path])) for path, mine in boxes.items()]
    return make_source(table.stem, table.parent, annotated, set_aside)


def _rows(table: Path) -> list[tuple[int, dict[str, str]]]:
    """Reads the lines that are not empty, as fields by the name of their column."""
    try:
        with table.open(encoding=encoding_of_file(table), newline="") as file:
            lines = numbered_fields(table, file)
            names = [name.lower() for name in next(lines, (1, []))[1]]
            if any(names.count(name) != 1 for name in COLUMNS):
                raise UsageError(f"A CSV of boxes needs the columns {', '.join(COLUMNS)} once each; see '{table}'.")
            return [(line, dict(zip(names, fields, strict=False))) for line, fields in lines if any(fields)]
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"'{table}' must be a CSV file in UTF-8; it cannot be read: {error}.") from None
