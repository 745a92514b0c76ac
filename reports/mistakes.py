"""Finds the most confident mistakes, and explains them: they show why a model goes wrong."""

from typing import NamedTuple

import keras
import numpy as np

from app.terminal import attempt
from data.arrays import take_rows
from data.batches import View
from data.kinds import Shown
from data.prepare import Data
from data.sources import Split
from reports.page import percent
from reports.per_class import answers_of
from tasks.answers import NO_LABEL, Answers, label_texts

MOST_SHOWN = 12
LEAST_SURE_SHOWN = 4
"""Number of right answers to show if there are no mistakes."""


class Explained(NamedTuple):
    """A prediction, and its explanation."""

    path: str
    label: str
    said: str
    """Text with the wrong or least confident class, and the confidence."""
    sides: list[Shown]
    """The example and, if available, the explanation of the answer."""


class Mistakes(NamedTuple):
    """The mistakes of a split."""

    num_mistakes: int
    """Number of all mistakes."""
    shown: list[Explained]
    """The most confident mistakes; without mistakes, the least confident right predictions."""
    unexplained: str | None
    """Sentence that says why there are no explanations; None if there are."""


def explain_mistakes(data: Data, outputs: np.ndarray, split: Split, model: keras.Model) -> Mistakes:
    """Chooses the most confident mistakes, which the kind of input explains.

    Args:
        data: the examples.
        outputs: float32 (n, num_outputs) for the split.
        split: the measured split.
        model: the model that gave the outputs.
    """
    positions = data.splits[split]
    answers = answers_of(data, split, outputs)
    wrong = np.flatnonzero(~answers.right)
    classes, certainty = decisions(answers)
    if len(wrong):
        rows = wrong[np.argsort(-certainty[wrong], kind="stable")][:MOST_SHOWN]
    else:
        rows = np.argsort(certainty, kind="stable")[:LEAST_SURE_SHOWN]
    looked, unexplained = _explain(data, model, positions[rows], classes[rows])
    labels = label_texts(answers.truth[rows], data.class_names)
    shown = []
    for index, row in enumerate(rows):
        decided = classes[row]
        path = data.display_path(data.examples[positions[row]].path)
        said = _said(data, answers, row, decided, float(certainty[row]))
        label = labels[index] or NO_LABEL
        sides = looked[index : index + 1]
        if data.kind.explain is None or not (sides and data.kind.explain.replaces):
            sides = [data.show(positions[row], label), *sides]
        shown.append(Explained(path, label, said, sides))
    return Mistakes(len(wrong), shown, unexplained)


class LengthGroup(NamedTuple):
    """Examples of about one length."""

    shortest: int
    longest: int
    num_examples: int
    num_mistakes: int


def mistakes_by_length(data: Data, outputs: np.ndarray, split: Split) -> list[LengthGroup]:
    """Counts the mistakes of a split by quartiles of length; [] if all examples have one length.

    Args:
        data: the examples.
        outputs: float32 (n, num_outputs) for the split.
        split: the measured split.
    """
    lengths = View(data.inputs, data.splits[split]).lengths
    wrong = ~answers_of(data, split, outputs).right
    borders = np.unique(np.quantile(lengths, [0.25, 0.5, 0.75], method="nearest"))
    numbers = np.searchsorted(borders, lengths)
    groups = [numbers == number for number in np.unique(numbers)]
    if len(groups) < 2:
        return []
    return [
        LengthGroup(int(lengths[each].min()), int(lengths[each].max()), int(each.sum()), int(wrong[each].sum()))
        for each in groups
    ]


def decisions(answers: Answers) -> tuple[np.ndarray, np.ndarray]:
    """Returns the decisive class of each prediction, int (n,), and its confidence, float (n,).

    In a multi-label task, this is the most confident wrong label, or the least confident label if all are right.
    """
    truth, predicted, probabilities, multi_label = answers
    if not multi_label:
        classes = predicted.argmax(axis=1)  # with a threshold, not always the likeliest
        return classes, probabilities[np.arange(len(classes)), classes]
    confidence = np.where(predicted, probabilities, 1 - probabilities)
    wrong = np.where(truth != predicted, confidence, -1)
    classes = np.where(answers.right, confidence.argmin(axis=1), wrong.argmax(axis=1))
    return classes, confidence[np.arange(len(confidence)), classes]


def _said(data: Data, answers: Answers, row: int, decided: int, certainty: float) -> str:
    """Describes an answer: 'dog, 98.0 % sure', or by a threshold 'dog at 11.7 % (threshold 3.8 %)'."""
    names, thresholds = data.class_names, data.task.thresholds_of(data.class_names)
    denied = "not " if not answers.predicted[row, decided] else ""
    if not thresholds:
        return f"{denied}{names[decided]}, {percent(certainty)} sure"
    positive = decided if answers.multi_label else 1
    other = "" if positive == decided else f", {names[positive]}"
    share, threshold = float(answers.probabilities[row, positive]), thresholds[names[positive]]
    decimals = 1 if threshold >= 0.01 else 4
    return f"{denied}{names[decided]}{other} at {percent(share, decimals)} (threshold {percent(threshold, decimals)})"


def _explain(
    data: Data, model: keras.Model, positions: np.ndarray, classes: np.ndarray
) -> tuple[list[Shown], str | None]:
    """Returns the explanation of each answer; or [] and the reason, which is None for a kind without explanations."""
    explain = data.kind.explain
    if explain is None:
        return [], None
    inputs = tuple(take_rows(values, positions) for values in data.inputs)
    contents = [data.examples[position].place for position in positions]
    found = attempt(explain.name, lambda: explain.compute(model, data.reader, inputs, contents, classes))
    return ([], found) if isinstance(found, str) else (found, None)
