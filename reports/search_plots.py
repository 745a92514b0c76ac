"""The figures of a search and of a ranking. Each function returns a matplotlib Figure; nothing is written here.

The figures of a search take the table of its trials, a row each in the order they ran: `trial` (from 1), `status`
('done' or 'failed'), `val_accuracy`, `val_loss` (NaN where failed), `seconds`, and a column per hyperparameter. A trial
without a finite objective counts as failed.
"""

import textwrap
from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter
from sklearn.compose import make_column_transformer
from sklearn.ensemble import RandomForestRegressor
from sklearn.inspection import permutation_importance
from sklearn.model_selection import KFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder

from app.config import Objective
from reports.page import number, percent
from reports.plots import TRAIN_COLOUR, VAL_COLOUR, shorten, tidy
from reports.search_scales import OBJECTIVES, has_no_number, objective_scale, scale_of, sign_of, spread_out

LEAST_TRIALS = 10
"""Finished trials that importances take."""
FOLDS = 5
NUM_TREES = 60
SHUFFLES = 5
WORSE_TO_BETTER = LinearSegmentedColormap.from_list(
    "trials", [(0, "#e3e9ee"), (0.5, "#b3c7d8"), (0.8, "#4f7ba3"), (1, "#17324d")]
)


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
        scale, best, sign = objective_scale(finished, objective), _best(finished, objective), sign_of(objective)
        numbers = finished["trial"].to_numpy()
        so_far = np.maximum.accumulate(scale.places * sign) * sign
        axes.step([*numbers, last], [*so_far, so_far[-1]], where="post", color=VAL_COLOUR, label="best so far")
        axes.plot(numbers, scale.places, "o", color=TRAIN_COLOUR, ms=6, mec="white", mew=0.6, label="trial")
        axes.plot(numbers[best], scale.places[best], "o", color=VAL_COLOUR, ms=10, mec="white", label="best trial")
        reached = finished[objective].iloc[best]
        reached = percent(reached, 2) if objective == "val_accuracy" else number(reached, 4)
        axes.set_title(f"Best: {reached} in trial {numbers[best]}", loc="left", fontsize=11)
        axes.set_yticks(list(scale.ticks), scale.ticks.values())
        axes.set_ylim(scale.limits)
    failed = trials["trial"][~trials["trial"].isin(finished["trial"])]
    if len(failed):
        bottom = axes.get_xaxis_transform()
        axes.plot(failed, np.zeros(len(failed)), "x", color="0.25", transform=bottom, clip_on=False, label="failed")
    axes.set(xlabel="trial", ylabel=_objective_text(objective), xlim=(0.4, last + 0.6))
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1, steps=[1, 2, 5, 10]))
    tidy(axes)
    axes.legend(frameon=False, ncols=4, loc="lower right", bbox_to_anchor=(1, 1), borderaxespad=0, fontsize=9)
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
    outcome, best = objective_scale(finished, objective), _best(finished, objective)
    for axes, name in zip(panels.ravel(), hyperparameters, strict=False):
        scale = scale_of(finished[name])
        places = spread_out(scale, finished["trial"].to_numpy())
        axes.plot(places, outcome.places, "o", color=TRAIN_COLOUR, ms=5, mec="white", mew=0.5, label="trial")
        if scale.is_choice:
            medians = pd.Series(outcome.places).groupby(scale.places).median()
            ends = medians.index - 0.34, medians.index + 0.34
            axes.hlines(medians, *ends, color="0.2", lw=1.8, zorder=3, label="median of a choice")
        axes.plot(places[best], outcome.places[best], "o", color=VAL_COLOUR, ms=8, mec="white", zorder=4, label="best")
        texts = list(scale.ticks.values())
        angle = 0 if sum(map(len, texts)) + 2 * len(texts) <= 36 else 35 if len(texts) <= 8 else 90
        alignment = {"rotation_mode": "anchor", "ha": "right", "va": "center"} if angle else {}
        size = 8 if len(texts) <= 12 else 5.5
        axes.set_xticks(list(scale.ticks), texts, fontsize=size, rotation=angle, **alignment)
        axes.set_xlim(scale.limits)
        axes.set_title(_spaced(name), loc="left", fontsize=10)
        tidy(axes)
    for axes in panels.ravel()[len(hyperparameters) :]:
        axes.axis("off")
    for axes in panels[:, 0]:
        axes.set_yticks(list(outcome.ticks), outcome.ticks.values(), fontsize=8)
        axes.set_ylim(outcome.limits)
    figure.supylabel(_objective_text(objective), fontsize=10)
    shown = {
        label: handle
        for axes in panels.ravel()
        for handle, label in zip(*axes.get_legend_handles_labels(), strict=True)
    }
    figure.legend(list(shown.values()), list(shown), loc="outside upper right", ncols=3, frameon=False, fontsize=9)
    return figure


