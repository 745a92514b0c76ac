"""Writes the files of a run folder; each is complete or absent."""

import datetime
import platform
import warnings
from pathlib import Path

import pandas as pd
import tensorflow as tf
from joblib import cpu_count
from matplotlib.figure import Figure

from app.files import write_json, write_text, written_aside
from app.wheels import installed_versions
from data.csv_cells import table_text
from data.prepare import Data
from inference.run_record import LEARNT_FROM_FILE, QUARANTINE_FILE

VERSIONED_PACKAGES = ("tensorflow", "keras", "numpy", "pillow", "scikit-learn", "pandas", "matplotlib")


def write_table(path: Path, table: pd.DataFrame) -> None:
    """Writes a CSV file; `data.csv_cells.read_table` reads it."""
    write_text(path, table_text(table))


def write_figure(path: Path, figure: Figure) -> None:
    """Writes a PNG file."""
    path.parent.mkdir(exist_ok=True)
    # Matplotlib warns of characters that its fonts lack.
    with written_aside(path) as temporary, warnings.catch_warnings(action="ignore"):
        figure.savefig(temporary, dpi=110, format="png")


def package_versions() -> dict[str, str]:
    """Returns the versions of the packages that a result depends on."""
    return installed_versions(*VERSIONED_PACKAGES)


def write_environment(folder: Path) -> None:
    """Writes `environment.json`: time, platform, devices and versions of packages."""
    environment = {
        "time": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "cores": cpu_count(),
        "devices": [device.name for device in tf.config.list_logical_devices()],
        "packages": package_versions(),
    }
    write_json(folder / "environment.json", environment)


def write_quarantine(folder: Path, data: Data) -> None:
    """Writes `quarantine.csv`: path and reason of every file that was set aside."""
    rows = [(data.display_path(item.path), item.reason) for item in data.quarantine]
    write_table(folder / QUARANTINE_FILE, pd.DataFrame(rows, columns=["path", "reason"]))


def write_reader_files(folder: Path, data: Data) -> None:
    """Writes the files that reading the examples needs, such as a tokenizer."""
    for name, content in data.reader.files.items():
        with written_aside(folder / name) as temporary:
            temporary.write_bytes(content)


def write_learnt_from(folder: Path, data: Data) -> None:
    """Writes `learnt_from.txt`, the SHA-256 of each training example, for `inference.run_record.are_copies`."""
    digests = {data.digests[position] for position in data.splits["train"]}
    write_text(folder / LEARNT_FROM_FILE, "".join(f"{digest}\n" for digest in sorted(digests)))
