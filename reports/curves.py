"""What the curves of a report are drawn from, as tables: precision-recall, ROC and reliability."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
from sklearn import metrics

from tasks.metrics import CALIBRATION_BINS, accuracy_interval, calibration_bins
from tasks.table import Task

FEW_CLASSES = 6
"""Up to this many classes have a line each; of more, there is the mean, and the worst."""
WORST_CLASSES = 4
MEAN_POINTS = 201
"""Of the mean over classes."""
MOST_POINTS = 400
"""Of a class; curves of more are thinned out."""
MEAN = "mean"
"""Kind of the line of all classes together."""


class ClassCurves(NamedTuple):
    """How well one class is told from all others, whatever the threshold."""

    kind: str
    """'class' or 'mean'."""
    name: str
    """Of the class."""
    roc: np.ndarray
    """float64 (3, points): threshold, share of the others that is said to be of the class, share of its own that is."""
    precision_recall: np.ndarray
    """float64 (3, points): threshold, recall, precision."""
    roc_auc: float
    average_precision: float
    prevalence: float
    """Share of its pictures among all."""


def class_curves(
    targets: np.ndarray, outputs: np.ndarray, class_names: Sequence[str], task: Task
) -> dict[int, ClassCurves]:
    """Computes the curves of every class, by its number; of two classes for the second alone.

    Args:
        targets: float32 (n, num_outputs), 0 or 1.
        outputs: float32 (n, num_outputs), probabilities.
        class_names: names in the order of the classes.
        task: decides what the outputs mean.

    Returns:
        Nothing for a class that all or none of the pictures are of.
    """
    columns = range(1, 2) if task.two_classes else range(len(class_names))
    curves = {}
    for output, number in enumerate(columns):
        truth = targets[:, output] > 0.5
        if truth.any() and not truth.all():
            curves[number] = _curves_of(truth, outputs[:, output].astype(np.float64), class_names[number])
    return curves


def lines_shown(curves: Sequence[ClassCurves], measure: str) -> list[ClassCurves]:
    """The lines of a figure: those of all classes if they are few, else the mean and the worst.

    Args:
        curves: of all classes.
        measure: what the worst have least of: 'roc_auc' or 'average_precision'.
    """
    if len(curves) <= FEW_CLASSES:
        return list(curves)
    return [mean_curves(curves), *sorted(curves, key=lambda each: getattr(each, measure))[:WORST_CLASSES]]


def mean_curves(curves: Sequence[ClassCurves]) -> ClassCurves:
    """The mean over classes of the share found at each share of false alarms, and of the best precision at each recall.

    Every class counts the same.
    """
    grid = np.linspace(0, 1, MEAN_POINTS)
    found = np.mean([np.interp(grid, each.roc[1], each.roc[2]) for each in curves], axis=0)
    precisions = []
    for each in curves:
        _, recall, precision = each.precision_recall
        best = np.maximum.accumulate(precision)  # recall falls along the curve
        precisions.append(np.interp(grid, recall[::-1], best[::-1]))
    nothing = np.full(MEAN_POINTS, np.nan)
    return ClassCurves(
        MEAN,
        "",
        np.stack([nothing, grid, found]),
        np.stack([nothing, grid, np.mean(precisions, axis=0)]),
        float(np.mean([each.roc_auc for each in curves])),
        float(np.mean([each.average_precision for each in curves])),
        float(np.mean([each.prevalence for each in curves])),
    )


def curves_table(lines: Sequence[ClassCurves], which: str, columns: Sequence[str]) -> pd.DataFrame:
    """The points of some lines, a row each.

    Args:
        lines: with the points.
        which: 'roc' or 'precision_recall'.
        columns: names of what the points hold, beside `kind` and `class`.
    """
    tables = [pd.DataFrame(columns=["kind", "class", *columns])]
    for line in lines:
        table = pd.DataFrame(getattr(line, which).T, columns=list(columns))
        table.insert(0, "class", line.name)
        table.insert(0, "kind", line.kind)
        tables.append(table)
    return pd.concat(tables[1:] or tables, ignore_index=True)


def reliability_table(
    targets: np.ndarray, outputs: np.ndarray, task: Task, groups: np.ndarray | None = None
) -> pd.DataFrame:
    """How often the model is right by how sure it is, in the bins of the expected calibration error.

    Args:
        targets: float32 (n, num_outputs), 0 or 1.
        outputs: float (n, num_outputs), probabilities.
        task: in a multi-label task every yes-or-no decision counts, else only the likeliest class.
        groups: int (n,), the same for pictures that are not independent; None if all are.

    Returns:
        A row per bin that has any: its limits `low` and `high`, `count`, mean `confidence`, and `accuracy` with its
        95 % interval.
    """
    answers = task.answers(targets, outputs)
    confidence, correct, bins = calibration_bins(answers)
    count, sure, right = (
        np.bincount(bins, weights=weights, minlength=CALIBRATION_BINS) for weights in (None, confidence, correct)
    )
    used = np.flatnonzero(count)
    decisions = np.arange(len(targets)) if groups is None else groups.astype(np.int64)
    if task.multi_label:  # those about one label of alike pictures go together
        decisions = (decisions[:, None] * targets.shape[1] + np.arange(targets.shape[1])).ravel()
    intervals = [accuracy_interval(correct[bins == each], decisions[bins == each]) for each in used]
    return pd.DataFrame(
        {
            "low": used / CALIBRATION_BINS,
            "high": (used + 1) / CALIBRATION_BINS,
            "count": count[used].astype(int),
            "confidence": sure[used] / count[used],
            "accuracy": right[used] / count[used],
            "accuracy_low": [low for low, _ in intervals],
            "accuracy_high": [high for _, high in intervals],
        }
    )


def _curves_of(truth: np.ndarray, scores: np.ndarray, name: str) -> ClassCurves:
    # The points that are dropped from a ROC curve by default are thresholds all the same.
    false, found, thresholds = metrics.roc_curve(truth, scores, drop_intermediate=False)
    precision, recall, limits = metrics.precision_recall_curve(truth, scores, drop_intermediate=True)
    return ClassCurves(
        "class",
        name,
        _thin_out(np.stack([thresholds, false, found])),
        _thin_out(np.stack([np.append(limits, np.inf), recall, precision])),
        float(metrics.roc_auc_score(truth, scores)),
        float(metrics.average_precision_score(truth, scores)),
        float(truth.mean()),
    )


def _thin_out(points: np.ndarray) -> np.ndarray:
    """Keeps points at equal distances along a curve, its ends included."""
    if points.shape[1] <= MOST_POINTS:
        return points
    way = np.append(0, np.abs(np.diff(points[1:], axis=1)).sum(axis=0).cumsum())
    kept = np.searchsorted(way, np.linspace(0, way[-1], MOST_POINTS - 1))
    return points[:, np.unique([*kept, points.shape[1] - 1])]
