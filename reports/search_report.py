"""Writes the page of a search, `report.html`: the winner, the important settings, and how far to trust the result."""

import functools
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from app.files import read_json
from app.terminal import common_reasons, counted, listed
from data.kinds import find_kind
from reports.by_task import reporting
from reports.page import inline_svg, interval, percent, write_page
from reports.search_plots import (
    MEASURED,
    Hyperparameters,
    figure_of,
    hyperparameter_effects,
    metric_of,
    objective_title,
    ranked,
    score_text,
    search_progress,
    winner_of,
)
from reports.verdict import Verdict, baseline_bars
from reports.writer import write_figure
from tasks.table import TASKS

TRIALS_SHOWN = 20


def write_search_report(folder: Path, trials: pd.DataFrame, hyperparameters: Hyperparameters, repeats: int = 0) -> Path:
    """Writes `report.html` of a finished search, and its figures.

    Args:
        folder: the search folder, with `search.json`, `best_config.json` and the winner's run folder `best/`.
        trials: the table of `trials.csv`; NaN for settings that a trial did not use.
        hyperparameters: the columns that varied, and their scales.
        repeats: repeated trials of finalists.

    Returns:
        Path of the page.
    """
    search = read_json(folder / "search.json")
    record = read_json(folder / "best" / "metrics.json")
    facts = read_json(folder / "best" / "model.json")
    kind = find_kind(facts["kind"])
    objective: str = search["config"]["objective"]
    done, failed = trials[trials["status"] == "done"], trials[trials["status"] != "done"]
    task = TASKS[facts["task"]]
    verdict = reporting(task).reach_verdict(record, task, kind)
    winner, order = winner_of(search), ranked(trials, objective)
    figures = {"progress": search_progress(trials, objective, winner)}
    if hyperparameters:
        figures["effects"] = hyperparameter_effects(trials, hyperparameters, objective, winner)
    for name, figure in figures.items():
        write_figure(folder / "figures" / f"{name}.png", figure)
    means = {each["trial"]: each["score"] for each in search["finalists"]}
    # All finalists are shown, as the repeats may choose any of them.
    is_shown = (np.arange(len(order)) < TRIALS_SHOWN) | order["trial"].isin([winner.trial, *means])
    return write_page(
        folder / "report.html",
        "search_report.html.j2",
        name=folder.name,
        search=search,
        record=record,
        verdict=_of_search(verdict, search),
        bars=_bars(verdict, record, search),
        looks=len(done) + repeats,
        repeats=repeats,
        gain=gain_text(search["gain"], objective) if search["gain"] else None,
        val=val_texts(search, objective),
        chosen_from=chosen_from(search),
        means=means,
        listed_means=means and listed([f"{score_text(means[trial], objective)} for trial {trial}" for trial in means]),
        nouns=kind.nouns,
        objective=objective_title(objective),
        has_score=objective not in MEASURED,
        learning=task.measure_of_learning,
        leading=figure_of(task.leading_figure).title,
        score_text=functools.partial(score_text, objective=objective),
        trials=len(trials),
        shown=order[is_shown].to_dict("records"),
        winner=winner,
        settings=read_json(folder / "best_config.json"),
        hyperparameters=list(hyperparameters),
        failed=len(failed),
        reasons=common_reasons(failed["message"]),
        figures={name: inline_svg(figure, name) for name, figure in figures.items()},
        has_report=(folder / "best" / "report.html").is_file(),
    )


def gain_text(gain: dict[str, Any], objective: str) -> str:
    """Describes the gain of a search on the test split over the defaults of `train.py`.

    Args:
        gain: record of the gain in `search.json`.
        objective: objective of the search.
    """
    if "ap50" in gain:
        best, default = (
            f"{percent(gain['ap50'][name])} ({interval(gain['ap50_ci95'][name])}), AP {percent(gain['ap'][name])}"
            for name in ("best", "default")
        )
        return f"test AP50 {best}; of train.py by itself {default}"
    low, high = (100 * bound for bound in gain["difference_ci95"])
    text = f"test accuracy {percent(gain['accuracy']['best'], 2)}, of train.py by itself "
    text += f"{percent(gain['accuracy']['default'], 2)}: a difference of {100 * gain['difference']:+.1f} points, 95 % "
    text += f"interval {low:+.1f} to {high:+.1f}"
    if low <= 0 <= high:
        text += ", so either may be the better"
    if objective == "val_accuracy":
        return text
    metric = metric_of(objective)
    best, default = (
        "undefined" if gain[metric][name] is None else score_text(gain[metric][name], objective)
        for name in ("best", "default")
    )
    return f"{text}; test {figure_of(metric).title} {best} and {default}"


def chosen_from(search: dict[str, Any]) -> str:
    """Returns how many finished trials the winner was chosen from: '5 trials', or '2 finalists of 5 trials'.

    Args:
        search: the content of `search.json`.
    """
    done = counted(search["trials"]["done"], "trial", "trials")
    return f"{counted(len(search['finalists']), 'finalist', 'finalists')} of {done}" if search["finalists"] else done


def val_texts(search: dict[str, Any], objective: str) -> tuple[str, str | None]:
    """Returns the objective of the winner and of `train.py` by itself as texts; the second may be None.

    Args:
        search: the content of `search.json`.
        objective: objective of the search.
    """
    finalists, winner, default = search["finalists"], winner_of(search), search["default"]
    best = score_text(winner.score, objective) + (f" (mean over {winner.seeds} seeds)" if finalists else "")
    if default is None:
        return best, None
    default = next((each for each in finalists if each["trial"] == 1), default)
    seeds = f" (mean over {winner.seeds} seeds)" if "seeds" in default else " (one seed)" if finalists else ""
    return best, score_text(default["score"], objective) + seeds


def _of_search(verdict: Verdict, search: dict[str, Any]) -> Verdict:
    if verdict.split is None:
        return verdict
    best = f"The best of {chosen_from(search)}" if search["trials"]["done"] > 1 else "The one trial that finished"
    return verdict._replace(sentence=f"{best}: {verdict.sentence[0].lower()}{verdict.sentence[1:]}")


def _bars(verdict: Verdict, record: dict[str, Any], search: dict[str, Any]) -> list[dict[str, Any]]:
    """Returns bars: the winner on each split, its score in the search, and simple methods; [] without any."""
    if not record["baseline"]:
        return []
    bars = [
        {"name": f"winner, {split}", "value": record[split]["accuracy"], "interval": record[split]["accuracy_ci95"]}
        for split in ("test", "val")
        if record[split]
    ]
    winner = winner_of(search)
    name = "its trial, val" if winner.seeds == 1 else f"its {winner.seeds} seeds, val"
    bars.append({"name": name, "value": winner.val_accuracy, "interval": None})
    if search["gain"]:
        by_itself = {"name": "train.py by itself, test", "value": search["gain"]["accuracy"]["default"]}
        bars.insert(1, by_itself | {"interval": None})
    return bars if verdict.split is None else bars + baseline_bars(record["baseline"])
