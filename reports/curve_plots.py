"""The figures of a report that show all thresholds, and how sure the model is. Nothing is written here."""

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from reports.curves import MEAN, ClassCurves
from reports.page import number
from reports.plots import TRAIN_COLOUR, VAL_COLOUR, make_panel, shorten, tidy

LegendPlace = Literal["lower left", "lower center", "lower right", "upper left", "upper center", "upper right"]
LINE_COLOURS = (VAL_COLOUR, TRAIN_COLOUR, "#5c9a72", "#8d6cab", "#bf9433", "#3f95a6")
"""Of classes: to be told apart on white and on black."""


def precision_recall(lines: Sequence[ClassCurves]) -> Figure:
    """Precision by recall; the dashed line is what guessing reaches, where there is one class."""
    figure, axes = make_panel()
    for line, style in zip(lines, _styles(lines), strict=True):
        _, recall, precision = line.precision_recall
        steps = "default" if line.kind == MEAN else "steps-post"
        label = f"{_name(line)} {number(line.average_precision)}"
        axes.plot(recall, precision, drawstyle=steps, label=label, **style)
    if len(lines) == 1:
        axes.axhline(lines[0].prevalence, color="0.6", lw=1, ls="--")
    _unit_square(axes, "recall: share of the class that is found", "precision: share of finds that are right")
    _legend(axes, "lower left", "average precision")
    return figure


def roc(lines: Sequence[ClassCurves], operating_point: tuple[float, float] | None = None) -> Figure:
    """Share found by share of false alarms; the dashed line is what guessing reaches.

    Args:
        lines: one per class shown.
        operating_point: share of false alarms and share found at the chosen threshold.
    """
    figure, axes = make_panel()
    axes.plot([0, 1], [0, 1], color="0.6", lw=1, ls="--")
    for line, style in zip(lines, _styles(lines), strict=True):
        _, false, found = line.roc
        axes.plot(false, found, label=f"{_name(line)} {number(line.roc_auc)}", **style)
    if operating_point is not None:
        axes.plot(*operating_point, "o", color=TRAIN_COLOUR, ms=8, mec="white", zorder=4, label="chosen threshold")
    _unit_square(axes, "share of the others taken for the class", "share of the class that is found")
    _legend(axes, "lower right", "area under the curve")
    return figure


def reliability(before: pd.DataFrame, after: pd.DataFrame) -> Figure:
    """How often the model is right by how sure it is; the larger a dot, the more pictures it stands for.

    Args:
        before: the `reliability_table` without temperature scaling.
        after: with it.
    """
    figure, axes = make_panel()
    axes.plot([0, 1], [0, 1], color="0.6", lw=1, ls="--")
    axes.vlines(after["confidence"], after["accuracy_low"], after["accuracy_high"], VAL_COLOUR, lw=1.2, alpha=0.6)
    for table, colour, label in ((before, TRAIN_COLOUR, "before"), (after, VAL_COLOUR, "after, 95 % interval")):
        sizes = 16 + 240 * table["count"] / table["count"].sum()
        axes.scatter(table["confidence"], table["accuracy"], sizes, colour, zorder=3, alpha=0.8, lw=0)
        axes.plot([], [], "o", color=colour, ms=6, label=label)
    _unit_square(axes, "how sure it is", "how often it is right")
    lowest = min(table["confidence"].min() for table in (before, after))
    axes.set_xlim(max(-0.03, np.floor(10 * lowest) / 10 - 0.03), 1.03)
    axes.legend(loc="lower right", bbox_to_anchor=(1, 1), borderaxespad=0, fontsize=9, ncols=2, frameon=False)
    return figure


def thresholds(curves: ClassCurves, chosen: float, others: str) -> Figure:
    """Sensitivity and specificity by threshold, and the one that was chosen.

    Args:
        curves: of the class that is looked for.
        chosen: marked.
        others: name of the other class.
    """
    figure, axes = make_panel()
    limits, false, found = curves.roc
    limits = np.clip(limits, 0, 1)  # the first is infinite
    order = np.append(limits, 0.0), np.append(found, 1.0), np.append(1 - false, 0.0)
    axes.step(order[0], order[1], where="post", color=VAL_COLOUR, label=f"sensitivity: {shorten(curves.name)} found")
    axes.step(order[0], order[2], where="post", color=TRAIN_COLOUR, label=f"specificity: {shorten(others)} left alone")
    axes.axvline(chosen, color="0.4", lw=1, ls="--", label=f"chosen: {chosen:.2f}")
    _unit_square(axes, "threshold", "share")
    _legend(axes, "lower center", None)
    return figure


def _styles(lines: Sequence[ClassCurves]) -> list[dict[str, Any]]:
    """The mean, if there is one, stands out from its classes."""
    if lines and lines[0].kind == MEAN:
        thin = [{"color": colour, "lw": 1.1, "alpha": 0.9, "zorder": 2} for colour in LINE_COLOURS[2:]]
        return [{"color": VAL_COLOUR, "lw": 2.4, "zorder": 3}, *thin][: len(lines)]
    return [{"color": LINE_COLOURS[index % len(LINE_COLOURS)], "lw": 1.8} for index in range(len(lines))]


def _name(line: ClassCurves) -> str:
    return "mean of all classes" if line.kind == MEAN else shorten(line.name)


def _unit_square(axes: Axes, x: str, y: str) -> None:
    axes.set(xlim=(-0.03, 1.03), ylim=(-0.03, 1.03), xlabel=x, ylabel=y)
    tidy(axes)


def _legend(axes: Axes, place: LegendPlace, title: str | None) -> None:
    axes.legend(loc=place, title=title, fontsize=9, title_fontsize=9, frameon=True, framealpha=0.7, edgecolor="none")
