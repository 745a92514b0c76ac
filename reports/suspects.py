"""Finds examples whose split or label may be wrong: near-duplicates across splits, and contradicted labels."""

import dataclasses
from typing import NamedTuple

import numpy as np
import pandas as pd

from data.near_duplicates import NearDuplicate
from data.prepare import Data
from data.sources import Split
from reports.per_class import true_labels
from tasks.answers import label_texts
from tasks.classification import BINARY, Classification

COLUMNS = ("kind", "path", "split", "label", "other_path", "other_label", "score")
"""Columns of `suspects.csv`."""


class LabelError(NamedTuple):
    """A label that may be wrong."""

    row: int
    """Position of the picture in its split."""
    labels: np.ndarray
    """bool (num_classes,): the labels that the model suggests."""
    score: float
    """Probability of the suggested label minus that of the given one."""


def find_label_errors(targets: np.ndarray, outputs: np.ndarray, task: Classification) -> list[LabelError]:
    """Finds labels that confident predictions contradict, by confident learning (Northcutt et al., 2021).

    The model is confident of a class if its probability reaches the mean over that class's own pictures. A label is
    suspected if the model is confident of another class, and finds it likelier. A label that is the answer, such as by
    a threshold, is not suspected.

    Args:
        targets: float32 (n, num_outputs), 0 or 1.
        outputs: float32 (n, num_outputs), probabilities.
        task: task; in a multi-label task, each label is a separate yes-or-no question.

    Returns:
        The least believable labels first.
    """
    if task.multi_label:
        found = [
            error._replace(labels=(targets[error.row] > 0.5) ^ (np.arange(targets.shape[1]) == label))
            for label in range(targets.shape[1])
            for error in find_label_errors(targets[:, [label]], outputs[:, [label]], _one_label(task, label))
        ]
        worst = {error.row: error for error in sorted(found, key=lambda error: error.score)}
        return sorted(worst.values(), key=lambda error: (-error.score, error.row))
    truth = task.truth(targets)
    probabilities = task.probabilities(outputs.astype(np.float64))
    count = truth.sum(axis=0)
    own_mean = np.where(truth, probabilities, 0).sum(axis=0) / np.maximum(count, 1)
    confident = np.where((probabilities >= own_mean) & (count > 0), probabilities, -1.0)
    suggested = confident.argmax(axis=1)
    rows = np.arange(len(truth))
    margin = probabilities[rows, suggested] - probabilities[truth]
    is_wrong = (task.predicted(probabilities) != truth).any(axis=1)
    suspected = np.flatnonzero((confident.max(axis=1) > 0) & (margin > 0) & is_wrong)
    order = suspected[np.argsort(-margin[suspected], kind="stable")]
    return [LabelError(int(row), np.arange(truth.shape[1]) == suggested[row], float(margin[row])) for row in order]


def suspects_table(
    data: Data, near_duplicates: list[NearDuplicate], label_errors: dict[Split, list[LabelError]]
) -> pd.DataFrame:
    """Makes the table of `suspects.csv`, near-duplicates before label errors.

    Args:
        data: the pictures.
        near_duplicates: pairs of positions in `data`.
        label_errors: label errors by split.
    """
    names = true_labels(data, np.arange(len(data.targets)))
    split_of = {position: split for split, positions in data.splits.items() for position in positions.tolist()}
    rows = []
    for pair in near_duplicates:
        where = _path(data, pair.evaluated), split_of[pair.evaluated], names[pair.evaluated]
        rows.append(("near_duplicate", *where, _path(data, pair.train), names[pair.train], pair.score))
    for split, errors in label_errors.items():
        for error in errors:
            position = data.splits[split][error.row]
            suggested = label_texts(error.labels[None], data.class_names)[0]
            rows.append(("label_error", _path(data, position), split, names[position], "", suggested, error.score))
    return pd.DataFrame(rows, columns=list(COLUMNS))


def _one_label(task: Classification, label: int) -> Classification:
    """Returns the question of one label, with its threshold."""
    return dataclasses.replace(BINARY, thresholds=task.thresholds and task.thresholds[label : label + 1])


def _path(data: Data, position: int) -> str:
    return data.display_path(data.examples[position].path)
