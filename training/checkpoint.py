"""Checkpoints, from which an unfinished run resumes with the same result: one file per phase, replaced as a whole.

Nothing else needs saving: order and augmentation of the examples depend on seed and epoch alone, and the outputs of the
frozen layers are in the store.
"""

import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from app.files import written_aside
from app.terminal import show_stage
from training.learner import EpochResult, PhaseState

LARGEST_SHARE = 0.05
"""Share of the time that saving may take."""
VERSION = 3
"""Version of the file's content."""


class Checkpoint(NamedTuple):
    """Progress of a phase."""

    finished: bool
    """True if the phase is over; the checkpoint then has its best weights."""
    seconds: dict[str, float]
    """Seconds that each stage of the run has taken so far."""
    state: PhaseState
    """State of the learner. If the phase is over, only the values of its model matter."""


def save(path: Path, checkpoint: Checkpoint) -> None:
    """Writes a checkpoint to a file; the previous one stays until this one is complete."""
    arrays: dict[str, Any] = {
        f"{name} {number}": array for name, each in checkpoint.state.arrays.items() for number, array in enumerate(each)
    }
    record = checkpoint._replace(state=checkpoint.state._replace(arrays={}))
    with written_aside(path) as temporary, temporary.open("wb") as file:
        np.savez(file, record=np.frombuffer(json.dumps([VERSION, record]).encode(), np.uint8), **arrays)
        file.flush()
        os.fsync(file.fileno())


def load(path: Path) -> Checkpoint | None:
    """Reads a checkpoint; None if it is missing, or damaged, which is a warning on the terminal.

    A phase that starts again from its beginning ends with the same result.
    """
    try:
        with np.load(path, allow_pickle=False) as content:
            version, (finished, seconds, state) = json.loads(content["record"].tobytes())
            if version != VERSION:
                raise ValueError("another version wrote it")
            epochs, step, best_epoch, best_loss, arrays = state
            for key in content.files[1:]:  # in the order in which they were written
                arrays.setdefault(key.partition(" ")[0], []).append(content[key])
        epochs = [EpochResult(*values) for values in epochs]
        return Checkpoint(finished, seconds, PhaseState(epochs, step, best_epoch, best_loss, arrays))
    except FileNotFoundError:
        return None
    except Exception as error:  # zipfile, numpy and json may raise any exception
        show_stage("warning", f"'{path}' is damaged and not used ({error}): its phase starts again")
        return None


class Saver:
    """Saves the checkpoints of a phase at intervals."""

    def __init__(self, path: Path, interval: float):
        """Starts the clock.

        Args:
            path: path of the file.
            interval: least seconds between two checkpoints; more if saving takes long.
        """
        self._path = path
        self._interval = interval
        self._pause = interval
        self._saved = time.perf_counter()

    def save_if_due(self, make: Callable[[], Checkpoint]) -> None:
        """Saves what `make` returns, if it is time."""
        if time.perf_counter() - self._saved >= self._pause:
            self.save(make())

    def save(self, checkpoint: Checkpoint) -> None:
        """Saves now."""
        started = time.perf_counter()
        save(self._path, checkpoint)
        self._saved = time.perf_counter()
        self._pause = self._interval and max(self._interval, (self._saved - started) / LARGEST_SHARE)
