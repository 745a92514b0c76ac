"""Heads: the new layers, from the features of a backbone to the probability of each class."""

import contextlib
import random
from collections.abc import Callable, Iterator, Sequence
from typing import TypeAlias

import keras
import numpy as np
from numpy.typing import ArrayLike

from app.custom_parts import blamed, find_custom
from devices.precision import OUTPUT_LAYER
from tasks.classification import Classification

MakeLayers: TypeAlias = Callable[[Sequence[int], float, int], list[keras.Layer]]
"""Makes the layers before the output, given units, dropout and seed; see `build_head`."""


def dense_layers(units: Sequence[int], dropout: float, seed: int) -> list[keras.Layer]:
    """Makes dropout and a ReLU layer for each of `units`, then dropout."""
    layers: list[keras.Layer] = []
    for number, width in enumerate(units, start=1):
        layers.append(keras.layers.Dropout(dropout, seed=seed + number, name=f"dropout_{number}"))
        start = keras.initializers.GlorotUniform(seed=seed + number)
        layers.append(keras.layers.Dense(width, activation="relu", kernel_initializer=start, name=f"dense_{number}"))
    return [*layers, keras.layers.Dropout(dropout, seed=seed, name="dropout")]


HEADS: dict[str, MakeLayers] = {"dense": dense_layers}


def build_head(
    features: int | tuple[int, ...],
    task: Classification,
    num_classes: int,
    head_units: Sequence[int] = (),
    dropout: float = 0.0,
    seed: int = 0,
    *,
    head: str = "dense",
    pool: Callable[..., keras.Layer] | None = None,
) -> keras.Sequential:
    """Builds a head: its layers, then the output.

    Args:
        features: length of a feature vector, or shape of a feature map.
        task: task, which decides the outputs.
        num_classes: number of classes, at least 2.
        head_units: units of each dense layer before the output.
        dropout: fraction of values dropped before each dense layer while training.
        seed: seed of the initial weights and of dropout.
        head: name of the layers before the output, in `HEADS` or in `custom.py`.
        pool: layer that pools a feature map and is trained with the head.

    Returns:
        A model from features (n, ...) to probabilities (n, num_outputs), float32 in any precision.
    """
    make_layers = find_custom("head", head) or HEADS[head]
    shape = (features,) if isinstance(features, int) else features
    with _seeded(seed), blamed("head", head):
        layers = [
            keras.Input(shape, name="features"),
            *([] if pool is None else [pool()]),
            *make_layers(head_units, dropout, seed),
            keras.layers.Dense(
                task.num_outputs(num_classes),
                activation=task.activation,
                kernel_initializer="zeros",
                dtype="float32",
                name=OUTPUT_LAYER,
            ),
        ]
        return keras.Sequential(layers, name="head")


@contextlib.contextmanager
def _seeded(seed: int) -> Iterator[None]:
    """Seeds Python's `random`, from which Keras draws the seeds of layers that have none."""
    state = random.getstate()
    random.seed(seed)
    try:
        yield
    finally:
        random.setstate(state)


def is_linear(head: keras.Sequential) -> bool:
    """Returns True if a head is only dropout and an output layer, and so a regression on the features."""
    return all(layer.name == OUTPUT_LAYER or type(layer) is keras.layers.Dropout for layer in head.layers)


def set_output(head: keras.Sequential, kernel: ArrayLike, bias: ArrayLike) -> None:
    """Sets the weights of the output layer."""
    head.get_layer(OUTPUT_LAYER).set_weights([np.asarray(kernel, np.float32), np.asarray(bias, np.float32)])


def calibrate_head(head: keras.Sequential, temperature: float) -> None:
    """Divides the logits of a head by a temperature, in the weights, so that every copy of the model is calibrated."""
    output = head.get_layer(OUTPUT_LAYER)
    output.set_weights([weights / np.float32(temperature) for weights in output.get_weights()])
