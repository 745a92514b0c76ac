"""Scores of classes before they become probabilities, for explanations that take their gradient."""

from collections.abc import Callable

import keras
import tensorflow as tf

from devices.precision import OUTPUT_LAYER


def make_class_scores(head: keras.Model) -> Callable[[tf.Tensor, tf.Tensor], tf.Tensor]:
    """Makes a function of pooled features (n, num_features) and a class for each, int (n,): the logits, (n,)."""
    output = head.get_layer(OUTPUT_LAYER)
    to_hidden, kernel, bias = keras.Model(head.inputs[0], output.input), output.kernel, output.bias

    def scores(pooled: tf.Tensor, classes: tf.Tensor) -> tf.Tensor:
        logits = tf.matmul(to_hidden(pooled, training=False), kernel) + bias
        if logits.shape[-1] == 1:  # one output for two classes speaks for the second
            return tf.where(classes == 1, logits[:, 0], -logits[:, 0])
        return tf.gather(logits, classes, axis=1, batch_dims=1)

    return scores
