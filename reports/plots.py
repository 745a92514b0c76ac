"""The figures of a run folder. Each function returns a matplotlib Figure; nothing is written here."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

TRAIN_COLOUR = "#5b7c99"
VAL_COLOUR = "#d1603d"
MOST_CLASSES_WITH_NUMBERS = 30
"""Confusion matrices of more classes show colours only."""
MOST_CLASSES_WITH_NAMES = 150
"""Of more, no name could be read."""
SHEET_COLUMNS = 6
PNG_DPI = 110
"""Of the files in `figures/`."""
PANEL_SIZE = (5.0, 3.6)
"""Of one figure on a page, inches."""
COUNTS = LinearSegmentedColormap.from_list("counts", ["#ffffff", "#c9d8e6", "#3e6a94", "#17324d"])


class Shown(NamedTuple):
    """One picture of a sheet."""

    pixels: np.ndarray
    """uint8 (height, width, 3)."""
    label: str
    predicted: str
    probability: float
    """How sure the prediction is, fraction."""


def learning_curves(history: pd.DataFrame) -> Figure:
    """Loss and accuracy by epoch, both phases in a row, with the line between them.

    Args:
        history: the table of `history.csv`.
    """
    figure = Figure(figsize=(10, 4), layout="constrained")
    for axes, name in zip(figure.subplots(1, 2), ("loss", "accuracy"), strict=True):
        _draw_history(axes, history, name)
    return figure


def learning_curve(history: pd.DataFrame, name: str) -> Figure:
    """One half of `learning_curves`.

    Args:
        history: the table of `history.csv`, at least one epoch.
        name: 'loss' or 'accuracy'.
    """
    figure, axes = make_panel()
    _draw_history(axes, history, name)
    return figure


def make_panel() -> tuple[Figure, Axes]:
    """A small figure with room for labels; laid out by hand, as an automatic layout takes longer than drawing."""
    figure = Figure(figsize=PANEL_SIZE)
    width, height = PANEL_SIZE
    axes = figure.add_axes((0.74 / width, 0.5 / height, 1 - 0.84 / width, 1 - 0.78 / height))
    axes.tick_params(labelsize=9)
    return figure, axes


def tidy(axes: Axes) -> None:
    """Takes away what is no data."""
    axes.grid(alpha=0.25)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)


def _draw_history(axes: Axes, history: pd.DataFrame, name: str) -> None:
    epochs = np.arange(1, len(history) + 1)
    head_epochs = int((history["phase"] == "head").sum())
    marker = "o" if len(history) < 30 else None
    axes.plot(epochs, history[name], color=TRAIN_COLOUR, marker=marker, ms=4, label="training")
    if history[f"val_{name}"].notna().any():
        axes.plot(epochs, history[f"val_{name}"], color=VAL_COLOUR, marker=marker, ms=4, label="validation")
    if 0 < head_epochs < len(history):
        axes.axvline(head_epochs + 0.5, color="0.6", lw=1, ls="--")
        top = axes.get_xaxis_transform()
        grey: dict[str, Any] = {"color": "0.4", "fontsize": 9}
        if head_epochs < 0.7 * len(history):
            axes.text(head_epochs + 0.4, 1.01, "head ", transform=top, ha="right", **grey)
            axes.text(head_epochs + 0.6, 1.01, " fine-tuning", transform=top, ha="left", **grey)
        else:  # no room behind the line
            axes.text(1, 1.01, "head, then fine-tuning", transform=axes.transAxes, ha="right", **grey)
    axes.set(xlabel="epoch", ylabel=name)
    if name == "accuracy":
        axes.yaxis.set_major_formatter(PercentFormatter(1, symbol=" %"))
    axes.locator_params("x", integer=True)
    tidy(axes)
    axes.legend(frameon=False)


def learning_rate(curve: pd.DataFrame, chosen: float) -> Figure:
    """Loss by learning rate while the rate rises, and the rate that was chosen.

    Args:
        curve: the table of `learning_rate.csv`.
        chosen: marked.
    """
    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.subplots()
    rates, smoothed = curve["learning_rate"], curve["smoothed_loss"]
    axes.semilogx(rates, curve["loss"], color="0.75", lw=1, label="batch")
    axes.semilogx(rates, smoothed, color=TRAIN_COLOUR, lw=2, label="smoothed")
    axes.axvline(chosen, color=VAL_COLOUR, lw=1, ls="--")
    loss = np.interp(np.log(chosen), np.log(rates), smoothed)
    axes.plot(chosen, loss, "o", color=VAL_COLOUR, label=f"chosen: {chosen:g}")
    # Single batches of a training that diverges would flatten all before it.
    axes.set(xlabel="learning rate", ylabel="loss", ylim=(0, 1.15 * smoothed.max()))
    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False)
    return figure


def confusion_matrix(counts: np.ndarray, class_names: Sequence[str], title: str) -> Figure:
    """Counts of label (row) against prediction (column), coloured by the share of the row.

    Args:
        counts: int (num_classes, num_classes).
        class_names: names in the order of the classes.
        title: what was measured.
    """
    size = len(class_names)
    side = float(np.clip(0.5 * size + 2.5, 4.5, 16))
    figure = Figure(figsize=(side, side), layout="constrained")
    axes = figure.subplots()
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    axes.imshow(shares, cmap=COUNTS, vmin=0, vmax=1)
    axes.set(xlabel="predicted", ylabel="label", title=title)
    if size > MOST_CLASSES_WITH_NAMES:
        axes.set(xlabel="predicted, number of the class", ylabel="label, number of the class")
        return figure
    fontsize = 9 if size <= MOST_CLASSES_WITH_NUMBERS else 5
    axes.set_xticks(range(size), [shorten(name) for name in class_names], rotation=60, ha="right", fontsize=fontsize)
    axes.set_yticks(range(size), [shorten(name) for name in class_names], fontsize=fontsize)
    axes.set_xticks(np.arange(size + 1) - 0.5, minor=True)
    axes.set_yticks(np.arange(size + 1) - 0.5, minor=True)
    axes.grid(which="minor", color="0.88", lw=0.6)
    axes.tick_params(which="minor", length=0)
    if size <= MOST_CLASSES_WITH_NUMBERS:
        for row, column in zip(*np.nonzero(counts), strict=True):
            colour = "white" if shares[row, column] > 0.5 else "0.15"
            axes.text(column, row, counts[row, column], ha="center", va="center", color=colour, fontsize=9)
    return figure


def picture_sheet(shown: Sequence[Shown], title: str) -> Figure:
    """Pictures with their labels and predictions, wrong ones in colour."""
    rows = max(1, -(-len(shown) // SHEET_COLUMNS))
    height = 2.5 * rows + 0.5
    figure = Figure(figsize=(2 * SHEET_COLUMNS, height))
    figure.suptitle(title, y=1 - 0.25 / height, va="center")
    grid = figure.subplots(rows, SHEET_COLUMNS, squeeze=False).ravel()
    # Placed by hand: an automatic layout takes three times as long as drawing.
    figure.subplots_adjust(0.01, 0.1 / height, 0.99, 1 - 0.9 / height, wspace=0.06, hspace=0.28)
    for axes in grid:
        axes.axis("off")
    if not shown:
        figure.text(0.5, 0.5, "none", ha="center", fontsize=12, color="0.4")
    for axes, picture in zip(grid, shown, strict=False):
        axes.imshow(picture.pixels)
        right = picture.label == picture.predicted
        said = f"{shorten(picture.predicted)} {picture.probability:.0%}"
        text = said if right else f"{said}\nlabel: {shorten(picture.label)}"
        axes.set_title(text, fontsize=9, color="0.2" if right else VAL_COLOUR)
    return figure


def mosaic(pictures: Sequence[np.ndarray], columns: int) -> Figure:
    """Pictures of one size in rows, pixel for pixel: a tenth of the time of a `picture_sheet`, and no titles.

    Args:
        pictures: uint8 (height, width, 3) each, at least one.
        columns: most pictures of a row.
    """
    columns = min(columns, len(pictures))
    empty = np.full_like(pictures[0], 255)
    padded = [*pictures, *[empty] * (-len(pictures) % columns)]
    rows = [np.concatenate(padded[start : start + columns], axis=1) for start in range(0, len(padded), columns)]
    pixels = np.concatenate(rows)
    figure = Figure(figsize=(pixels.shape[1] / PNG_DPI, pixels.shape[0] / PNG_DPI))
    figure.figimage(pixels)
    return figure


def shorten(name: str, longest: int = 22) -> str:
    """Cuts a name that would not fit, and keeps `$` from being read as mathematics."""
    name = name if len(name) <= longest else f"{name[: longest - 1]}…"
    return name.replace("$", r"\$")
