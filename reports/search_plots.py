"""The figures of a hyperparameter search. Each function returns a matplotlib Figure; nothing is written here.

All take the table of the trials, a row each in the order they ran: `trial` (from 1), `status` ('done' or 'failed'),
`val_accuracy`, `val_loss` (NaN where failed), `seconds`, and a column per hyperparameter. A trial without a finite
objective counts as failed.
"""

import textwrap
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from sklearn.compose import make_column_transformer
from sklearn.ensemble import RandomForestRegressor
from sklearn.inspection import permutation_importance
from sklearn.model_selection import KFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder

from app.config import Objective
from reports.page import number, percent
from reports.plots import TRAIN_COLOUR, VAL_COLOUR, shorten
from reports.search_scales import (
    OBJECTIVES,
    Scale,
    objective_scale,
    scale_of,
    share_of_axis,
    sign_of,
    spread_out,
)

LEAST_TRIALS = 10
"""Finished trials from which importances are worth a look."""
FOLDS = 5
NUM_TREES = 60
SHUFFLES = 5
WORSE_TO_BETTER = LinearSegmentedColormap.from_list(
    "trials", [(0, "#e3e9ee"), (0.5, "#b3c7d8"), (0.8, "#4f7ba3"), (1, "#17324d")]
)


def search_progress(trials: pd.DataFrame, objective: Objective) -> Figure:
    """The objective of each trial, the best so far, and the failed ones as crosses on the axis.

    Args:
        trials: the trials so far, as described above.
        objective: 'val_accuracy', of which more is better, or 'val_loss'.
    """
    if trials.empty:
        return _sentence("No trials yet.")
    figure = Figure(figsize=(9, 4), layout="constrained")
    axes = figure.subplots()
    is_finished = _is_finished(trials, objective)
    last = trials["trial"].max()
    if is_finished.any():
        _draw_progress(axes, trials[is_finished], objective, last)
    else:
        axes.text(0.5, 0.5, "No trial has finished.", transform=axes.transAxes, ha="center", color="0.4", fontsize=12)
        axes.set_yticks([])
    failed = trials["trial"][~is_finished]
    if len(failed):
        bottom = axes.get_xaxis_transform()
        axes.plot(failed, np.zeros(len(failed)), "x", color="0.25", transform=bottom, clip_on=False, label="failed")
    axes.set(xlabel="trial", ylabel=_objective_text(objective), xlim=(0.4, last + 0.6))
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1, steps=[1, 2, 5, 10]))
    _tidy(axes)
    axes.legend(frameon=False, ncols=4, loc="lower right", bbox_to_anchor=(1, 1), borderaxespad=0, fontsize=9)
    return figure


