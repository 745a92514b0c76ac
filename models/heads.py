"""The part of the network that is new: from pooled features to the probability of each class."""

from collections.abc import Sequence
from typing import NamedTuple

import keras

from app.config import Task
from devices.precision import OUTPUT_LAYER


class Output(NamedTuple):
    """How a task ends: the activation of its outputs and the loss they are trained with."""

    activation: str
    loss: str


OUTPUTS: dict[Task, Output] = {
    "binary": Output("sigmoid", "binary_crossentropy"),
    "multiclass": Output("softmax", "categorical_crossentropy"),
    "multilabel": Output("sigmoid", "binary_crossentropy"),
}


def num_outputs(task: Task, num_classes: int) -> int:
    """One output per class; two classes share one, the probability of the second."""
    return 1 if task == "binary" else num_classes


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
        task: decides the output; see `OUTPUTS`.
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
    outputs = num_outputs(task, num_classes)
    activation = OUTPUTS[task].activation
    layers.append(
        keras.layers.Dense(
            outputs, activation=activation, kernel_initializer="zeros", dtype="float32", name=OUTPUT_LAYER
        )
    )
    return keras.Sequential(layers, name="head")
