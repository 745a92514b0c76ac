"""The figure of a ranking of backbones: what each gets right against the time it takes."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke
from matplotlib.text import Annotation
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter, PercentFormatter
from matplotlib.transforms import Bbox

from reports.plots import TRAIN_COLOUR, VAL_COLOUR

LABEL_PLACES = [(right, up) for up in (0, 9, -9, 18, -18) for right in (7, -7)]
"""Where a label may begin or end, points from its dot, in the order of preference."""
FEW = 12
"""Backbones that a figure of the usual height has room for."""
POINT_SIZE = 5.0


def accuracy_against_cost(ranking: pd.DataFrame, num_val: int) -> Figure:
    """A dot with its name for each backbone, and a line along those that none beats in both accuracy and time.

    Args:
        ranking: the table of `ranking.csv`, the best first.
        num_val: pictures of the val split.
    """
    figure = Figure(figsize=(9, 5 + 0.08 * max(0, len(ranking) - FEW)), layout="constrained")
    FigureCanvasAgg(figure)  # which can tell how wide a label is
    axes = figure.subplots()
    milliseconds = 1000 / ranking["pictures_per_second"].to_numpy()
    accuracy = ranking["ridge_accuracy"].to_numpy()
    low, high = ranking["ridge_low"].to_numpy(), ranking["ridge_high"].to_numpy()
    width = 3 if len(ranking) <= FEW else 1.5
    axes.vlines(milliseconds, low, high, color="0.88", lw=width, label="95 % interval", zorder=1)
    front = _unbeaten(milliseconds, accuracy)
    if len(front) > 1:
        axes.plot(milliseconds[front], accuracy[front], color="0.6", lw=1, ls="--", label="none is better in both")
    axes.plot(milliseconds, accuracy, "o", ms=POINT_SIZE, color=TRAIN_COLOUR)
    axes.plot(milliseconds[:1], accuracy[:1], "o", ms=POINT_SIZE + 2, color=VAL_COLOUR, label="best")
    axes.set_xscale("log")
    axes.set_xlim(milliseconds.min() / 1.5, milliseconds.max() * 2.5)
    axes.set(xlabel="time per picture, milliseconds (logarithmic)", ylabel=f"accuracy on {num_val:,} val pictures")
    axes.yaxis.set_major_formatter(PercentFormatter(1, decimals=0 if high.max() - low.min() > 0.06 else 1))
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 3, 5, 7)))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, ncols=3, loc="lower right", bbox_to_anchor=(1, 1), borderaxespad=0, fontsize=9)
    _label(figure, axes, milliseconds, accuracy, list(ranking["backbone"]))
    return figure


def _unbeaten(cost: np.ndarray, accuracy: np.ndarray) -> list[int]:
    """Positions of those than which nothing cheaper is as good, the cheapest first."""
    front: list[int] = []
    for position in np.lexsort((-accuracy, cost)):
        if not front or accuracy[position] > accuracy[front[-1]]:
            front.append(int(position))
    return front


def _label(figure: Figure, axes: Axes, x: np.ndarray, y: np.ndarray, names: Sequence[str]) -> None:
    """Writes the names beside the dots, where they cover no dot and no other name if there is such a place."""
    figure.draw_without_rendering()  # places the axes, on which the distances depend
    radius = POINT_SIZE * figure.dpi / 72 / 2
    dots = axes.transData.transform(np.column_stack([x, y]))
    taken = [Bbox.from_extents(*(dot - radius), *(dot + radius)) for dot in dots]
    for name, dot in zip(names, zip(x, y, strict=True), strict=True):
        tried: list[tuple[int, int, Annotation, Bbox]] = []
        for right, up in LABEL_PLACES:
            text = axes.annotate(
                name,
                dot,
                (right, up),
                textcoords="offset points",
                ha="left" if right > 0 else "right",
                va="center",
                fontsize=8,
                color="0.25",
                path_effects=[withStroke(linewidth=2, foreground="white")],
            )
            box = text.get_window_extent()
            covered = sum(box.overlaps(other) for other in taken)
            tried.append((covered, len(tried), text, box))
            if not covered:
                break
        *_, chosen, box = min(tried, key=lambda candidate: candidate[:2])
        for *_, text, _ in tried:
            if text is not chosen:
                text.remove()
        taken.append(box)
