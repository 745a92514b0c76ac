"""Decodes pictures as `data/images/decode.py` does, by TensorFlow operations that work where no Pillow is.

TensorFlow itself ignores how the camera was held, drops transparency, and crops to whole pixels. JPEGs are decoded at
1/2, 1/4 or 1/8 of their size where that loses nothing.
"""

import functools
from collections.abc import Callable
from typing import NamedTuple

import tensorflow as tf

from app.config import Resize
from data.images.decode import MAX_PIXELS, ZOOM
from exports.exif_ops import as_bytes, jpeg_segment, number, png_chunk, read_orientation, starts_with, webp_chunk

SHRUNK = (1, 2, 4, 8)
"""Divisors of its size at which a JPEG can be decoded."""


class Kind(NamedTuple):
    """A kind of file."""

    accepts: Callable[[tf.Tensor], tf.Tensor]
    """Tells from the bytes whether a file is of this kind, bool ()."""
    decode: Callable[[tf.Tensor, tf.Tensor, int], tf.Tensor]
    """Decodes a file, its bytes and the wanted size to uint8 (height, width, 3)."""
    chunk: Callable[[tf.Tensor, tf.Tensor], tuple[tf.Tensor, ...]] | None = None
    """Reads a chunk; see `exports.exif_ops.read_orientation`. None for a kind without EXIF data."""


def decode_picture(content: tf.Tensor, image_size: int, resize: Resize) -> tf.Tensor:
    """Decodes and resizes a picture; an error of TensorFlow if it is of no kind in `KINDS`, damaged or too large.

    Args:
        content: string (), the bytes of a file.
        image_size: height and width of the result, pixels.
        resize: how it becomes a square; see `app.config.TrainConfig`.

    Returns:
        float32 (image_size, image_size, 3), whole numbers in [0, 255].
    """
    data = as_bytes(content)

    def read(kind: Kind) -> tf.Tensor:
        picture = kind.decode(content, data, image_size)
        return _turn_upright(picture, read_orientation(data, kind.chunk)) if kind.chunk else picture

    def refuse() -> tf.Tensor:
        refused = tf.debugging.Assert(False, [f"A picture must be {', '.join(KINDS)}; this is none of them."])
        with tf.control_dependencies([refused]):
            return tf.zeros((1, 1, 3), tf.uint8)

    picture = tf.case([(kind.accepts(data), functools.partial(read, kind)) for kind in KINDS.values()], default=refuse)
    picture.set_shape((None, None, 3))
    sides = tf.cast(tf.shape(picture)[:2], tf.float64)  # Pillow computes boxes in Python's numbers
    box, size = _BOXES[resize](sides, image_size)
    resized = _resize(picture, (sides - box) / 2, tf.cast(size, tf.float64) / box, size)
    top, left = tf.unstack(tf.cast(tf.round((image_size - size) / 2), tf.int32))
    padded = tf.image.pad_to_bounding_box(resized, top, left, image_size, image_size)
    return tf.ensure_shape(padded, (image_size, image_size, 3))


def _decode_jpeg(content: tf.Tensor, data: tf.Tensor, image_size: int) -> tf.Tensor:
    height, width, _ = tf.unstack(tf.image.extract_jpeg_shape(content), num=3)
    decode = functools.partial(tf.io.decode_jpeg, content, channels=3, dct_method="INTEGER_ACCURATE")
    # Twice the target keeps every visible detail.
    spare = tf.minimum(height, width) // (2 * image_size)
    chosen = tf.reduce_sum(tf.cast(spare >= tf.constant(SHRUNK[1:]), tf.int32))
    with tf.control_dependencies([_check_size(height, width)]):
        return tf.switch_case(chosen, [functools.partial(decode, ratio=ratio) for ratio in SHRUNK])


def _decode_png(content: tf.Tensor, data: tf.Tensor, image_size: int) -> tf.Tensor:
    with tf.control_dependencies([_check_size(number(data, 20, 4, True), number(data, 16, 4, True))]):
        # In grey pictures of 1, 2 or 4 bits, TensorFlow's alpha of an opaque pixel is the largest number of those bits.
        opaque = tf.minimum(tf.bitwise.left_shift(1, tf.cast(data[24], tf.int32)) - 1, 255)
        return _on_white(tf.io.decode_png(content, channels=4), tf.cast(opaque, tf.uint8))


def _decode_gif(content: tf.Tensor, data: tf.Tensor, image_size: int) -> tf.Tensor:
    with tf.control_dependencies([_check_size(number(data, 8, 2, False), number(data, 6, 2, False))]):
        return tf.io.decode_image(content, channels=3, expand_animations=False)


def _decode_bmp(content: tf.Tensor, data: tf.Tensor, image_size: int) -> tf.Tensor:
    bits = number(data, 28, 2, False)
    # TensorFlow takes the numbers of a palette for shades of grey.
    is_true_colour = tf.debugging.Assert((bits == 24) | (bits == 32), ["A BMP must have 24 or 32 bits; this has", bits])
    with tf.control_dependencies([is_true_colour]):
        return tf.io.decode_image(content, channels=3, expand_animations=False)


