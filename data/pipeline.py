"""tf.data pipelines over the decoded pictures: order and augmentation depend on (seed, epoch, picture) alone.

So a run can be repeated, or continued from any epoch, to the bit. Augmentation happens here and not in layers, so that
the saved model has none of it.
"""

from typing import NamedTuple

import numpy as np
import tensorflow as tf

CROP_AREA = (0.7, 1.0)
"""Share of the picture that a random crop keeps."""
CROP_ASPECT = (0.85, 1.18)
"""Width of a random crop as a multiple of its height."""
BRIGHTNESS = 0.1 * 255
"""Most that is added to or taken from every pixel."""
CONTRAST = (0.85, 1.15)
"""Factors on the distance of every pixel from the picture's mean."""


class Examples(NamedTuple):
    """What is learnt from or judged by. The inputs are not copied: they may be larger than memory."""

    inputs: np.ndarray
    """uint8 pictures (m, height, width, 3) or float32 features (m, num_features)."""
    rows: np.ndarray
    """Which of the inputs are examples, int64 (n,)."""
    targets: np.ndarray
    """float32 (n, num_outputs)."""
    sample_weights: np.ndarray
    """float32 (n,)."""


def training_batches(
    examples: Examples,
    *,
    batch_size: int,
    seed: int,
    epochs: range,
    augment: bool = False,
) -> tf.data.Dataset:
    """Batches of shuffled examples for several epochs, one after the other; no batch spans two.

    Args:
        examples: what is learnt from.
        batch_size: examples per batch; the last of an epoch may have fewer.
        seed: seed of order and augmentation.
        epochs: numbers of the epochs; each has its own order and its own augmentation.
        augment: whether to vary the pictures.

    Returns:
        Batches of (float32 inputs, targets, sample weights).
    """
    count = len(examples.rows)

    def load(epoch: tf.Tensor, positions: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        indices = tf.random.experimental.index_shuffle(positions, tf.stack([seed, epoch]), count - 1)
        batch, targets, sample_weights = _read(examples, indices)
        if augment:
            keys = tf.stack([tf.fill(tf.shape(indices), seed + epoch * 2**32), indices], axis=1)
            batch = tf.map_fn(lambda pair: augment_picture(*pair), (batch, keys), fn_output_signature=tf.float32)
        return batch, targets, sample_weights

    def batches_of(epoch: tf.Tensor) -> tf.data.Dataset:
        positions = tf.data.Dataset.range(count).batch(batch_size)
        return positions.map(lambda batch: load(epoch, batch), num_parallel_calls=tf.data.AUTOTUNE)

    return tf.data.Dataset.range(epochs.start, epochs.stop).flat_map(batches_of).prefetch(tf.data.AUTOTUNE)


def evaluation_batches(examples: Examples, batch_size: int) -> tf.data.Dataset:
    """Batches of examples in order, each once, the last batch as small as it is.

    Args:
        examples: what is judged by.
        batch_size: examples per batch.

    Returns:
        Batches of (float32 inputs, targets).
    """
    indices = tf.data.Dataset.range(len(examples.rows)).batch(batch_size)
    batches = indices.map(lambda batch: _read(examples, batch)[:2], num_parallel_calls=tf.data.AUTOTUNE)
    return batches.prefetch(tf.data.AUTOTUNE)


def augment_picture(picture: tf.Tensor, key: tf.Tensor) -> tf.Tensor:
    """Flips and crops a picture at random, varies its brightness and contrast: mildly, for faces and X-rays alike.

    Args:
        picture: float32 (height, width, 3) in [0, 255].
        key: int64 (2,); the same key gives the same picture.

    Returns:
        float32, same shape and range.
    """
    keys = tf.unstack(tf.random.split(key, 4))
    shape = tf.shape(picture)
    start, size, _ = tf.image.stateless_sample_distorted_bounding_box(
        shape,
        tf.zeros((1, 0, 4)),
        keys[0],
        min_object_covered=0.0,
        aspect_ratio_range=CROP_ASPECT,
        area_range=CROP_AREA,
        use_image_if_no_bounding_boxes=True,
    )
    crop = tf.slice(picture, start, size)
    result = tf.ensure_shape(tf.image.resize(crop, shape[:2]), picture.shape)
    result = tf.image.stateless_random_flip_left_right(result, keys[1])
    result = tf.image.stateless_random_brightness(result, BRIGHTNESS, keys[2])
    result = tf.image.stateless_random_contrast(result, *CONTRAST, keys[3])
    return tf.clip_by_value(result, 0.0, 255.0)


def _read(examples: Examples, indices: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """Reads a batch by Python, so that no array becomes a constant of the graph, which may not exceed 2 GB."""

    def read(chosen: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        return examples.inputs[examples.rows[chosen]], examples.targets[chosen], examples.sample_weights[chosen]

    dtypes = [examples.inputs.dtype, tf.float32, tf.float32]
    inputs, targets, sample_weights = tf.numpy_function(read, [indices], dtypes, stateful=False)
    return (
        tf.cast(tf.ensure_shape(inputs, (None, *examples.inputs.shape[1:])), tf.float32),
        tf.ensure_shape(targets, (None, *examples.targets.shape[1:])),
        tf.ensure_shape(sample_weights, (None,)),
    )
