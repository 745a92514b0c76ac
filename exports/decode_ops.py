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

HEAD = 32
"""Bytes that tell the kind of a file and its size."""
SHRUNK = (1, 2, 4, 8)
"""Divisors of its size at which a JPEG can be decoded."""
MARKERS = {b"Exif\0\0": 0, b"eXIf": 0, b"EXIF": 4}
"""Bytes before EXIF data in a JPEG, a PNG and a WebP file, and the number of other bytes between."""
MOST_MARKERS = 8
"""Markers of a kind that are looked at; pixels may resemble the shortest of them by chance."""
MOST_BYTES = 2**16
"""Bytes of EXIF data that are read; a JPEG cannot hold more."""
HEADERS = [b"MM\0*", b"II*\0"]
"""Beginnings of EXIF data with the highest byte of a number first, and last."""
ORIENTATION_TAG = 0x0112
ORIENTATIONS = 8


class Kind(NamedTuple):
    """A kind of file."""

    signature: dict[int, bytes]
    """Bytes by which it is recognised, at their places."""
    decode: Callable[[tf.Tensor, tf.Tensor, int], tf.Tensor]
    """Decodes a file, its first bytes and the wanted size to uint8 (height, width, 3)."""


def decode_picture(content: tf.Tensor, image_size: int, resize: Resize) -> tf.Tensor:
    """Decodes and resizes a picture; an error of TensorFlow if it is of no kind in `KINDS`, damaged or too large.

    Args:
        content: string (), the bytes of a file.
        image_size: height and width of the result, pixels.
        resize: how it becomes a square; see `app.config.TrainConfig`.

    Returns:
        float32 (image_size, image_size, 3), whole numbers in [0, 255].
    """
    head = tf.strings.substr(content + b"\0" * HEAD, 0, HEAD)

    def is_of(kind: Kind) -> tf.Tensor:
        parts = [tf.strings.substr(head, start, len(part)) == part for start, part in kind.signature.items()]
        return tf.reduce_all(parts)

    def refuse() -> tf.Tensor:
        refused = tf.debugging.Assert(False, [f"A picture must be {', '.join(KINDS)}; this is none of them."])
        with tf.control_dependencies([refused]):
            return tf.zeros((1, 1, 3), tf.uint8)

    decoders = [(is_of(kind), functools.partial(kind.decode, content, head, image_size)) for kind in KINDS.values()]
    picture = tf.case(decoders, default=refuse)
    picture.set_shape((None, None, 3))
    sides = tf.cast(tf.shape(picture)[:2], tf.float64)  # Pillow computes boxes in Python's numbers
    box, size = _BOXES[resize](sides, image_size)
    resized = _resize(picture, (sides - box) / 2, tf.cast(size, tf.float64) / box, size)
    # Turned last, as the result is smaller; the boxes are the same for a picture on its side.
    upright = _turn_upright(resized, _read_orientation(content))
    top, left = tf.unstack(tf.cast(tf.round((image_size - tf.shape(upright)[:2]) / 2), tf.int32))
    padded = tf.image.pad_to_bounding_box(upright, top, left, image_size, image_size)
    return tf.ensure_shape(padded, (image_size, image_size, 3))


def _decode_jpeg(content: tf.Tensor, head: tf.Tensor, image_size: int) -> tf.Tensor:
    height, width, _ = tf.unstack(tf.image.extract_jpeg_shape(content), num=3)
    decode = functools.partial(tf.io.decode_jpeg, content, channels=3, dct_method="INTEGER_ACCURATE")
    # Twice the target keeps every visible detail.
    spare = tf.minimum(height, width) // (2 * image_size)
    chosen = tf.reduce_sum(tf.cast(spare >= tf.constant(SHRUNK[1:]), tf.int32))
    with tf.control_dependencies([_check_size(height, width)]):
        return tf.switch_case(chosen, [functools.partial(decode, ratio=ratio) for ratio in SHRUNK])


def _decode_png(content: tf.Tensor, head: tf.Tensor, image_size: int) -> tf.Tensor:
    with tf.control_dependencies([_check_size(_number(head, 20, 4), _number(head, 16, 4))]):
        # In grey pictures of 1, 2 or 4 bits, TensorFlow's alpha of an opaque pixel is the largest number of those bits.
        opaque = tf.minimum(2 ** _number(head, 24, 1) - 1, 255)
        return _on_white(tf.io.decode_png(content, channels=4), tf.cast(opaque, tf.uint8))


def _decode_gif(content: tf.Tensor, head: tf.Tensor, image_size: int) -> tf.Tensor:
    with tf.control_dependencies([_check_size(_number(head, 8, 2, True), _number(head, 6, 2, True))]):
        return tf.io.decode_image(content, channels=3, expand_animations=False)


