"""Shows which moments of a recording decided: the gradient of an answer with respect to what a network made of each
moment, times that (Grad-CAM, Selvaraju et al., 2017, along time)."""

import keras
import numpy as np
import tensorflow as tf

from devices.precision import OUTPUT_LAYER

BATCH_SIZE = 16


def heard_parts(model: keras.Model, sounds: np.ndarray, classes: np.ndarray) -> np.ndarray:
    """Computes how much each moment speaks for a class.

    Args:
        model: a classifier of recordings.
        sounds: int16 (n, samples).
        classes: int (n,), the class asked about for each.

    Returns:
        float32 (n, moments), 0 to 1 for what speaks most for it.
    """
    pooling, head = model.get_layer("pooling"), model.get_layer("head")
    output = head.get_layer(OUTPUT_LAYER)
    both = keras.Model(model.inputs, [pooling.input, pooling.output])
    to_hidden = keras.Model(head.inputs[0], output.input)
    found = []
    for start in range(0, len(sounds), BATCH_SIZE):
        batch = tf.cast(sounds[start : start + BATCH_SIZE], tf.float32)
        with tf.GradientTape() as tape:
            frames, pooled = both(batch, training=False)
            logits = tf.matmul(to_hidden(pooled, training=False), output.kernel) + output.bias
            chosen = tf.cast(classes[start : start + BATCH_SIZE], tf.int32)
            if logits.shape[-1] == 1:  # one output for two classes speaks for the second
                asked = tf.where(chosen == 1, logits[:, 0], -logits[:, 0])
            else:
                asked = tf.gather(logits, chosen, axis=1, batch_dims=1)
        counted = (tape.gradient(asked, frames) * frames)[..., :-1]  # the last says whether something sounds
        scores = tf.maximum(tf.reduce_sum(counted, axis=-1), 0)
        found.append((scores / tf.maximum(tf.reduce_max(scores, axis=1, keepdims=True), 1e-9)).numpy())
    return np.concatenate(found)
