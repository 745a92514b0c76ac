"""Answers of a model and of its exports, to be compared: probabilities of classes, or boxes."""

from collections.abc import Mapping

import numpy as np

from features.forward_pass import joined
from inference.load import TrainedRun
from tasks.answers import label_texts
from tasks.detection import Detection
from tasks.table import classes_of

OUTPUTS = ("boxes", "scores", "classes")
"""Outputs of an export that finds boxes, see `models.detector.DecodeBoxes`."""


def outputs_of(run: TrainedRun) -> tuple[str, ...]:
    """Returns the names of what the exports of a run return."""
    return OUTPUTS if isinstance(run.task, Detection) else ("probabilities",)


def answers_of(found: Mapping[str, np.ndarray], run: TrainedRun) -> np.ndarray:
    """Returns what an export returned as one array, (n, num_classes) or (n, most boxes, 6)."""
    return joined([found[name] for name in outputs_of(run)])


def texts_of(answers: np.ndarray, run: TrainedRun) -> np.ndarray:
    """Returns each answer as text, object (n,): the classes, or how many boxes of each there are."""
    if not isinstance(run.task, Detection):
        texts = label_texts(classes_of(run.task).predicted(answers), run.class_names)
        return np.array(texts, dtype=object)
    classes = np.where(run.task.answered(answers), answers[..., 5].astype(int), -1)
    counts = (classes[..., None] == np.arange(len(run.class_names))).sum(axis=1)
    return np.array([" ".join(map(str, row)) for row in counts], dtype=object)


def differences(answers: np.ndarray, reference: np.ndarray, run: TrainedRun) -> np.ndarray:
    """Returns how far answers are from those of the model, at most 1, (n,): in a probability or, as a fraction of the
    picture, in a corner."""
    if not isinstance(run.task, Detection):
        return np.abs(answers - reference).max(axis=1, initial=0.0)
    return np.array(
        [
            max(_farthest(one, other, run.task), _farthest(other, one, run.task))
            for one, other in zip(answers, reference, strict=True)
        ]
    )


def _farthest(boxes: np.ndarray, others: np.ndarray, task: Detection) -> float:
    """Returns how far the boxes that are answers are from the nearest other boxes of their classes."""
    found = boxes[task.answered(boxes[None])[0]]
    away = np.abs(found[:, None, :5] - others[None, :, :5]).max(axis=2)
    away = np.where(found[:, None, 5] == others[None, :, 5], away, 1.0)
    return float(away.min(axis=1).max(initial=0.0))
