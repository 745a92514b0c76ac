"""Scores trials by the objective of the search, at the epoch that a trial would keep."""

import math
from collections.abc import Sequence

import keras
import tensorflow as tf

from data.batches import Examples
from data.prepare import Data
from features.forward_pass import apply_model
from reports.detection import measure
from reports.search_plots import MEASURED, metric_of
from tasks.decision import find_metric
from tasks.table import classes_of
from training.steps import Measured
from tuning.heads import lowest
from tuning.records import Outcome, failed


class Scoring:
    """The objective of a search, on the val split."""

    def __init__(self, objective: str, data: Data, strategy: tf.distribute.Strategy):
        self._objective, self._data, self._strategy = objective, data, strategy
        self.is_measured = objective in MEASURED
        """True if every epoch measures the objective."""

    def score(self, model: keras.Model, val: Examples) -> float | None:
        """Computes the objective of a model's answers; None if every epoch measures it, or val does not define it."""
        if self.is_measured:
            return None
        outputs, metric = apply_model(model, val.views[0], strategy=self._strategy), metric_of(self._objective)
        if self._data.task.has_boxes:
            measured = measure(self._data, "val", outputs)
            return measured[metric] if measured else None
        return find_metric(metric).compute(classes_of(self._data.task).answers(val.targets, outputs))

    def outcome(self, curve: Sequence[Measured], score: float | None, seconds: float) -> Outcome:
        """Returns the outcome of a trial.

        Args:
            curve: measures of val, epoch by epoch.
            score: score of the epoch with the lowest loss, if epochs do not measure it.
            seconds: seconds of the trial.
        """
        if not math.isfinite(curve[-1].loss):
            return failed("training diverged: the loss is not a number")._replace(seconds=seconds)
        best, count = curve[lowest(curve)], len(self._data.splits["val"])
        accuracy = best.accuracy
        if not self._data.task.has_boxes:
            accuracy = round(accuracy * count) / count  # makes equal accuracies equal, also when summed in float32
        if self.is_measured:
            score = best.loss if self._objective == "val_loss" else accuracy
        if score is None:
            return failed(f"the val split does not define --objective {self._objective}")._replace(seconds=seconds)
        return Outcome("done", score, accuracy, best.loss, seconds)
