"""The layers behind a cut and a head, trained again and again in the same graphs: no trial builds or traces any."""

from collections.abc import Callable, Sequence

import keras
import numpy as np
import tensorflow as tf

from data.batches import Examples
from data.kinds import Vary
from devices.precision import Precision, learning_precision
from features.cuts import part_of
from tasks.table import Task
from training.learner import EpochResult, Learner
from training.recipe import Plan
from training.steps import Measured
from tuning.adjustable import HeadShape, assign_head, dropout_rates, seeds

POOLED = "pooling"
"""Name of the layer whose output the head gets."""


class Tail:
    """A network from a cut to the probabilities, with a head of its own."""

    def __init__(
        self,
        classifier: keras.Model,
        inputs: Sequence[keras.KerasTensor],
        task: Task,
        shape: HeadShape,
        strategy: tf.distribute.Strategy,
        precision: Precision,
    ):
        """Builds the head; the other layers are those of the classifier.

        Args:
            classifier: whose trainable layers are set.
            inputs: tensors of the classifier that cross the cut.
            task: decides loss and metric.
            shape: of the heads.
            strategy: under which the classifier was built.
            precision: of the run.
        """
        self._shape = shape
        pooled = classifier.get_layer(POOLED).output
        with strategy.scope():
            self._head = shape.shared()
        self._model = part_of(inputs, [self._head(pooled)])
        of_head = {id(variable) for variable in self._head.variables}
        self._pretrained = [
            (variable, variable.numpy()) for variable in self._model.variables if id(variable) not in of_head
        ]
        self._task = task
        self._strategy = strategy
        self._precision = learning_precision(self._model, precision)
        self._learners: dict[str, Learner] = {}

    def train(
        self,
        weights: Sequence[np.ndarray],
        steps: int,
        train: Examples,
        val: Examples,
        plan: Plan,
        epochs: int,
        vary: Vary | None,
        on_evaluated: Callable[[Measured], None],
    ) -> None:
        """Fine-tunes from the pretrained weights and a solved head, and leaves the pretrained weights as they were.

        Args:
            weights: of the head.
            steps: it was trained for; what is dropped continues from there.
            train: examples to learn from.
            val: examples to stop and choose by.
            plan: of the trial.
            epochs: maximum epochs.
            vary: how to vary the examples anew in each epoch; None leaves them as they are.
            on_evaluated: called with what val says of each epoch that did not diverge.

        Raises:
            DivergedError: the loss is no longer a number.
        """

        def on_epoch(epoch: EpochResult) -> None:
            if epoch.val_loss is not None and epoch.val_accuracy is not None:
                on_evaluated(Measured(epoch.val_loss, epoch.val_accuracy))

        assign_head(self._head, weights)
        for rate in dropout_rates(self._head):
            rate.assign(plan.config.model.dropout)
        fresh = self._shape.plain(plan.config.training.seed)
        for seed, start in zip(seeds(self._head), seeds(fresh), strict=True):
            seed.assign(start.numpy() + np.array([0, steps], start.dtype))
        optimizer = plan.config.training.optimizer
        if optimizer not in self._learners:
            self._learners[optimizer] = Learner(
                self._model, self._task, optimizer, strategy=self._strategy, precision=self._precision
            )
        try:
            self._learners[optimizer].train(
                "fine_tune",
                train,
                val,
                plan,
                epochs=epochs,
                learning_rate=plan.fine_tune_learning_rate,
                vary=vary,
                on_epoch=on_epoch,
            )
        finally:
            for variable, values in self._pretrained:  # which other tails have as well
                variable.assign(values)