def parallel_coordinates(trials: pd.DataFrame, hyperparameters: Sequence[str], objective: Objective) -> Figure:
    """A line per finished trial through the hyperparameters that varied to its objective: the darker, the better."""
    finished = finished_trials(trials, objective)
    if finished.empty:
        return _sentence("No trial has finished.")
    scales = [*(scale_of(finished[name]) for name in hyperparameters), objective_scale(finished, objective)]
    numbers = finished["trial"].to_numpy()
    heights = np.stack([scale.share(spread_out(scale, numbers)) for scale in scales], axis=1)
    figure = Figure(figsize=(max(1.35 * len(scales) + 0.6, 6), 5.2), layout="constrained")
    axes = figure.subplots()
    axes.axis("off")
    goodness = finished[objective].to_numpy(float) * sign_of(objective)
    *others, best = sorted(range(len(finished)), key=lambda row: (goodness[row], -row))
    shade = heights[:, -1] if objective == "val_accuracy" else 1 - heights[:, -1]
    for row in others:
        axes.plot(heights[row], color=WORSE_TO_BETTER(shade[row]), lw=1.3, alpha=0.9)
    axes.plot(heights[best], color=VAL_COLOUR, lw=2.8, zorder=4)
    for column, (name, scale) in enumerate(zip([*hyperparameters, OBJECTIVES[objective]], scales, strict=True)):
        axes.vlines(column, 0, 1, color="0.25", lw=1, zorder=5)
        size = 8 if len(scale.ticks) <= 16 else 5.5
        patch = {"facecolor": "white", "alpha": 0.72, "edgecolor": "none", "pad": 0.8}
        is_last = column == len(hyperparameters)
        place, side = (column + 0.06, "left") if is_last else (column - 0.06, "right")
        for height, text in zip(scale.share(np.array(list(scale.ticks))), scale.ticks.values(), strict=True):
            axes.hlines(height, column, place, color="0.25", lw=1, zorder=5)
            axes.text(place, height, text, ha=side, va="center", fontsize=size, bbox=patch, zorder=6)
        title, weight = textwrap.fill(_spaced(name), 13), "bold" if is_last else "normal"
        axes.text(column, 1.04, title, ha="center", va="bottom", fontsize=9.5, weight=weight)
    axes.set(xlim=(-0.55, len(scales) - 0.45), ylim=(-0.03, 1.03))
    title = f"{len(finished)} trials: the darker, the better; in orange the best, trial {numbers[best]}"
    axes.set_title(title if others else "1 trial", loc="left", fontsize=11, pad=36)
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
    """How much the objective depends on each hyperparameter: permutation importance of a random forest (Breiman 2001).

    It is measured on trials that the forest was not fitted to (five folds), as a forest explains any noise it has seen.

    Returns:
        A row per `hyperparameter`, the most important first. `importance` is the growth of the mean squared error when
        its values are shuffled, as a multiple of the objective's variance, and at least 0; `spread` is its standard
        error over the folds. No rows with fewer than `LEAST_TRIALS` finished trials.
    """
    finished = finished_trials(trials, objective)
    if len(finished) < LEAST_TRIALS or not hyperparameters:
        return pd.DataFrame({"hyperparameter": [], "importance": [], "spread": []})
    inputs = np.stack([scale_of(finished[name]).places for name in hyperparameters], axis=1)
    words = [column for column, name in enumerate(hyperparameters) if has_no_number(finished[name])]
    outcome = objective_scale(finished, objective).places
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
    cheaper_best = [accuracy[milliseconds < cost].max() for cost in milliseconds]  # NaN for the cheapest
    is_front = ~(cheaper_best >= accuracy)
    colours = np.where(is_front, VAL_COLOUR, TRAIN_COLOUR)
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
    values = pd.to_numeric(trials[objective], errors="coerce").to_numpy(float, na_value=np.nan)
    return trials[(trials["status"] == "done").to_numpy(bool) & np.isfinite(values)]


def _best(finished: pd.DataFrame, objective: Objective) -> int:
    """The row of the first trial with the best objective."""
    return int(np.argmax(finished[objective].to_numpy(float) * sign_of(objective)))


def _spaced(name: str) -> str:
    return shorten(name.replace("_", " "), 30)


def _objective_text(objective: Objective) -> str:
    return OBJECTIVES[objective] if objective == "val_accuracy" else f"{OBJECTIVES[objective]} (lower is better)"


def _sentence(text: str) -> Figure:
    figure = Figure(figsize=(6, 1.6))
    figure.text(0.5, 0.5, text, ha="center", va="center", fontsize=11, color="0.35")
    return figure
