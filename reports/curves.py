"""Curves of a report, as tables and as figures: precision-recall, ROC, thresholds and reliability."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from sklearn import metrics

from reports.page import number
from reports.plots import TRAIN_COLOUR, VAL_COLOUR, make_panel, shorten, tidy
from tasks.classification import Classification
from tasks.metrics import CALIBRATION_BINS, accuracy_interval, calibration_bins

LINE_COLOURS = (VAL_COLOUR, TRAIN_COLOUR, "#5c9a72", "#8d6cab", "#bf9433", "#3f95a6")
"""Colours of the lines, readable on white and on black. If there are more classes, the best ones are left out."""


class ClassCurves(NamedTuple):
    """Separation of one class from all others, at every threshold."""

    name: str
    """Name of the class."""
    roc: np.ndarray
    """float64 (3, points): threshold, false positive rate, true positive rate."""
    precision_recall: np.ndarray
    """float64 (3, points): threshold, recall, precision."""
    roc_auc: float
    average_precision: float
    prevalence: float
    """Share of the examples that are of the class."""


def class_curves(
    targets: np.ndarray, outputs: np.ndarray, class_names: Sequence[str], task: Classification
) -> dict[int, ClassCurves]:
    """Computes the curves of every class, by its number; of two classes, only those of the second.

    Args:
        targets: float32 (n, num_outputs), 0 or 1.
        outputs: float32 (n, num_outputs), probabilities.
        class_names: names in the order of the classes.
        task: task, which defines the meaning of outputs.

    Returns:
        The curves, without classes that have all or none of the examples.
    """
    columns = range(1, 2) if task.two_classes else range(len(class_names))
    curves = {}
    for output, index in enumerate(columns):
        truth, scores = targets[:, output] > 0.5, outputs[:, output].astype(np.float64)
        if truth.any() and not truth.all():
            # Points on straight lines are dropped, except for two classes, whose figure shows all thresholds.
            false, found, thresholds = metrics.roc_curve(truth, scores, drop_intermediate=not task.two_classes)
            precision, recall, limits = metrics.precision_recall_curve(truth, scores, drop_intermediate=True)
            curves[index] = ClassCurves(
                class_names[index],
                np.stack([thresholds, false, found]),
                np.stack([np.append(limits, np.inf), recall, precision]),
                float(metrics.roc_auc_score(truth, scores)),
                float(metrics.average_precision_score(truth, scores)),
                float(truth.mean()),
            )
    return curves


def worst_classes(curves: Sequence[ClassCurves], measure: str) -> list[ClassCurves]:
    """Chooses the lines of a figure, the class with the lowest 'roc_auc' or 'average_precision' first."""
    return sorted(curves, key=lambda each: getattr(each, measure))[: len(LINE_COLOURS)]


def curves_table(lines: Sequence[ClassCurves], which: str, columns: Sequence[str]) -> pd.DataFrame:
    """Makes a table of the points of lines, a row per point.

    Args:
        lines: at least one.
        which: 'roc' or 'precision_recall'.
        columns: names of the coordinates, in addition to `class`.
    """
    tables = [pd.DataFrame(getattr(line, which).T, columns=list(columns)) for line in lines]
    return pd.concat(tables, keys=[line.name for line in lines], names=["class"]).reset_index("class")


def reliability_table(
    targets: np.ndarray, outputs: np.ndarray, task: Classification, groups: np.ndarray | None = None
) -> pd.DataFrame:
    """Compares confidence with accuracy, in the bins of the expected calibration error.

    Args:
        targets: float32 (n, num_outputs), 0 or 1.
        outputs: float (n, num_outputs), probabilities.
        task: in a multi-label task every yes-or-no decision counts, else only the likeliest class.
        groups: int (n,), the same for examples that are not independent; None if all are.

    Returns:
        A row per bin that has any: its limits `low` and `high`, `count`, mean `confidence`, and `accuracy` with its
        95 % interval.
    """
    confidence, correct, bins = calibration_bins(task.answers(targets, outputs))
    decisions = np.arange(len(targets)) if groups is None else groups.astype(np.int64)
    if task.multi_label:  # decisions about the same label of look-alikes are one group
        decisions = (decisions[:, None] * targets.shape[1] + np.arange(targets.shape[1])).ravel()
    rows = []
    for number_of_bin in np.unique(bins):
        inside = bins == number_of_bin
        low, high = accuracy_interval(correct[inside], decisions[inside])
        rows.append(
            {
                "low": number_of_bin / CALIBRATION_BINS,
                "high": (number_of_bin + 1) / CALIBRATION_BINS,
                "count": int(inside.sum()),
                "confidence": confidence[inside].mean(),
                "accuracy": correct[inside].mean(),
                "accuracy_low": low,
                "accuracy_high": high,
            }
        )
    return pd.DataFrame(rows)


def draw_precision_recall(lines: Sequence[ClassCurves]) -> Figure:
    """Draws precision by recall; for one class, the dashed line is guessing."""
    figure, axes = make_panel()
    if len(lines) == 1:
        axes.axhline(lines[0].prevalence, color="0.6", lw=1, ls="--")
    _draw_lines(axes, lines, "precision_recall", "average_precision")
    return _finish(figure, axes, "recall", "precision", loc="lower left", title="average precision")


def draw_roc(
    lines: Sequence[ClassCurves], operating_point: tuple[float, float] | None = None, word: str = "chosen"
) -> Figure:
    """Draws ROC curves; the dashed line is guessing.

    Args:
        lines: one per class shown.
        operating_point: false and true positive rate at a threshold.
        word: label of the threshold.
    """
    figure, axes = make_panel()
    axes.plot([0, 1], [0, 1], color="0.6", lw=1, ls="--")
    _draw_lines(axes, lines, "roc", "roc_auc")
    if operating_point is not None:
        axes.plot(*operating_point, "o", color=TRAIN_COLOUR, ms=8, mec="white", zorder=4, label=f"{word} threshold")
    x, y = "false positive rate", "true positive rate (recall)"
    return _finish(figure, axes, x, y, loc="lower right", title="area under the curve")


def draw_reliability(before: pd.DataFrame, after: pd.DataFrame) -> Figure:
    """Draws accuracy by confidence; the larger a dot, the more examples it stands for.

    Args:
        before: the `reliability_table` without temperature scaling.
        after: the `reliability_table` with temperature scaling.
    """
    figure, axes = make_panel()
    axes.plot([0, 1], [0, 1], color="0.6", lw=1, ls="--")
    axes.vlines(after["confidence"], after["accuracy_low"], after["accuracy_high"], VAL_COLOUR, lw=1.2, alpha=0.6)
    for table, colour, label in ((before, TRAIN_COLOUR, "before"), (after, VAL_COLOUR, "after, 95 % interval")):
        sizes = 16 + 240 * table["count"] / table["count"].sum()
        axes.scatter(table["confidence"], table["accuracy"], sizes, colour, zorder=3, alpha=0.8, lw=0, clip_on=False)
        axes.plot([], [], "o", color=colour, ms=6, label=label)
    place = {"loc": "lower right", "bbox_to_anchor": (1, 1), "borderaxespad": 0, "ncols": 2, "framealpha": 0}
    _finish(figure, axes, "confidence", "accuracy", **place)
    lowest = min(before["confidence"].min(), after["confidence"].min())
    axes.set_xlim(max(-0.03, np.floor(10 * lowest) / 10 - 0.03), 1.03)
    return figure


def draw_thresholds(curves: ClassCurves, chosen: float, others: str, word: str = "chosen") -> Figure:
    """Draws sensitivity and specificity by threshold.

    Args:
        curves: curves of the positive class.
        chosen: threshold that is marked.
        others: name of the other class.
        word: label of the threshold.
    """
    figure, axes = make_panel()
    thresholds, false, found = curves.roc
    thresholds = np.append(np.clip(thresholds, 0, 1), 0)  # the first is infinite
    for colour, shares, label in (
        (VAL_COLOUR, np.append(found, 1), f"sensitivity: {shorten(curves.name)} found"),
        (TRAIN_COLOUR, np.append(1 - false, 0), f"specificity: {shorten(others)} left alone"),
    ):
        axes.step(thresholds, shares, where="post", color=colour, label=label)
    axes.axvline(chosen, color="0.4", lw=1, ls="--", label=f"{word}: {chosen:.4g}")
    return _finish(figure, axes, "threshold", "share", loc="lower center")


def _draw_lines(axes: Axes, lines: Sequence[ClassCurves], which: str, measure: str) -> None:
    steps = "steps-post" if which == "precision_recall" else "default"
    for line, colour in zip(lines, LINE_COLOURS, strict=False):
        label = f"{shorten(line.name)} {number(getattr(line, measure))}"
        axes.plot(*getattr(line, which)[1:], color=colour, lw=1.8, drawstyle=steps, label=label)


def _finish(figure: Figure, axes: Axes, x: str, y: str, **legend: Any) -> Figure:
    axes.set(xlim=(-0.03, 1.03), ylim=(-0.03, 1.03), xlabel=x, ylabel=y)
    tidy(axes)
    axes.legend(**{"fontsize": 9, "title_fontsize": 9, "framealpha": 0.7, "edgecolor": "none"} | legend)
    return figure
