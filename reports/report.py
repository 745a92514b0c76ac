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
from reports.curves import class_curves
from reports.detection import Beside, compare
from reports.detection_sections import TILES, detection_verdict
from reports.page import write_page
from reports.per_class import truth_and_answers
from reports.sections import Facts, make_sections
from reports.suspects import find_label_errors
from reports.verdict import Leaks, Verdict, baseline_bars, reach_verdict
from tasks.metrics import all_metrics
from tasks.table import classes_of


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
    split = choose_measured(outputs)
    compared_values, train = data.kind.compared_values, data.splits["train"]
    measured = np.concatenate([np.zeros(0, int), *(np.setdiff1d(data.splits[each], train) for each in outputs)])
    copies = find_near_duplicates(data.signatures, compared_values, data.groups, measured, train, data.least_score)
    leaks, errors, curves = _find_leaks(data, outputs, split, copies), {}, {}
    compared: list[Beside] = []
    if data.task.has_boxes:
        compared = [] if split is None else compare(data, split, outputs[split])
        verdict = detection_verdict(record, data, split, compared, leaks)
    else:
        task = classes_of(data.task)
        errors = {
            each: find_label_errors(data.targets[data.splits[each]], found, task) for each, found in outputs.items()
        }
        if split is not None:
            curves = class_curves(data.targets[data.splits[split]], outputs[split], data.class_names, task)
        verdict = reach_verdict(record, task, data.kind, leaks, data.cautions)
    summary = {"verdict": verdict._asdict(), **leaks._asdict(), "label_errors": sum(map(len, errors.values()))}
    write_json(folder / "report.json", summary)
    facts = Facts(
        folder, data, outputs, record, model, config, history, split or "val", curves, copies, errors, compared
    )
    sections = make_sections(facts)
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
        metrics=TILES if data.task.has_boxes else all_metrics(),
        leading=data.task.leading_figure,
        bars=[] if data.task.has_boxes else _bars(verdict, record),
        sections=sections,
        tables=sorted(path.name for path in folder.glob("*.csv")),
    )


def _find_leaks(
    data: Data, outputs: dict[Split, np.ndarray], split: Split | None, copies: list[NearDuplicate]
) -> Leaks:
    """Counts measured examples that look like a training example, and measures the accuracy without them."""
    if split is None:
        return Leaks()
    alike = [pair.evaluated for pair in copies]
    suspected, without = np.isin(data.splits[split], alike), None
    if not data.task.has_boxes:
        truth, predicted = truth_and_answers(data, outputs[split], split)
        right = (truth == predicted).all(axis=1)[~suspected]
        without = float(right.mean()) if suspected.any() and len(right) else None
    in_val = int(np.isin(data.splits["val"], alike).sum()) if split == "test" else 0
    return Leaks(int(suspected.sum()), without, in_val)


def _bars(verdict: Verdict, record: dict[str, Any]) -> list[dict[str, Any]]:
    """Returns the accuracy of the model and of simple methods."""
    if verdict.split is None:
        return []
    model = {
        "name": "accuracy of this model" if verdict.detail else "this model",
        "value": verdict.accuracy,
        "interval": verdict.interval,
    }
    return [model, *baseline_bars(record["baseline"])]
