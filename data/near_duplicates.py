"""Finds examples that look the same though their files differ, so that digests cannot find them.

Shots of one thing belong on one side of a split; else the test would measure memory. The kind of input turns the
signature of an example into a vector; the dot product of two vectors says how alike the examples are.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from scipy.sparse import coo_array, csr_array
from scipy.sparse.csgraph import connected_components

Values = Callable[[np.ndarray], np.ndarray]
"""Turns signatures (n, ...) into unit vectors, float32 (n, values); 0 for examples that match no other."""

BLOCK = 1_024
"""Examples compared at once."""
MOST_COMPARED = 30_000
"""Most examples of which all pairs are compared; for more, that takes longer than reading them."""
FORESTS = 16
"""Number of random divisions of more than `MOST_COMPARED` examples into blocks. Among 250,000, this finds (or
connects) 94 % of the pairs with a score of 0.8, 98 % of 0.85, 99.7 % of 0.9, and all of 0.95."""
LEAST_SCORE, SURE_SCORE = 0.8, 0.95
"""Bounds of the threshold: the first for very different examples, the second if all examples are alike."""
SAMPLED = 2_000
"""Number of examples whose nearest neighbours show how alike the examples of a data set are."""
LEAST_PAIRS = 20
"""Fewest pairs for estimating the threshold."""
SPREADS = 3.0
"""Number of spreads (scaled median absolute deviations) by which a pair must be closer than nearest neighbours are."""


class NearDuplicate(NamedTuple):
    """Two examples that look the same."""

    evaluated: int
    """Position of the evaluated example."""
    train: int
    """Position of the most similar training example."""
    score: float
    """Correlation of their values, at most 1."""


class Groups(NamedTuple):
    """Groups of examples that look the same."""

    numbers: np.ndarray
    """int32 (n,): the number of each example's group."""
    least_score: float
    """Threshold: examples of this data set with a higher score count as look-alikes."""


