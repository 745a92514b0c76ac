"""What a model's outputs say: a probability for each class, and the classes that are answered."""

from collections.abc import Sequence

import numpy as np

from app.config import Task

NO_LABEL = "(none)"
"""Shown for a picture of a multi-label task without any label."""


def class_probabilities(outputs: np.ndarray, task: Task) -> np.ndarray:
    """Returns one probability per class, float32 (n, num_classes), from the model's outputs (n, num_outputs)."""
    return np.hstack([1 - outputs, outputs]) if task == "binary" else outputs


def predicted_labels(probabilities: np.ndarray, task: Task) -> np.ndarray:
    """Returns the classes said to be present, bool (n, num_classes): the likeliest, or every one of at least 0.5."""
    if task == "multilabel":
        return probabilities >= 0.5
    return np.arange(probabilities.shape[1]) == probabilities.argmax(axis=1)[:, None]


def label_texts(present: np.ndarray, class_names: Sequence[str]) -> list[str]:
    """Names of the classes of each row of a bool array (n, num_classes), joined by `|`."""
    return ["|".join(np.array(class_names, dtype=object)[row]) for row in present]
