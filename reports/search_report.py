"""The page of a search, `report.html`: what won, what mattered, and how far the result can be trusted."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from app.config import Objective
from app.files import read_json
from app.terminal import common_reasons
from data.kinds import find_kind
from reports.page import inline_svg, write_page
from reports.search_plots import OBJECTIVES, Hyperparameters, hyperparameter_effects, ranked, search_progress
from reports.verdict import Verdict, baseline_bars, reach_verdict
from reports.writer import write_figure
from tasks.table import TASKS

TRIALS_SHOWN = 20


def write_search_report(folder: Path, trials: pd.DataFrame, hyperparameters: Hyperparameters, repeats: int = 0) -> Path:
    """Writes `report.html` of a finished search, and its figures.

    Args:
        folder: the search folder, with `search.json`, `best_config.json` and the winner's run folder `best/`.
        trials: the table of `trials.csv`; NaN for settings that a trial did not use.
        hyperparameters: the columns that varied, and their scales.
        repeats: trials that finalists were given beside their first.

    Returns:
        Path of the page.
    """
    search = read_json(folder / "search.json")
    record = read_json(folder / "best" / "metrics.json")
    facts = read_json(folder / "best" / "model.json")
    kind = find_kind(facts["kind"])
    objective: Objective = search["config"]["objective"]
    done, failed = trials[trials["status"] == "done"], trials[trials["status"] != "done"]
    verdict = reach_verdict(record, TASKS[facts["task"]], kind)
    figures = {"progress": search_progress(trials, objective)}
    if hyperparameters:
        figures["effects"] = hyperparameter_effects(trials, hyperparameters, objective)
    for name, figure in figures.items():
        write_figure(folder / "figures" / f"{name}.png", figure)
    best, order = search["best"]["trial"], ranked(trials, objective)
    # The winner is shown even where finalists chose another than the first.
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
        nouns=kind.nouns,
        objective=OBJECTIVES[objective],
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


def _of_search(verdict: Verdict, trials: int) -> Verdict:
    if verdict.split is None:
        return verdict
    best = f"The best of {trials:,} trials" if trials > 1 else "The one trial that finished"
    return verdict._replace(sentence=f"{best}: {verdict.sentence[0].lower()}{verdict.sentence[1:]}")


def _bars(verdict: Verdict, record: dict[str, Any], search: dict[str, Any]) -> list[dict[str, Any]]:
    """The winner on each split, what it had in the search, and what simple methods reach."""
    bars = [
        {"name": f"winner, {split}", "value": record[split]["accuracy"], "interval": record[split]["accuracy_ci95"]}
        for split in ("test", "val")
        if record[split]
    ]
    bars.append({"name": "its trial, val", "value": search["best"]["val_accuracy"], "interval": None})
    return bars if verdict.split is None else bars + baseline_bars(record["baseline"])