def group_near_duplicates(signatures: np.ndarray, compared_values: Values) -> Groups:
    """Groups examples that look the same, directly or through others between them.

    Silhouettes, or X-rays of one organ, are alike without being copies. So a pair must stand out from the nearest
    pairs of its own data set, by `SPREADS` on Fisher's z scale; `SURE_SCORE` is always enough. Of 9,716 animal
    silhouettes, 38 are in groups; most are one drawing scanned twice. `signatures`, (n, ...), must not contain copies.
    """
    count = len(signatures)
    groups: np.ndarray = np.arange(count, dtype=np.int32)
    if count < 2:
        return Groups(groups, SURE_SCORE)
    sample = np.arange(0, count, -(-count // SAMPLED))
    least_score = _threshold(_nearest(compared_values, signatures[sample], signatures, sample)[1])
    if count <= MOST_COMPARED:
        values = compared_values(signatures)
        for start in range(0, count, BLOCK):
            for other in range(start, count, BLOCK):
                rows, columns = np.nonzero(
                    values[start : start + BLOCK] @ values[other : other + BLOCK].T >= least_score
                )
                groups = merged(groups, rows + start, columns + other)
        return Groups(groups, least_score)
    for seed in range(FORESTS):
        pairs = [
            _connected(compared_values(signatures[rows]), rows, least_score)
            for rows in _divided(signatures, compared_values, np.random.default_rng(seed))
        ]
        groups = merged(groups, *np.concatenate(pairs, axis=1))
    return Groups(groups, least_score)


def _divided(signatures: np.ndarray, compared_values: Values, rng: np.random.Generator) -> list[np.ndarray]:
    """Halves the examples along random directions until blocks are small; look-alikes mostly stay together.

    All blocks have the same size for any data, so the work grows linearly with the number of examples (trees of random
    projections: Dasgupta and Freund, STOC 2008).
    """
    count = len(signatures)
    levels = math.ceil(math.log2(count / BLOCK))
    directions = rng.standard_normal((compared_values(signatures[:1]).shape[1], levels), np.float32)
    places = np.empty((count, levels), np.float32)
    for start in range(0, count, BLOCK):
        places[start : start + BLOCK] = compared_values(signatures[start : start + BLOCK]) @ directions
    parts = [rng.permutation(count)]  # ties are divided differently each time
    for level in range(levels):
        ordered = [rows[np.argpartition(places[rows, level], len(rows) // 2)] for rows in parts]
        parts = [half for rows in ordered for half in (rows[: len(rows) // 2], rows[len(rows) // 2 :])]
    return parts


def _connected(values: np.ndarray, rows: np.ndarray, least_score: float) -> np.ndarray:
    """Returns pairs of rows, (2, pairs), that connect all look-alikes."""
    alike = values @ values.T >= least_score
    np.fill_diagonal(alike, False)
    if not alike.any():
        return np.zeros((2, 0), int)
    _, first, numbers = np.unique(
        connected_components(csr_array(alike), directed=False)[1], return_index=True, return_inverse=True
    )
    return np.stack([rows, rows[first[numbers]]])


def merged(groups: np.ndarray, first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Joins the groups of the two examples of each pair, and so all groups that pairs connect."""
    first, second = groups[first], groups[second]
    new = first != second
    if not new.any():
        return groups
    count = len(groups)
    edges = coo_array((np.ones(new.sum(), bool), (first[new], second[new])), shape=(count, count))
    return connected_components(edges, directed=False)[1].astype(np.int32)[groups]


def find_near_duplicates(
    signatures: np.ndarray,
    compared_values: Values,
    groups: np.ndarray,
    evaluated: np.ndarray,
    train: np.ndarray,
    least_score: float,
) -> list[NearDuplicate]:
    """Finds the evaluated examples that look like a training example, each with the nearest one; best pairs first.

    Only examples of the same group, see `group_near_duplicates`, are compared.
    """
    nearest, scores = np.zeros(len(evaluated), int), np.full(len(evaluated), -1.0, np.float32)
    learnt = _members(groups[train])
    for number, rows in _members(groups[evaluated]).items():
        if number in learnt:
            among = train[learnt[number]]
            found, scores[rows] = _nearest(compared_values, signatures[evaluated[rows]], signatures[among])
            nearest[rows] = among[found]
    suspected = np.flatnonzero(scores >= least_score)
    order = suspected[np.argsort(-scores[suspected], kind="stable")]
    return [NearDuplicate(int(evaluated[row]), int(nearest[row]), min(1.0, float(scores[row]))) for row in order]


def _members(groups: np.ndarray) -> dict[int, np.ndarray]:
    """Returns the positions of the members of each group, in order."""
    order = np.argsort(groups, kind="stable")
    numbers, starts = np.unique(groups[order], return_index=True)
    return dict(zip(numbers.tolist(), np.split(order, starts[1:]), strict=False))


def _nearest(
    compared_values: Values, signatures: np.ndarray, among: np.ndarray, own: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Finds for each of `signatures` the most similar row of `among`, except its `own`, and the score."""
    values, rows = compared_values(signatures), np.arange(len(signatures))
    nearest, scores = np.zeros(len(values), int), np.full(len(values), -1.0, np.float32)
    for start in range(0, len(among), BLOCK):
        products = values @ compared_values(among[start : start + BLOCK]).T
        if own is not None:
            products[own[:, None] == np.arange(start, start + products.shape[1])] = -1.0
        best = products.argmax(axis=1)
        highest = products[rows, best]
        nearest = np.where(highest > scores, best + start, nearest)
        scores = np.maximum(highest, scores)
    return nearest, scores


def _threshold(scores: np.ndarray) -> float:
    """Computes the score from which a pair stands out from the nearest pairs of its data set, if these are enough."""
    scores = scores[scores > 0]  # flat examples match no other
    if len(scores) < LEAST_PAIRS:
        return SURE_SCORE
    z = np.arctanh(np.clip(scores, -0.9999, 0.9999))
    middle = np.median(z)
    spread = 1.4826 * np.median(np.abs(z - middle))
    return float(np.clip(np.tanh(middle + SPREADS * spread), LEAST_SCORE, SURE_SCORE))
