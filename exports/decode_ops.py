"""What `data/decode.py` does with a picture, as TensorFlow operations: a SavedModel carries them to where no Pillow is.

TensorFlow itself ignores how the camera was held, drops what is transparent, and crops to whole pixels. All that is
done here as Pillow does it; JPEGs are decoded at 1/2, 1/4 or 1/8 of their size under the same condition.
"""

import functools
from collections.abc import Callable
from typing import NamedTuple

import tensorflow as tf

from app.config import Resize
from data.decode import MAX_PIXELS, ZOOM
from exports.exif_ops import JPEG_CHUNKS, PNG_CHUNKS, WEBP_CHUNKS, Chunks, as_bytes, equal, number, read_orientation

TURNS = (
    (False, False, False),
    (False, False, True),
    (False, True, True),
    (False, True, False),
    (True, False, False),
    (True, False, True),
    (True, True, True),
    (True, True, False),
)
"""Of the EXIF orientations 1 to 8, whether rows and columns change places, then whether rows, then columns are
reversed, to put the picture upright."""
SHRUNK = (1, 2, 4, 8)
"""Fractions of its size at which a JPEG can be decoded."""


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

    def refuse() -> tuple[tf.Tensor, tf.Tensor]:
        message = f"A picture must be {', '.join(KINDS)}; this is none of them."
        with tf.control_dependencies([tf.debugging.Assert(False, [message])]):
            return tf.zeros((1, 1, 3), tf.uint8), tf.constant(1, tf.int64)

    def read(kind: Kind) -> tuple[tf.Tensor, tf.Tensor]:
        return kind.decode(content, data, image_size), read_orientation(data, kind.chunks)

    branches = [(kind.accepts(data), functools.partial(read, kind)) for kind in KINDS.values()]
    picture, orientation = tf.case(branches, default=refuse)
    picture.set_shape((None, None, 3))
    upright = _resize_upright(picture, orientation, *_RESIZE[resize](_sides(picture), image_size))
    return tf.ensure_shape(_centre(upright, image_size), (image_size, image_size, 3))


def _decode_jpeg(content: tf.Tensor, data: tf.Tensor, image_size: int) -> tf.Tensor:
    height, width, _ = tf.unstack(tf.image.extract_jpeg_shape(content), num=3)

    def at(ratio: int) -> Callable[[], tf.Tensor]:
        return lambda: tf.io.decode_jpeg(content, channels=3, ratio=ratio, dct_method="INTEGER_ACCURATE")

    # Twice the target keeps every visible detail.
    spare = tf.minimum(height, width) // (2 * image_size)
    chosen = tf.reduce_sum(tf.cast(spare >= tf.constant(SHRUNK[1:]), tf.int32))
    with tf.control_dependencies([_check_size(height, width)]):
        return tf.switch_case(chosen, [at(ratio) for ratio in SHRUNK])


def _decode_png(content: tf.Tensor, data: tf.Tensor, image_size: int) -> tf.Tensor:
    height, width = number(data, 20, 4, True), number(data, 16, 4, True)
    with tf.control_dependencies([_check_size(height, width)]):
        # TensorFlow calls grey of 1, 2 or 4 bits opaque by the largest number of as many bits.
        bits = tf.cast(data[24], tf.int32)
        opaque = tf.minimum(tf.bitwise.left_shift(1, bits) - 1, 255)
        return _on_white(tf.io.decode_png(content, channels=4), tf.cast(opaque, tf.uint8))


def _decode_gif(content: tf.Tensor, data: tf.Tensor, image_size: int) -> tf.Tensor:
    with tf.control_dependencies([_check_size(number(data, 8, 2, False), number(data, 6, 2, False))]):
        return tf.io.decode_image(content, channels=3, expand_animations=False)


def _decode_bmp(content: tf.Tensor, data: tf.Tensor, image_size: int) -> tf.Tensor:
    bits = number(data, 28, 2, False)
    # A palette's numbers would be taken for shades of grey.
    is_true_colour = tf.debugging.Assert((bits == 24) | (bits == 32), ["A BMP must have 24 or 32 bits; this has", bits])
    with tf.control_dependencies([is_true_colour]):
        return tf.io.decode_image(content, channels=3, expand_animations=False)


def _decode_webp(content: tf.Tensor, data: tf.Tensor, image_size: int) -> tf.Tensor:
    picture = tf.io.decode_webp(content, channels=0)[0]  # of an animation, the first
    missing = 4 - tf.shape(picture)[-1]
    return _on_white(tf.pad(picture, [[0, 0], [0, 0], [0, missing]], constant_values=255))


class Kind(NamedTuple):
    """A kind of file."""

    accepts: Callable[[tf.Tensor], tf.Tensor]
    """From the bytes to whether it is of this kind, bool ()."""
    decode: Callable[[tf.Tensor, tf.Tensor, int], tf.Tensor]
    """From the content, its bytes and the size that is wanted to uint8 (height, width, 3)."""
    chunks: Chunks | None = None
    """None for a kind without EXIF data."""


