"""Estimates whether more examples would help, by heads solved on growing parts of the training split.

Over wide ranges, the error is a power of the number of examples (Hestness et al., "Deep Learning Scaling is
Predictable, Empirically", 2017), so it is a straight line on logarithmic axes.
"""

from typing import NamedTuple

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, NullFormatter

from reports.plots import VAL_COLOUR, in_percent, make_panel, tidy

WORDS = {
    "val_accuracy": {
        "title": "right on val",
        "how": "was solved on",
        "gains": "make about {} right on val, {} are now",
        "stays": "{} are right now",
    },
    "val_ap": {
        "title": "AP on val",
        "how": "learnt from",
        "gains": "have an AP of about {} on val, {} is that now",
        "stays": "{} is the AP now",
    },
}
"""Words by the measured column: what heads did with parts, and what twice as many examples would do."""


class Forecast(NamedTuple):
    """Line through the errors by the number of training examples."""

    numbers: np.ndarray
    """Numbers of training examples, up to twice the present number."""
    errors: np.ndarray
    """Expected share of wrong answers for each."""


def forecast(table: pd.DataFrame) -> Forecast | None:
    """Fits the line; None with fewer than three points that have an error.

    Args:
        table: table of `MORE_DATA_FILE`: `examples`, and `val_accuracy` or `val_ap` for that number.
    """
    errors = 1 - table.iloc[:, 1].to_numpy(float)
    counts = table["examples"].to_numpy(float)
    known = errors > 0
    if known.sum() < 3 or not known[-1]:
        return None
    slope, level = np.polyfit(np.log(counts[known]), np.log(errors[known]), 1)
    if slope > 0:  # more examples do no harm: an increase is chance
        slope, level = 0.0, np.log(errors[known]).mean()
    numbers = np.geomspace(counts[0], 2 * counts[-1], 20)
    return Forecast(numbers, np.exp(level + slope * np.log(numbers)))


def draw(table: pd.DataFrame, line: Forecast, nouns: str, measured: str) -> Figure:
    """Draws what is measured on val by the number of training examples, and the line up to twice as many."""
    figure, axes = make_panel()
    axes.plot(line.numbers, 1 - line.errors, color="0.6", ls="--", label="expected")
    axes.plot(table["examples"], table.iloc[:, 1], "o", color=VAL_COLOUR, label="measured")
    axes.set_xscale("log")
    axes.set_xticks([*table["examples"], line.numbers[-1]])
    axes.xaxis.set_major_formatter(FuncFormatter(lambda count, _: f"{count:,.0f}"))
    axes.xaxis.set_minor_formatter(NullFormatter())
    in_percent(axes.yaxis)
    axes.set(xlabel=f"training {nouns}", ylabel=measured)
    tidy(axes)
    axes.legend(frameon=False, loc="lower right")
    return figure
