"""Finds pictures that look the same: other files, so that no digest tells them to be copies.

Shots of one thing belong on one side of a split, or the test would be of memory.

A picture is reduced to the slopes of its look, a small grey version of itself. Unlike the grey values, slopes of
unrelated pictures hardly agree: of 397 photos of ants and bees, the two most alike correlate at 0.70. Each of 150
correlates with itself compressed, shrunk by half, brightened or without colours at 0.96 or more, and with 2 % cut off
each side at 0.85 or more (0.93 in the middle).
"""

from typing import NamedTuple

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from data.decode import LOOK_SIZE

BLOCK = 512
"""Pictures compared at once."""
MOST_COMPARED = 200_000
"""Of more pictures, comparing each with each takes longer than decoding them."""
LEAST_SCORE, SURE_SCORE = 0.8, 0.95
"""Of a suspected pair, where pictures differ much from each other, and where all are alike."""
SAMPLED = 2_000
"""Pictures whose nearest ones tell how alike pictures of a data set are."""
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


class Groups(NamedTuple):
    """Which pictures look the same."""

    numbers: np.ndarray
    """int32 (n,): the number of each picture's group."""
    least_score: float
    """From which two pictures of this data set are taken to look the same."""


def group_near_duplicates(looks: np.ndarray) -> Groups:
    """Groups pictures that look the same, or that others between them connect.

    Silhouettes, or X-rays of one organ, are alike without being copies. So a pair has to stand out from the nearest
    pairs of its own data set, by `SPREADS` on Fisher's z scale, and `SURE_SCORE` is enough anywhere. Of 9,716 animal
    silhouettes, 38 are in groups, most of them one drawing scanned twice.

    Args:
        looks: uint8 (n, LOOK_SIZE, LOOK_SIZE), from `data.decode.make_look`, of each content once. Of more than
            `MOST_COMPARED`, none are compared.

    Returns:
        A group for each, of its own where nothing looks like it.
    """
    count = len(looks)
    groups: np.ndarray = np.arange(count, dtype=np.int32)
    if not 1 < count <= MOST_COMPARED:
        return Groups(groups, SURE_SCORE)
    slopes = _slopes(looks)
    sample = np.arange(0, count, -(-count // SAMPLED))
    least_score = _threshold(_nearest(slopes[sample], slopes, sample)[1])
    for start in range(0, count, BLOCK):
        for other in range(start, count, BLOCK):
            rows, columns = np.nonzero(slopes[start : start + BLOCK] @ slopes[other : other + BLOCK].T >= least_score)
            rows, columns = groups[rows + start], groups[columns + other]
            new = rows != columns
            if new.any():
                groups = _merged(groups, rows[new], columns[new])
    return Groups(groups, least_score)


def _merged(groups: np.ndarray, first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Joins pairs of groups, and whatever they are connected with."""
    count = len(groups)
    edges = coo_array((np.ones(len(first), bool), (first, second)), shape=(count, count))
    joined = connected_components(edges, directed=False)[1].astype(np.int32)
    return joined[groups]


def find_near_duplicates(
    looks: np.ndarray, judged: np.ndarray, train: np.ndarray, least_score: float
) -> list[NearDuplicate]:
    """Finds pictures for which a training picture looks the same.

    Args:
        looks: uint8 (num_pictures, LOOK_SIZE, LOOK_SIZE).
        judged: positions of the pictures that are measured on.
        train: positions of the training pictures.
        least_score: from `group_near_duplicates`.

    Returns:
        The nearest training picture of each suspected picture, the most alike first.
    """
    nearest, scores = _nearest(_slopes(looks[judged]), _slopes(looks[train]))
    suspected = np.flatnonzero(scores >= least_score)
    order = suspected[np.argsort(-scores[suspected], kind="stable")]
    return [NearDuplicate(int(judged[row]), int(train[nearest[row]]), min(1.0, float(scores[row]))) for row in order]


def _nearest(slopes: np.ndarray, among: np.ndarray, own: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Returns the row of `among` that is most like each row of `slopes`, its `own` left out, and their score."""
    rows = np.arange(len(slopes))
    nearest, scores = np.zeros(len(slopes), int), np.full(len(slopes), -1.0, np.float32)
    for start in range(0, len(among), BLOCK):
        products = slopes @ among[start : start + BLOCK].T
        if own is not None:
            products[own[:, None] == np.arange(start, start + products.shape[1])] = -1.0
        best = products.argmax(axis=1)
        highest = products[rows, best]
        nearest = np.where(highest > scores, best + start, nearest)
        scores = np.maximum(highest, scores)
    return nearest, scores


def _slopes(looks: np.ndarray) -> np.ndarray:
    """Differences between neighbours, scaled to length 1, float32 (n, values); 0 for flat pictures."""
    small = looks.astype(np.float32)
    values = LOOK_SIZE * (LOOK_SIZE - 1)
    slopes = np.concatenate([np.diff(small, axis=axis).reshape(len(looks), values) for axis in (1, 2)], axis=1)
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
