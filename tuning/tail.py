"""The trainable tail of trials: the layers behind the cut, fine-tuned for each trial in the same graphs."""

import functools
import math
from collections.abc import Callable, Sequence
from typing import Any, Literal

import keras
import numpy as np
import tensorflow as tf

from data.batches import Examples
from data.kinds import Vary
from devices.precision import Precision, learning_precision
from features.cuts import part_of
from models.classifier import Classifier
from tasks.table import Task
from training.learner import DivergedError, Learner
from training.plan import Plan
from training.steps import Measured
from tuning.heads import HeadShape, SolvedHead, seeds, set_dropout


class Tail:
    """A network from a cut to the probabilities; trials train it in turn without tracing new graphs."""

    def __init__(
        self,
        classifier: Classifier,
        inputs: Sequence[keras.KerasTensor],
        task: Task,
        shape: HeadShape,
        strategy: tf.distribute.Strategy,
        precision: Precision,
    ):
        """Builds the tail's own head; the other layers are those of the classifier.

        Args:
            classifier: classifier with its trainable layers set.
            inputs: tensors of the classifier at the cut.
            task: task, which decides loss and metric.
            shape: shape of the heads.
            strategy: strategy under which the classifier was built.
            precision: precision of the run.
        """
        self._shape = shape
        with strategy.scope():
            self._head, self._dropout = shape.shared(), tf.Variable(0.0)
        set_dropout(self._head, self._dropout)
        features = classifier.features
        outputs = self._head(features if len(features) > 1 else features[0])
        model = part_of(inputs, [outputs])
        self._answering = classifier.answering(model)
        own = {id(variable) for variable in self._head.variables}
        self._pretrained = [(each, each.numpy()) for each in model.variables if id(each) not in own]
        precision = learning_precision(model, precision)
        self._learner_of = functools.cache(
            lambda optimizer: Learner(model, task, optimizer, strategy=strategy, precision=precision)
        )

    def train(
        self,
        phase: Literal["head", "fine_tune"],
        head: SolvedHead,
        train: Examples,
        val: Examples,
        plan: Plan,
        vary: Vary | None,
        score: Callable[[keras.Model, Examples], float | None],
    ) -> tuple[SolvedHead, float | None]:
        """Trains from the pretrained weights and a head, and restores the pretrained weights afterwards.

        Args:
            phase: phase, which decides rate and epochs.
            head: trained head; its random states continue.
            train: examples to learn from.
            val: examples to stop and choose by.
            plan: plan of the trial.
            vary: how to vary the examples anew in each epoch; None leaves them as they are.
            score: function that computes the objective on val for the best epoch.

        Returns:
            The head, with measures on val at the start (if the head had some) and after each epoch, NaN at the end if
            the loss diverged; and the score.
        """
        self._head.set_weights(head.weights)
        self._dropout.assign(plan.config.model.dropout)
        steps = (len(head.curve) - 1) * math.ceil(len(train.targets) / plan.batch_size)
        fresh = self._shape.plain(plan.config.training.seed)
        for seed, start in zip(seeds(self._head), seeds(fresh), strict=True):
            seed.assign(start.numpy() + np.array([0, steps], start.dtype))
        learner = self._learner_of(plan.config.training.optimizer)
        settings: dict[str, Any] = {"epochs": plan.fine_tune_epochs, "learning_rate": plan.fine_tune_learning_rate}
        if phase == "head":
            settings = {"epochs": plan.head_epochs, "learning_rate": plan.learning_rate}
        try:
            result = learner.train(phase, train, val, plan, **settings, vary=vary)
            scored = score(self._answering, val)
        except DivergedError:
            return SolvedHead([Measured(math.nan, math.nan)], head.weights), None
        finally:
            for variable, values in self._pretrained:  # shared with other tails
                variable.assign(values)
        measured = [Measured._make(epoch[-2:]) for epoch in result.epochs]
        start = [head.curve[head.best_epoch]] if head.curve else []
        return SolvedHead([*start, *measured], self._head.get_weights()), scored
