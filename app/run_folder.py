"""The state of a run folder: begun, or finished. Nothing here needs TensorFlow."""

import shlex
from pathlib import Path

CONFIG_FILE, METRICS_FILE = "config.json", "metrics.json"
PLACES_FILE = "places.json"
MORE_DATA_FILE = "more_data.csv"
KEPT_FILES = (
    *("model.keras", "model.json", CONFIG_FILE, METRICS_FILE, "environment.json", "predictions.csv"),
    *("history.csv", "quarantine.csv", "learnt_from.txt", "unknown.npz", "report.html", "report.json"),
)
"""Files of a run that no other command writes over."""
CHECKPOINTS = "checkpoints"
"""Folder of a run that holds what resuming needs; deleted when the run is finished."""


def checkpoints_of(folder: Path) -> Path:
    """Returns the folder of a run's checkpoints."""
    return folder / CHECKPOINTS


def is_finished(folder: Path) -> bool:
    """Returns True if a run folder is complete: its `metrics.json` is written last."""
    return (folder / METRICS_FILE).exists()


def exports_of(folder: Path) -> Path:
    """Returns the folder of a run's exports, by format, unless another is named."""
    return folder / "export"


def is_unfinished(folder: Path) -> bool:
    """Returns True if a folder holds a run that can be resumed."""
    begun = (checkpoints_of(folder) / PLACES_FILE).is_file() and (folder / CONFIG_FILE).is_file()
    return begun and not is_finished(folder)


def resume_command(folder: Path) -> str:
    """Returns the command that resumes a run."""
    return f"python train.py --resume {shlex.quote(str(folder))}"
