"""Random variation of pictures, mild enough for most photos, and for X-rays."""

from typing import Any

import numpy as np
import tensorflow as tf

AUGMENTATION: dict[str, Any] = {
    # Range of the share of the picture that a random crop keeps.
    "crop_area": (0.7, 1.0),
    # Range of the width of a random crop, as a multiple of its height.
    "crop_aspect": (0.85, 1.18),
    # Largest number that is added to or subtracted from every pixel.
    "brightness": 0.1 * 255,
    # Range of the factor on the distance of every pixel from the picture's mean.
    "contrast": (0.85, 1.15),
}
"""Ranges from which the variation of a picture is drawn."""
NUM_DRAWS = 7
"""Random numbers that decide how one picture is varied."""


def augment_pictures(pictures: tf.Tensor, draws: tf.Tensor) -> tf.Tensor:
    """Flips and crops pictures at random, and varies brightness and contrast.

    Args:
        pictures: float32 (n, height, width, 3) in [0, 255], as is the result.
        draws: float32 (n, NUM_DRAWS) in [0, 1).
    """
    area, aspect, top, left, flip, brightness, contrast = tf.unstack(draws, axis=1)
    area = _between(area, *AUGMENTATION["crop_area"])
    aspect = tf.exp(_between(aspect, *np.log(AUGMENTATION["crop_aspect"])))
    height, width = tf.minimum(tf.sqrt(area / aspect), 1.0), tf.minimum(tf.sqrt(area * aspect), 1.0)
    top, left = top * (1 - height), left * (1 - width)
    start, end = tf.where(flip < 0.5, left, left + width), tf.where(flip < 0.5, left + width, left)
    boxes = tf.stack([top, start, top + height, end], axis=1)  # a box from right to left is mirrored
    size = tf.shape(pictures)
    crops = tf.image.crop_and_resize(pictures, boxes, tf.range(size[0]), size[1:3])
    means = tf.reduce_mean(crops, axis=(1, 2), keepdims=True)
    factors = _between(contrast, *AUGMENTATION["contrast"])[:, None, None, None]
    shifts = _between(brightness, -AUGMENTATION["brightness"], AUGMENTATION["brightness"])[:, None, None, None]
    result = tf.clip_by_value((crops - means) * factors + means + shifts, 0.0, 255.0)
    return tf.ensure_shape(result, pictures.shape)


def _between(draws: tf.Tensor, low: float, high: float) -> tf.Tensor:
    return low + draws * (high - low)
