"""Chooses the thresholds of a finished run again, and rewrites all files that depend on them."""

from typing import Any

import keras
import numpy as np
import pandas as pd

from app.decision import Rule
from app.files import read_json, write_json
from app.run_folder import METRICS_FILE
from app.terminal import attempt, show_stage
from data.prepare import Data
from data.sources import Split
from inference.load import RECORD_FILE
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
    if former != rule.flag:  # without a rule, the likelier class: from 0.5 on
        show_stage("", f"in place of {former}, which 'python evaluate.py {folder} {former}' brings back")
    return data
