"""Writes the files of a run folder; each is complete or absent."""

import datetime
import platform
import warnings
from importlib import metadata
from pathlib import Path

import numpy as np
import pandas as pd
import tensorflow as tf
from joblib import cpu_count
from matplotlib.figure import Figure

from app.files import write_json, write_text, written_aside
from app.terminal import attempt
from data.csv_cells import table_text
from data.prepare import Data
from data.sources import Split, choose_measured
from inference.run_record import LEARNT_FROM_FILE
from reports import detection, plots
from reports.per_class import confusion_counts, truth_and_answers
from tasks.answers import label_texts
from tasks.table import classes_of

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
    return {name: metadata.version(name) for name in VERSIONED_PACKAGES}


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


def predictions_table(data: Data, outputs: dict[Split, np.ndarray]) -> pd.DataFrame:
    """Makes a table with a row per example: path, split, label, predicted, and the probability of each class.

    Args:
        data: examples, labels and splits.
        outputs: float32 (n, num_outputs) for each measured split, in the order of `data.splits`.
    """
    if data.task.has_boxes:
        return detection.predictions_table(data, outputs)
    columns = [f"probability_{name}" for name in data.class_names]
    tables = [pd.DataFrame(columns=["path", "split", "label", "predicted", *columns])]
    for split, split_outputs in outputs.items():
        positions = data.splits[split]
        probabilities = classes_of(data.task).probabilities(split_outputs)
        table = pd.DataFrame(
            {
                "path": [data.display_path(data.examples[position].path) for position in positions],
                "split": split,
                "label": label_texts(classes_of(data.task).truth(data.targets[positions]), data.class_names),
                "predicted": label_texts(classes_of(data.task).predicted(probabilities), data.class_names),
            }
        )
        tables.append(table.join(pd.DataFrame(probabilities, columns=columns, dtype=np.float32)))
    return pd.concat(tables, ignore_index=True)


def write_quarantine(folder: Path, data: Data) -> None:
    """Writes `quarantine.csv`: path and reason of every file that was set aside."""
    rows = [(data.display_path(item.path), item.reason) for item in data.quarantine]
    write_table(folder / "quarantine.csv", pd.DataFrame(rows, columns=["path", "reason"]))


def write_reader_files(folder: Path, data: Data) -> None:
    """Writes the files that reading the examples needs, such as a tokenizer."""
    for name, content in data.reader.files.items():
        with written_aside(folder / name) as temporary:
            temporary.write_bytes(content)


def write_learnt_from(folder: Path, data: Data) -> None:
    """Writes `learnt_from.txt`, the SHA-256 of each training picture, for `inference.run_record.count_copies`."""
    digests = {data.digests[position] for position in data.splits["train"]}
    write_text(folder / LEARNT_FROM_FILE, "".join(f"{digest}\n" for digest in sorted(digests)))


def write_predictions(folder: Path, data: Data, outputs: dict[Split, np.ndarray]) -> None:
    """Writes `predictions.csv`, and the confusion matrix of the test split, or of val without test.

    Args:
        folder: the run folder.
        data: examples, labels and splits.
        outputs: float32 (n, num_outputs) for each measured split, in the order of `data.splits`.
    """
    write_table(folder / "predictions.csv", predictions_table(data, outputs))
    split = choose_measured(outputs)
    if split is None or "confusion" not in data.task.sections:
        return
    counts = confusion_counts(*truth_and_answers(data, outputs[split], split))
    matrix = pd.DataFrame(counts, columns=data.class_names)
    matrix.insert(0, "label", data.class_names, allow_duplicates=True)
    write_table(folder / "confusion_matrix.csv", matrix)
    title, path = f"{split} split, {counts.sum():,} {data.kind.nouns}", folder / "figures" / "confusion_matrix.png"
    attempt(
        "The figure of the confusion matrix",
        lambda: write_figure(path, plots.confusion_matrix(counts, data.class_names, title)),
    )
