"""The first line of a CSV file of data: which columns it needs, and what to do if it lacks one."""

from collections.abc import Sequence
from pathlib import Path

from app.errors import UsageError
from data.kinds import kinds
from data.sources import printable

COLUMNS = ("path", "label", "split", "group")
"""Columns with a meaning, besides those of the examples themselves."""
LONGEST_SHOWN = 200
"""Most characters of a header in a message."""


def check_columns(path: Path, names: Sequence[str], needed: Sequence[str]) -> None:
    """Raises a UsageError if a file lacks a needed column, or has a column with a meaning twice.

    Args:
        path: the file.
        names: names of its columns, in lower case.
        needed: columns without which the file is of no use.
    """
    if not any(names):
        raise UsageError(f"A CSV file of data needs the columns {_wanted()}; the first line of '{path}' is empty.")
    missing = [column for column in needed if column not in names]
    if missing or any(names.count(column) > 1 for column in (*COLUMNS, *needed)):
        problem = f"lacks {' and '.join(missing)}" if missing else "repeats one"
        found = printable(", ".join(names))
        wanted = (
            f"the columns {_wanted()}, once each (and may have split and group)"
            if "label" in needed
            else f"a column {needed[0]}"
        )
        hint = " Remove the first line, which only Excel reads." if names[0].startswith("sep=") else ""
        raise UsageError(
            f"A CSV file of data needs {wanted}; '{path}' {problem}: it has {found[:LONGEST_SHOWN]}.{hint}"
        )


def _wanted() -> str:
    return f"{' or '.join(['path', *(kind.column for kind in kinds() if kind.column)])} (see --text-column), and label"