def hyperparameter_effects(trials: pd.DataFrame, hyperparameters: Sequence[str], objective: Objective) -> Figure:
    """A panel per hyperparameter: the objective of each finished trial against the value it was run with.

    Args:
        trials: the trials so far, as described above.
        hyperparameters: the columns that varied.
        objective: 'val_accuracy', of which more is better, or 'val_loss'.
    """
    finished = _finished(trials, objective)
    if finished.empty or not hyperparameters:
        return _sentence("No trial has finished." if finished.empty else "No hyperparameter varied.")
    columns = 3 if len(hyperparameters) in (5, 6, 9) else min(len(hyperparameters), 4)
    rows = -(-len(hyperparameters) // columns)
    figure = Figure(figsize=(max(2.9 * columns + 0.6, 6), 2.7 * rows + 0.5), layout="constrained")
    panels = figure.subplots(rows, columns, sharey=True, squeeze=False)
    outcome, best = objective_scale(finished, objective), _best(finished, objective)
    for axes, name in zip(panels.ravel(), hyperparameters, strict=False):
        _draw_effect(axes, scale_of(finished[name]), outcome, finished["trial"].to_numpy(), best)
        axes.set_title(_spaced(name), loc="left", fontsize=10)
    for axes in panels.ravel()[len(hyperparameters) :]:
        axes.axis("off")
    for axes in panels[:, 0]:
        axes.set_yticks(list(outcome.ticks), outcome.ticks.values(), fontsize=8)
        axes.set_ylim(outcome.limits)
    figure.supylabel(_objective_text(objective), fontsize=10)
    shown: dict[str, Artist] = {}
    for axes in panels.ravel():
        handles, labels = axes.get_legend_handles_labels()
        shown.update(zip(labels, handles, strict=True))
    figure.legend(list(shown.values()), list(shown), loc="outside upper right", ncols=3, frameon=False, fontsize=9)
    return figure


def parallel_coordinates(trials: pd.DataFrame, hyperparameters: Sequence[str], objective: Objective) -> Figure:
    """A line per finished trial through its hyperparameters to its objective: the darker, the better.

    Args:
        trials: the trials so far, as described above.
        hyperparameters: the columns that varied.
        objective: 'val_accuracy', of which more is better, or 'val_loss'.
    """
    finished = _finished(trials, objective)
    if finished.empty:
        return _sentence("No trial has finished.")
    outcome = objective_scale(finished, objective)
    scales = [*(scale_of(finished[name]) for name in hyperparameters), outcome]
    numbers = finished["trial"].to_numpy()
    heights = np.stack([share_of_axis(spread_out(scale, numbers), scale) for scale in scales], axis=1)
    figure = Figure(figsize=(max(1.35 * len(scales) + 0.6, 6), 5.2), layout="constrained")
    axes = figure.subplots()
    axes.axis("off")
    colours = WORSE_TO_BETTER if objective == "val_accuracy" else WORSE_TO_BETTER.reversed()
    order = np.argsort(finished[objective].to_numpy(float) * sign_of(objective), kind="stable")
    best = _best(finished, objective)
    thick = {*order[-int(np.ceil(len(order) / 10)) :], best}
    for zorder, position in enumerate([*order[order != best], best]):
        colour = VAL_COLOUR if position == best else colours(heights[position, -1])
        width = 2.8 if position == best else 2.0 if position in thick else 1.1
        axes.plot(*_smooth(heights[position]), color=colour, lw=width, zorder=2 + zorder / len(order), alpha=0.9)
    for column, (name, scale) in enumerate(zip([*hyperparameters, OBJECTIVES[objective]], scales, strict=True)):
        _draw_axis(axes, column, name, scale, is_last=scale is outcome)
    shades, place = np.linspace(0, 1, 128)[:, None], (len(scales) - 1, len(scales) - 0.94, 0, 1)
    axes.imshow(shades, extent=place, cmap=colours, origin="lower", aspect="auto", zorder=4)
    axes.set(xlim=(-0.55, len(scales) - 0.45), ylim=(-0.03, 1.04))
    title = f"{len(finished)} trials: the darker, the better; in orange the best, trial {numbers[best]}"
    axes.set_title(title if len(finished) > 1 else "1 trial", loc="left", fontsize=11, pad=36)
    return figure


def hyperparameter_importance(trials: pd.DataFrame, hyperparameters: Sequence[str], objective: Objective) -> Figure:
    """The importances of `importance_table` as bars, or a sentence where there are too few trials for them.

    Args:
        trials: the trials so far, as described above.
        hyperparameters: the columns that varied.
        objective: 'val_accuracy', of which more is better, or 'val_loss'.
    """
    table = importance_table(trials, hyperparameters, objective)
    if table.empty:
        count = len(_finished(trials, objective))
        few = f"Importances take at least {LEAST_TRIALS} finished trials; there are {count}."
        return _sentence(few if count < LEAST_TRIALS else "No hyperparameter varied.")
    if not table["importance"].any():
        return _sentence(f"No hyperparameter explains the {OBJECTIVES[objective]} of these trials.")
    figure = Figure(figsize=(8, 0.36 * len(table) + 1.7), layout="constrained")
    axes = figure.subplots()
    rows = np.arange(len(table))[::-1]
    below = np.minimum(table["spread"], table["importance"])
    whiskers = {"ecolor": "0.3", "elinewidth": 1.1, "capsize": 2.5}
    axes.barh(
        rows, table["importance"], 0.62, color=TRAIN_COLOUR, xerr=[below, table["spread"]], error_kw=whiskers, zorder=2
    )
    axes.set_yticks(rows, [_spaced(name) for name in table["hyperparameter"]])
    axes.set_xlabel(f"how much worse the {OBJECTIVES[objective]} is predicted without it", color="0.3", fontsize=9)
    axes.set_title("What mattered: a rough guide", loc="left", fontsize=11)
    axes.set_xlim(0, None)
    _tidy(axes)
    axes.grid(visible=False, axis="y")
    axes.tick_params(axis="y", length=0)
    return figure


def importance_table(trials: pd.DataFrame, hyperparameters: Sequence[str], objective: Objective) -> pd.DataFrame:
    """How much the objective depends on each hyperparameter: permutation importance of a random forest (Breiman 2001).

    Measured on trials that the forest was not fitted to (five folds), as a forest explains any noise it has seen.

    Args:
        trials: the trials so far, as described above.
        hyperparameters: the columns that varied.
        objective: 'val_accuracy', of which more is better, or 'val_loss'.

    Returns:
        A row per `hyperparameter`, the most important first. `importance` is the growth of the mean squared error when
        its values are shuffled, as a multiple of the objective's variance, and at least 0; `spread` is its standard
        error over the folds. No rows with fewer than `LEAST_TRIALS` finished trials.
    """
    finished = _finished(trials, objective)
    if len(finished) < LEAST_TRIALS or not hyperparameters:
        return pd.DataFrame({"hyperparameter": [], "importance": [], "spread": []})
    scales = [scale_of(finished[name]) for name in hyperparameters]
    inputs = np.stack([scale.positions for scale in scales], axis=1)
    outcome = objective_scale(finished, objective).positions
    names = [column for column, scale in enumerate(scales) if scale.kind == "names"]
    by_fold = np.zeros((FOLDS, len(scales)))
    # Equal values have a variance of 0 or, by rounding, slightly more.
    if np.ptp(outcome) > 1e-9:
        for fold, (train, held_out) in enumerate(KFold(FOLDS, shuffle=True, random_state=0).split(inputs)):
            encoder = make_column_transformer(
                (OneHotEncoder(handle_unknown="ignore", sparse_output=False), names), remainder="passthrough"
            )
            forest = make_pipeline(encoder, RandomForestRegressor(NUM_TREES, random_state=0))
            forest.fit(inputs[train], outcome[train])
            found = permutation_importance(
                forest,
                inputs[held_out],
                outcome[held_out],
                scoring="neg_mean_squared_error",
                n_repeats=SHUFFLES,
                random_state=0,
            )
            by_fold[fold] = found.importances_mean / outcome.var()
    table = pd.DataFrame(
        {
            "hyperparameter": list(hyperparameters),
            "importance": np.maximum(by_fold.mean(axis=0), 0),
            "spread": by_fold.std(axis=0, ddof=1) / np.sqrt(FOLDS),
        }
    )
    return table.sort_values("importance", ascending=False, kind="stable", ignore_index=True)


def _is_finished(trials: pd.DataFrame, objective: Objective) -> np.ndarray:
    values = pd.to_numeric(trials[objective], errors="coerce").to_numpy(float, na_value=np.nan)
    return (trials["status"] == "done").to_numpy(bool) & np.isfinite(values)


def _finished(trials: pd.DataFrame, objective: Objective) -> pd.DataFrame:
    return trials if trials.empty else trials[_is_finished(trials, objective)]


def _best(finished: pd.DataFrame, objective: Objective) -> int:
    """The row of the first trial with the best objective."""
    return int(np.argmax(finished[objective].to_numpy(float) * sign_of(objective)))


def _draw_progress(axes: Axes, finished: pd.DataFrame, objective: Objective, last: int) -> None:
    scale, best = objective_scale(finished, objective), _best(finished, objective)
    so_far = np.maximum.accumulate(scale.positions * sign_of(objective)) * sign_of(objective)
    numbers = finished["trial"].to_numpy()
    axes.step([*numbers, last], [*so_far, so_far[-1]], where="post", color=VAL_COLOUR, label="best so far")
    axes.plot(numbers, scale.positions, "o", color=TRAIN_COLOUR, ms=6, mec="white", mew=0.6, label="trial")
    axes.plot(numbers[best], scale.positions[best], "o", color=VAL_COLOUR, ms=10, mec="white", label="best trial")
    reached = finished[objective].iloc[best]
    reached = percent(reached, 2) if objective == "val_accuracy" else number(reached, 4)
    axes.set_title(f"Best: {reached} in trial {numbers[best]}", loc="left", fontsize=11)
    axes.set_yticks(list(scale.ticks), scale.ticks.values())
    axes.set_ylim(scale.limits)


def _draw_effect(axes: Axes, scale: Scale, outcome: Scale, numbers: np.ndarray, best: int) -> None:
    places = spread_out(scale, numbers)
    heights = outcome.positions
    axes.plot(places, heights, "o", color=TRAIN_COLOUR, ms=5, mec="white", mew=0.5, alpha=0.85, label="trial")
    for place in np.unique(scale.positions[scale.strips]):
        there, half = heights[scale.positions == place], 0.34 * scale.gap
        if len(there) > 1:
            ends = (place - half, place + half)
            axes.hlines(np.median(there), *ends, color="0.2", lw=1.8, zorder=3, label="median of a choice")
    axes.plot(
        places[best], heights[best], "o", color=VAL_COLOUR, ms=8.5, mec="white", mew=0.8, zorder=4, label="best trial"
    )
    labels = list(scale.ticks.values())
    crowded = sum(map(len, labels)) + 2 * len(labels) > 36
    turned: dict[str, Any] = (
        {"rotation": 35, "ha": "right"} if len(labels) <= 8 else {"rotation": 90, "ha": "right", "va": "center"}
    )
    size = 8 if len(labels) <= 12 else 5.5
    axes.set_xticks(list(scale.ticks), labels, fontsize=size, rotation_mode="anchor", **(turned if crowded else {}))
    axes.set_xlim(scale.limits)
    _tidy(axes)


def _draw_axis(axes: Axes, column: int, name: str, scale: Scale, is_last: bool) -> None:
    axes.vlines(column, 0, 1, color="0.25", lw=1, zorder=5)
    size = 8 if len(scale.ticks) <= 16 else 5.5
    patch = {"facecolor": "white", "alpha": 0.72, "edgecolor": "none", "pad": 0.8}
    heights = share_of_axis(np.array(list(scale.ticks)), scale)
    for text, height in zip(scale.ticks.values(), heights, strict=True):
        start = column + 0.06 if is_last else column - 0.035
        place, side = (start + 0.06, "left") if is_last else (start - 0.025, "right")
        axes.hlines(height, start, start + 0.035, color="0.25", lw=1, zorder=5)
        axes.text(place, height, text, ha=side, va="center", fontsize=size, color="0.1", bbox=patch, zorder=6)
    title = textwrap.fill(_spaced(name), 13)
    axes.text(column, 1.03, title, ha="center", va="bottom", fontsize=9.5, weight="bold" if is_last else "normal")


def _smooth(heights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """A curve through the heights at 0, 1, 2, ... level at each of them: easier to follow than corners."""
    steps = np.linspace(0, 1, 24, endpoint=False)
    rise = steps**2 * (3 - 2 * steps)
    curve = (heights[:-1, None] + np.diff(heights)[:, None] * rise).ravel()
    along = (np.arange(len(heights) - 1)[:, None] + steps).ravel()
    return np.append(along, len(heights) - 1), np.append(curve, heights[-1])


def _spaced(name: str) -> str:
    return shorten(name.replace("_", " "), 30)


def _objective_text(objective: Objective) -> str:
    return OBJECTIVES[objective] if objective == "val_accuracy" else f"{OBJECTIVES[objective]} (lower is better)"


def _tidy(axes: Axes) -> None:
    axes.grid(alpha=0.25)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)


def _sentence(text: str) -> Figure:
    figure = Figure(figsize=(6, 1.6))
    figure.text(0.5, 0.5, text, ha="center", va="center", fontsize=11, color="0.35")
    return figure
