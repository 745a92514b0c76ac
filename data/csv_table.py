"""Pictures named in a CSV file with the columns `path,label` and optionally `split`.

Paths are relative to the file's folder. Several labels of one picture are joined by `|`; the task is then multi-label.
"""

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

    Raises:
        UsageError: the file cannot be read, lacks a column, or has an impossible value; the message has the line.
    """
    path = Path(data)
    try:
        table = pd.read_csv(path, dtype=str, keep_default_na=False, skipinitialspace=True, encoding="utf-8-sig")
    except FileNotFoundError:
        raise UsageError(f"--data names '{path}', and there is no such file.") from None
    except (OSError, ValueError) as error:
        raise UsageError(f"--data must be a CSV file in UTF-8; '{path}' cannot be read: {error}") from None
    table.columns = [str(column).strip().lower() for column in table.columns]
    missing = [column for column in ("path", "label") if column not in table.columns]
    if missing:
        raise UsageError(
            f"A CSV of pictures needs the columns path and label (and may have split); '{path}' lacks "
            f"{' and '.join(missing)} and has {', '.join(table.columns)}."
        )
    if table.empty:
        raise UsageError(f"A CSV of pictures needs a line per picture; '{path}' has none.")
    multi_label = bool(table["label"].str.contains("|", regex=False).any())
    splits = table["split"] if "split" in table.columns else [""] * len(table)
    pictures = []
    for line, (name, label, split) in enumerate(zip(table["path"], table["label"], splits, strict=True), start=2):
        labels = tuple(sorted({part.strip() for part in label.split("|")} - {""}))
        if not name or not (labels or multi_label):
            raise UsageError(f"Line {line} of '{path}' has no {'path' if not name else 'label'}.")
        if split and split.strip().lower() not in SPLIT_FOLDERS:
            raise UsageError(f"A split must be train, val, test or empty; line {line} of '{path}' has '{split}'.")
        pictures.append(Picture(path.parent / name, labels, SPLIT_FOLDERS.get(split.strip().lower())))
    return Source(name=path.stem, root=path.parent, pictures=pictures, multi_label=multi_label)
