"""Finds the EXIF orientation of a picture file by TensorFlow operations."""

from collections.abc import Callable

import tensorflow as tf

ORIENTATION_TAG = 0x0112
ORIENTATIONS = 8
EXIF_PREFIX = b"Exif\0\0"
MARGIN = 64
"""Zeros behind the bytes of a file, so that whatever it claims to hold can be looked up."""


def as_bytes(content: tf.Tensor) -> tf.Tensor:
    """The bytes of a file, uint8 (n,), from string (), with zeros behind them."""
    return tf.io.decode_raw(content + b"\0" * MARGIN, tf.uint8)


def starts_with(data: tf.Tensor, start: tf.Tensor | int, expected: bytes) -> tf.Tensor:
    """Whether there are these bytes at a position, bool ()."""
    return tf.reduce_all(data[start : start + len(expected)] == tf.constant(list(expected), tf.uint8))


def number(data: tf.Tensor, start: tf.Tensor | int, length: int, big_endian: tf.Tensor | bool) -> tf.Tensor:
    """The whole number of 2 or 4 bytes at a position, int64 (); zero behind the end."""
    start = tf.clip_by_value(tf.cast(start, tf.int64), 0, tf.size(data, tf.int64) - length)
    return _numbers(data[None, start : start + length], big_endian, length)[0]


def read_orientation(data: tf.Tensor, chunk: Callable[[tf.Tensor, tf.Tensor], tuple[tf.Tensor, ...]]) -> tf.Tensor:
    """Reads the EXIF orientation, int64 () from 1 to 8; 1 where there is none.

    Args:
        data: the bytes of a file.
        chunk: from them and where a chunk starts, or 0 for the first, to whether it holds EXIF data, where that
            starts, and where the next chunk starts; see `jpeg_segment`.
    """
    size = tf.size(data, tf.int64)

    def step(found: tf.Tensor, content: tf.Tensor, start: tf.Tensor) -> tuple[tf.Tensor, ...]:
        found, content, following = chunk(data, start)
        return found, content, tf.minimum(following, size)

    found, start, _ = tf.while_loop(
        lambda found, content, start: ~found & (start < size - MARGIN),
        step,
        [tf.constant(False), tf.constant(0, tf.int64), tf.constant(0, tf.int64)],
    )
    start += tf.where(starts_with(data, start, EXIF_PREFIX), tf.constant(len(EXIF_PREFIX), tf.int64), 0)
    big_endian = starts_with(data, start, b"MM")
    table = start + number(data, start + 4, 4, big_endian)
    first = tf.minimum(table + 2, size)
    count = tf.minimum(number(data, table, 2, big_endian), (size - first) // 12)
    entries = tf.reshape(data[first : first + 12 * count], (-1, 12))
    is_orientation = _numbers(entries[:, :2], big_endian, 2) == ORIENTATION_TAG
    values = tf.where(is_orientation, _numbers(entries[:, 8:10], big_endian, 2), 1)
    orientation = tf.reduce_max(tf.concat([[1], values], 0))
    return tf.where(found & (orientation <= ORIENTATIONS), orientation, 1)


def jpeg_segment(data: tf.Tensor, start: tf.Tensor) -> tuple[tf.Tensor, ...]:
    """Reads a segment of a JPEG; the first stands behind two bytes."""
    start = tf.maximum(start, 2)
    marker = data[start + 1]
    found = starts_with(data, start, b"\xff\xe1") & starts_with(data, start + 4, EXIF_PREFIX)
    is_last = (data[start] != 0xFF) | (marker == 0xDA) | (marker == 0xD9)  # the picture's start, or its end
    following = tf.where(marker == 0xFF, start + 1, start + 2 + number(data, start + 2, 2, True))
    return found, start + 4, tf.where(is_last, tf.size(data, tf.int64), following)


def png_chunk(data: tf.Tensor, start: tf.Tensor) -> tuple[tf.Tensor, ...]:
    """Reads a chunk of a PNG; the first stands behind eight bytes."""
    start = tf.maximum(start, 8)
    return starts_with(data, start + 4, b"eXIf"), start + 8, start + 12 + number(data, start, 4, True)


def webp_chunk(data: tf.Tensor, start: tf.Tensor) -> tuple[tf.Tensor, ...]:
    """Reads a chunk of a WebP; the first stands behind twelve bytes."""
    start = tf.maximum(start, 12)
    length = number(data, start + 4, 4, False)
    return starts_with(data, start, b"EXIF"), start + 8, start + 8 + length + length % 2


def _numbers(digits: tf.Tensor, big_endian: tf.Tensor | bool, length: int) -> tf.Tensor:
    """Whole numbers, int64 (n,), of bytes (n, length)."""
    digits = tf.cast(digits, tf.int64)
    digits = tf.where(big_endian, digits, tf.reverse(digits, [1]))
    return tf.reduce_sum(digits * tf.constant([256**power for power in reversed(range(length))], tf.int64), 1)
