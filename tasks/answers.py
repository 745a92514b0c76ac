"""Pairs the answers of a classifier with the truth, for all code that compares the two."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

NO_LABEL = "(none)"
"""Text for an example of a multi-label task without labels."""


class Answers(NamedTuple):
    """True and predicted classes of some examples."""

    truth: np.ndarray
    """bool (n, num_classes)."""
    predicted: np.ndarray
    """bool (n, num_classes): the classes that the model answers with."""
    probabilities: np.ndarray
    """float64 (n, num_classes) in [0, 1]."""
    multi_label: bool
    """True if an example may have any number of classes; otherwise it has exactly one."""

    @property
    def right(self) -> np.ndarray:
        """bool (n,): the examples whose classes are all predicted, and no others."""
        return (self.truth == self.predicted).all(axis=1)


def label_texts(present: np.ndarray, class_names: Sequence[str]) -> list[str]:
    """Returns the names of the classes in each row of a bool array (n, num_classes), joined by `|`."""
    return ["|".join(np.array(class_names, dtype=object)[row]) for row in present]
