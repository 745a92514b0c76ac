"""Runs a model over many pictures, in order, with bounded memory and nothing that trains."""

from collections.abc import Callable

import keras
import numpy as np
import tensorflow as tf


def apply_model(
    model: keras.Model,
    pixels: np.ndarray,
    positions: np.ndarray,
    batch_size: int = 64,
    on_progress: Callable[[int], None] = lambda _: None,
) -> np.ndarray:
    """Computes the model's output for some pictures, in inference mode.

    Args:
        model: from float32 pictures in [0, 255] to vectors.
        pixels: uint8 (num_pictures, height, width, 3).
        positions: which pictures, int64 (n,).
        batch_size: pictures computed at once.
        on_progress: called with the number of pictures done since the last call.

    Returns:
        float32 (n, length of a vector), in the order of `positions`.
    """
    signature = [tf.TensorSpec((None, *pixels.shape[1:]), tf.uint8)]
    compute = tf.function(lambda batch: model(tf.cast(batch, tf.float32), training=False), input_signature=signature)
    outputs = [np.zeros((0, model.output_shape[-1]), np.float32)]
    for start in range(0, len(positions), batch_size):
        chosen = positions[start : start + batch_size]
        outputs.append(compute(pixels[chosen]).numpy())
        on_progress(len(chosen))
    return np.concatenate(outputs)
