"""The computation that every exported file holds: from pictures to a probability for each class."""

from typing import TypeAlias

import keras
import tensorflow as tf

from features.forward_pass import frozen_function
from tasks.table import Task

ClassFunction: TypeAlias = tf.types.experimental.PolymorphicFunction
"""TensorFlow function of float32 pictures (n, image_size, image_size, 3) in [0, 255]; returns 'probabilities', float32
(n, num_classes)."""


def class_function(model: keras.Model, task: Task) -> ClassFunction:
    """Makes a TensorFlow function of a model, its weights folded in as constants; two classes get a column each."""
    compute = frozen_function(model)

    @tf.function(input_signature=[tf.TensorSpec(model.input.shape, tf.float32, name="pictures")], autograph=False)
    def probabilities(pictures: tf.Tensor) -> dict[str, tf.Tensor]:
        (outputs,) = compute(pictures)
        return {"probabilities": tf.concat([1 - outputs, outputs], axis=1) if task.two_classes else outputs}

    return probabilities
