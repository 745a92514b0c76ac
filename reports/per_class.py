"""How each class fares, and which are taken for each other, as tables."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from data.prepare import ImageData
from data.sources import Split
from reports.curves import ClassCurves
from tasks.metrics import accuracy_interval


def per_class_table(
    data: ImageData, outputs: np.ndarray, split: Split, curves: Mapping[int, ClassCurves], measured: dict[str, Any]
) -> pd.DataFrame:
    """The table of `per_class.csv`: a row per class, in their order.

    Args:
        data: the pictures.
        outputs: float32 (n, num_outputs), of the split.
        split: that was judged.
        curves: by the number of the class.
        measured: the record M of the split in `metrics.json`.

    Returns:
        NaN where there is nothing to measure. `taken_for` is what pictures of a class are most often mistaken for,
        `taken_for_count` times; in a multi-label task there are `missed` and `false_alarms` instead.
    """
    truth, predicted = truth_and_answers(data, outputs, split)
    train = data.task.truth(data.targets[data.splits["train"]]).sum(axis=0)
    groups = data.groups[data.splits[split]]
    rows = []
    for number, name in enumerate(data.class_names):
        row = measured["per_class"][name]
        support = row["support"]
        own = truth[:, number]
        low, high = accuracy_interval(predicted[own, number], groups[own]) if support else (np.nan, np.nan)
        said = bool(predicted[:, number].any())
        rows.append(
            {
                "class": name,
                "train": int(train[number]),
                "support": support,
                "precision": row["precision"] if said else np.nan,
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
    counts = confusion_counts(truth, predicted)
    np.fill_diagonal(counts, 0)
    most = counts.max(axis=1)
    names = [data.class_names[other] if count else "" for other, count in zip(counts.argmax(axis=1), most, strict=True)]
    return table.assign(taken_for=names, taken_for_count=most)


def truth_and_answers(data: ImageData, outputs: np.ndarray, split: Split) -> tuple[np.ndarray, np.ndarray]:
    """What the pictures of a split are, and what was said of them: two bool (n, num_classes)."""
    truth = data.task.truth(data.targets[data.splits[split]])
    return truth, data.task.predicted(data.task.probabilities(outputs.astype(np.float64)))


def confusion_counts(truth: np.ndarray, predicted: np.ndarray) -> np.ndarray:
    """Pictures by class (row) and answer (column), int64 (num_classes, num_classes).

    Args:
        truth: bool (n, num_classes), one True in each row.
        predicted: likewise.
    """
    classes = truth.shape[1]
    pairs = truth.argmax(axis=1) * classes + predicted.argmax(axis=1)
    return np.bincount(pairs, minlength=classes**2).reshape(classes, classes)


def frequent_confusions(counts: np.ndarray, class_names: tuple[str, ...], most: int) -> list[dict[str, Any]]:
    """Which class is taken for which, the most frequent first.

    Args:
        counts: of `confusion_counts`.
        class_names: names in the order of the classes.
        most: rows to return.
    """
    wrong = counts.copy()
    np.fill_diagonal(wrong, 0)
    order = np.argsort(-wrong, axis=None, kind="stable")[:most]
    pairs = [divmod(int(place), len(class_names)) for place in order]
    return [
        {
            "label": class_names[row],
            "predicted": class_names[column],
            "count": int(wrong[row, column]),
            "of": int(counts[row].sum()),
        }
        for row, column in pairs
        if wrong[row, column]
    ]
