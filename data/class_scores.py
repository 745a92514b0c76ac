"""Logits of classes, for explanations that take their gradient."""

from collections.abc import Callable

import keras
import tensorflow as tf

from devices.precision import OUTPUT_LAYER


def make_class_scores(head: keras.Model) -> Callable[[tf.Tensor, tf.Tensor], tf.Tensor]:
    """Makes a function that returns logits, (n,), given pooled features (n, num_features) and classes, int (n,)."""
    output = head.get_layer(OUTPUT_LAYER)
    to_hidden, kernel, bias = keras.Model(head.inputs[0], output.input), output.kernel, output.bias

    def scores(pooled: tf.Tensor, classes: tf.Tensor) -> tf.Tensor:
        logits = tf.matmul(to_hidden(pooled, training=False), kernel) + bias
        if logits.shape[-1] == 1:  # the only output is the logit of the second class
            return tf.where(classes == 1, logits[:, 0], -logits[:, 0])
        return tf.gather(logits, classes, axis=1, batch_dims=1)

    return scores
