"""Decodes pictures as `data/images/decode.py` does, by TensorFlow operations that need no Pillow.

TensorFlow alone ignores the EXIF orientation, drops transparency, and crops to whole pixels. JPEGs are decoded at 1/2,
1/4 or 1/8 of their size if that loses nothing.
"""

import functools

import tensorflow as tf

from app.config import Resize
from data.images.decode import MAX_PIXELS, ZOOM

SHRUNK = (1, 2, 4, 8)
"""Divisors of a JPEG's size at which it can be decoded."""
ORIENTATION_ENTRIES = (b"\x01\x12\0\x03\0\0\0\x01\0", b"\x12\x01\x03\0\x01\0\0\0")
"""EXIF's orientation entry up to its value, big-endian and little-endian. The whole file is searched for it: these
nine, or eight, bytes do not occur by chance."""
STEPS = [(1, 1), (1, -1), (-1, -1), (-1, 1)] * 2
"""Steps through rows and columns for each orientation; from the fifth on, rows and columns are swapped first."""


def decode_picture(content: tf.Tensor, image_size: int, resize: Resize) -> tf.Tensor:
    """Decodes and resizes a picture; raises an error of TensorFlow if it is damaged, too large or not in `FORMATS`.

    Args:
        content: string (), the bytes of a file.
        image_size: height and width of the result, pixels.
        resize: how the picture becomes square; see `app.config.TrainConfig`.

    Returns:
        float32 (image_size, image_size, 3), whole numbers in [0, 255].
    """
    starts = tf.stack([tf.strings.substr(content, 0, len(start)) == start for start, _ in FORMATS.values()])
    known = _check(content, tf.reduce_any(starts), f"A picture must be {', '.join(FORMATS)}; this is none of them.")
    decoders = [functools.partial(decode, known, image_size) for _, decode in FORMATS.values()]
    picture = tf.switch_case(tf.argmax(tf.cast(starts, tf.int32), output_type=tf.int32), decoders)
    picture.set_shape((None, None, 3))
    # Turned last, when the picture is smaller; the crop is the same for a picture on its side.
    upright = _turn_upright(_resize(picture, image_size, resize), content)
    top, left = tf.unstack(tf.cast(tf.round((image_size - tf.shape(upright)[:2]) / 2), tf.int32))
    return tf.ensure_shape(
        tf.image.pad_to_bounding_box(upright, top, left, image_size, image_size), (image_size, image_size, 3)
    )


def _decode_jpeg(content: tf.Tensor, image_size: int) -> tf.Tensor:
    sides = tf.image.extract_jpeg_shape(content)[:2]
    decode = functools.partial(
        tf.io.decode_jpeg, _check_size(content, sides), channels=3, dct_method="INTEGER_ACCURATE"
    )
    # Twice the target keeps every visible detail.
    spare = tf.reduce_min(sides) // (2 * image_size)
    chosen = tf.reduce_sum(tf.cast(spare >= tf.constant(SHRUNK[1:]), tf.int32))
    return tf.switch_case(chosen, [functools.partial(decode, ratio=ratio) for ratio in SHRUNK])


def _decode_png(content: tf.Tensor, image_size: int) -> tf.Tensor:
    checked = _check_size(content, tf.io.decode_raw(tf.strings.substr(content, 16, 8), tf.int32, little_endian=False))
    # For grey pictures of 1, 2 or 4 bits, TensorFlow's alpha of an opaque pixel is the largest number of those bits.
    bits = tf.cast(tf.io.decode_raw(tf.strings.substr(content, 24, 1), tf.uint8)[0], tf.int32)
    return _on_white(tf.io.decode_png(checked, channels=4), tf.cast(tf.minimum(2**bits - 1, 255), tf.uint8))


def _decode_gif(content: tf.Tensor, image_size: int) -> tf.Tensor:
    sides = tf.io.decode_raw(tf.strings.substr(content, 6, 4), tf.uint16)
    return tf.io.decode_image(_check_size(content, sides), channels=3, expand_animations=False)


def _decode_bmp(content: tf.Tensor, image_size: int) -> tf.Tensor:
    # TensorFlow would take the indices of a palette for shades of grey.
    bits = tf.cast(tf.io.decode_raw(tf.strings.substr(content, 28, 2), tf.uint16)[0], tf.int32)
    checked = _check(content, (bits == 24) | (bits == 32), "A BMP must have 24 or 32 bits; this has", bits)
    return tf.io.decode_image(checked, channels=3, expand_animations=False)


