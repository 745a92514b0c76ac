"""Writes the page of a search, `report.html`: the winner, the important settings, and how far to trust the result."""

import functools
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from app.files import read_json
from app.terminal import common_reasons
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
    figures = {"progress": search_progress(trials, objective)}
    if hyperparameters:
        figures["effects"] = hyperparameter_effects(trials, hyperparameters, objective)
    for name, figure in figures.items():
        write_figure(folder / "figures" / f"{name}.png", figure)
    best, order = search["best"]["trial"], ranked(trials, objective)
    # The winner is shown even if the repeats chose another trial than the first.
    is_shown = (np.arange(len(order)) < TRIALS_SHOWN) | (order["trial"] == best)
    return write_page(
        folder / "report.html",
        "search_report.html.j2",
        name=folder.name,
        search=search,
        record=record,
        verdict=_of_search(verdict, len(done)),
        bars=_bars(verdict, record, search),
        looks=len(done) + repeats,
        repeats=repeats,
        gain=gain_text(search["gain"], objective) if search["gain"] else None,
        nouns=kind.nouns,
        objective=objective_title(objective),
        has_score=objective not in MEASURED,
        learning=task.measure_of_learning,
        leading=figure_of(task.leading_figure).title,
        score_text=functools.partial(score_text, objective=objective),
        trials=len(trials),
        shown=order[is_shown].to_dict("records"),
        best=best,
        winner=trials[trials["trial"] == best].iloc[0].to_dict(),
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


def _of_search(verdict: Verdict, trials: int) -> Verdict:
    if verdict.split is None:
        return verdict
    best = f"The best of {trials:,} trials" if trials > 1 else "The one trial that finished"
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
    bars.append({"name": "its trial, val", "value": search["best"]["val_accuracy"], "interval": None})
    if search["gain"]:
        by_itself = {"name": "train.py by itself, test", "value": search["gain"]["accuracy"]["default"]}
        bars.insert(1, by_itself | {"interval": None})
    return bars if verdict.split is None else bars + baseline_bars(record["baseline"])