def _decode_webp(content: tf.Tensor, data: tf.Tensor, image_size: int) -> tf.Tensor:
    picture = tf.io.decode_webp(content, channels=0)[0]  # the first picture of an animation
    missing = 4 - tf.shape(picture)[-1]
    return _on_white(tf.pad(picture, [[0, 0], [0, 0], [0, missing]], constant_values=255))


KINDS: dict[str, Kind] = {
    "JPEG": Kind(lambda data: starts_with(data, 0, b"\xff\xd8\xff"), _decode_jpeg, jpeg_segment),
    "PNG": Kind(lambda data: starts_with(data, 0, b"\x89PNG\r\n\x1a\n"), _decode_png, png_chunk),
    "GIF": Kind(lambda data: starts_with(data, 0, b"GIF8"), _decode_gif),
    "BMP": Kind(lambda data: starts_with(data, 0, b"BM"), _decode_bmp),
    "WebP": Kind(lambda data: starts_with(data, 0, b"RIFF") & starts_with(data, 8, b"WEBP"), _decode_webp, webp_chunk),
}
"""Kinds of files that can be decoded."""


def _check_size(height: tf.Tensor, width: tf.Tensor) -> tf.Operation:
    pixels = tf.cast(height, tf.int64) * tf.cast(width, tf.int64)
    return tf.debugging.Assert(pixels <= MAX_PIXELS, [f"A picture may have {MAX_PIXELS:,} pixels; this has", pixels])


def _on_white(picture: tf.Tensor, opaque: tf.Tensor | int = 255) -> tf.Tensor:
    """Blends a picture with white unless all of it is `opaque`; uint8 (height, width, 4) to (height, width, 3)."""

    def blend() -> tf.Tensor:
        opacity = tf.cast(picture[..., 3:], tf.float32) / 255
        return tf.cast(tf.round(tf.cast(picture[..., :3], tf.float32) * opacity + 255 * (1 - opacity)), tf.uint8)

    return tf.cond(tf.reduce_all(picture[..., 3] == opaque), lambda: picture[..., :3], blend)


def _turn_upright(picture: tf.Tensor, orientation: tf.Tensor) -> tf.Tensor:
    """Turns a picture by its EXIF orientation, 1 to 8."""

    def where(orientations: list[int], turn: Callable[[tf.Tensor], tf.Tensor], picture: tf.Tensor) -> tf.Tensor:
        return tf.cond(tf.reduce_any(orientation == orientations), lambda: turn(picture), lambda: picture)

    picture = where([5, 6, 7, 8], lambda turned: tf.transpose(turned, (1, 0, 2)), picture)
    picture = where([3, 4, 7, 8], lambda turned: tf.reverse(turned, [0]), picture)
    return where([2, 3, 6, 7], lambda turned: tf.reverse(turned, [1]), picture)


def _crop(sides: tf.Tensor, image_size: int) -> tuple[tf.Tensor, tf.Tensor]:
    kept = tf.where(tf.reduce_min(sides) >= image_size / ZOOM, tf.constant(ZOOM, tf.float64), 1)
    return tf.fill((2,), tf.reduce_min(sides) * kept), tf.fill((2,), image_size)


def _pad(sides: tf.Tensor, image_size: int) -> tuple[tf.Tensor, tf.Tensor]:
    return sides, tf.maximum(1, tf.cast(tf.round(sides / tf.reduce_max(sides) * image_size), tf.int32))


_BOXES: dict[Resize, Callable[[tf.Tensor, int], tuple[tf.Tensor, tf.Tensor]]] = {
    "crop": _crop,
    "pad": _pad,
    "stretch": lambda sides, image_size: (sides, tf.fill((2,), image_size)),
}
"""For each way to a square: sides of the part in the middle that is kept, float64 (2,) pixels, and its size in the
result, int32 (2,)."""


def _resize(picture: tf.Tensor, start: tf.Tensor, scale: tf.Tensor, size: tf.Tensor) -> tf.Tensor:
    """Resizes a part of a picture, which may start within a pixel, bicubically with antialiasing."""
    for axis in (1, 0):  # Pillow resizes the rows first, and rounds
        only = tf.one_hot(axis, 2) > 0
        resized = tf.raw_ops.ScaleAndTranslate(
            images=picture[None],
            size=tf.where(only, size, tf.shape(picture)[:2]),
            scale=tf.where(only, tf.cast(scale, tf.float32), 1),
            translation=tf.where(only, tf.cast(-start * scale, tf.float32), 0),
            kernel_type="keyscubic",
            antialias=True,
        )
        picture = tf.round(tf.clip_by_value(resized[0], 0, 255))
    return picture
