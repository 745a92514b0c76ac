"""Records of a run: measured figures, and the examples it measured itself on. Needs no TensorFlow."""

import contextlib
import functools
import hashlib
import itertools
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeGuard

import numpy as np
import pandas as pd

from app.errors import UsageError
from app.files import read_json
from app.run_folder import METRICS_FILE
from data import tfds
from data.arrays import filled, joined, take_rows
from data.content import UnreadableError, content_of
from data.csv_cells import read_table
from data.kinds import Content, ManyInputs, Part
from data.sources import SPLITS, Split, choose_measured, file_name, source_of
from inference.files import FoundFile, find_files, read_batches
from inference.load import TrainedRun
from tasks.table import Task

PREDICTIONS_FILE, QUARANTINE_FILE = "predictions.csv", "quarantine.csv"
LEARNT_FROM_FILE = "learnt_from.txt"
"""File with the SHA-256 of each training example, one a line."""
MOST_DIGEST_BYTES = 100
"""Longest line that is read; a run folder may come from an untrusted source."""
READ_AT_ONCE = 32
LARGEST = 1e15
"""Largest figure; JSON has numbers of any size."""


class Sample(NamedTuple):
    """Examples to try a model on."""

    paths: list[Path]
    inputs: ManyInputs
    """Tensors (n, ...) of the run's reader."""

    def take(self, rows: np.ndarray) -> tuple[np.ndarray, ...]:
        """Returns the inputs of a network for some of the examples."""
        return filled([take_rows(values, rows) for values in self.inputs])

    def half(self) -> "Sample":
        """Returns every second example, beginning with the second."""
        rows = np.arange(1, len(self.paths), 2)
        return Sample(self.paths[1::2], tuple(take_rows(values, rows) for values in self.inputs))


def read_metrics(run: TrainedRun) -> dict[str, Any]:
    """Reads a run's `metrics.json`.

    Raises:
        UsageError: the file is missing or damaged.
    """
    path = run.folder / METRICS_FILE
    try:
        metrics = read_json(path)
        _check_metrics(metrics, run.task)
    except (OSError, ValueError) as error:
        raise UsageError(f"'{path}' is missing or damaged ({error}). Take the folder of a finished run.") from None
    return metrics


def read_predictions(folder: Path) -> pd.DataFrame:
    """Reads path, split, label and predicted of a run's `predictions.csv`, as text.

    Raises:
        UsageError: the file is missing or damaged.
    """
    return _read_columns(folder / PREDICTIONS_FILE, ["path", "split", "label", "predicted"])


def measured_split(metrics: dict[str, Any]) -> tuple[Split, dict[str, Any]] | None:
    """Returns the split that rates a run (test, or val without test), and its figures."""
    split = choose_measured([split for split in SPLITS if metrics.get(split)])
    return split and (split, metrics[split])


def chosen_by(metrics: dict[str, Any]) -> str | None:
    """Returns the flag that chose the thresholds of a run, such as '--sensitivity 0.98'; None where none did."""
    decision = metrics.get("decision")
    flag = decision.get("flag") if isinstance(decision, dict) else None
    return flag if isinstance(flag, str) else None


def check_accuracy(metrics: dict[str, Any], required: float | None) -> None:
    """Raises a UsageError if the measured accuracy is below the required one."""
    if required is None:
        return
    measured = measured_split(metrics)
    if measured is None:
        raise UsageError(f"--require-accuracy {required:g} cannot be checked: this run measured no test or val split.")
    split, figures = measured
    leading = "accuracy" if "accuracy" in figures else "ap50"
    if figures[leading] < required:
        raise UsageError(
            f"The {leading} on {split} is {figures[leading]:.4f}, less than --require-accuracy {required:g}. "
            "Nothing was exported."
        )


def read_sample(run: TrainedRun, given: Sequence[str], most: int, cache_dir: Path) -> Sample:
    """Reads at most `most` examples to compare on: the given files, folders and patterns, or those that the run
    measured itself on.

    Raises:
        UsageError: no example exists or can be read.
    """
    column = run.config.data.text_column
    asked = find_files(given, kind=run.kind, text_column=column) if given else _measured_files(run, cache_dir)
    files = [file for file in asked if not file.reason]
    if not files:
        raise UsageError(
            f"An export is compared with the model on {run.kind.nouns}, and those that this run measured (of --data "
            f"'{run.config.data.data}') are not there. Name some: --sample PATHS, files or folders."
        )
    reader = run.reader
    batches = list(read_batches(_some(files, most), reader, READ_AT_ONCE))
    read = [file for batch in batches for file in batch.files]
    paths = [file.path for file in read if not file.reason]
    if not paths:
        raise UsageError(
            f"None of the {len(read)} files to compare on is a readable {run.kind.noun}; {read[0].reason}."
        )
    return Sample(paths, tuple(map(joined, zip(*(batch.inputs for batch in batches), strict=True))))


def find_examples(run: TrainedRun, most: int, cache_dir: Path) -> list[Path]:
    """Finds at most `most` existing files of the split that rates a run."""
    if tfds.accepts(run.config.data.data):  # would need a download
        return []
    measured = [file for file in _measured_files(run, cache_dir, measured_only=True) if file.content is None]
    return [file.path for file in _some(measured, most)]


