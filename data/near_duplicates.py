"""Finds pictures on both sides of a split that look the same: other files, so that no digest tells them to be copies.

A picture is reduced to the slopes of a small grey version of itself. Unlike the grey values, slopes of unrelated
pictures hardly agree: of 397 photos of ants and bees, the two most alike correlate at 0.45. A photo and itself
compressed, shrunk by half, brightened or without colours correlate at 0.94 or more, and at 0.93 in the middle of 150
with 2 % cut off each side.
"""

import itertools
from typing import NamedTuple

import numpy as np

from data.arrays import release

SIDE = 16
"""Height and width of the small pictures."""
SAMPLES = 4
"""Pixels that are averaged, in each direction, for one of theirs."""
BRIGHTNESS = np.array([77, 150, 29], np.uint16)
"""Parts of 256 that red, green and blue have in it (ITU-R BT.601)."""
BLOCK = 512
"""Training pictures compared at once, with all that are measured on."""
LEAST_SCORE, SURE_SCORE = 0.8, 0.95
"""Of a suspected pair, where pictures differ much from each other, and where all are alike."""
LEAST_PAIRS = 20
"""That tell how alike pictures of a data set are."""
SPREADS = 3.0
"""By how many spreads a pair has to be closer than nearest pictures usually are."""
LEAST_SLOPE = 1.0
"""Root mean square, in grey values of 255. Flatter pictures are not compared: of them, noise is all that is left."""


class NearDuplicate(NamedTuple):
    """Two pictures that look the same."""

    judged: int
    """Position of the one that is measured on."""
    train: int
    """Position of the training picture most like it."""
    score: float
    """Correlation of their slopes, at most 1."""


def find_near_duplicates(pixels: np.ndarray, judged: np.ndarray, train: np.ndarray) -> list[NearDuplicate]:
    """Finds pictures for which a training picture looks the same.

    Silhouettes, or X-rays of one organ, are alike without being copies. So a pair has to stand out from the nearest
    pairs of its own data set, by `SPREADS` on Fisher's z scale, and `SURE_SCORE` is enough anywhere. Pictures of 10,000
    animal silhouettes give 13 pairs among 3,000, most of them one drawing scanned twice.

    Args:
        pixels: uint8 (num_pictures, height, width, 3).
        judged: positions of the pictures that are measured on.
        train: positions of the training pictures.

    Returns:
        The nearest training picture of each suspected picture, the most alike first.
    """
    if len(judged) == 0 or len(train) == 0:
        return []
    wanted = np.concatenate([_slopes(pixels, judged[start : start + BLOCK]) for start in range(0, len(judged), BLOCK)])
    rows = np.arange(len(judged))
    nearest, scores = np.zeros(len(judged), int), np.full(len(judged), -1.0, np.float32)
    for start in range(0, len(train), BLOCK):
        products = wanted @ _slopes(pixels, train[start : start + BLOCK]).T
        best = products.argmax(axis=1)
        highest = products[rows, best]
        nearest = np.where(highest > scores, best + start, nearest)
        scores = np.maximum(highest, scores)
    suspected = np.flatnonzero(scores >= _threshold(scores))
    order = suspected[np.argsort(-scores[suspected], kind="stable")]
    return [NearDuplicate(int(judged[row]), int(train[nearest[row]]), min(1.0, float(scores[row]))) for row in order]


def _slopes(pixels: np.ndarray, positions: np.ndarray) -> np.ndarray:
    """Differences between neighbours of small pictures, scaled to length 1, float32 (n, values); 0 for flat ones."""
    size = pixels.shape[1]
    side = min(SIDE, size)
    samples = max(1, min(SAMPLES, size // side))
    places = ((np.arange(side * samples) + 0.5) * size / (side * samples)).astype(int)
    # Rows first, then columns, then whole-number brightness: three times as fast as the same in one expression.
    sampled = pixels[positions[:, None], places].take(places, axis=2)
    release(pixels)
    grey = sum(sampled[..., channel] * share for channel, share in enumerate(BRIGHTNESS))
    small = np.zeros((len(positions), side, side), np.float32)
    for row, column in itertools.product(range(samples), repeat=2):
        small += grey[:, row::samples, column::samples]
    small /= samples**2 * int(BRIGHTNESS.sum())
    slopes = np.concatenate([np.diff(small, axis=axis).reshape(len(positions), -1) for axis in (1, 2)], axis=1)
    slopes -= slopes.mean(axis=1, keepdims=True)
    length = np.linalg.norm(slopes, axis=1, keepdims=True)
    is_flat = length < LEAST_SLOPE * np.sqrt(slopes.shape[1])
    return np.where(is_flat, 0, slopes / np.maximum(length, 1e-6)).astype(np.float32)


def _threshold(scores: np.ndarray) -> float:
    """The score from which a pair stands out from the nearest pairs of its data set, if there are enough to tell."""
    scores = scores[scores > 0]  # flat ones are compared with nothing
    if len(scores) < LEAST_PAIRS:
        return SURE_SCORE
    z = np.arctanh(np.clip(scores, -0.9999, 0.9999))
    middle = np.median(z)
    spread = 1.4826 * np.median(np.abs(z - middle))
    return float(np.clip(np.tanh(middle + SPREADS * spread), LEAST_SCORE, SURE_SCORE))
