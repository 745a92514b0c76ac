"""The figures of a search and of a ranking. Each function returns a matplotlib Figure; nothing is written here.

The figures of a search take the table of its trials, a row each in the order they ran: `trial` (from 1), `status`
('done' or 'failed'), `val_accuracy`, `val_loss` (NaN where failed), `seconds`, and a column per hyperparameter. A trial
without a finite objective counts as failed.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, MaxNLocator, NullLocator, PercentFormatter
from sklearn.compose import make_column_transformer
from sklearn.ensemble import RandomForestRegressor
from sklearn.inspection import permutation_importance
from sklearn.model_selection import KFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder

from app.config import Objective
from reports.page import SPACE, number, percent
from reports.plots import TRAIN_COLOUR, VAL_COLOUR, shorten, tidy

OBJECTIVES = {"val_accuracy": "validation accuracy", "val_loss": "validation loss"}
FAR_OFF = 3.0
"""Trials worse than the worse quartile by this many interquartile ranges are shown at the edge of a figure."""
MOST_CHOICES = 6
"""Numbers with at most this many different values are shown as choices, if some were tried more than once."""
LOG_SPAN = 20
"""Positive fractions whose largest is more than this many times the smallest get a logarithmic axis."""
LINEAR = ("dropout",)
"""Hyperparameters that never get one: the smallest values of a fraction matter least."""
GOLDEN_RATIO = 0.618034
LEAST_TRIALS = 10
"""Finished trials that importances take."""
FOLDS = 5
NUM_TREES = 60
SHUFFLES = 5


class Scale(NamedTuple):
    """Places of the trials along the axis of a hyperparameter."""

    places: np.ndarray
    """float (num_trials,): values, or numbers of choices; NaN where a trial has no use for the hyperparameter."""
    choices: list[str]
    """Their names in order; empty for numbers."""
    is_log: bool


def search_progress(trials: pd.DataFrame, objective: Objective) -> Figure:
    """The objective of each trial, the best so far, and the failed ones as crosses on the axis."""
    if trials.empty:
        return _sentence("No trials yet.")
    figure = Figure(figsize=(9, 4), layout="constrained")
    axes = figure.subplots()
    finished, last = finished_trials(trials, objective), trials["trial"].max()
    if finished.empty:
        axes.set_title("No trial has finished.", loc="left", fontsize=11)
        axes.set_yticks([])
    else:
        best, numbers = _best(finished, objective), finished["trial"].to_numpy()
        values = finished[objective].astype(float)
        so_far = values.cummax() if objective == "val_accuracy" else values.cummin()
        heights = _draw_trials(axes, numbers, finished, objective)
        so_far = np.clip(so_far, heights.min(), heights.max())
        axes.step([*numbers, last], [*so_far, so_far.iloc[-1]], where="post", color=VAL_COLOUR, label="best so far")
        reached = percent(values.iloc[best], 2) if objective == "val_accuracy" else number(values.iloc[best], 4)
        axes.set_title(f"Best: {reached} in trial {numbers[best]}", loc="left", fontsize=11)
    failed = trials["trial"][~trials["trial"].isin(finished["trial"])]
    if len(failed):
        bottom = axes.get_xaxis_transform()
        axes.plot(failed, np.zeros(len(failed)), "x", color="0.25", transform=bottom, clip_on=False, label="failed")
    axes.set(xlabel="trial", ylabel=_objective_text(objective), xlim=(0.4, last + 0.6))
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1, steps=[1, 2, 5, 10]))
    axes.legend(frameon=False, ncols=5, loc="lower right", bbox_to_anchor=(1, 1), borderaxespad=0, fontsize=9)
    return figure


def hyperparameter_effects(trials: pd.DataFrame, hyperparameters: Sequence[str], objective: Objective) -> Figure:
    """A panel per hyperparameter that varied: the objective of each finished trial by the value it was run with."""
    finished = finished_trials(trials, objective)
    if finished.empty or not hyperparameters:
        return _sentence("No trial has finished." if finished.empty else "No hyperparameter varied.")
    columns = 3 if len(hyperparameters) in (5, 6, 9) else min(len(hyperparameters), 4)
    rows = -(-len(hyperparameters) // columns)
    figure = Figure(figsize=(max(2.9 * columns + 0.6, 6), 2.7 * rows + 0.5), layout="constrained")
    panels = figure.subplots(rows, columns, sharey=True, squeeze=False)
    shown: dict[str, Artist] = {}
    for axes, name in zip(panels.ravel(), hyperparameters, strict=False):
        scale = scale_of(finished[name])
        if scale.choices:
            # Trials of one choice are moved apart, the same trial always alike.
            apart = (finished["trial"].to_numpy() * GOLDEN_RATIO % 1 - 0.5) * 0.55
            heights = _draw_trials(axes, scale.places + apart, finished, objective)
            medians = pd.Series(heights).groupby(scale.places).median()
            ends = medians.index - 0.34, medians.index + 0.34
            axes.hlines(medians, *ends, color="0.2", lw=1.8, zorder=3, label="median of a choice")
            texts = [shorten(choice, 18) for choice in scale.choices]
            angle = 0 if sum(map(len, texts)) + 2 * len(texts) <= 36 else 35 if len(texts) <= 8 else 90
            alignment = {"rotation_mode": "anchor", "ha": "right", "va": "center"} if angle else {}
            axes.set_xticks(range(len(texts)), texts, rotation=angle, **alignment)
        else:
            _draw_trials(axes, scale.places, finished, objective)
            axes.xaxis.set_major_locator(MaxNLocator(5))
            if scale.is_log:
                axes.set_xscale("log")
                axes.xaxis.set_major_locator(LogLocator(subs=(1, 3)))
                axes.xaxis.set_minor_locator(NullLocator())
                axes.tick_params("x", rotation=35)
            axes.xaxis.set_major_formatter("{x:g}")
        axes.tick_params(labelsize=8)
        axes.set_title(_spaced(name), loc="left", fontsize=10)
        shown |= {label: handle for handle, label in zip(*axes.get_legend_handles_labels(), strict=True)}
    for axes in panels.ravel()[len(hyperparameters) :]:
        axes.axis("off")
    figure.supylabel(_objective_text(objective), fontsize=10)
    figure.legend(list(shown.values()), list(shown), loc="outside upper right", ncols=4, frameon=False, fontsize=9)
    return figure


def hyperparameter_importance(trials: pd.DataFrame, hyperparameters: Sequence[str], objective: Objective) -> Figure:
    """The importances of `importance_table` as bars, or a sentence where there are too few trials for them."""
    table = importance_table(trials, hyperparameters, objective)
    if table.empty:
        count = len(finished_trials(trials, objective))
        few = f"Importances take at least {LEAST_TRIALS} finished trials; there are {count}."
        return _sentence(few if count < LEAST_TRIALS else "No hyperparameter varied.")
    if not table["importance"].any():
        return _sentence(f"No hyperparameter explains the {OBJECTIVES[objective]} of these trials.")
    figure = Figure(figsize=(8, 0.36 * len(table) + 1.7), layout="constrained")
    axes = figure.subplots()
    whiskers = [np.minimum(table["spread"], table["importance"]), table["spread"]]
    style = {"ecolor": "0.3", "elinewidth": 1.1, "capsize": 2.5}
    names = [_spaced(name) for name in table["hyperparameter"]]
    axes.barh(names, table["importance"], 0.62, color=TRAIN_COLOUR, xerr=whiskers, error_kw=style)
    axes.invert_yaxis()
    axes.set_xlabel(f"how much worse the {OBJECTIVES[objective]} is predicted without it", color="0.3", fontsize=9)
    axes.set_title("What mattered: a rough guide", loc="left", fontsize=11)
    axes.set_xlim(0, None)
    tidy(axes)
    axes.grid(visible=False, axis="y")
    axes.tick_params(axis="y", length=0)
    return figure


def importance_table(trials: pd.DataFrame, hyperparameters: Sequence[str], objective: Objective) -> pd.DataFrame:
    """Measures how much each hyperparameter matters: permutation importance of a random forest (Breiman, 2001).

    It is measured on trials that the forest was not fitted to (five folds), as a forest explains any noise it has seen.

    Returns:
        A row per `hyperparameter`, the most important first. `importance` is the growth of the mean squared error when
        its values are shuffled, as a multiple of the objective's variance, and at least 0; `spread` is its standard
        error over the folds. No rows with fewer than `LEAST_TRIALS` finished trials.
    """
    finished = finished_trials(trials, objective)
    if len(finished) < LEAST_TRIALS or not hyperparameters:
        return pd.DataFrame({"hyperparameter": [], "importance": [], "spread": []})
    scales = [scale_of(finished[name]) for name in hyperparameters]
    inputs = np.stack([np.log10(scale.places) if scale.is_log else scale.places for scale in scales], axis=1)
    inputs = np.nan_to_num(inputs, nan=-100)  # what a trial has no use for lies below all values
    words = [column for column, name in enumerate(hyperparameters) if _numbers(finished[name]).isna().all()]
    outcome, _ = shown_values(finished, objective)
    by_fold = np.zeros((FOLDS, len(hyperparameters)))
    # Equal values have a variance of 0 or, by rounding, slightly more.
    if np.ptp(outcome) > 1e-9:
        for fold, (train, held_out) in enumerate(KFold(FOLDS, shuffle=True, random_state=0).split(inputs)):
            encoder = make_column_transformer(
                (OneHotEncoder(handle_unknown="ignore", sparse_output=False), words), remainder="passthrough"
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


def backbone_ranking(ranking: pd.DataFrame, num_val: int) -> Figure:
    """Accuracy and time of each backbone side by side; in orange those that no other beats in both.

    Args:
        ranking: the table of `ranking.csv`, the best first.
        num_val: examples of the val split.
    """
    figure = Figure(figsize=(9, 0.3 * len(ranking) + 1.4), layout="constrained")
    left, right = figure.subplots(1, 2, sharey=True, width_ratios=(3, 2))
    accuracy, rows = ranking["ridge_accuracy"], np.arange(len(ranking))
    milliseconds = 1000 / ranking["pictures_per_second"]
    best_of_faster = np.array([accuracy[milliseconds < cost].max() for cost in milliseconds])  # NaN for the fastest
    colours = np.where(best_of_faster >= accuracy, TRAIN_COLOUR, VAL_COLOUR)
    left.hlines(rows, ranking["ridge_low"], ranking["ridge_high"], color="0.8", lw=3)
    left.scatter(accuracy, rows, 36, colours, zorder=3)
    left.xaxis.set_major_formatter(PercentFormatter(1, symbol=" %"))
    left.set_xlabel(f"accuracy on {num_val:,} val examples, with 95 % interval")
    left.set_yticks(rows, ranking["backbone"])
    left.set_ylim(len(ranking) - 0.4, -0.6)
    bars = right.barh(rows, milliseconds, 0.5, color=colours)
    right.bar_label(bars, [f"{value:.3g}" for value in milliseconds], padding=3, fontsize=8)
    right.set_xlabel("milliseconds per example")
    right.margins(x=0.15)
    for axes in (left, right):
        tidy(axes)
        axes.tick_params(axis="y", length=0)
    figure.suptitle("Orange: no other is both better and faster", x=0.01, ha="left", fontsize=10)
    return figure


def finished_trials(trials: pd.DataFrame, objective: Objective) -> pd.DataFrame:
    """The trials that have an objective."""
    return trials[((trials["status"] == "done") & np.isfinite(_numbers(trials[objective]))).to_numpy(bool)]


def scale_of(values: pd.Series) -> Scale:
    """Decides whether a hyperparameter is shown as numbers or as choices; numbers come before words, after 'none'."""
    numbers, present = _numbers(values), values.notna()
    different = numbers[present].nunique(dropna=False)
    if different > 1 and numbers[present].notna().all() and (different > MOST_CHOICES or different == present.sum()):
        low, high = numbers.min(), numbers.max()
        is_whole = (numbers[present] % 1 == 0).all()
        is_log = bool(low > 0 and high > LOG_SPAN * low and not is_whole and values.name not in LINEAR)
        return Scale(numbers.to_numpy(), [], is_log)
    texts = values.where(numbers.isna(), numbers.map("{:.3g}".format)).astype(object)
    rank = dict(zip(texts, zip(texts != "none", numbers.fillna(np.inf), texts.astype(str), strict=True), strict=True))
    choices = sorted((text for text in rank if text == text), key=lambda text: rank[text])
    places = texts.map({text: float(index) for index, text in enumerate(choices)})
    return Scale(places.to_numpy(float), list(map(str, choices)), False)


def shown_values(finished: pd.DataFrame, objective: Objective) -> tuple[np.ndarray, np.ndarray]:
    """The objective of each trial, and which are so much worse than most that they get the worst value shown."""
    values, sign = finished[objective].to_numpy(float), 1 if objective == "val_accuracy" else -1
    quarter, three_quarters = np.quantile(sign * values, (0.25, 0.75))
    is_far_off = sign * values < quarter - FAR_OFF * (three_quarters - quarter)
    if three_quarters == quarter or not is_far_off.any():
        return values, np.zeros(len(values), bool)
    edge = sign * (sign * values[~is_far_off]).min() - sign * (three_quarters - quarter)
    return np.where(is_far_off, edge, values), is_far_off


def _draw_trials(axes: Axes, places: np.ndarray, finished: pd.DataFrame, objective: Objective) -> np.ndarray:
    """Draws a dot per trial, and returns their heights."""
    heights, is_far_off = shown_values(finished, objective)
    best = _best(finished, objective)
    axes.plot(
        places[~is_far_off], heights[~is_far_off], "o", color=TRAIN_COLOUR, ms=5.5, mec="white", mew=0.5, label="trial"
    )
    if is_far_off.any():
        marker = "v" if objective == "val_accuracy" else "^"
        axes.plot(places[is_far_off], heights[is_far_off], marker, color="0.5", ms=6, label="far worse than shown")
    axes.plot(places[best], heights[best], "o", color=VAL_COLOUR, ms=9, mec="white", zorder=4, label="best")
    if objective == "val_accuracy":
        axes.yaxis.set_major_formatter(lambda value, _: f"{100 * value:.4g}{SPACE}%")
    tidy(axes)
    return heights


def _best(finished: pd.DataFrame, objective: Objective) -> int:
    """Returns the row of the best trial; ties go to the lower validation loss, as for the winner."""
    losses = finished["val_loss"].to_numpy(float)
    values = losses if objective == "val_loss" else -finished[objective].to_numpy(float)
    return int(np.lexsort([losses, values])[0])


def _numbers(values: pd.Series) -> pd.Series:
    return pd.to_numeric(values, errors="coerce").astype(float)


def _spaced(name: str) -> str:
    return shorten(name.replace("_", " "), 30)


def _objective_text(objective: Objective) -> str:
    return OBJECTIVES[objective] if objective == "val_accuracy" else f"{OBJECTIVES[objective]} (lower is better)"


def _sentence(text: str) -> Figure:
    figure = Figure(figsize=(6, 1.6))
    figure.text(0.5, 0.5, text, ha="center", va="center", fontsize=11, color="0.35")
    return figure
