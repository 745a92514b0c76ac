"""Figures of each class and of each group of examples, and confusions between classes, as tables."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from sklearn.metrics import confusion_matrix

from data.prepare import Data
from data.sources import Split
from reports.curves import ClassCurves
from tasks.answers import Answers
from tasks.metrics import accuracy_interval
from tasks.table import classes_of


def per_class_table(
    data: Data, outputs: np.ndarray, split: Split, curves: Mapping[int, ClassCurves], measured: dict[str, Any]
) -> pd.DataFrame:
    """Makes the table of `per_class.csv`, with a row per class.

    Args:
        data: the pictures.
        outputs: float32 (n, num_outputs) for the split.
        split: the measured split.
        curves: curves by the number of the class.
        measured: record M of the split in `metrics.json`.

    Returns:
        A table, with NaN if there is nothing to measure. `taken_for` is the most frequent wrong prediction for
        pictures of a class, made `taken_for_count` times; a multi-label task has `missed` and `false_alarms` instead.
    """
    answers = answers_of(data, split, outputs)
    truth, predicted = answers.truth, answers.predicted
    train = classes_of(data.task).truth(data.targets[data.splits["train"]]).sum(axis=0)
    rows = []
    for number, name in enumerate(data.class_names):
        row = measured["per_class"][name]
        support = row["support"]
        low, high = measured["recall_ci95"][name] or (np.nan, np.nan)
        rows.append(
            {
                "class": name,
                "train": int(train[number]),
                "support": support,
                "precision": row["precision"] if predicted[:, number].any() else np.nan,
                "recall": row["recall"] if support else np.nan,
                "recall_low": low,
                "recall_high": high,
                "f1": row["f1"] if support else np.nan,
                "roc_auc": curves[number].roc_auc if number in curves else np.nan,
                "average_precision": curves[number].average_precision if number in curves else np.nan,
            }
        )
    table = pd.DataFrame(rows)
    if data.task.multi_label:
        return table.assign(missed=(truth & ~predicted).sum(axis=0), false_alarms=(~truth & predicted).sum(axis=0))
    wrong = confusion_counts(answers)
    np.fill_diagonal(wrong, 0)
    names = np.where(wrong.any(axis=1), np.array(data.class_names, dtype=object)[wrong.argmax(axis=1)], "")
    return table.assign(taken_for=names, taken_for_count=wrong.max(axis=1))


def per_group_table(data: Data, outputs: np.ndarray, split: Split) -> pd.DataFrame:
    """Makes the table of `per_group.csv`: the accuracy for each group of the data.

    Args:
        data: the examples.
        outputs: float32 (n, num_outputs) for the split.
        split: the measured split.

    Returns:
        A table with the lowest accuracy first; empty if the data has no groups.
    """
    names = [data.examples[position].group for position in data.splits[split]]
    right = pd.Series(answers_of(data, split, outputs).right).groupby(names)
    rows = [
        {"group": name, "count": len(each), "right": int(each.sum()), "accuracy": each.mean()}
        | dict(zip(("accuracy_low", "accuracy_high"), accuracy_interval(each.to_numpy()), strict=True))
        for name, each in right
        if name
    ]
    return pd.DataFrame(rows).sort_values("accuracy", kind="stable") if rows else pd.DataFrame()


def true_labels(data: Data, positions: Sequence[int] | np.ndarray) -> list[str]:
    """Returns the names of the true classes of examples, in the order of the classes, joined by `|`."""
    order = {name: number for number, name in enumerate(data.class_names)}
    return ["|".join(sorted(data.examples[position].labels, key=order.__getitem__)) for position in positions]


def answers_of(data: Data, split: Split, outputs: np.ndarray) -> Answers:
    """Pairs the answers for a split with the truth."""
    return classes_of(data.task).answers(data.targets[data.splits[split]], outputs)


def confusion_counts(answers: Answers) -> np.ndarray:
    """Counts examples by true class (row) and predicted class (column), int64 (num_classes, num_classes)."""
    truth, predicted = answers.truth.argmax(axis=1), answers.predicted.argmax(axis=1)
    return confusion_matrix(truth, predicted, labels=range(answers.truth.shape[1]))


def frequent_confusions(counts: np.ndarray, class_names: tuple[str, ...], most: int) -> list[dict[str, Any]]:
    """Lists which class is taken for which, the most frequent confusion first.

    Args:
        counts: from `confusion_counts`.
        class_names: names in the order of the classes.
        most: most rows to return.
    """
    wrong = counts.copy()
    np.fill_diagonal(wrong, 0)
    rows = []
    for place in np.argsort(-wrong, axis=None, kind="stable")[:most]:
        label, predicted = np.unravel_index(place, wrong.shape)
        if count := int(wrong[label, predicted]):
            of = int(counts[label].sum())
            rows.append({"label": class_names[label], "predicted": class_names[predicted], "count": count, "of": of})
    return rows
