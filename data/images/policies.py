"""Random augmentation of pictures, by the names of `--vary`.

Every picture has its own draws, so it is varied in the same way in any batch.
"""

import math
from typing import TypeAlias

import tensorflow as tf

from data.images.augment import NUM_DRAWS, augment_pictures
from data.kinds import CUSTOM_DRAWS, Vary

RANDAUGMENT_OPERATIONS = 2
RANDAUGMENT_STRENGTH = 0.5
"""Two operations of medium strength, the middle of what Cubuk et al. (2020) found best for small networks."""
Amount: TypeAlias = tf.Tensor | float
"""Amount of a change: float32 (n,), one per picture, or one number for all."""


def flip(pictures: tf.Tensor, draws: tf.Tensor) -> tf.Tensor:
    """Mirrors half of the pictures.

    Args:
        pictures: float32 (n, height, width, 3) in [0, 255], as is the result.
        draws: float32 (n, CUSTOM_DRAWS) in [0, 1).
    """
    return move(pictures, mirror=_sign(draws[:, 0]))


def vertical(pictures: tf.Tensor, draws: tf.Tensor) -> tf.Tensor:
    """Varies as `mild` does, and turns half of the pictures upside down; arguments as in `flip`."""
    return move(augment_pictures(pictures, draws[:, :NUM_DRAWS]), upside_down=_sign(draws[:, NUM_DRAWS]))


def rotate(pictures: tf.Tensor, draws: tf.Tensor) -> tf.Tensor:
    """Varies as `mild` does, and turns pictures by any angle; arguments as in `flip`."""
    angle = 2 * math.pi * draws[:, NUM_DRAWS]
    return move(augment_pictures(pictures, draws[:, :NUM_DRAWS]), angle=angle)


def medical(pictures: tf.Tensor, draws: tf.Tensor) -> tf.Tensor:
    """Turns, moves and scales pictures a little, and varies brightness and contrast; left stays left, and colours stay.

    Arguments as in `flip`.
    """
    between = tf.unstack(2 * draws[:, :6] - 1, axis=1)
    angle, down, right, scale, contrast, brightness = between
    moved = move(pictures, angle=math.radians(7) * angle, down=0.05 * down, right=0.05 * right, scale=1 + 0.1 * scale)
    return recolour(moved, contrast=1 + 0.1 * contrast, brightness=0.05 * brightness)


def randaugment(pictures: tf.Tensor, draws: tf.Tensor) -> tf.Tensor:
    """Mirrors half of the pictures, and applies two of ten operations to each (RandAugment, Cubuk et al., 2020), those
    that move pixels first. Arguments as in `flip`."""
    # Applies the two operations with the largest draws; the other draws decide strength and direction.
    chosen = tf.reduce_sum(tf.one_hot(tf.math.top_k(draws[:, :10], RANDAUGMENT_OPERATIONS).indices, 10), axis=1)
    signs = _sign(draws[:, 10:11] * 2.0 ** tf.range(10, dtype=tf.float32) % 1.0)  # the digits of one draw, in base two
    angle, lean, slant, down, right, contrast, brightness, saturation, solarize, posterize = tf.unstack(
        RANDAUGMENT_STRENGTH * chosen * signs, axis=1
    )
    moved = move(
        pictures,
        angle=math.radians(30) * angle,
        lean=0.3 * lean,
        slant=0.3 * slant,
        down=0.3 * down,
        right=0.3 * right,
        mirror=_sign(draws[:, 11]),
    )
    coloured = recolour(
        moved, contrast=1 + 0.9 * contrast, brightness=0.3 * brightness, saturation=1 + 0.9 * saturation
    )
    levels = 2.0 ** tf.round(tf.abs(posterize) * 8)[:, None, None, None]  # number of grey levels that become one
    coarse = tf.floor(coloured / levels) * levels
    threshold = 256 * (1 - tf.abs(solarize))[:, None, None, None]
    return tf.where(coarse >= threshold, 255 - coarse, coarse)


