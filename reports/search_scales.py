"""Where trials lie along the axes of a search's figures: numbers, or choices at equal distances."""

from collections.abc import Callable, Mapping
from typing import NamedTuple

import numpy as np
import pandas as pd
from matplotlib.ticker import LogLocator, MaxNLocator

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
"""Hyperparameters that never get a logarithmic axis: the smallest values of a fraction matter least."""
NOT_DRAWN = "not drawn"
"""Stands for a setting that a trial has no use for."""
FAR_OFF = 3.0
"""Trials worse than the worse quartile by this many interquartile ranges are shown together at the edge."""
GOLDEN_RATIO = 0.618034


class Scale(NamedTuple):
    """Where the trials lie along an axis."""

    places: np.ndarray
    """float (num_trials,), finite: logarithms on a logarithmic axis, the number of the choice for choices."""
    ticks: Mapping[float, str]
    limits: tuple[float, float]
    is_choice: bool

    def share(self, places: np.ndarray) -> np.ndarray:
        """Returns how far along the axis some places are, from 0 to 1."""
        return (places - self.limits[0]) / (self.limits[1] - self.limits[0])


def scale_of(values: pd.Series) -> Scale:
    """The scale of a hyperparameter: numbers where many were tried, else choices; numbers come before words."""
    numbers = pd.to_numeric(values, errors="coerce").to_numpy(float, na_value=np.nan)
    missing = values.isna().to_numpy()
    different = len(np.unique(numbers[~missing]))
    is_whole = np.equal(np.mod(numbers[~missing], 1), 0).all()
    few = different <= MOST_CHOICES and (different < (~missing).sum() if is_whole else 2 * different <= len(values))
    if different > 1 and not few and np.isfinite(numbers[~missing]).all():
        return _number_scale(numbers, not is_whole and values.name not in LINEAR, NOT_DRAWN)
    texts = [
        NOT_DRAWN if gone else str(value) if np.isnan(number) else _short(number)
        for value, number, gone in zip(values, numbers, missing, strict=True)
    ]
    rank = {
        text: (text not in ("none", NOT_DRAWN), number if np.isfinite(number) else np.inf, text)
        for text, number in zip(texts, numbers, strict=True)
    }
    choices = sorted(rank, key=lambda text: rank[text])
    ticks = {float(index): shorten(text, 18) for index, text in enumerate(choices)}
    return Scale(np.array([choices.index(text) for text in texts], float), ticks, (-0.5, len(choices) - 0.5), True)


def objective_scale(finished: pd.DataFrame, objective: Objective) -> Scale:
    """The scale of the objective; trials that are far worse than most stand together at its edge."""
    values, is_accuracy = finished[objective].to_numpy(float), objective == "val_accuracy"
    goodness = values * sign_of(objective)
    quarter, three_quarters = np.quantile(goodness, (0.25, 0.75))
    is_far_off = (goodness < quarter - FAR_OFF * (three_quarters - quarter)) & (three_quarters > quarter)
    text = _in_percent if is_accuracy else _short
    edge = f"{'below' if is_accuracy else 'above'} {text(abs(goodness[~is_far_off].min()))}"
    return _number_scale(np.where(is_far_off, np.nan, values), not is_accuracy, edge, is_accuracy, text)


def has_no_number(values: pd.Series) -> bool:
    """Whether a hyperparameter is all words, which have no order."""
    return bool(pd.to_numeric(values, errors="coerce").isna().all())


def spread_out(scale: Scale, numbers: np.ndarray) -> np.ndarray:
    """The places, those of choices moved a little, always alike for the same trial."""
    return scale.places + scale.is_choice * (numbers * GOLDEN_RATIO % 1 - 0.5) * 0.55


def sign_of(objective: Objective) -> int:
    """1 where more is better, -1 where less is."""
    return 1 if objective == "val_accuracy" else -1


def _short(value: float) -> str:
    return f"{value:.3g}".replace("e-0", "e-") if value != round(value) else f"{value:.0f}"


def _in_percent(value: float) -> str:
    return f"{100 * value:.4g}{SPACE}%"


def _number_scale(
    values: np.ndarray, may_be_log: bool, word: str, word_below: bool = True, text: Callable[[float], str] = _short
) -> Scale:
    """A scale of numbers; where they are NaN, a word has its place below or above them."""
    known = values[np.isfinite(values)]
    is_log = may_be_log and known.min() > 0 and known.max() > LOG_SPAN * known.min()
    places = np.log10(values) if is_log else values.copy()
    low, high = np.nanmin(places), np.nanmax(places)
    if np.isclose(low, high, rtol=1e-6, atol=0):  # no room for ticks between
        low, marked = high, known[:1]
    elif is_log:
        marked = LogLocator(subs=(1, 3) if high - low < 2 else (1,)).tick_values(known.min(), known.max())
    else:
        marked = MaxNLocator(5, steps=[1, 2, 2.5, 5, 10]).tick_values(low, high)
    span = (high - low) or abs(low) * 0.1 or 1.0
    ticks = {float(np.log10(value) if is_log else value): text(value) for value in marked}
    ticks = {place: name for place, name in ticks.items() if low - 0.03 * span <= place <= high + 0.03 * span}
    if len(known) < len(values):
        edge = low - 0.16 * span if word_below else high + 0.16 * span
        places, ticks[float(edge)] = np.where(np.isfinite(places), places, edge), word
        low, high = min(low, edge), max(high, edge)
    return Scale(places, ticks, (low - 0.06 * span, high + 0.06 * span), False)
