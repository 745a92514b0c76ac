"""Writes and reads CSV files whose texts stay texts in a spreadsheet and are read back unchanged.

A class or a file may be called '=HYPERLINK(...)', which a spreadsheet would compute (OWASP, CSV injection). A leading
apostrophe prevents it. A text that begins with an apostrophe gets another, so removing one always restores the text.
Control characters become escapes, and stay escapes: `data.sources.file_name` turns them into the name of the file.
"""

import re
from pathlib import Path

import pandas as pd

from app.escapes import visible
from app.files import open_regular

_COMPUTED = ("=", "+", "-", "@", "＝", "＋", "－", "＠")
"""Beginnings of a formula; a spreadsheet may take the wide forms for the narrow ones."""
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", re.ASCII)


def escape_cell(text: str) -> str:
    """Escapes control characters; puts an apostrophe before a formula (numbers are none) and before an apostrophe."""
    text = visible(text)
    is_computed = text.startswith(_COMPUTED) and not _NUMBER.fullmatch(text)
    return f"'{text}" if is_computed or text.startswith("'") else text


def unescape_cell(text: str) -> str:
    """Returns the text of a cell that `escape_cell` made; control characters stay escaped."""
    return text.removeprefix("'")


def table_text(table: pd.DataFrame, header: bool = True) -> str:
    """Makes the rows of a CSV file with every text escaped; with `header`, the names of the columns come first."""
    escaped = table.copy(deep=False)
    for position in range(table.shape[1]):
        column = table.iloc[:, position]
        if not pd.api.types.is_numeric_dtype(column.dtype):
            escaped.isetitem(position, [escape_cell(cell) if isinstance(cell, str) else cell for cell in column])
    escaped.columns = [escape_cell(str(name)) for name in table.columns]
    return escaped.to_csv(index=False, header=header, lineterminator="\n")


def read_table(path: Path) -> pd.DataFrame:
    """Reads a CSV file that `table_text` made.

    Returns:
        Every cell as text, '' for an empty one.

    Raises:
        OSError, ValueError: the file cannot be read, or is not a CSV file in UTF-8.
    """
    with open_regular(path) as file:
        table = pd.read_csv(file, dtype=str, keep_default_na=False).map(unescape_cell)
    table.columns = [unescape_cell(name) for name in table.columns]
    return table
