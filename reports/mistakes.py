"""The most confident mistakes, with what the network looked at: where a model goes wrong for a reason, they show it."""

from typing import NamedTuple

import keras
import numpy as np

from app.terminal import attempt
from data.prepare import ImageData
from data.sources import Split
from inference.explain import grad_cam, overlay
from reports.page import percent
from reports.per_class import truth_and_answers
from tasks.answers import NO_LABEL, label_texts
from tasks.table import Task

MOST_SHOWN = 12
LEAST_SURE_SHOWN = 4
"""Right answers that are shown where there are no mistakes."""


class Explained(NamedTuple):
    """One answer, and why."""

    path: str
    label: str
    said: str
    """What is wrong in it, or least sure, and how sure it was."""
    certainty: float
    """Fraction."""
    pixels: np.ndarray
    """uint8 (height, width, 3)."""
    overlay: np.ndarray | None
    """uint8 (height, width, 3), with the places that spoke for the answer."""


class Mistakes(NamedTuple):
    """What is shown of a split."""

    num_mistakes: int
    """In all."""
    shown: list[Explained]
    """The most confident; where there are none, the least sure of the right answers."""
    unexplained: str | None
    """Why there are no overlays, in a sentence; None if there are."""


def explain_mistakes(data: ImageData, outputs: np.ndarray, split: Split, model: keras.Model) -> Mistakes:
    """Chooses the most confident mistakes and computes their Grad-CAM maps.

    Args:
        data: the pictures.
        outputs: float32 (n, num_outputs), of the split.
        split: that was judged.
        model: that answered.
    """
    positions = data.splits[split]
    truth, predicted = truth_and_answers(data, outputs, split)
    probabilities = data.task.probabilities(outputs.astype(np.float64))
    wrong = np.flatnonzero((truth != predicted).any(axis=1))
    classes, certainty = _decisions(truth, predicted, probabilities, data.task)
    if len(wrong):
        rows = wrong[np.argsort(-certainty[wrong], kind="stable")][:MOST_SHOWN]
    else:
        rows = np.argsort(certainty, kind="stable")[:LEAST_SURE_SHOWN]
    pictures = data.pixels[positions[rows]]
    heatmaps = attempt("Where it looked (Grad-CAM)", lambda: grad_cam(model, pictures, classes[rows]))
    unexplained = heatmaps if isinstance(heatmaps, str) else None
    labels = label_texts(truth[rows], data.class_names)
    shown = []
    for index, row in enumerate(rows):
        decided = classes[row]
        denied = "not " if data.task.multi_label and not predicted[row, decided] else ""
        path = data.display_path(data.pictures[positions[row]].path)
        said = f"{denied}{data.class_names[decided]}, {percent(float(certainty[row]))} sure"
        looked = None if isinstance(heatmaps, str) else overlay(pictures[index], heatmaps[index])
        shown.append(Explained(path, labels[index] or NO_LABEL, said, float(certainty[row]), pictures[index], looked))
    return Mistakes(len(wrong), shown, unexplained)


def _decisions(
    truth: np.ndarray, predicted: np.ndarray, probabilities: np.ndarray, task: Task
) -> tuple[np.ndarray, np.ndarray]:
    """The class that each answer is about, and how sure it was of that.

    In a multi-label task, the most confident of the wrong decisions, or the least sure where all are right.
    """
    if not task.multi_label:
        return probabilities.argmax(axis=1), probabilities.max(axis=1)
    sure = np.maximum(probabilities, 1 - probabilities)
    wrong = truth != predicted
    classes = np.where(wrong.any(axis=1), np.where(wrong, sure, -1).argmax(axis=1), sure.argmin(axis=1))
    return classes, sure[np.arange(len(sure)), classes]