def _decode_webp(content: tf.Tensor, image_size: int) -> tf.Tensor:
    picture = tf.io.decode_webp(content, channels=0)[0]  # the first picture of an animation
    return _on_white(tf.pad(picture, [[0, 0], [0, 0], [0, 4 - tf.shape(picture)[-1]]], constant_values=255))


FORMATS = {
    "JPEG": (b"\xff\xd8\xff", _decode_jpeg),
    "PNG": (b"\x89PNG", _decode_png),
    "GIF": (b"GIF8", _decode_gif),
    "BMP": (b"BM", _decode_bmp),
    "WebP": (b"RIFF", _decode_webp),
}
"""Formats that can be decoded: the first bytes, and the decoder to uint8 (height, width, 3)."""


def _check(content: tf.Tensor, allowed: tf.Tensor, *reason: str | tf.Tensor) -> tf.Tensor:
    """Returns the content, and makes decoding wait for the check."""
    with tf.control_dependencies([tf.debugging.Assert(allowed, list(reason))]):
        return tf.identity(content)


def _check_size(content: tf.Tensor, sides: tf.Tensor) -> tf.Tensor:
    pixels = tf.reduce_prod(tf.cast(sides, tf.int64))
    return _check(content, pixels <= MAX_PIXELS, f"A picture may have {MAX_PIXELS:,} pixels; this has", pixels)


def _on_white(picture: tf.Tensor, opaque: tf.Tensor | int = 255) -> tf.Tensor:
    """Blends a picture with white unless all of it is `opaque`; uint8 (height, width, 4) to (height, width, 3)."""

    def blend() -> tf.Tensor:
        opacity = tf.cast(picture[..., 3:], tf.float32) / 255
        return tf.cast(tf.round(tf.cast(picture[..., :3], tf.float32) * opacity + 255 * (1 - opacity)), tf.uint8)

    return tf.cond(tf.reduce_all(picture[..., 3] == opaque), lambda: picture[..., :3], blend)


def _resize(picture: tf.Tensor, image_size: int, resize: Resize) -> tf.Tensor:
    """Crops a picture, even within a pixel, and resizes it bicubically with antialiasing."""
    sides = tf.cast(tf.shape(picture)[:2], tf.float64)  # Pillow computes boxes in float64, too
    box, size = sides, tf.fill((2,), image_size)
    if resize == "crop":
        shorter = tf.reduce_min(sides)
        box = tf.fill((2,), shorter * tf.where(shorter >= image_size / ZOOM, tf.constant(ZOOM, tf.float64), 1))
    elif resize == "pad":
        size = tf.maximum(1, tf.cast(tf.round(sides / tf.reduce_max(sides) * image_size), tf.int32))
    scale = tf.cast(size, tf.float64) / box
    for axis in (1, 0):  # Pillow resizes the rows first, and rounds
        only = tf.one_hot(axis, 2) > 0
        resized = tf.raw_ops.ScaleAndTranslate(
            images=picture[None],
            size=tf.where(only, size, tf.shape(picture)[:2]),
            scale=tf.where(only, tf.cast(scale, tf.float32), 1),
            translation=tf.where(only, tf.cast((box - sides) / 2 * scale, tf.float32), 0),
            kernel_type="keyscubic",
            antialias=True,
        )
        picture = tf.round(tf.clip_by_value(resized[0], 0, 255))
    return picture


def _turn_upright(picture: tf.Tensor, content: tf.Tensor) -> tf.Tensor:
    """Turns a picture by the EXIF orientation in the bytes of its file, if any."""
    found = [tf.strings.split(content, entry, maxsplit=1)[1:] for entry in ORIENTATION_ENTRIES]
    value = tf.strings.substr(tf.concat([*found, [b"\x01"]], 0)[0], 0, 1)
    orientation = tf.cast(tf.io.decode_raw(value, tf.uint8)[0], tf.int32)
    orientation = tf.where((orientation >= 1) & (orientation <= 8), orientation, 1)
    picture = tf.cond(orientation > 4, lambda: tf.transpose(picture, (1, 0, 2)), lambda: picture)
    rows, columns = tf.unstack(tf.constant(STEPS)[orientation - 1])
    return tf.ensure_shape(picture[::rows, ::columns], (None, None, 3))
