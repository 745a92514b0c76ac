"""The figures of a search and of a ranking. Each function returns a matplotlib Figure; nothing is written here.

The figures of a search take the table of its trials, a row each in the order they ran: `trial` (from 1), `status`
('done' or 'failed'), `score` (the objective), `val_accuracy`, `val_loss` (NaN where failed), `seconds`, and a column
per hyperparameter.
"""

import math
from collections.abc import Mapping
from typing import Any, Literal, NamedTuple, TypeAlias

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from reports.page import number, percent
from reports.plots import TRAIN_COLOUR, VAL_COLOUR, in_percent, shorten, tidy
from tasks.decision import find_metric
from tasks.detection_metrics import BOX_METRICS, BoxMetric
from tasks.metrics import Metric

MEASURED = ("val_accuracy", "val_loss")
"""Objectives that every epoch measures; others are computed from the outputs of the kept epoch."""
FAR_OFF = 1.5
"""Number of interquartile ranges beyond the worse quartile from which on trials are drawn at the edge (Tukey)."""
GOLDEN_RATIO = 0.618034
MOST_COLUMNS = 4
Hyperparameters: TypeAlias = Mapping[str, Literal["log", "linear"] | None]
"""Hyperparameters that varied, and the scale of each; None for choices."""


class Winner(NamedTuple):
    """The chosen trial, and how good it is on val."""

    trial: int
    """Its number, from 1."""
    score: float
    """Value of the objective; mean over the seeds."""
    val_accuracy: float
    seeds: int = 1
    """Number of seeds that it was trained with; more than 1 for a finalist."""


def winner_of(search: Mapping[str, Any]) -> Winner:
    """Returns the winner of a search: the best finalist by the means over seeds, otherwise the best trial.

    Args:
        search: the content of `search.json`.
    """
    best = (search["finalists"] or [search["best"]])[0]
    return Winner(best["trial"], best["score"], best["val_accuracy"], best.get("seeds", 1))


def ranked(trials: pd.DataFrame, objective: str) -> pd.DataFrame:
    """Sorts the finished trials, the best first; ties go to the lower validation loss, then to the earlier trial."""
    ascending = [objective == "val_loss", True, True]
    done = trials[trials["status"] == "done"]
    return done.sort_values(["score", "val_loss", "trial"], ascending=ascending, kind="stable")


def metric_of(objective: str) -> str:
    """Returns the name in `metrics.json` of the optimised metric."""
    return "log_loss" if objective == "val_loss" else objective.removeprefix("val_")


def figure_of(metric: str) -> Metric | BoxMetric:
    """Returns title and format of a metric of `metrics.json`."""
    return BOX_METRICS[metric] if metric in BOX_METRICS else find_metric(metric)


def objective_title(objective: str) -> str:
    """Returns the title of the objective."""
    return "validation loss" if objective == "val_loss" else f"validation {figure_of(metric_of(objective)).title}"


def score_text(score: float, objective: str) -> str:
    """Returns a value of the objective as text."""
    return percent(score, 2) if figure_of(metric_of(objective)).is_share else number(score, 4)


def search_progress(trials: pd.DataFrame, objective: str, winner: Winner | None = None) -> Figure:
    """Draws the objective of each trial, the best so far, and failed trials as crosses on the axis.

    Args:
        trials: at least one is finished.
        objective: what was optimised.
        winner: the chosen trial, which is marked; None for the best one.
    """
    winner = winner or _best(trials, objective)
    figure = Figure(figsize=(9, 4), layout="constrained")
    axes = figure.subplots()
    finished, failed = (trials[(trials["status"] == "done") == is_done] for is_done in (True, False))
    heights = pd.Series(_draw_trials(axes, finished["trial"].to_numpy(), finished, objective, winner))
    so_far = heights.cummin() if objective == "val_loss" else heights.cummax()
    axes.step(finished["trial"], so_far, where="post", color=VAL_COLOUR, label="best so far")
    if len(failed):
        style: dict[str, Any] = {
            "color": "0.25",
            "transform": axes.get_xaxis_transform(),
            "clip_on": False,
            "label": "failed",
        }
        axes.plot(failed["trial"], np.zeros(len(failed)), "x", **style)
    best = "Best" if winner.seeds == 1 else f"Best mean over {winner.seeds} seeds"
    axes.set_title(f"{best}: {score_text(winner.score, objective)} in trial {winner.trial}", loc="left", fontsize=11)
    axes.set(xlabel="trial", ylabel=objective_title(objective), xlim=(0.4, trials["trial"].max() + 0.6))
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.legend(frameon=False, ncols=5, loc="lower right", bbox_to_anchor=(1, 1), borderaxespad=0, fontsize=9)
    return figure


