"""Reports about classes: figures, thresholds, tables and the verdict; see `reports.by_task`."""

import functools
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from rich.table import Column, Table

from app.config import TrainConfig
from app.decision import Rule
from app.terminal import make_table, share_text
from data.folds import folds_of
from data.prepare import Data
from data.sources import Split
from inference.answer_table import PROBABILITY
from reports.baselines import simple_right
from reports.curves import class_curves
from reports.decision import decision_record
from reports.facts import Findings
from reports.page import SPACE, number, percent
from reports.per_class import answers_of
from reports.suspects import find_label_errors
from reports.verdict import reach_verdict as reach_verdict  # a function of `Reporting`
from tasks.answers import label_texts
from tasks.decision import decide as by_rule
from tasks.decision import suggest
from tasks.metrics import (
    METRICS,
    Metric,
    all_metrics,
    difference_interval,
    effective_count,
    majority_accuracy,
    measure_threshold,
)
from tasks.table import classes_of

TABLE_COLUMNS = ("", "accuracy", "95 % interval", "precision", "recall", "F1")
"""Columns of the table on the terminal, followed by the number of examples; it fits into 80 characters."""
IN_COLUMNS = ("accuracy", "macro_f1")
"""Metrics with a column; the others are below the table."""


def metrics() -> Mapping[str, Metric]:
    """Returns the metrics of `tasks.metrics` and of `custom.py`."""
    return all_metrics()


def measure(data: Data, split: Split, outputs: np.ndarray) -> dict[str, Any] | None:
    """Measures a split; see `tasks.metrics.measure`."""
    positions = data.splits[split]
    return classes_of(data.task).measure(data.targets[positions], outputs, data.class_names, data.groups[positions])


def decide(data: Data, outputs: dict[Split, np.ndarray], rule: Rule | None) -> Data:
    """Returns the data with a task that decides by thresholds chosen on val; unchanged without a rule."""
    if rule is None:
        return data
    positions = data.splits["val"] if "val" in outputs else np.zeros(0, np.int64)
    val = outputs.get("val", np.zeros((0, data.targets.shape[1]), np.float32))
    return data._replace(task=by_rule(rule, classes_of(data.task), data.targets[positions], val))


def own_record(data: Data, config: TrainConfig, outputs: dict[Split, np.ndarray], temperature: float) -> dict[str, Any]:
    """Returns the part of `metrics.json` that depends on the task."""
    split: Split = "test" if len(data.splits["test"]) else "val"
    folds = folds_of(data, config)
    train, compared, simple = data.splits["train"], data.splits[split], _simple_right(data, folds, split)
    method = data.kind.baseline.name if data.kind.baseline else ""
    return {
        "calibration": {
            "temperature": temperature,
            **{split: _calibration(data, outputs, split, temperature) for split in ("val", "test")},
        },
        "folds": None if folds is None else _folds(data, outputs["val"], folds),
        "operating_point": _operating_point(data, outputs),
        "decision": decision_record(data, outputs, config.decision.rule),
        "baseline": {
            "majority": majority_accuracy(data.targets[train], data.targets[compared]),
            **({method: None if simple is None else float(simple.mean())} if method else {}),
        },
        "baseline_difference": None if simple is None else _difference(data, split, outputs[split], simple),
    }


def examine(data: Data, outputs: Mapping[Split, np.ndarray], split: Split | None) -> Findings:
    """Finds labels that may be wrong in all measured splits, and curves and right answers of one split."""
    task = classes_of(data.task)
    errors = {each: find_label_errors(data.targets[data.splits[each]], found, task) for each, found in outputs.items()}
    if split is None:
        return Findings(errors)
    curves = class_curves(data.targets[data.splits[split]], outputs[split], data.class_names, task)
    return Findings(errors, curves, answers_of(data, split, outputs[split]).right)


def predictions_table(data: Data, outputs: Mapping[Split, np.ndarray]) -> pd.DataFrame:
    """Makes a table with a row per example: path, split, label, predicted, and the probability of each class."""
    task, columns = classes_of(data.task), [f"{PROBABILITY}{name}" for name in data.class_names]
    tables = [pd.DataFrame(columns=["path", "split", "label", "predicted", *columns])]
    for split, split_outputs in outputs.items():
        positions = data.splits[split]
        probabilities = task.probabilities(split_outputs)
        table = pd.DataFrame(
            {
                "path": [data.display_path(data.examples[position].path) for position in positions],
                "split": split,
                "label": label_texts(task.truth(data.targets[positions]), data.class_names),
                "predicted": label_texts(task.predicted(probabilities), data.class_names),
            }
        )
        tables.append(table.join(pd.DataFrame(probabilities, columns=columns, dtype=np.float32)))
    return pd.concat(tables, ignore_index=True)


