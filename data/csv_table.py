"""Pictures named in a CSV file with the columns `path,label` and optionally `split`.

Paths are relative to the file's folder. Several labels of one picture are joined by `|`; the task is then multi-label.
"""

import warnings
from pathlib import Path

import pandas as pd

from config import UsageError
from data.folder import SPLIT_FOLDERS
from data.sources import Picture, Source


def accepts(data: str) -> bool:
    """Says whether `--data` names a CSV file, there or not."""
    return Path(data).suffix.lower() == ".csv" and not Path(data).is_dir()


def load(data: str, cache_dir: Path) -> Source:
    """Reads the table. Whether the files exist is found out by decoding them.

    Args:
        data: the value of `--data`.
        cache_dir: not used: the files stay where they are.

    Raises:
        UsageError: the file cannot be read, lacks a column, or has an impossible value; the message has the line.
    """
    path = Path(data)
    table = _read_table(path)
    multi_label = bool(table["label"].str.contains("|", regex=False).any())
    pictures = []
    for row in table.itertuples():
        labels = tuple(sorted({part.strip() for part in row.label.split("|")} - {""}))
        name, split = row.path.strip(), row.split.strip().lower()
        if not (name or labels or split):
            continue  # an empty line
        line = row.Index + 2
        if not name or not (labels or multi_label):
            raise UsageError(f"Line {line} of '{path}' has no {'path' if not name else 'label'}.")
        if split and split not in SPLIT_FOLDERS:
            raise UsageError(f"A split must be train, val, test or empty; line {line} of '{path}' has '{row.split}'.")
        pictures.append(Picture(path.parent / name, labels, SPLIT_FOLDERS.get(split)))
    if not pictures:
        raise UsageError(f"A CSV of pictures needs a line per picture; '{path}' has none.")
    return Source(name=path.stem, root=path.parent, pictures=pictures, multi_label=multi_label)


def _read_table(path: Path) -> pd.DataFrame:
    """Reads all columns as text, the names of the columns in lower case, `split` added where it is missing."""
    try:
        with warnings.catch_warnings(action="error", category=pd.errors.ParserWarning):
            table = pd.read_csv(
                path,
                dtype=str,
                keep_default_na=False,
                index_col=False,
                skip_blank_lines=False,
                skipinitialspace=True,
                encoding="utf-8-sig",
            )
    except FileNotFoundError:
        raise UsageError(f"--data names '{path}', and there is no such file.") from None
    except pd.errors.EmptyDataError:
        raise UsageError(f"A CSV of pictures needs the columns path and label; '{path}' is empty.") from None
    except pd.errors.ParserWarning:
        raise UsageError(f"Lines of '{path}' have more fields than the first; quote what has a comma in it.") from None
    except (OSError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise UsageError(f"--data must be a CSV file in UTF-8; '{path}' cannot be read: {reason}") from None
    table.columns = [str(column).strip().lower() for column in table.columns]
    columns = [column for column in table.columns if column in ("path", "label", "split")]
    missing = [column for column in ("path", "label") if column not in columns]
    if missing or len(set(columns)) < len(columns):
        problem = f"lacks {' and '.join(missing)}" if missing else "repeats one"
        raise UsageError(
            f"A CSV of pictures needs the columns path and label once each (and may have split); '{path}' {problem}: "
            f"it has {', '.join(table.columns)}."
        )
    return table if "split" in columns else table.assign(split="")
