"""Where values lie along the axes of the search's figures: numbers, choices, and words beside numbers."""

import re
from collections.abc import Mapping, Sequence
from typing import Literal, NamedTuple

import numpy as np
import pandas as pd
from matplotlib.ticker import MaxNLocator

from app.config import Objective
from reports.page import SPACE
from reports.plots import shorten

OBJECTIVES = {"val_accuracy": "validation accuracy", "val_loss": "validation loss"}
LOG_SPAN = 20
"""Positive fractional values whose largest is more than this many times the smallest get a logarithmic axis."""
MOST_CHOICES = 6
"""Numbers with at most this many different values are shown as choices, if values were tried more than once: whole
numbers any of them, others each twice on average."""
LINEAR = ("dropout",)
"""Hyperparameters that never get a logarithmic axis: of a fraction, the smallest values matter least."""
MOST_WORDS = 2
"""Words such as 'none' and 'all' that may stand beside the numbers of an axis; with more, all values are choices."""
NOT_DRAWN = "not drawn"
"""A setting that a trial has no use for."""
BELOW = ("none", NOT_DRAWN)
"""Words that stand before the numbers of an axis; others stand behind."""
SLOT = 0.16
"""Distance of such a word from the numbers, fraction of their range."""
FAR_OFF = 3.0
"""Trials worse than the worse quartile by this many interquartile ranges are shown together at the edge."""
GOLDEN_RATIO = 0.618034


class Scale(NamedTuple):
    """Where the values of a column lie along an axis."""

    kind: Literal["numbers", "choices", "names"]
    """Names are choices without an order."""
    positions: np.ndarray
    """float (num_trials,), finite: logarithms on a logarithmic axis, the number of the choice for choices."""
    ticks: Mapping[float, str]
    limits: tuple[float, float]
    strips: np.ndarray
    """bool (num_trials,), True where trials share a position and should be spread a little to be seen."""
    gap: float
    """Distance between two strips, in the unit of the positions."""


def scale_of(values: pd.Series) -> Scale:
    """The scale of a hyperparameter: numbers, with words such as 'none' beside them, or choices."""
    numbers = pd.to_numeric(values, errors="coerce").to_numpy(float, na_value=np.nan)
    numbers = np.where(np.isfinite(numbers), numbers, np.nan)
    texts = [
        _number(number, 3) if np.isfinite(number) else NOT_DRAWN if pd.isna(value) else str(value)
        for number, value in zip(numbers, values, strict=True)
    ]
    is_number = dict(zip(texts, np.isfinite(numbers), strict=True))
    count = sum(is_number.values())
    is_whole = np.array_equal(np.round(numbers), numbers, equal_nan=True)
    few = count <= MOST_CHOICES and (len(is_number) < len(texts) if is_whole else 2 * len(is_number) <= len(texts))
    if count >= 2 and not few and len(is_number) - count <= MOST_WORDS:
        return _number_scale(numbers, texts, may_be_log=not is_whole and values.name not in LINEAR)
    choices = sorted(is_number, key=lambda text: (text not in BELOW, float(text) if is_number[text] else np.inf, text))
    return Scale(
        "choices" if count else "names",
        np.array([choices.index(text) for text in texts], float),
        {float(index): shorten(text, 18) for index, text in enumerate(choices)},
        (-0.5, len(choices) - 0.5),
        np.ones(len(texts), bool),
        1.0,
    )


def objective_scale(finished: pd.DataFrame, objective: Objective) -> Scale:
    """The scale of the objective; trials that are far worse than most stand together at its edge."""
    values = finished[objective].to_numpy(float)
    goodness = values * sign_of(objective)
    quarter, three_quarters = np.quantile(goodness, (0.25, 0.75))
    far_off = goodness < quarter - FAR_OFF * (three_quarters - quarter)
    is_accuracy = objective == "val_accuracy"
    if three_quarters == quarter or not far_off.any():
        scale = _number_scale(values, [""] * len(values), may_be_log=not is_accuracy)
        return _in_percent(scale) if is_accuracy else scale
    kept = goodness[~far_off].min() * sign_of(objective)
    word = f"{'below' if is_accuracy else 'above'} {_number(kept, 3)}"
    texts = [word if far else "" for far in far_off]
    below = (word,) if is_accuracy else ()
    scale = _number_scale(np.where(far_off, np.nan, values), texts, below, may_be_log=not is_accuracy)
    return _in_percent(scale) if is_accuracy else scale


