"""The state of a run, shared by its stages."""

import contextlib
import dataclasses
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import tensorflow as tf

from app.config import TrainConfig
from data.prepare import Data
from data.store import Store
from devices.precision import Precision
from features.cuts import Cut
from models.backbones import Backbone
from models.classifier import Classifier
from reports.tensorboard import Board
from training.learner import EpochResult
from training.plan import Phase, Plan

STAGES = ("prepare", "import", "build", "features", "head", "fine_tune", "evaluate", "save")
"""Stages of a run, in order; `metrics.json` has the seconds of each."""


class Clock:
    """Counts the seconds of each stage of a run, in this process and in earlier ones."""

    def __init__(self, started: float, prepare: float):
        """Starts when the examples are prepared and TensorFlow is imported.

        Args:
            started: value of `time.perf_counter` when this process began with the run.
            prepare: duration of the preparation, seconds.
        """
        self._running = {"total": started}
        self._own = dict.fromkeys(("total", *STAGES), 0.0)
        self._own |= {"prepare": prepare, "import": max(0.0, time.perf_counter() - started - prepare)}
        self._earlier: dict[str, float] = {}

    @contextlib.contextmanager
    def timed(self, stage: str) -> Iterator[None]:
        """Counts the time of a block for a stage."""
        self._running[stage] = time.perf_counter()
        yield
        self._own[stage] = self._own.get(stage, 0.0) + time.perf_counter() - self._running.pop(stage)

    def take_over(self, seconds: dict[str, float]) -> None:
        """Adds the seconds of an earlier process, from its last `seconds`."""
        self._earlier = seconds

    def seconds(self) -> dict[str, float]:
        """Returns the seconds of each stage so far, of 'other' for the rest, and in total."""
        now = time.perf_counter()
        running = {stage: now - started for stage, started in self._running.items()}
        counts = self._own, self._earlier, running
        stages = {
            stage: sum(each.get(stage, 0.0) for each in counts)
            for stage in {**self._own, **self._earlier, **running}
            if stage != "other"
        }
        stages["other"] = max(0.0, 2 * stages["total"] - sum(stages.values()))
        return {stage: round(seconds, 3) for stage, seconds in stages.items()}


@dataclasses.dataclass
class Run:
    """State that the stages of a run share."""

    folder: Path
    plan: Plan
    data: Data
    backbone: Backbone
    classifier: Classifier
    strategy: tf.distribute.Strategy
    precision: Precision
    """Number format in which the network learns."""
    store: Store
    cuts: dict[Phase, Cut]
    """Cut of the network in each phase."""
    epochs: list[EpochResult]
    """Every epoch so far, of all phases."""
    clock: Clock
    board: Board | None
    """Writer for TensorBoard, if requested."""
    out_of_fold: np.ndarray | None = None
    """Predictions of cross-validation for each training example, float32 (n, num_outputs); None without folds."""

    @property
    def config(self) -> TrainConfig:
        """The settings, with what the recipe has decided so far."""
        return self.plan.config

    @property
    def history(self) -> pd.DataFrame:
        """The table of `history.csv`."""
        return pd.DataFrame(self.epochs, columns=EpochResult._fields)
