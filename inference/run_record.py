"""What a run measured: how good it is, and on which pictures. Nothing here needs TensorFlow."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from config import UsageError
from data.sources import SPLITS, Split, choose_judged, load_source
from inference.files import FoundFile, find_files, read_batches
from inference.load import METRICS_FILE, TrainedRun

PREDICTIONS_FILE = "predictions.csv"
READ_AT_ONCE = 32


class Sample(NamedTuple):
    """Pictures to try a model on."""

    paths: list[Path]
    """Of the files."""
    pixels: np.ndarray
    """uint8 (n, image_size, image_size, 3) in [0, 255], as the run reads them."""


def read_metrics(run: TrainedRun) -> dict[str, Any]:
    """Reads a run's `metrics.json`.

    Raises:
        UsageError: it is missing or damaged.
    """
    path = run.folder / METRICS_FILE
    try:
        metrics = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(metrics, dict):
            raise ValueError("no object")
    except (OSError, ValueError) as error:
        raise UsageError(f"'{path}' is missing or damaged ({error}). Take the folder of a finished run.") from None
    return metrics


def measured_split(metrics: dict[str, Any]) -> tuple[Split, dict[str, Any]] | None:
    """The split that says how good a run is, and what was measured on it: test, or val where there is no test."""
    split = choose_judged([split for split in SPLITS if metrics.get(split)])
    return split and (split, metrics[split])


def check_accuracy(metrics: dict[str, Any], required: float | None) -> None:
    """Raises a UsageError if the measured accuracy is below what is required."""
    if required is None:
        return
    if not 0 <= required <= 1:
        raise UsageError(f"--require-accuracy must be a fraction from 0 to 1; received {required}.")
    measured = measured_split(metrics)
    if measured is None:
        raise UsageError(f"--require-accuracy {required:g} cannot be checked: this run measured no test or val split.")
    split, figures = measured
    if figures["accuracy"] < required:
        raise UsageError(
            f"The accuracy on {split} is {figures['accuracy']:.4f}, less than --require-accuracy {required:g}. "
            "Nothing was exported."
        )


def read_sample(run: TrainedRun, given: Sequence[str], most: int, cache_dir: Path) -> Sample:
    """Reads pictures to compare on: those that are given, or those that the run measured itself on.

    Args:
        run: whose pictures, and how they are read.
        given: files, folders and patterns; if none, the pictures of `predictions.csv`.
        most: number of pictures; of more, as many are taken at equal distances.
        cache_dir: where data that does not come as files was unpacked.

    Raises:
        UsageError: no picture is there or can be read.
    """
    files = [file for file in find_files(given) if not file.reason] if given else _measured_files(run, cache_dir)
    chosen = [files[row] for row in np.linspace(0, len(files) - 1, min(most, len(files))).astype(int)]
    batches = list(read_batches(chosen, run.config.image_size, run.config.resize, READ_AT_ONCE))
    read = [file for batch in batches for file in batch.files]
    paths = [file.path for file in read if not file.reason]
    if not paths:
        raise UsageError(f"None of the {len(read)} files to compare on is a readable picture; {read[0].reason}.")
    return Sample(paths, np.concatenate([batch.pixels for batch in batches]))


def _measured_files(run: TrainedRun, cache_dir: Path) -> list[FoundFile]:
    """The files that `predictions.csv` names and that are still there."""
    try:
        names = pd.read_csv(run.folder / PREDICTIONS_FILE, dtype=str, keep_default_na=False)["path"]
        root = load_source(run.config.data, cache_dir).root
        paths = [root / name for name in names]
    except (OSError, ValueError, KeyError, UsageError):
        paths = []
    files = [FoundFile(path) for path in paths if path.is_file()]
    if not files:
        raise UsageError(
            f"An export is compared with the model on pictures, and those that this run measured (of --data "
            f"'{run.config.data}') are not there. Name some: --sample PATHS, files or folders."
        )
    return files