def results_table(measured: Mapping[str, dict[str, Any]], nouns: str) -> Table:
    """Makes a table with a row for each measured split, from what `tasks.metrics.measure` returns."""
    below = [f"{split}: {_others(figures)}" for split, figures in measured.items()]
    caption = "\n".join(["precision, recall and F1: mean over the classes", *below])
    columns = (Column(name, no_wrap=True) for name in (*TABLE_COLUMNS, nouns))
    table = make_table(*columns, caption=caption)
    for split, figures in measured.items():
        low, high = figures["accuracy_ci95"]
        classes = [row for row in figures["per_class"].values() if row["support"]] or [{}]
        means = [f"{np.mean([row.get(name, 0.0) for row in classes]):.3f}" for name in ("precision", "recall", "f1")]
        interval = f"{share_text(low)} to {share_text(high)}"
        table.add_row(split, share_text(figures["accuracy"]), interval, *means, f"{figures['n']:,}")
    return table


def _folds(data: Data, outputs: np.ndarray, folds: np.ndarray) -> dict[str, Any]:
    """Returns the accuracy of each fold, their mean, and their standard deviation."""
    right = answers_of(data, "val", outputs).right
    accuracies = [float(right[folds == fold].mean()) for fold in np.unique(folds)]
    return {"accuracy": accuracies, "mean": np.mean(accuracies), "deviation": np.std(accuracies, ddof=1)}


def _simple_right(data: Data, folds: np.ndarray | None, split: Split) -> np.ndarray | None:
    """Returns whether the baseline of the kind of input is right on each example of a split, bool (n,).

    It predicts each fold from the others, if there are folds. None without a baseline or examples.
    """
    train, measured = data.splits["train"], data.splits[split]
    if data.kind.baseline is None or not len(measured):
        return None
    about = data.kind.baseline, data.inputs, data.contents, data.targets
    ask = functools.partial(simple_right, *about, task=classes_of(data.task))
    if folds is None or split == "test":
        return ask(train=train, measured=measured)
    right = np.zeros(len(measured), bool)
    for fold in np.unique(folds):
        right[folds == fold] = ask(train=measured[folds != fold], measured=measured[folds == fold])
    return right


def _difference(data: Data, split: Split, outputs: np.ndarray, simple: np.ndarray) -> dict[str, Any]:
    """Returns by how much the model is right more often than the simple baseline, and the baseline's mean recall."""
    answers = answers_of(data, split, outputs)
    bounds = difference_interval(answers.right, simple, effective_count(data.groups[data.splits[split]]))
    recalls = [float(simple[of_class].mean()) for of_class in answers.truth.T if of_class.any()]
    return {
        "difference": float(answers.right.mean() - simple.mean()),
        "difference_ci95": bounds,
        "simple_balanced_accuracy": None if answers.multi_label else float(np.mean(recalls)),
    }


def _calibration(
    data: Data, outputs: dict[Split, np.ndarray], split: Split, temperature: float
) -> dict[str, float | None] | None:
    """Returns calibration error and log loss of a split before and after temperature scaling."""
    if split not in outputs:
        return None
    found: dict[str, float | None] = {}
    for name, exponent in (("before", 1 / temperature), ("after", 1.0)):
        answers = answers_of(data, split, classes_of(data.task).apply_temperature(outputs[split], exponent))
        found |= {f"{metric}_{name}": METRICS[metric].compute(answers) for metric in ("ece", "log_loss")}
    return found


def _operating_point(data: Data, outputs: dict[Split, np.ndarray]) -> dict[str, Any] | None:
    """Chooses the threshold of the positive class on val, and measures it; None without two classes."""
    if not data.task.two_classes or "val" not in outputs:
        return None
    threshold = suggest(data.targets[data.splits["val"]], outputs["val"])
    if threshold is None:
        return None
    measured: dict[str, Any] = {
        split: measure_threshold(data.targets[data.splits[split]], each, threshold, data.groups[data.splits[split]])
        for split, each in outputs.items()
    }
    return {"positive": data.positive, "threshold": threshold, "val": None, "test": None, **measured}


def _others(figures: dict[str, Any]) -> str:
    """Lists the metrics that have no column: 'log loss 0.069, calibration error 0.9%'."""
    texts = (
        f"{metric.title} {(percent if metric.is_share else number)(figures[name]).replace(SPACE, '')}"
        for name, metric in all_metrics().items()
        if name not in IN_COLUMNS
    )
    return ", ".join(texts)
