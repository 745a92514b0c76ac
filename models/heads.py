"""The part of the network that is new: from pooled features to the probability of each class."""

from collections.abc import Sequence

import keras
import numpy as np
from numpy.typing import ArrayLike

from devices.precision import OUTPUT_LAYER
from tasks.table import Task


def build_head(
    num_features: int,
    task: Task,
    num_classes: int,
    head_units: Sequence[int] = (),
    dropout: float = 0.0,
    seed: int = 0,
) -> keras.Sequential:
    """Builds the head: dropout and a ReLU layer for each of `head_units`, then dropout and the output.

    Args:
        num_features: length of a feature vector.
        task: decides the outputs.
        num_classes: number of classes, at least 2.
        head_units: units of each dense layer before the output.
        dropout: fraction of values dropped before each dense layer while training.
        seed: of the weights it starts from and of what is dropped.

    Returns:
        A model from features (n, num_features) to float32 probabilities (n, num_outputs), whatever the precision.
    """
    layers: list[keras.Layer] = [keras.Input((num_features,), name="features")]
    for number, units in enumerate(head_units, start=1):
        layers.append(keras.layers.Dropout(dropout, seed=seed + number, name=f"dropout_{number}"))
        start = keras.initializers.GlorotUniform(seed=seed + number)
        layers.append(keras.layers.Dense(units, activation="relu", kernel_initializer=start, name=f"dense_{number}"))
    layers.append(keras.layers.Dropout(dropout, seed=seed, name="dropout"))
    layers.append(
        keras.layers.Dense(
            task.num_outputs(num_classes),
            activation=task.activation,
            kernel_initializer="zeros",
            dtype="float32",
            name=OUTPUT_LAYER,
        )
    )
    return keras.Sequential(layers, name="head")


def is_linear(head: keras.Sequential) -> bool:
    """Whether only the output layer of a head has weights, so that it is a regression on the features."""
    return all(layer.name == OUTPUT_LAYER or not layer.weights for layer in head.layers)


def set_output(head: keras.Sequential, kernel: ArrayLike, bias: ArrayLike) -> None:
    """Gives the output layer its weights."""
    head.get_layer(OUTPUT_LAYER).set_weights([np.asarray(kernel, np.float32), np.asarray(bias, np.float32)])


def calibrate_head(head: keras.Sequential, temperature: float) -> None:
    """Divides the logits of a head by a temperature, for good: whoever has the model has it calibrated."""
    output = head.get_layer(OUTPUT_LAYER)
    output.set_weights([weights / np.float32(temperature) for weights in output.get_weights()])
