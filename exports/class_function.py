"""The computation in every exported file: from examples to a probability for each class."""

from collections.abc import Callable
from typing import NamedTuple, TypeAlias

import keras
import numpy as np
import tensorflow as tf

from features.forward_pass import frozen_function
from inference.load import TrainedRun

ClassFunction: TypeAlias = tf.types.experimental.PolymorphicFunction
"""TensorFlow function of the tensors that the run's reader makes, such as float32 'pictures' (n, image_size,
image_size, 3) in [0, 255]; returns 'probabilities', float32 (n, num_classes), or 'boxes', 'scores' and 'classes'."""
ROUNDING = 1e-3
"""Largest difference of a probability that another order of computation can explain."""


class Route(NamedTuple):
    """A way to call an exported file."""

    open: Callable[[], Callable[..., dict[str, np.ndarray]]]
    """Opens the file as a function from a batch of each input, by name, to 'probabilities' and, if any, 'labels'."""
    largest_difference: float = ROUNDING
    """Largest difference of a probability that the arithmetic of the format can explain."""
    encoded: bool = False
    """True if it takes the bytes of files, as 'encoded'."""


def class_function(model: keras.Model, run: TrainedRun) -> ClassFunction:
    """Makes a TensorFlow function of a model with its weights as constants; two classes get a column each.

    A single input is named by the kind of input, such as 'pictures'; several keep their names in the model.
    """
    compute = frozen_function(model)
    names = [run.kind.nouns] if len(model.inputs) == 1 else [each.name for each in model.inputs]
    specs = [tf.TensorSpec(each.shape, each.dtype, name) for each, name in zip(model.inputs, names, strict=True)]

    @tf.function(input_signature=specs, autograph=False)
    def answers(*inputs: tf.Tensor) -> dict[str, tf.Tensor]:
        outputs = compute(*inputs)
        if run.task.two_classes:
            outputs = [tf.concat([1 - outputs[0], outputs[0]], axis=1)]
        return dict(zip(run.task.outputs, outputs, strict=True))

    return answers
