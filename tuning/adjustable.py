"""Heads whose dropout can be changed without a new graph: trials that differ in it share what they compute."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import keras
import numpy as np
import tensorflow as tf

BuildHead = Callable[..., keras.Model]
"""`models.heads.build_head` with the shape of a search: takes `dropout` and `seed`."""
PROBES = (0.25, 0.5)
"""Two settings of dropout, to see what a head makes of them."""


class HeadShape(NamedTuple):
    """Heads that can share graphs."""

    build: BuildHead
    dropout: float | None = None
    """Setting that all of them have; None where each may have its own, see `is_adjustable`."""

    def plain(self, seed: int = 0) -> keras.Model:
        """Builds a head as it is trained alone."""
        return self.build(dropout=PROBES[0] if self.dropout is None else self.dropout, seed=seed)

    def shared(self) -> keras.Model:
        """Builds the head whose graphs serve all of them."""
        return adjustable(self.plain()) if self.dropout is None else self.plain()


class AdjustableDropout(keras.layers.Dropout):
    """Dropout whose rate is a variable; for the same seed and rate it drops what Keras' own drops."""

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        """Makes the variable, which nothing trains."""
        start = keras.initializers.Constant(self.rate)
        self.adjusted = self.add_weight(name="rate", shape=(), initializer=start, trainable=False, dtype="float32")
        super().build(input_shape)

    def call(self, inputs: tf.Tensor, training: bool = False) -> tf.Tensor:
        """Drops while training."""
        if not training:
            return inputs
        draws = tf.random.stateless_uniform(tf.shape(inputs), self.seed_generator.next())
        rate = tf.cast(self.adjusted, inputs.dtype)
        return tf.where(draws >= self.adjusted, inputs / (1 - rate), tf.zeros_like(inputs))


def is_adjustable(build: BuildHead) -> bool:
    """Whether the setting `dropout` of a head is the rate of its Dropout layers, and nothing else depends on it."""
    first, second = ([_without_rate(layer, rate) for layer in build(dropout=rate).layers] for rate in PROBES)
    return first == second


def adjustable(head: keras.Model) -> keras.Model:
    """Copies a head, weights included, with Dropout layers whose rate is a variable."""

    def copy(layer: keras.Layer) -> keras.Layer:
        kind = AdjustableDropout if type(layer) is keras.layers.Dropout else type(layer)
        return kind.from_config(layer.get_config())

    copied = keras.models.clone_model(head, clone_function=copy)
    assign_head(copied, head.get_weights())
    return copied


def dropout_rates(head: keras.Model) -> list[keras.Variable]:
    """Returns the variables of an adjustable head that hold its rates."""
    return [layer.adjusted for layer in head.layers if isinstance(layer, AdjustableDropout)]


def seeds(head: keras.Model) -> list[keras.Variable]:
    """Returns the variables of a head that say what its layers draw next: a seed, and how often they drew."""
    return [variable for variable in head.non_trainable_variables if variable.path.endswith("seed_generator_state")]


def plain_weights(head: keras.Model) -> list[keras.Variable]:
    """Returns the weights of an adjustable head that the plain one has too, in the order of its `get_weights`."""
    rates = {id(variable) for variable in dropout_rates(head)}
    return [variable for variable in head.weights if id(variable) not in rates]


def assign_head(head: keras.Model, weights: Sequence[np.ndarray]) -> None:
    """Gives an adjustable head the weights of a plain one."""
    for variable, values in zip(plain_weights(head), weights, strict=True):
        variable.assign(values)


def _without_rate(layer: keras.Layer, rate: float) -> dict:
    """The settings of a layer, but for its name, and for a rate of Dropout that is the setting."""
    settings = {**layer.get_config(), "name": None}
    if type(layer) is keras.layers.Dropout and settings["rate"] == rate:
        del settings["rate"]
    return settings
