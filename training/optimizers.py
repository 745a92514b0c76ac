"""The optimizers, and the learning rate of each weight at each step."""

import math
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from app.config import TrainConfig
from devices.precision import Precision

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
"""Optimizers with the same update rule differ only in weight decay: Keras' AdamW is its Adam with 0.004."""
DEFAULT_WEIGHT_DECAY = {"adamw": 0.004}
NOT_DECAYED = re.compile(r"(^|/)(bias|gamma|beta|scale)$")
"""Variables without weight decay, by path, besides all vectors and scalars: biases of attention are matrices."""
WARM_UP_EPOCHS = 0.5
"""Share of the first epoch in which the learning rate rises from 0, while the optimizer's moments fill up."""


class Rates(keras.optimizers.schedules.LearningRateSchedule):
    """Learning rate by step, and weight decay, as variables.

    The rate rises to its peak in the first half epoch, then stays there or falls to 0 along a cosine.
    """

    def __init__(self, shape: tuple[int, ...] = ()):
        """Makes the variables.

        Args:
            shape: () for one model; for stacked models, a shape that broadcasts over their variables.
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
        epochs: float | Sequence[float],
    ) -> None:
        """Sets the rates.

        Args:
            config: schedule, optimizer and weight decay; like the next arguments, one per model for stacked models.
            learning_rate: peak learning rate.
            steps: steps per epoch.
            epochs: maximum epochs.
        """
        configs = [config] if isinstance(config, TrainConfig) else config
        warm_up = np.maximum(np.round(WARM_UP_EPOCHS * steps * np.minimum(epochs, 1)), 1)
        decay = [
            DEFAULT_WEIGHT_DECAY.get(each.optimizer, 0.0) if each.weight_decay is None else each.weight_decay
            for each in (config.training for config in configs)
        ]
        values = (
            (self.weight_decay, decay),
            (self._peak, learning_rate),
            (self._warm_up, np.broadcast_to(warm_up, len(configs))),
            (self._fall, [each.training.schedule == "cosine" for each in configs]),
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
    name: str,
    rates: Rates,
    variables: Sequence[keras.Variable],
    precision: Precision = "float32",
    factors: Mapping[str, float] | None = None,
    biases: Sequence[keras.Variable] | None = None,
) -> keras.optimizers.Optimizer:
    """Makes an optimizer.

    Biases, and scales and shifts of normalisation layers and of LayerScale, have no weight decay, as in BEiT and
    ConvNeXt.

    Args:
        name: one of `OPTIMIZERS`.
        rates: learning rate and weight decay.
        variables: variables to train.
        precision: precision of the layers; with float16, the loss is scaled, because small gradients would underflow.
        factors: factors on learning rate and weight decay, by path of the variable; 1 if not listed.
        biases: variables without weight decay; None lets `is_decayed` decide.
    """
    optimizer = OPTIMIZERS[name](learning_rate=rates)
    optimizer.weight_decay = rates.weight_decay
    if biases is None:
        biases = [variable for variable in variables if not is_decayed(variable)]
    optimizer.exclude_from_weight_decay(var_list=biases)
    if factors:
        _scale_updates(optimizer, [factors.get(variable.path, 1.0) for variable in variables])
    if precision == "mixed_float16":
        optimizer = keras.optimizers.LossScaleOptimizer(optimizer)
    optimizer.build(variables)
    return optimizer


def is_decayed(variable: keras.Variable) -> bool:
    """Returns True if a variable has weight decay, by its path and shape."""
    return len(variable.shape) >= 2 and not NOT_DECAYED.search(variable.path)


def _scale_updates(optimizer: keras.optimizers.Optimizer, factors: Sequence[float]) -> None:
    """Scales the learning rate and the weight decay of each variable by its factor.

    Scaling gradients would do nothing under Adam, whose steps do not depend on their scale. Keras applies weight decay
    to all variables at one rate, so it is applied here instead.
    """
    update_step = optimizer.update_step  # Keras documents this method and those below for custom optimizers
    weight_decay, optimizer.weight_decay = optimizer.weight_decay, None

    def scaled_update_step(gradient: tf.Tensor, variable: Any, learning_rate: tf.Tensor) -> None:
        rate = learning_rate * factors[optimizer._get_variable_index(variable)]
        if optimizer._use_weight_decay(variable):
            optimizer.assign_sub(variable, variable * weight_decay * rate)
        update_step(gradient, variable, rate)

    optimizer.update_step = scaled_update_step


def layer_decay_factors(blocks: Sequence[Sequence[keras.Layer]], layer_decay: float) -> dict[str, float]:
    """Returns factors of layer-wise learning-rate decay: `layer_decay` for the last block, then its square, and so on.

    The head has 1 (ULMFiT, Howard & Ruder, 2018; BEiT uses the same rule).

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
