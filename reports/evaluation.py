"""Measures a trained model from its file: on the examples of the run, with the figures of `metrics.json`, or on new
ones."""

from pathlib import Path
from typing import Any

import keras
import numpy as np
import pandas as pd

from app.decision import Rule, check_rule
from app.errors import UsageError
from app.escapes import visible
from app.files import as_read, write_json
from app.terminal import console, counted, progress_bar, show_stage
from data.batches import View
from data.pipeline import input_batches
from data.prepare import Data
from data.sources import Split
from features.forward_pass import BATCH_SIZE
from inference.load import TrainedRun, load_model
from inference.predictor import Predictor
from inference.run_record import is_number, read_metrics, read_predictions
from reports.by_task import reporting
from reports.classification import decide
from reports.decide_anew import decide_anew
from reports.decision import decision_lines, decision_record
from reports.evaluation_inputs import ALL, EvaluationInputs
from reports.writer import write_table


def evaluate(
    inputs: EvaluationInputs,
    json_file: Path | None = None,
    csv_file: Path | None = None,
    rule: Rule | None = None,
) -> dict[str, dict[str, Any]]:
    """Measures a model and prints its metrics.

    Args:
        inputs: the run and the examples.
        json_file: file for the metrics; None writes none.
        csv_file: file for the single predictions, as in a run's `predictions.csv`; None writes none.
        rule: rule by which thresholds are chosen anew on the val split of the run, whose folder is then rewritten; for
            new examples, a threshold for this measurement only. None keeps the thresholds of the run.

    Returns:
        The record M of `metrics.json` for each split; see `tasks.metrics.measure`.
    """
    run, data = inputs.run, inputs.data
    if rule is not None and inputs.own:
        if run.config.data.folds is not None:
            raise UsageError(
                f"{rule.flag} cannot be chosen anew for a run with --folds: the answers of its folds are not computed "
                f"again. Give it to train.py."
            )
        check_rule(rule, len(data.class_names), data.task.multi_label, len(data.splits.get("val", ())))
    model = load_model(run)
    outputs = _predict(model, run, data)
    if rule is not None:
        data = decide_anew(inputs, model, outputs, rule) if inputs.own else _decide_once(data, outputs, rule)
    of_task = reporting(data.task)
    measured: dict[str, dict[str, Any]] = {
        split: found for split in data.splits if (found := of_task.measure(data, split, outputs[split])) is not None
    }
    console.print(of_task.results_table(measured, data.kind.nouns))
    table = of_task.predictions_table(data, outputs)
    changes = f"all {run.kind.nouns} are new" if ALL in data.splits else example_changes(run, table)
    if inputs.own and changes:
        show_stage("changed", f"{changes} since the run; the model may have been trained on the new ones")
    if rule is None and (inputs.own or not changes):
        _show_record(run, measured)
    if json_file is not None:
        about = {"name": data.name, "quarantined": len(data.quarantine), "duplicates": data.duplicates}
        write_json(json_file, {"run": str(run.folder), "data": about, **measured})
        show_stage("figures", str(json_file))
    if csv_file is not None:
        write_table(csv_file, table)
        show_stage("table", str(csv_file))
    return measured


def example_changes(run: TrainedRun, table: pd.DataFrame) -> str:
    """Counts the differences between examples and those in the run's own measurement.

    Args:
        run: the run, whose kind has the nouns.
        table: rows as in `predictions.csv`; splits that the run did not measure are ignored.

    Returns:
        A text like '2 pictures are new, 1 picture is gone'; empty if all have the same path and label.
    """
    recorded = read_predictions(run.folder)
    measured = recorded[recorded["split"].isin(table["split"].unique())]
    known = table["split"].isin(recorded["split"].unique())
    now, then = _labels(table[known]), _labels(measured)
    counts = {
        "new": len(now.keys() - then.keys()),
        "gone": len(then.keys() - now.keys()),
        "labelled differently": sum(now[place] != then[place] for place in now.keys() & then.keys()),
    }
    words = f"{run.kind.noun} is", f"{run.kind.nouns} are"
    return ", ".join(f"{counted(count, *words)} {what}" for what, count in counts.items() if count)


def _labels(table: pd.DataFrame) -> dict[tuple[str, str], str]:
    rows = table[["split", "path", "label"]].map(visible)  # older runs did not escape them
    return {(row.split, row.path): row.label for row in rows.itertuples(index=False)}


def _predict(model: keras.Model, run: TrainedRun, data: Data) -> dict[Split, np.ndarray]:
    predictor = Predictor(model, run.cut)
    outputs: dict[Split, np.ndarray] = {}
    with progress_bar("evaluate", sum(map(len, data.splits.values()))) as advance:
        for split, positions in data.splits.items():
            order = View(data.inputs, positions).shortest_first  # padding is wasted computation
            parts = []
            for batch in input_batches(View(data.inputs, positions[order]), BATCH_SIZE):
                parts.append(predictor(batch))
                advance(len(parts[-1]))
            outputs[split] = np.concatenate(parts)[np.argsort(order)]
    return outputs


def _decide_once(data: Data, outputs: dict[Split, np.ndarray], rule: Rule) -> Data:
    """Returns the data with a threshold for this measurement alone, and shows what it gives."""
    data = decide(data, outputs, rule)
    for line in decision_lines(decision_record(data, outputs, rule) or {}):
        show_stage("decision", line)
    show_stage("decision", "for this measurement; the run keeps its own")
    return data


def _show_record(run: TrainedRun, measured: dict[str, dict[str, Any]]) -> None:
    """Shows which figures differ from `metrics.json`, and which are missing there."""
    recorded = read_metrics(run)
    known = {split: as_read(figures) for split, figures in measured.items() if recorded.get(split)}
    new = list(dict.fromkeys(name for split, now in known.items() for name in now if name not in recorded[split]))
    changed = {split: _changes(now, recorded[split]) for split, now in known.items()}
    equal = [split for split in known if not changed[split]]
    if equal:
        show_stage("record", f"{' and '.join(equal)}: identical to metrics.json")
    for split in known:
        if changed[split]:
            show_stage("record", f"{split} differs from metrics.json: {'; '.join(changed[split])}")
    if new:
        are = "is new" if len(new) == 1 else "are new"
        show_stage("record", f"{' and '.join(new)} {are}: metrics.json has no such figure")


def _changes(now: dict[str, Any], then: dict[str, Any]) -> list[str]:
    """Lists the figures that two records both have, with different values: 'ece 0.1, was 0.2'."""
    texts = []
    for name in (name for name in now if name in then and now[name] != then[name]):
        numbers = is_number(now[name]) and is_number(then[name])
        shown = [f"{each[name]:.6g}" for each in (now, then)] if numbers else []
        shown = [f"{each[name]:.17g}" for each in (now, then)] if len(set(shown)) == 1 else shown
        texts.append(f"{name} {', was '.join(shown)}".strip())
    return texts
