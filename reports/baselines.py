"""The accuracy of a simple method on the same pictures: a result means little without one."""

import warnings

import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.multiclass import OneVsRestClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from data.arrays import release
from tasks.table import Task

SIDE = 16
"""Height and width that pictures are shrunk to, pixels: more makes this baseline slower, not better."""
MOST_PICTURES = 5_000
"""Most training pictures; more are thinned out."""
MOST_ITERATIONS = 100


def raw_pixels_accuracy(
    pixels: np.ndarray, targets: np.ndarray, train: np.ndarray, measured: np.ndarray, task: Task
) -> float | None:
    """Measures a logistic regression on raw pixels, without any pretrained network.

    Args:
        pixels: uint8 (num_pictures, height, width, 3).
        targets: float32 (num_pictures, num_outputs).
        train: positions of the training pictures; of more than `MOST_PICTURES`, every k-th of each class is used.
        measured: positions of the pictures it is measured on.
        task: a multi-label picture counts as right if all its labels are.

    Returns:
        Its accuracy as a fraction, or None for no pictures.
    """
    if len(measured) == 0:
        return None
    train = _thin_out(train, targets)
    answers = targets if task.multi_label else task.truth(targets).argmax(axis=1)
    regression = LogisticRegression(C=0.01, max_iter=MOST_ITERATIONS)
    classifier = make_pipeline(StandardScaler(), OneVsRestClassifier(regression) if task.multi_label else regression)
    with warnings.catch_warnings(action="ignore"):  # not converged, or a label that all or none have: so be it
        classifier.fit(_shrink(pixels, train), answers[train])
    right = classifier.predict(_shrink(pixels, measured)) == answers[measured]
    return float(right.reshape(len(measured), -1).all(axis=1).mean())


def _thin_out(train: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """Keeps every k-th picture of each class."""
    step = -(-len(train) // MOST_PICTURES)
    _, kinds = np.unique(targets[train], axis=0, return_inverse=True)
    return np.concatenate([train[kinds == kind][::step] for kind in range(kinds.max() + 1)])


def _shrink(pixels: np.ndarray, positions: np.ndarray) -> np.ndarray:
    """Averages each picture over a grid of SIDE x SIDE cells; float32 (n, SIDE * SIDE * 3)."""
    edges = np.linspace(0, pixels.shape[1], SIDE + 1).astype(int)[:-1]
    cells = np.diff([*edges, pixels.shape[1]])
    area = cells[:, None, None] * cells[None, :, None]
    shrunk = []
    for position in positions:
        rows = np.add.reduceat(pixels[position].astype(np.float32), edges, axis=0)
        shrunk.append(np.add.reduceat(rows, edges, axis=1) / area)
        release(pixels)
    return np.stack(shrunk).reshape(len(positions), -1)