def find_learnt_from(run: TrainedRun, files: Sequence[FoundFile]) -> list[FoundFile]:
    """Finds the files, and parts of files, from the run's data folder, without those it measured or set aside; of
    examples without files, finds the copies of training examples."""
    typed = [(file, file.content) for file in files if isinstance(file.content, bytes)]
    copied = are_copies(run.folder, [hashlib.sha256(content).hexdigest() for _, content in typed])
    found = [file for (file, _), is_copy in zip(typed, copied or (), strict=False) if is_copy]
    data = Path(run.config.data.data)
    if not data.exists():
        return found
    root = Path(os.path.realpath(data if data.is_dir() else data.parent))
    real_paths = {
        Path(os.path.realpath(file.path)): file
        for file in files
        if not file.reason and not isinstance(file.content, bytes)
    }
    inside = {path: file for path, file in real_paths.items() if path.is_relative_to(root)}
    for table in (run.folder / PREDICTIONS_FILE, run.folder / QUARANTINE_FILE):
        if inside and table.is_file():
            rows = _read_columns(table, ["path", *(["split"] if table.name == PREDICTIONS_FILE else [])])
            if run.config.data.folds is not None and "split" in rows:
                rows = rows[rows["split"] != "val"]  # the answers of folds, for examples that the model learnt from
            for text in rows["path"]:
                inside.pop(root / file_name(text), None)
    digest_of = functools.cache(_digest)  # of many parts, the whole file once
    digests = {
        path: [digest for place in _places(file) if (digest := digest_of(place, file.within))]
        for path, file in inside.items()
    }
    asked = [digest for some in digests.values() for digest in some]
    learnt = are_copies(run.folder, asked)
    if learnt is None:  # a run too old to have recorded these
        return [*found, *inside.values()]
    known = set(itertools.compress(asked, learnt))
    return [*found, *(file for path, file in inside.items() if not known.isdisjoint(digests[path]))]


def _places(file: FoundFile) -> tuple[Content, ...]:
    """Returns a file; of a part, that and its file."""
    return (file.content, file.content.path) if isinstance(file.content, Part) else (file.path,)


def _digest(place: Content, within: Path | None) -> str | None:
    """Returns the SHA-256 of an example; None if it cannot be read."""
    with contextlib.suppress(UnreadableError), content_of(place, within) as content:
        return hashlib.sha256(content).hexdigest()
    return None


def are_copies(folder: Path, digests: Sequence[str]) -> list[bool] | None:
    """Says of each example whether it is a copy of one that a run learnt from, by the SHA-256 of their files.

    Returns None if the run is too old to have recorded these.
    """
    path = folder / LEARNT_FROM_FILE
    if not path.is_file():
        return None
    asked, learnt = {digest.encode() for digest in digests}, set()
    with path.open("rb") as file:
        while line := file.readline(MOST_DIGEST_BYTES):  # only matches stay in memory
            if (digest := line.strip()) in asked:
                learnt.add(digest.decode())
    return [digest in learnt for digest in digests]


def _read_columns(path: Path, names: list[str]) -> pd.DataFrame:
    try:
        return read_table(path)[names]
    except (OSError, ValueError, KeyError) as error:
        raise UsageError(f"'{path}' is missing or damaged ({error}). Take the folder of a finished run.") from None


def _measured_files(run: TrainedRun, cache_dir: Path, measured_only: bool = False) -> list[FoundFile]:
    """Returns the existing files that `predictions.csv` names, of all splits or the measured one."""
    try:
        table = read_predictions(run.folder)
        if measured_only:
            table = table[table["split"] == choose_measured(set(table["split"]))]
        source = source_of(run.config.data, cache_dir)
        contents = {example.path: example.content for example in source.examples if example.content is not None}
        found = [
            FoundFile(path, within=source.within, content=contents.get(path))
            for path in (source.root / file_name(text) for text in table["path"])
        ]
        return [file for file in found if file.content is not None or file.path.is_file()]
    except (ValueError, OSError, UsageError):  # a name may not be a path
        return []


def _some(files: Sequence[FoundFile], most: int) -> list[FoundFile]:
    """Returns at most `most` files, evenly spaced."""
    return [files[row] for row in np.linspace(0, len(files) - 1, min(most, len(files))).astype(int)]


def _check_metrics(metrics: Any, task: Task) -> None:
    """Raises a ValueError if no run writes such a `metrics.json`."""
    if not isinstance(metrics, dict):
        raise ValueError("no object")
    counts = metrics.get("data", {})
    if not isinstance(counts, dict) or not all(is_number(counts.get(split, 0)) for split in SPLITS):
        raise ValueError("data has no numbers of examples")
    for split in SPLITS:
        figures = metrics.get(split)
        if figures is None:
            continue
        known, leading = task.figures, task.leading_figure
        if not isinstance(figures, dict) or not all(is_number(figures.get(name)) for name in known):
            raise ValueError(f"{split} has no {', '.join(known)}")
        interval = figures.get(f"{leading}_ci95")
        if not isinstance(interval, list) or list(map(is_number, interval)) != [True, True]:
            raise ValueError(f"{split} has no {leading}_ci95")


def is_number(value: Any) -> TypeGuard[float]:
    """Returns True if a value of a JSON file is a number that a figure can be."""
    return isinstance(value, int | float) and not isinstance(value, bool) and -LARGEST < value < LARGEST
