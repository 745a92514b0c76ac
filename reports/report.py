"""Writes the page of a run, `report.html`: how good the model is, its mistakes, and possible errors in the data."""

from pathlib import Path
from typing import Any

import keras
import numpy as np
import pandas as pd

from app.config import TrainConfig
from app.files import write_json
from data.near_duplicates import NearDuplicate, find_near_duplicates
from data.prepare import Data
from data.sources import Split, choose_measured
from reports.by_task import reporting
from reports.facts import Facts, Leaks
from reports.page import write_page
from reports.sections import make_sections
from reports.verdict import Verdict, baseline_bars


def write_report(
    folder: Path,
    data: Data,
    outputs: dict[Split, np.ndarray],
    record: dict[str, Any],
    model: keras.Model,
    config: TrainConfig,
    history: pd.DataFrame,
) -> Path:
    """Writes `report.html`, `report.json`, and all tables and figures of the page that are not in the folder yet.

    Args:
        folder: the run folder, with its `environment.json`.
        data: examples, labels and splits.
        outputs: float32 (n, num_outputs) for each measured split, in the order of `data.splits`; may be empty.
        record: the content of `metrics.json`.
        model: the trained model.
        config: complete settings.
        history: the table of `history.csv`; may be empty.

    Returns:
        Path of the page.
    """
    split = choose_measured({each: rows for each, rows in outputs.items() if record[each] is not None})
    compared_values, train = data.kind.compared_values, data.splits["train"]
    measured = np.concatenate([np.zeros(0, int), *(np.setdiff1d(data.splits[each], train) for each in outputs)])
    copies = find_near_duplicates(data.signatures, compared_values, data.groups, measured, train, data.least_score)
    of_task = reporting(data.task)
    found = of_task.examine(data, outputs, split)
    leaks = _find_leaks(data, split, copies, found.right)
    facts = Facts(folder, data, outputs, record, model, config, history, split or "val", copies, leaks, found)
    verdict = of_task.reach_verdict(record, data.task, data.kind, facts)
    num_errors = sum(map(len, (found.label_errors or {}).values()))
    write_json(folder / "report.json", {"verdict": verdict._asdict(), **leaks._asdict(), "label_errors": num_errors})
    return write_page(
        folder / "report.html",
        "report.html.j2",
        name=folder.name,
        data=data,
        verdict=verdict,
        split=split,
        kind="validation" if split == "val" else split,
        noun=data.kind.noun,
        nouns=data.kind.nouns,
        record=record,
        metrics=of_task.metrics(),
        leading=data.task.leading_figure,
        bars=_bars(verdict, record),
        sections=make_sections(facts),
        tables=sorted(path.name for path in folder.glob("*.csv")),
    )


def _find_leaks(data: Data, split: Split | None, copies: list[NearDuplicate], right: np.ndarray | None) -> Leaks:
    """Counts measured examples that look like a training example, and measures the accuracy without them."""
    if split is None:
        return Leaks()
    alike = [pair.evaluated for pair in copies]
    suspected, without = np.isin(data.splits[split], alike), None
    if right is not None and suspected.any() and not suspected.all():
        without = float(right[~suspected].mean())
    in_val = int(np.isin(data.splits["val"], alike).sum()) if split == "test" else 0
    return Leaks(int(suspected.sum()), without, in_val)


def _bars(verdict: Verdict, record: dict[str, Any]) -> list[dict[str, Any]]:
    """Returns the accuracy of the model and of simple methods, if there are any."""
    if verdict.split is None or not record["baseline"]:
        return []
    model = {
        "name": "accuracy of this model" if verdict.detail else "this model",
        "value": verdict.accuracy,
        "interval": verdict.interval,
    }
    return [model, *baseline_bars(record["baseline"])]
