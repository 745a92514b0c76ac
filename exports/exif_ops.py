"""The EXIF orientation of a picture file, found by TensorFlow operations."""

from collections.abc import Callable
from typing import NamedTuple

import tensorflow as tf

ORIENTATION_TAG = 0x0112
EXIF_PREFIX = b"Exif\0\0"
MARGIN = 64
"""Zeros behind the bytes of a file, so that whatever it claims to hold can be looked up."""
ORIENTATIONS = 8


class Chunks(NamedTuple):
    """How to find the EXIF data in a kind of file: from chunk to chunk."""

    first: int
    """Where the first starts."""
    is_exif: Callable[[tf.Tensor, tf.Tensor], tf.Tensor]
    """From the bytes and where a chunk starts to whether it is the one, bool ()."""
    next: Callable[[tf.Tensor, tf.Tensor], tf.Tensor]
    """From the same to where the next chunk starts; behind the end if none is to be looked at."""
    content: int
    """Where a chunk's content starts in it."""


def as_bytes(content: tf.Tensor) -> tf.Tensor:
    """The bytes of a file, uint8 (n,), from string (), with zeros behind them."""
    return tf.io.decode_raw(content + b"\0" * MARGIN, tf.uint8)


def equal(data: tf.Tensor, start: tf.Tensor | int, expected: bytes) -> tf.Tensor:
    """Whether there are these bytes at a position, bool ()."""
    return tf.reduce_all(data[start : start + len(expected)] == tf.constant(list(expected), tf.uint8))


def number(data: tf.Tensor, start: tf.Tensor | int, length: int, big_endian: tf.Tensor | bool) -> tf.Tensor:
    """The whole number of 2 or 4 bytes at a position, int64 (); zero behind the end."""
    start = tf.clip_by_value(tf.cast(start, tf.int64), 0, tf.size(data, tf.int64) - length)
    return _values(tf.reshape(data[start : start + length], (1, length)), big_endian)[0]


def read_orientation(data: tf.Tensor, chunks: Chunks | None) -> tf.Tensor:
    """The EXIF orientation, int64 () from 1 to 8; 1 where there is none."""
    if chunks is None:
        return tf.constant(1, tf.int64)
    start = _exif_start(data, chunks)
    big_endian = equal(data, start, b"MM")
    table = start + number(data, start + 4, 4, big_endian)
    size = tf.size(data, tf.int64)
    first = tf.minimum(table + 2, size)
    count = tf.minimum(number(data, table, 2, big_endian), (size - first) // 12)
    entries = tf.reshape(data[first : first + 12 * count], (-1, 12))
    values = _values(entries[:, 8:10], big_endian)
    found = tf.where(_values(entries[:, :2], big_endian) == ORIENTATION_TAG, values, 1)
    orientation = tf.reduce_max(tf.concat([tf.ones((1,), tf.int64), found], 0))
    return tf.where((start > 0) & (orientation <= ORIENTATIONS), orientation, 1)


def _values(digits: tf.Tensor, big_endian: tf.Tensor | bool) -> tf.Tensor:
    """Whole numbers, int64 (n,), of bytes (n, length)."""
    digits = tf.cast(digits, tf.int64)
    digits = tf.where(big_endian, digits, tf.reverse(digits, [1]))
    return tf.reduce_sum(digits * tf.constant([256**power for power in range(digits.shape[1])][::-1], tf.int64), 1)


def _exif_start(data: tf.Tensor, chunks: Chunks) -> tf.Tensor:
    """Where the EXIF data starts, int64 (); 0 where there is none."""
    end = tf.size(data, tf.int64) - MARGIN
    (found,) = tf.while_loop(
        lambda start: (start < end) & ~chunks.is_exif(data, start),
        lambda start: [tf.minimum(chunks.next(data, start), end)],
        [tf.constant(chunks.first, tf.int64)],
    )
    content = found + chunks.content
    return tf.where(found < end, tf.where(equal(data, content, EXIF_PREFIX), content + 6, content), 0)


def _is_jpeg_exif(data: tf.Tensor, start: tf.Tensor) -> tf.Tensor:
    return equal(data, start, b"\xff\xe1") & equal(data, start + 4, EXIF_PREFIX)


def _next_jpeg_segment(data: tf.Tensor, start: tf.Tensor) -> tf.Tensor:
    marker = data[start + 1]
    is_last = (data[start] != 0xFF) | (marker == 0xDA) | (marker == 0xD9)  # the picture's start, or its end
    following = tf.where(marker == 0xFF, start + 1, start + 2 + number(data, start + 2, 2, True))
    return tf.where(is_last, tf.size(data, tf.int64), following)


def _next_webp_chunk(data: tf.Tensor, start: tf.Tensor) -> tf.Tensor:
    length = number(data, start + 4, 4, False)
    return start + 8 + length + length % 2


JPEG_CHUNKS = Chunks(2, _is_jpeg_exif, _next_jpeg_segment, 4)
PNG_CHUNKS = Chunks(
    first=8,
    is_exif=lambda data, start: equal(data, start + 4, b"eXIf"),
    next=lambda data, start: start + 12 + number(data, start, 4, True),
    content=8,
)
WEBP_CHUNKS = Chunks(12, lambda data, start: equal(data, start, b"EXIF"), _next_webp_chunk, 8)