KINDS: dict[str, Kind] = {
    "JPEG": Kind(lambda data: equal(data, 0, b"\xff\xd8\xff"), _decode_jpeg, JPEG_CHUNKS),
    "PNG": Kind(lambda data: equal(data, 0, b"\x89PNG\r\n\x1a\n"), _decode_png, PNG_CHUNKS),
    "GIF": Kind(lambda data: equal(data, 0, b"GIF8"), _decode_gif),
    "BMP": Kind(lambda data: equal(data, 0, b"BM"), _decode_bmp),
    "WebP": Kind(lambda data: equal(data, 0, b"RIFF") & equal(data, 8, b"WEBP"), _decode_webp, WEBP_CHUNKS),
}
"""What can be decoded."""


def _check_size(height: tf.Tensor, width: tf.Tensor) -> tf.Operation:
    pixels = tf.cast(height, tf.int64) * tf.cast(width, tf.int64)
    return tf.debugging.Assert(pixels <= MAX_PIXELS, [f"A picture may have {MAX_PIXELS:,} pixels; this has", pixels])


def _on_white(picture: tf.Tensor, opaque: tf.Tensor | int = 255) -> tf.Tensor:
    """What is transparent becomes white, unless all is `opaque`; uint8 (height, width, 4) to (height, width, 3)."""

    def blend() -> tf.Tensor:
        opacity = tf.cast(picture[..., 3:], tf.float32) / 255
        return tf.cast(tf.round(tf.cast(picture[..., :3], tf.float32) * opacity + 255 * (1 - opacity)), tf.uint8)

    return tf.cond(tf.reduce_all(picture[..., 3] == opaque), lambda: picture[..., :3], blend)


def _sides(picture: tf.Tensor) -> tf.Tensor:
    """Height and width, pixels, float64 (2,): Pillow computes boxes in Python's numbers."""
    return tf.cast(tf.shape(picture)[:2], tf.float64)


def _crop(sides: tf.Tensor, image_size: int) -> tuple[tf.Tensor, tf.Tensor]:
    kept = tf.where(tf.reduce_min(sides) >= image_size / ZOOM, tf.constant(ZOOM, tf.float64), 1)
    return tf.fill((2,), tf.reduce_min(sides) * kept), tf.fill((2,), image_size)


def _pad(sides: tf.Tensor, image_size: int) -> tuple[tf.Tensor, tf.Tensor]:
    return sides, tf.maximum(1, tf.cast(tf.round(sides / tf.reduce_max(sides) * image_size), tf.int32))


def _stretch(sides: tf.Tensor, image_size: int) -> tuple[tf.Tensor, tf.Tensor]:
    return sides, tf.fill((2,), image_size)


_RESIZE: dict[Resize, Callable[[tf.Tensor, int], tuple[tf.Tensor, tf.Tensor]]] = {
    "crop": _crop,
    "pad": _pad,
    "stretch": _stretch,
}
"""How a picture becomes a square: from its sides to those of its part in the middle that is kept, float64 (2,) pixels,
and to the size that this gets, int32 (2,)."""


def _resize_upright(picture: tf.Tensor, orientation: tf.Tensor, box: tf.Tensor, size: tf.Tensor) -> tf.Tensor:
    """Resizes the middle of a picture, bicubically, and turns it upright: in this order, as the result is smaller.

    Args:
        picture: uint8 (height, width, 3).
        orientation: 1 to 8.
        box: height and width of the part, which may start and end within pixels.
        size: height and width of the result before it is turned.

    Returns:
        float32 (height, width, 3), whole numbers in [0, 255].
    """
    start, scale = (_sides(picture) - box) / 2, tf.cast(size, tf.float64) / box

    def resized(first: int, second: int) -> tf.Tensor:
        across = _resample(picture, first, start[first], scale[first], size[first])
        return _resample(across, second, start[second], scale[second], size[second])

    exchanged, upside_down, mirrored = tf.unstack(tf.gather(tf.constant(TURNS), orientation - 1))
    # Pillow resizes the rows first, and rounds, of the picture that is upright already. (From version 13 on it takes
    # tall pictures the other way round, which moves a few values by one.)
    turned = tf.cond(exchanged, lambda: tf.transpose(resized(0, 1), (1, 0, 2)), lambda: resized(1, 0))
    turned = tf.cond(upside_down, lambda: tf.reverse(turned, [0]), lambda: turned)
    return tf.cond(mirrored, lambda: tf.reverse(turned, [1]), lambda: turned)


def _resample(picture: tf.Tensor, axis: int, start: tf.Tensor, scale: tf.Tensor, size: tf.Tensor) -> tf.Tensor:
    """Resizes along one axis, with antialiasing, and rounds."""
    sizes = tf.tensor_scatter_nd_update(tf.shape(picture)[:2], [[axis]], [size])
    scales = tf.tensor_scatter_nd_update(tf.ones((2,)), [[axis]], [tf.cast(scale, tf.float32)])
    shifts = tf.tensor_scatter_nd_update(tf.zeros((2,)), [[axis]], [tf.cast(-start * scale, tf.float32)])
    resized = tf.raw_ops.ScaleAndTranslate(
        images=picture[None], size=sizes, scale=scales, translation=shifts, kernel_type="keyscubic", antialias=True
    )
    return tf.round(tf.clip_by_value(resized[0], 0, 255))


def _centre(picture: tf.Tensor, image_size: int) -> tf.Tensor:
    """Puts black bars around what is smaller than the square."""
    top, left = tf.unstack(tf.cast(tf.round((image_size - tf.shape(picture)[:2]) / 2), tf.int32))
    return tf.image.pad_to_bounding_box(picture, top, left, image_size, image_size)
