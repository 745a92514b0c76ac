"""A simple method for comparison: a logistic regression on the same examples, without a pretrained network."""

import warnings
from collections.abc import Sequence

import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.multiclass import OneVsRestClassifier
from sklearn.pipeline import make_pipeline

from data.kinds import Baseline, Content, ManyInputs
from tasks.classification import Classification

MOST_ITERATIONS = 100


def simple_right(
    baseline: Baseline,
    inputs: ManyInputs,
    contents: Sequence[Content],
    targets: np.ndarray,
    train: np.ndarray,
    measured: np.ndarray,
    task: Classification,
) -> np.ndarray:
    """Trains a logistic regression on the values that a baseline computes from examples, and measures it.

    Args:
        baseline: baseline of the kind of input.
        inputs: tensors (num_examples, ...).
        contents: files or bytes of the examples.
        targets: float32 (num_examples, num_outputs).
        train: positions of the training examples; of too many for the baseline, every k-th of each class is used.
        measured: positions of the examples to measure on, at least one.
        task: a multi-label example counts as right if all its labels are.

    Returns:
        Whether the regression is right on each measured example, bool (n,).
    """
    train = _thin_out(train, targets, baseline.most_examples)
    answers = targets if task.multi_label else task.truth(targets).argmax(axis=1)
    regression = LogisticRegression(C=baseline.strength, max_iter=MOST_ITERATIONS)
    classifier = make_pipeline(
        baseline.transform(), OneVsRestClassifier(regression) if task.multi_label else regression
    )
    with warnings.catch_warnings(action="ignore"):  # no convergence, or a label that all or no examples have
        try:
            classifier.fit(baseline.values(inputs, contents, train), answers[train])
        except ValueError:  # nothing to tell apart: a single class, or texts without words
            kinds, counts = np.unique(answers[train], axis=0, return_counts=True)
            predicted = kinds[counts.argmax()]
        else:
            predicted = classifier.predict(baseline.values(inputs, contents, measured))
    right = predicted == answers[measured]
    return right.reshape(len(measured), -1).all(axis=1)


def _thin_out(train: np.ndarray, targets: np.ndarray, most: int) -> np.ndarray:
    """Keeps every k-th example of each class."""
    step = -(-len(train) // most)
    _, kinds = np.unique(targets[train], axis=0, return_inverse=True)
    return np.concatenate([train[kinds == kind][::step] for kind in range(kinds.max() + 1)])