def _decode_bmp(content: tf.Tensor, head: tf.Tensor, image_size: int) -> tf.Tensor:
    bits = _number(head, 28, 2, True)
    # TensorFlow takes the numbers of a palette for shades of grey.
    is_true_colour = tf.debugging.Assert((bits == 24) | (bits == 32), ["A BMP must have 24 or 32 bits; this has", bits])
    with tf.control_dependencies([is_true_colour]):
        return tf.io.decode_image(content, channels=3, expand_animations=False)


def _decode_webp(content: tf.Tensor, head: tf.Tensor, image_size: int) -> tf.Tensor:
    picture = tf.io.decode_webp(content, channels=0)[0]  # the first picture of an animation
    missing = 4 - tf.shape(picture)[-1]
    return _on_white(tf.pad(picture, [[0, 0], [0, 0], [0, missing]], constant_values=255))


KINDS: dict[str, Kind] = {
    "JPEG": Kind({0: b"\xff\xd8\xff"}, _decode_jpeg),
    "PNG": Kind({0: b"\x89PNG\r\n\x1a\n"}, _decode_png),
    "GIF": Kind({0: b"GIF8"}, _decode_gif),
    "BMP": Kind({0: b"BM"}, _decode_bmp),
    "WebP": Kind({0: b"RIFF", 8: b"WEBP"}, _decode_webp),
}
"""Kinds of files that can be decoded."""


def _number(head: tf.Tensor, start: int, length: int, little_endian: bool = False) -> tf.Tensor:
    """Reads a whole number of a few bytes, int64 ()."""
    digits, zeros = tf.strings.substr(head, start, length), b"\0" * (8 - length)
    padded = digits + zeros if little_endian else zeros + digits
    return tf.io.decode_raw(padded, tf.int64, little_endian)[0]


def _check_size(height: tf.Tensor, width: tf.Tensor) -> tf.Operation:
    pixels = tf.cast(height, tf.int64) * tf.cast(width, tf.int64)
    return tf.debugging.Assert(pixels <= MAX_PIXELS, [f"A picture may have {MAX_PIXELS:,} pixels; this has", pixels])


def _on_white(picture: tf.Tensor, opaque: tf.Tensor | int = 255) -> tf.Tensor:
    """Blends a picture with white unless all of it is `opaque`; uint8 (height, width, 4) to (height, width, 3)."""

    def blend() -> tf.Tensor:
        opacity = tf.cast(picture[..., 3:], tf.float32) / 255
        return tf.cast(tf.round(tf.cast(picture[..., :3], tf.float32) * opacity + 255 * (1 - opacity)), tf.uint8)

    return tf.cond(tf.reduce_all(picture[..., 3] == opaque), lambda: picture[..., :3], blend)


def _read_orientation(content: tf.Tensor) -> tf.Tensor:
    """Returns the EXIF orientation of a file, string (), as int64 () from 1 to 8; 1 where there is none."""
    found = []
    for marker, between in MARKERS.items():
        parts = tf.strings.split(content, marker, maxsplit=MOST_MARKERS)[1:]
        found.append(tf.strings.substr(parts + b"\0" * 16, between, MOST_BYTES))
    found = tf.concat([*found, [HEADERS[0] + b"\0" * 16]], 0)
    is_header = tf.strings.substr(found, 0, 4)[:, None] == tf.constant(HEADERS)
    first = tf.argmax(tf.reduce_any(is_header, 1))
    exif = tf.cast(tf.io.decode_raw(found[first], tf.uint8), tf.int64)
    is_big_endian = is_header[first, 0]

    def numbers(digits: tf.Tensor, length: int) -> tf.Tensor:
        digits = tf.reshape(digits, (-1, length))
        digits = tf.where(is_big_endian, digits, tf.reverse(digits, [1]))
        return tf.reduce_sum(digits * tf.constant([256**power for power in reversed(range(length))], tf.int64), 1)

    size = tf.size(exif, tf.int64)
    table = tf.minimum(numbers(exif[4:8], 4)[0], size - 2)
    count = tf.minimum(numbers(exif[table : table + 2], 2)[0], (size - table - 2) // 12)
    entries = tf.reshape(exif[table + 2 : table + 2 + 12 * count], (-1, 12))
    values = tf.where(numbers(entries[:, :2], 2) == ORIENTATION_TAG, numbers(entries[:, 8:10], 2), 1)
    orientation = tf.reduce_max(tf.concat([[1], values], 0))
    return tf.where(orientation <= ORIENTATIONS, orientation, 1)


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