def move(
    pictures: tf.Tensor,
    *,
    angle: Amount = 0.0,
    lean: Amount = 0.0,
    slant: Amount = 0.0,
    down: Amount = 0.0,
    right: Amount = 0.0,
    scale: Amount = 1.0,
    mirror: Amount = 1.0,
    upside_down: Amount = 1.0,
    fill: str = "REFLECT",
) -> tf.Tensor:
    """Moves the pixels of pictures around their middle.

    Args:
        pictures: float32 (n, height, width, 3).
        angle: rotation, radians.
        lean: horizontal shear.
        slant: vertical shear.
        down: shift, as a fraction of the height.
        right: shift, as a fraction of the width.
        scale: factor on their size.
        mirror: -1 to mirror the pictures.
        upside_down: -1 to turn the pictures upside down.
        fill: what fills the border: 'REFLECT' for the mirrored inside, 'CONSTANT' for black.
    """
    size = tf.shape(pictures)
    count, height, width = size[0], tf.cast(size[1], tf.float32), tf.cast(size[2], tf.float32)
    cosine, sine = tf.cos(angle) / scale, tf.sin(angle) / scale
    # For each pixel of the result, its position in the source, measured from the middle.
    to_x = mirror * cosine, mirror * (sine + lean)
    to_y = upside_down * (slant - sine), upside_down * cosine
    middle_x, middle_y = (width - 1) / 2, (height - 1) / 2
    from_x, from_y = middle_x + right * width, middle_y + down * height
    start_x = middle_x - to_x[0] * from_x - to_x[1] * from_y
    start_y = middle_y - to_y[0] * from_x - to_y[1] * from_y
    rows = [*to_x, start_x, *to_y, start_y, 0.0, 0.0]
    transforms = tf.stack([tf.broadcast_to(value, [count]) for value in rows], axis=1)
    moved = tf.raw_ops.ImageProjectiveTransformV3(
        images=pictures,
        transforms=transforms,
        output_shape=size[1:3],
        fill_value=0.0,
        interpolation="BILINEAR",
        fill_mode=fill,
    )
    return tf.ensure_shape(moved, pictures.shape)


def recolour(
    pictures: tf.Tensor, *, contrast: Amount = 1.0, brightness: Amount = 0.0, saturation: Amount = 1.0
) -> tf.Tensor:
    """Varies the colours of pictures.

    Args:
        pictures: float32 (n, height, width, 3) in [0, 255], as is the result.
        contrast: factor on the distance of every pixel from the picture's mean.
        brightness: added to every pixel, as a fraction of 255.
        saturation: factor on the distance of every pixel from its grey.
    """

    def spread(amount: Amount) -> tf.Tensor:
        return tf.reshape(amount, (-1, 1, 1, 1))

    grey = tf.reduce_mean(pictures, axis=3, keepdims=True)
    pictures = grey + (pictures - grey) * spread(saturation)
    means = tf.reduce_mean(pictures, axis=(1, 2), keepdims=True)
    return tf.clip_by_value((pictures - means) * spread(contrast) + means + 255 * spread(brightness), 0.0, 255.0)


def _sign(draws: tf.Tensor) -> tf.Tensor:
    """Turns half of the draws into 1, and half into -1."""
    return tf.where(draws < 0.5, 1.0, -1.0)


POLICIES: dict[str, Vary] = {
    "mild": Vary(NUM_DRAWS, augment_pictures),
    "flip": Vary(CUSTOM_DRAWS, flip),
    "vertical": Vary(CUSTOM_DRAWS, vertical, uses=(augment_pictures,)),
    "rotate": Vary(CUSTOM_DRAWS, rotate, uses=(augment_pictures,)),
    "medical": Vary(CUSTOM_DRAWS, medical),
    "randaugment": Vary(CUSTOM_DRAWS, randaugment),
}
