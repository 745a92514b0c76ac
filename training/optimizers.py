"""The optimizers, and how fast each weight learns at each step."""

import math
from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from config import TrainConfig
from models.precision import Precision

OPTIMIZERS: dict[str, Callable[..., keras.optimizers.Optimizer]] = {
    "adam": keras.optimizers.Adam,
    "adamw": keras.optimizers.AdamW,
    "sgd": lambda **settings: keras.optimizers.SGD(momentum=0.9, nesterov=True, **settings),
    "rmsprop": keras.optimizers.RMSprop,
    "nadam": keras.optimizers.Nadam,
    "adagrad": keras.optimizers.Adagrad,
    "lion": keras.optimizers.Lion,
}
UPDATE_RULES = {name: "adam" if name == "adamw" else name for name in OPTIMIZERS}
"""Optimizers of one update rule are told apart by their weight decay alone: Keras' AdamW is its Adam with 0.004."""
DEFAULT_WEIGHT_DECAY = {"adamw": 0.004}
WARM_UP_EPOCHS = 0.5
"""Share of a phase's first epoch in which the learning rate rises from 0, while the optimizer's moments are empty."""


class Rates(keras.optimizers.schedules.LearningRateSchedule):
    """Learning rate by step, and weight decay, as variables.

    The rate rises to its peak in the first half epoch, then stays there or falls to 0 along a cosine.
    """

    def __init__(self, shape: tuple[int, ...] = ()):
        """Args:

        shape: () for one model; for several that are trained as one, a shape that spreads over their variables.
        """
        self.weight_decay = keras.Variable(np.zeros(shape, np.float32), trainable=False, name="weight_decay")
        self._peak, self._warm_up, self._fall, self._end = (
            keras.Variable(np.ones(shape, np.float32), trainable=False, name=name)
            for name in ("peak", "warm_up", "fall", "end")
        )

    def assign(
        self,
        config: TrainConfig | Sequence[TrainConfig],
        learning_rate: float | Sequence[float],
        steps: int,
        epochs: int | Sequence[int],
    ) -> None:
        """Sets the rates.

        Args:
            config: for schedule, optimizer and weight decay; of each model, as are the peak learning rates and epochs.
            learning_rate: peak.
            steps: per epoch.
            epochs: maximum epochs.
        """
        configs = [config] if isinstance(config, TrainConfig) else config
        warm_up = max(1, round(WARM_UP_EPOCHS * steps))
        decay = [
            DEFAULT_WEIGHT_DECAY.get(each.optimizer, 0.0) if each.weight_decay is None else each.weight_decay
            for each in configs
        ]
        values = (
            (self.weight_decay, decay),
            (self._peak, learning_rate),
            (self._warm_up, [warm_up] * len(configs)),
            (self._fall, [each.schedule == "cosine" for each in configs]),
            (self._end, np.maximum(np.multiply(steps, epochs) - warm_up, 1)),
        )
        for variable, value in values:
            variable.assign(np.reshape(np.asarray(value, np.float32), variable.shape))

    def __call__(self, step: tf.Tensor) -> tf.Tensor:
        """Returns the learning rate at a step, counted from 0."""
        step = keras.ops.cast(step, "float32")
        progress = keras.ops.clip((step - self._warm_up) / self._end, 0.0, 1.0)
        falling = 1 - self._fall * 0.5 * (1 - keras.ops.cos(math.pi * progress))
        return self._peak * keras.ops.where(step < self._warm_up, step / self._warm_up, falling)


def make_optimizer(
    name: str, rates: Rates, precision: Precision = "float32", factors: Sequence[float] | None = None
) -> keras.optimizers.Optimizer:
    """Makes an optimizer.

    Args:
        name: one of `OPTIMIZERS`.
        rates: its learning rate and weight decay.
        precision: of the layers; the range of float16 is too narrow for small gradients, so the loss is scaled.
        factors: on the learning rate, one for each variable it will be built with, in order; None for 1.
    """
    optimizer = OPTIMIZERS[name](learning_rate=rates)
    optimizer.weight_decay = rates.weight_decay
    if factors is not None:
        _scale_learning_rates(optimizer, factors)
    return keras.optimizers.LossScaleOptimizer(optimizer) if precision == "mixed_float16" else optimizer


def _scale_learning_rates(optimizer: keras.optimizers.Optimizer, factors: Sequence[float]) -> None:
    """Gives each variable a learning rate of its own: the optimizer's times the variable's factor.

    Multiplying gradients would do nothing under Adam, whose steps do not depend on their scale.
    """
    update_step = optimizer.update_step  # and the index below: what Keras documents for optimizers of one's own

    def scaled_update_step(gradient: tf.Tensor, variable: Any, learning_rate: tf.Tensor) -> None:
        update_step(gradient, variable, learning_rate * factors[optimizer._get_variable_index(variable)])

    optimizer.update_step = scaled_update_step


def layer_decay_factors(blocks: Sequence[Sequence[keras.Layer]], layer_decay: float) -> dict[str, float]:
    """Factors for layer-wise learning-rate decay: `layer_decay` for the last block, its square for the one before ...

    The head keeps 1 (ULMFiT, Howard & Ruder, 2018; BEiT uses the same rule).

    Args:
        blocks: the backbone's layers by block, from input to output.
        layer_decay: above 0 and at most 1.

    Returns:
        Factors by path of the variable.
    """
    return {
        variable.path: layer_decay ** (len(blocks) - index)
        for index, block in enumerate(blocks)
        for layer in block
        for variable in layer.trainable_variables
    }
