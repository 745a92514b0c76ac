"""Finds examples that look the same: other files, so that no digest tells them to be copies.

Shots of one thing belong on one side of a split, or the test would be of memory. The kind of input turns the signature
of an example into values whose products tell how alike two are.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

Values = Callable[[np.ndarray], np.ndarray]
"""Turns signatures (n, ...) into float32 (n, values) of length 1 each, or 0 for what is compared with nothing."""

BLOCK = 512
"""Examples compared at once."""
MOST_COMPARED = 200_000
"""Most examples compared with each other; for more, that takes longer than reading them."""
LEAST_SCORE, SURE_SCORE = 0.8, 0.95
"""Least score of a suspected pair, where examples differ much from each other, and where all are alike."""
SAMPLED = 2_000
"""Examples whose nearest ones tell how alike examples of a data set are."""
LEAST_PAIRS = 20
"""Fewest pairs for estimating the threshold."""
SPREADS = 3.0
"""Spreads by which a pair has to be closer than nearest examples usually are."""


class NearDuplicate(NamedTuple):
    """Two examples that look the same."""

    evaluated: int
    """Position of the one that is measured on."""
    train: int
    """Position of the training example most like it."""
    score: float
    """Correlation of their values, at most 1."""


class Groups(NamedTuple):
    """Groups of examples that look the same."""

    numbers: np.ndarray
    """int32 (n,): the number of each example's group."""
    least_score: float
    """Score from which two examples of this data set are taken to look the same."""


def group_near_duplicates(signatures: np.ndarray, compared_values: Values) -> Groups:
    """Groups examples that look the same, or that others between them connect; none of more than `MOST_COMPARED`.

    Silhouettes, or X-rays of one organ, are alike without being copies. So a pair has to stand out from the nearest
    pairs of its own data set, by `SPREADS` on Fisher's z scale, and `SURE_SCORE` is enough anywhere. Of 9,716 animal
    silhouettes, 38 are in groups, most of them one drawing scanned twice. The signatures, (n, ...), have each content
    once.
    """
    count = len(signatures)
    groups: np.ndarray = np.arange(count, dtype=np.int32)
    if not 1 < count <= MOST_COMPARED:
        return Groups(groups, SURE_SCORE)
    values = compared_values(signatures)
    sample = np.arange(0, count, -(-count // SAMPLED))
    least_score = _threshold(_nearest(values[sample], values, sample)[1])
    for start in range(0, count, BLOCK):
        for other in range(start, count, BLOCK):
            rows, columns = np.nonzero(values[start : start + BLOCK] @ values[other : other + BLOCK].T >= least_score)
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
    signatures: np.ndarray, compared_values: Values, evaluated: np.ndarray, train: np.ndarray, least_score: float
) -> list[NearDuplicate]:
    """Finds examples, by position, for which a training example looks the same: the nearest, best pairs first."""
    nearest, scores = _nearest(compared_values(signatures[evaluated]), compared_values(signatures[train]))
    suspected = np.flatnonzero(scores >= least_score)
    order = suspected[np.argsort(-scores[suspected], kind="stable")]
    return [NearDuplicate(int(evaluated[row]), int(train[nearest[row]]), min(1.0, float(scores[row]))) for row in order]


def _nearest(values: np.ndarray, among: np.ndarray, own: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Returns the row of `among` that is most like each row of `values`, its `own` left out, and their score."""
    rows = np.arange(len(values))
    nearest, scores = np.zeros(len(values), int), np.full(len(values), -1.0, np.float32)
    for start in range(0, len(among), BLOCK):
        products = values @ among[start : start + BLOCK].T
        if own is not None:
            products[own[:, None] == np.arange(start, start + products.shape[1])] = -1.0
        best = products.argmax(axis=1)
        highest = products[rows, best]
        nearest = np.where(highest > scores, best + start, nearest)
        scores = np.maximum(highest, scores)
    return nearest, scores


def _threshold(scores: np.ndarray) -> float:
    """The score from which a pair stands out from the nearest pairs of its data set, if there are enough to tell."""
    scores = scores[scores > 0]  # flat ones are compared with nothing
    if len(scores) < LEAST_PAIRS:
        return SURE_SCORE
    z = np.arctanh(np.clip(scores, -0.9999, 0.9999))
    middle = np.median(z)
    spread = 1.4826 * np.median(np.abs(z - middle))
    return float(np.clip(np.tanh(middle + SPREADS * spread), LEAST_SCORE, SURE_SCORE))
