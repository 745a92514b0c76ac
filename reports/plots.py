"""The figures of a run folder. Each function returns a matplotlib Figure; nothing is written here."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter
from sklearn.metrics import ConfusionMatrixDisplay

from reports.page import SPACE

TRAIN_COLOUR = "#5b7c99"
VAL_COLOUR = "#d1603d"
MOST_CLASSES_WITH_NUMBERS = 30
"""With more classes, confusion matrices show only colours."""
MOST_CLASSES_WITH_NAMES = 150
"""With more classes, names would be too small to read."""
SHEET_COLUMNS = 3
PANEL_SIZE = (5.0, 3.6)
"""Width and height of one figure on a page, inches."""
COUNTS = LinearSegmentedColormap.from_list("counts", ["#ffffff", "#c9d8e6", "#3e6a94", "#17324d"])


def learning_curves(history: pd.DataFrame, measure: str = "accuracy") -> Figure:
    """Draws loss and accuracy by epoch, one phase after the other, with a line between them.

    Args:
        history: the table of `history.csv`.
        measure: name of the accuracies; see `measure_of_learning` of the tasks.
    """
    figure = Figure(figsize=(10, 4), layout="constrained")
    for axes, name in zip(figure.subplots(1, 2), ("loss", "accuracy"), strict=True):
        _draw_history(axes, history, name, measure)
    return figure


def learning_curve(history: pd.DataFrame, name: str, measure: str = "accuracy") -> Figure:
    """Draws one half of `learning_curves`.

    Args:
        history: the table of `history.csv`, at least one epoch.
        name: 'loss' or 'accuracy'.
        measure: name of the accuracies.
    """
    figure, axes = make_panel()
    _draw_history(axes, history, name, measure)
    return figure


def make_panel() -> tuple[Figure, Axes]:
    """Makes a small figure with room for labels; a fixed layout, as an automatic one takes longer than drawing."""
    figure = Figure(figsize=PANEL_SIZE)
    width, height = PANEL_SIZE
    axes = figure.add_axes((0.88 / width, 0.5 / height, 1 - 0.98 / width, 1 - 0.78 / height))
    axes.tick_params(labelsize=9)
    return figure, axes


def in_percent(axis: Axis) -> None:
    """Labels an axis of fractions in percent, with only as many digits as its ticks need."""
    axis.set_major_formatter(FuncFormatter(lambda share, _: f"{100 * share:.5g}{SPACE}%"))


def tidy(axes: Axes) -> None:
    """Removes the upper and right edges, and makes grid lines faint."""
    axes.grid(alpha=0.25)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)


def learning_rate(curve: pd.DataFrame, chosen: float) -> Figure:
    """Draws the loss by learning rate while the rate rises, and the rate that was chosen.

    Args:
        curve: the table of `learning_rate.csv`.
        chosen: chosen rate, which is marked.
    """
    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.subplots()
    rates, smoothed = curve["learning_rate"], curve["smoothed_loss"]
    axes.semilogx(rates, curve["loss"], color="0.75", lw=1, label="batch")
    axes.semilogx(rates, smoothed, color=TRAIN_COLOUR, lw=2, label="smoothed")
    axes.axvline(chosen, color=VAL_COLOUR, lw=1, ls="--")
    loss = np.interp(np.log(chosen), np.log(rates), smoothed)
    axes.plot(chosen, loss, "o", color=VAL_COLOUR, label=f"chosen: {chosen:g}")
    # A few batches of a diverging training would flatten the rest.
    axes.set(xlabel="learning rate", ylabel="loss", ylim=(0, 1.15 * smoothed.max()))
    tidy(axes)
    axes.legend(frameon=False)
    return figure


def confusion_matrix(counts: np.ndarray, class_names: Sequence[str], title: str) -> Figure:
    """Draws the counts of each label (row) and prediction (column), coloured by the share of the row.

    Args:
        counts: int (num_classes, num_classes).
        class_names: names in the order of the classes.
        title: what was measured.
    """
    size = len(class_names)
    has_numbers, has_names = size <= MOST_CLASSES_WITH_NUMBERS, size <= MOST_CLASSES_WITH_NAMES
    side = float(np.clip(0.5 * size + 2.5, 4.5, 16))
    figure = Figure(figsize=(side, side), layout="constrained")
    axes = figure.subplots()
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    names = [shorten(name) for name in class_names]
    display = ConfusionMatrixDisplay(shares, display_labels=names)
    display.plot(ax=axes, cmap=COUNTS, include_values=has_numbers, colorbar=False, im_kw={"vmin": 0, "vmax": 1})
    if has_numbers:
        for text, count in zip(display.text_.ravel(), counts.ravel(), strict=True):
            text.set(text=str(count), fontsize=9)
    if has_names:
        axes.tick_params(labelsize=9 if has_numbers else 5)
        axes.set_xticks(range(size), names, rotation=60, ha="right")
    else:
        axes.set(xticks=[], yticks=[])
    axes.set(xlabel="predicted", ylabel="actual", title=title)
    return figure


def picture_sheet(pictures: Sequence[np.ndarray], titles: Sequence[str]) -> Figure:
    """Draws pictures in rows, each under its title.

    Args:
        pictures: uint8 (height, width, 3) of one size, at least one.
        titles: title of each picture.
    """
    columns = min(SHEET_COLUMNS, len(pictures))
    rows = -(-len(pictures) // columns)
    width = 3.6
    height = width * pictures[0].shape[0] / pictures[0].shape[1] + 0.5
    figure = Figure(figsize=(width * columns, height * rows))
    # Placed by hand: an automatic layout takes three times as long as drawing.
    figure.subplots_adjust(0.01, 0.01, 0.99, 1 - 0.5 / (height * rows), wspace=0.04, hspace=0.5 / (height - 0.5))
    for axes in (grid := figure.subplots(rows, columns, squeeze=False).ravel()):
        axes.axis("off")
    for axes, picture, title in zip(grid, pictures, titles, strict=False):
        axes.imshow(picture)
        axes.set_title("\n".join(shorten(line, 50) for line in title.split("\n")), fontsize=9)
    return figure


def shorten(name: str, longest: int = 22) -> str:
    """Cuts a name that would not fit, keeps `$` from being read as mathematics, and lets legends have names that begin
    with `_`, which they leave out."""
    name = name if len(name) <= longest else f"{name[: longest - 1]}…"
    return (f" {name}" if name.startswith("_") else name).replace("$", r"\$")


def _draw_history(axes: Axes, history: pd.DataFrame, name: str, measure: str) -> None:
    epochs = np.arange(1, len(history) + 1)
    head_epochs = int((history["phase"] == "head").sum())
    marker = "o" if len(history) < 30 else None
    axes.plot(epochs, history[name], color=TRAIN_COLOUR, marker=marker, ms=4, label="training")
    if history[f"val_{name}"].notna().any():
        axes.plot(epochs, history[f"val_{name}"], color=VAL_COLOUR, marker=marker, ms=4, label="validation")
    for end in np.flatnonzero(history["phase"] != history["phase"].shift())[1:]:
        axes.axvline(end + 0.5, color="0.6", lw=1, ls="--")
    if 0 < head_epochs < len(history):
        top = axes.get_xaxis_transform()
        grey: dict[str, Any] = {"color": "0.4", "fontsize": 9}
        if head_epochs < 0.7 * len(history):
            axes.text(head_epochs + 0.4, 1.01, "head ", transform=top, ha="right", **grey)
            axes.text(head_epochs + 0.6, 1.01, " fine-tuning", transform=top, ha="left", **grey)
        else:  # no room behind the line
            axes.text(1, 1.01, "head, then fine-tuning", transform=axes.transAxes, ha="right", **grey)
    axes.set(xlabel="epoch", ylabel=measure if name == "accuracy" else name)
    if name == "accuracy":
        in_percent(axes.yaxis)
    axes.locator_params("x", integer=True)
    tidy(axes)
    axes.legend(frameon=False)
