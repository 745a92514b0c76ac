"""Chooses the thresholds of a finished run again, and rewrites all files that depend on them."""

import shlex
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pandas as pd

from app.decision import Rule
from app.files import as_read, read_json, write_json
from app.run_folder import METRICS_FILE, exports_of
from app.terminal import attempt, show_stage
from data.prepare import Data
from data.sources import Split
from inference.load import RECORD_FILE, THRESHOLDS_FILE
from inference.run_record import chosen_by, read_metrics
from reports.classification import decide, measure
from reports.decision import decision_lines, decision_record
from reports.evaluation_inputs import EvaluationInputs
from reports.model_card import CARD_FILE, write_card
from reports.report import write_report
from reports.summary import write_predictions
from tasks.table import classes_of


def decide_anew(inputs: EvaluationInputs, model: keras.Model, outputs: dict[Split, np.ndarray], rule: Rule) -> Data:
    """Chooses thresholds on val, and rewrites `model.json`, `metrics.json`, the predictions and the report.

    Args:
        inputs: the run, and its own examples.
        model: model of the run.
        outputs: outputs for each measured split, including val.
        rule: rule that chooses the thresholds.

    Returns:
        The examples, with a task that decides by the thresholds.
    """
    run, data = inputs.run, decide(inputs.data, outputs, rule)
    folder, thresholds = run.folder, data.task.thresholds_of(data.class_names)
    record: dict[str, Any] = read_metrics(run)
    former = chosen_by(record) or f"--threshold {max(classes_of(run.task).thresholds or (0.5,)):.9g}"
    for split, each in outputs.items():
        record[split] = measure(data, split, each)
    record["decision"] = decision_record(data, outputs, rule)
    write_json(folder / RECORD_FILE, {**read_json(folder / RECORD_FILE), "thresholds": thresholds})
    write_json(folder / METRICS_FILE, record)
    write_predictions(folder, data, outputs)
    whole = data._replace(splits=inputs.splits)
    history = pd.read_csv(folder / "history.csv")
    attempt("The report", lambda: write_report(folder, whole, outputs, record, model, run.config, history))
    decided = run._replace(task=data.task)
    attempt("The model card", lambda: write_card(folder / CARD_FILE, decided, record))
    for line in decision_lines(record["decision"]):
        show_stage("decision", line)
    show_stage("decision", f"written to {folder}, where every command takes it from")
    place = shlex.quote(str(folder))
    if former != rule.flag:  # without a rule, the likelier class: from 0.5 on
        show_stage("", f"in place of {former}, which 'python evaluate.py {place} {former}' brings back")
    if old := _exports_with_other(folder, thresholds):
        formats = " ".join(old)
        show_stage("warning", f"{exports_of(folder)} has files that decide by another threshold: {', '.join(old)}")
        show_stage("", f"'python export.py {place} --format {formats}' writes them anew")
    return data


def _exports_with_other(folder: Path, thresholds: dict[str, float]) -> list[str]:
    """Returns the formats to which a run was exported with other thresholds."""
    old = []
    for card in sorted(exports_of(folder).glob(f"*/{CARD_FILE}")):
        path = card.parent / THRESHOLDS_FILE
        if not path.exists() or read_json(path) != as_read(thresholds):
            old.append(card.parent.name)
    return old