def hyperparameter_effects(
    trials: pd.DataFrame, hyperparameters: Hyperparameters, objective: str, winner: Winner | None = None
) -> Figure:
    """Draws a panel per hyperparameter: the objective of each finished trial by the value of the hyperparameter.

    Args:
        trials: at least one is finished.
        hyperparameters: at least one.
        objective: what was optimised.
        winner: the chosen trial, which is marked; None for the best one.
    """
    winner = winner or _best(trials, objective)
    finished = trials[trials["status"] == "done"]
    columns = min(len(hyperparameters), MOST_COLUMNS)
    rows = math.ceil(len(hyperparameters) / columns)
    figure = Figure(figsize=(max(2.9 * columns + 0.6, 6), 2.7 * rows + 0.5), layout="constrained")
    panels = figure.subplots(rows, columns, sharey=True, squeeze=False).ravel()
    for axes, (name, scale) in zip(panels, hyperparameters.items(), strict=False):
        values = finished[name]
        if scale is None:
            choices = sorted(values.dropna().unique(), key=_place_of_choice)
            places = values.map({value: place for place, value in enumerate(choices)}).to_numpy(float)
            # Trials with the same choice are moved apart, by a fixed amount for each trial.
            apart = (finished["trial"].to_numpy() * GOLDEN_RATIO % 1 - 0.5) * 0.55
            heights = _draw_trials(axes, places + apart, finished, objective, winner)
            medians = pd.Series(heights).groupby(places).median()
            axes.hlines(medians, medians.index - 0.34, medians.index + 0.34, color="0.2", lw=1.8, zorder=3)
            texts = [shorten(f"{each:.3g}" if isinstance(each, float) else str(each), 18) for each in choices]
            slant = {"rotation": 60, "rotation_mode": "anchor", "ha": "right", "va": "center"}
            axes.set_xticks(range(len(texts)), texts, **slant if len("".join(texts)) > 24 else {})
        else:
            _draw_trials(axes, values.to_numpy(float), finished, objective, winner)
            axes.set_xscale(scale)
            axes.tick_params("x", which="minor", rotation=60)
        axes.tick_params(which="both", labelsize=8)
        axes.set_title(shorten(name.replace("_", " "), 30), loc="left", fontsize=10)
    for axes in panels[len(hyperparameters) :]:
        axes.axis("off")
    figure.supylabel(objective_title(objective), fontsize=10)
    return figure


def backbone_ranking(ranking: pd.DataFrame, num_val: int) -> Figure:
    """Draws accuracy and time of each backbone side by side; orange: no other is better in both.

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
    in_percent(left.xaxis)
    left.set_xlabel(f"accuracy on {num_val:,} val examples, with 95 % interval")
    left.set_yticks(rows, ranking["backbone"])
    left.set_ylim(len(ranking) - 0.4, -0.6)
    right.bar_label(right.barh(rows, milliseconds, 0.5, color=colours), fmt="%.3g", padding=3, fontsize=8)
    right.set_xlabel("milliseconds per example")
    right.margins(x=0.15)
    for axes in (left, right):
        tidy(axes)
        axes.tick_params(axis="y", length=0)
    optimistic = f". The best of {len(ranking)} is optimistic" if len(ranking) > 1 else ""
    figure.suptitle(f"Orange: no other is both better and faster{optimistic}", x=0.01, ha="left", fontsize=10)
    return figure


def _place_of_choice(value: object) -> tuple[bool, float, str]:
    """Sorts choices: 'none', then numbers, then words."""
    number = pd.to_numeric(str(value), errors="coerce")
    return value != "none", math.inf if math.isnan(number) else number, str(value)


def _best(trials: pd.DataFrame, objective: str) -> Winner:
    """Returns the best finished trial."""
    best = ranked(trials, objective).iloc[0]
    return Winner(best["trial"], best["score"], best["val_accuracy"])


def _draw_trials(axes: Axes, places: np.ndarray, finished: pd.DataFrame, objective: str, winner: Winner) -> np.ndarray:
    """Draws a dot per trial, and returns their heights; trials far worse than most are drawn at the edge."""
    higher_is_better = objective != "val_loss"
    values = finished["score"].to_numpy(float)
    quarter, three_quarters = np.quantile(values, (0.25, 0.75))
    reach = FAR_OFF * (three_quarters - quarter) or math.inf
    heights = np.maximum(values, quarter - reach) if higher_is_better else np.minimum(values, three_quarters + reach)
    is_far_off, is_winner = heights != values, (finished["trial"] == winner.trial).to_numpy()
    dots: dict[str, Any] = {"marker": "o", "linestyle": "", "mec": "white"}
    near = ~is_far_off
    axes.plot(places[near], heights[near], **dots, color=TRAIN_COLOUR, ms=5.5, mew=0.5, label="trial")
    if is_far_off.any():
        marker = "v" if higher_is_better else "^"
        axes.plot(places[is_far_off], heights[is_far_off], marker, color="0.5", ms=6, label="far worse than shown")
    label = "best" if winner.seeds == 1 else "best mean"
    axes.plot(places[is_winner], heights[is_winner], **dots, color=VAL_COLOUR, ms=9, zorder=4, label=label)
    if figure_of(metric_of(objective)).is_share:
        in_percent(axes.yaxis)
    tidy(axes)
    return heights