def _in_percent(scale: Scale) -> Scale:
    """The scale with its numbers, which are fractions, written as tables write them."""
    ticks = {
        place: re.sub(r"[\d.]+", lambda found: f"{100 * float(found[0]):.4g}{SPACE}%", text)
        for place, text in scale.ticks.items()
    }
    return scale._replace(ticks=ticks)


def _number_scale(
    numbers: np.ndarray, texts: Sequence[str], below: Sequence[str] = BELOW, may_be_log: bool = True
) -> Scale:
    """A scale of numbers; where they are NaN, the text gets a place beneath or above them."""
    known = np.isfinite(numbers)
    least, most = numbers[known].min(), numbers[known].max()
    is_log = bool(may_be_log and least > 0 and most / least > LOG_SPAN)
    positions = np.log10(numbers) if is_log else numbers.copy()
    low, high = (np.log10(least), np.log10(most)) if is_log else (least, most)
    if np.isclose(low, high, rtol=1e-6, atol=0):  # no room for ticks between
        low = high
    span = (high - low) or abs(low) * 0.1 or 1.0
    ticks = _log_ticks(low, high) if is_log else _linear_ticks(low, high, span)
    edges = [low - 0.06 * span, high + 0.06 * span]
    for word in sorted({text for text, is_known in zip(texts, known, strict=True) if not is_known}):
        side = 0 if word in below else 1
        place = edges[side] + (SLOT - 0.06) * span * (-1 if side == 0 else 1)
        positions[[text == word and not is_known for text, is_known in zip(texts, known, strict=True)]] = place
        ticks[place] = shorten(word, 18)
        edges[side] = place + 0.06 * span * (-1 if side == 0 else 1)
    return Scale("numbers", positions, ticks, (edges[0], edges[1]), ~known, 0.1 * span)


def _linear_ticks(low: float, high: float, span: float) -> dict[float, str]:
    if low == high:
        return {low: _number(low, 4)}
    slack = 0.03 * span
    ticks = MaxNLocator(5, steps=[1, 2, 2.5, 5, 10]).tick_values(low, high)
    ticks = [float(tick) for tick in ticks if low - slack <= tick <= high + slack]
    texts = [_number(tick, 10) for tick in ticks]
    if any("e" in text for text in texts):
        return dict(zip(ticks, texts, strict=True))
    decimals = max(len(text.partition(".")[2]) for text in texts)
    return {tick: f"{tick:.{decimals}f}" for tick in ticks}


def _log_ticks(low: float, high: float) -> dict[float, str]:
    """Powers of ten, with threes between them where there are few; positions are logarithms."""
    step = int(np.ceil((high - low) / 5))
    powers = range(int(np.floor(low)), int(np.ceil(high)) + 1, step)
    values = [digit * 10.0**power for power in powers for digit in ((1, 3) if high - low < 2 else (1,))]
    return {
        float(np.log10(value)): _number(value, 3) for value in values if low <= np.log10(value) + 1e-9 <= high + 0.03
    }


def _number(value: float, digits: int) -> str:
    text = f"{value:.{digits}g}" if value != round(value) or abs(value) >= 1e6 else f"{round(value)}"
    return re.sub(r"e([+-])0*", lambda found: "e-" if found[1] == "-" else "e", text)


def spread_out(scale: Scale, numbers: np.ndarray) -> np.ndarray:
    """The positions, with those that trials share moved a little, always alike for the same trial."""
    _, group, sizes = np.unique(scale.positions, return_inverse=True, return_counts=True)
    moved = scale.strips & (sizes[group] > 1)
    return scale.positions + np.where(moved, (numbers * GOLDEN_RATIO % 1 - 0.5) * 0.55 * scale.gap, 0)


def share_of_axis(positions: np.ndarray, scale: Scale) -> np.ndarray:
    """How far along the axis positions are, from 0 to 1."""
    low, high = scale.limits
    return (positions - low) / (high - low)


def sign_of(objective: Objective) -> int:
    """1 where more is better, -1 where less is."""
    return 1 if objective == "val_accuracy" else -1
