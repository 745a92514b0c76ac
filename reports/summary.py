"""Makes the record of a run, `metrics.json`, and the table of results on the terminal."""

import functools
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pandas as pd
from rich.table import Column, Table

from app.config import TrainConfig
from app.terminal import console, make_table, show_stage
from data.folds import folds_of
from data.prepare import Data
from data.sources import Split
from reports import detection
from reports.baselines import simple_right
from reports.decision import decision_lines, decision_record
from reports.page import SPACE, method_name, number, percent
from tasks.metrics import (
    METRICS,
    all_metrics,
    choose_threshold,
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


def build_record(
    data: Data,
    config: TrainConfig,
    outputs: dict[Split, np.ndarray],
    model: keras.Model,
    history: pd.DataFrame,
    temperature: float,
) -> dict[str, Any]:
    """Gathers the content of `metrics.json`, without the seconds.

    Args:
        data: the pictures.
        config: settings, all chosen.
        outputs: float32 (n, num_outputs) for each measured split, in the order of `data.splits`.
        model: the trained model; its trainable layers are those of the last phase.
        history: the table of `history.csv`.
        temperature: temperature by which the logits of `outputs` are already divided.
    """

    def measured(split: Split) -> dict[str, Any] | None:
        return measure_split(data, split, outputs[split]) if split in outputs else None

    is_head = history["phase"] == "head"
    if data.task.has_boxes:
        folds, about = None, detection.NO_CLASSES
    else:
        folds = folds_of(data, config)
        about = _about_classes(data, config, outputs, temperature, folds)
    return {
        "data": {
            "classes": list(data.class_names),
            **{split: len(positions) for split, positions in data.splits.items()},
            **({} if folds is None else {"val": 0}),
            "quarantined": len(data.quarantine),
            "duplicates": data.duplicates,
        },
        "model": {
            "backbone": config.model.backbone,
            "weights": config.model.weights,
            "image_size": config.data.image_size,
            "parameters": model.count_params(),
            "trainable_parameters": sum(int(np.prod(variable.shape)) for variable in model.trainable_variables),
        },
        "val": measured("val"),
        "test": measured("test"),
        **about,
        "epochs": {"head": int(is_head.sum()), "fine_tune": int((~is_head).sum())},
        "phases": _phases(history, config),
        "diverged": history.loc[~np.isfinite(history["loss"].astype(float)), "phase"].tolist(),
    }


def measure_split(data: Data, split: Split, outputs: np.ndarray) -> dict[str, Any] | None:
    """Returns the record M of `metrics.json` for a split; None without examples."""
    if data.task.has_boxes:
        return detection.measure(data, split, outputs)
    positions = data.splits[split]
    return classes_of(data.task).measure(data.targets[positions], outputs, data.class_names, data.groups[positions])


def _about_classes(
    data: Data, config: TrainConfig, outputs: dict[Split, np.ndarray], temperature: float, folds: np.ndarray | None
) -> dict[str, Any]:
    """Returns the part of the record that only classification has."""
    split: Split = "test" if len(data.splits["test"]) else "val"
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


def _folds(data: Data, outputs: np.ndarray, folds: np.ndarray) -> dict[str, Any]:
    """Returns the accuracy of each fold, their mean, and their standard deviation."""
    right = classes_of(data.task).answers(data.targets[data.splits["val"]], outputs).right
    accuracies = [float(right[folds == fold].mean()) for fold in np.unique(folds)]
    return {"accuracy": accuracies, "mean": np.mean(accuracies), "deviation": np.std(accuracies, ddof=1)}


def _phases(history: pd.DataFrame, config: TrainConfig) -> list[dict[str, Any]]:
    """Returns for each phase the trained layers and the best figures on val so far; None without val."""
    layers = {"fine_tune": config.model.trainable_layers, "deeper": config.training.deeper_layers}
    phases, losses = [], history["val_loss"].astype(float)
    for phase in history["phase"].unique():
        count = layers.get(phase)
        trained = "head" if count is None else "all layers" if count == "all" else f"last {count} layers"
        epochs = int((history["phase"] == phase).sum())
        until = losses[: history.index[history["phase"] == phase][-1] + 1]
        best = None if until.isna().all() else history.loc[until.idxmin()]
        measured = {name: None if best is None else float(best[name]) for name in ("val_loss", "val_accuracy")}
        phases.append({"phase": phase, "trained": trained, "epochs": epochs, **measured})
    return phases


def _simple_right(data: Data, folds: np.ndarray | None, split: Split) -> np.ndarray | None:
    """Returns whether the simple baseline of the kind of input is right on each example of a split, bool (n,), of folds
    learnt from the others; None where there is none, or nothing to measure on."""
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
    """Returns by how much the model is right more often than the simple baseline, on the same examples."""
    positions = data.splits[split]
    right = classes_of(data.task).answers(data.targets[positions], outputs).right
    bounds = difference_interval(right, simple, effective_count(data.groups[positions]))
    return {"difference": float(right.mean() - simple.mean()), "difference_ci95": bounds}


def _calibration(
    data: Data, outputs: dict[Split, np.ndarray], split: Split, temperature: float
) -> dict[str, float | None] | None:
    """Returns calibration error and log loss of a split before and after temperature scaling."""
    if split not in outputs:
        return None
    targets = data.targets[data.splits[split]]
    found: dict[str, float | None] = {}
    for name, exponent in (("before", 1 / temperature), ("after", 1.0)):
        scaled = classes_of(data.task).apply_temperature(outputs[split], exponent)
        answers = classes_of(data.task).answers(targets, scaled)
        found |= {f"{metric}_{name}": METRICS[metric].compute(answers) for metric in ("ece", "log_loss")}
    return found


def _operating_point(data: Data, outputs: dict[Split, np.ndarray]) -> dict[str, Any] | None:
    """Chooses the threshold of the positive class on val, and measures it; None without two classes."""
    if not data.task.two_classes or "val" not in outputs:
        return None
    threshold = choose_threshold(data.targets[data.splits["val"]], outputs["val"])
    if threshold is None:
        return None
    measured: dict[str, Any] = {
        split: measure_threshold(data.targets[data.splits[split]], each, threshold, data.groups[data.splits[split]])
        for split, each in outputs.items()
    }
    return {"positive": data.positive, "threshold": threshold, "val": None, "test": None, **measured}


def show_record(record: dict[str, Any], folder: Path, nouns: str) -> None:
    """Prints the results as a short table, in which examples are called `nouns`, and the path of the report."""
    table = results_table({split: record[split] for split in ("val", "test")}, nouns)
    for name, accuracy in reversed(record["baseline"].items()):
        if accuracy is not None:
            table.add_row(method_name(name), f"{accuracy:.1%}")
    if table.row_count:
        console.print(table)
    for line in decision_lines(record["decision"]) if record["decision"] else ():
        show_stage("decision", line)
    if record["folds"] is not None:
        folds = record["folds"]
        count, spread = len(folds["accuracy"]), f"{folds['mean']:.1%} ± {folds['deviation']:.1%}"
        show_stage("folds", f"val is what {count} heads say, each of {nouns} that it has not seen: {spread}")
    if (folder / "report.html").exists():
        show_stage("report", str(folder / "report.html"))


def results_table(measured: Mapping[str, dict[str, Any] | None], nouns: str) -> Table:
    """Makes a table with a row for each measured split, from what `tasks.metrics.measure` returns."""
    known = {split: figures for split, figures in measured.items() if figures is not None}
    if any("ap" in figures for figures in known.values()):
        return detection.results_table(known, nouns)
    below = [f"{split}: {_others(figures)}" for split, figures in known.items()]
    caption = "\n".join(["precision, recall and F1: mean over the classes", *below])
    columns = (Column(name, no_wrap=True) for name in (*TABLE_COLUMNS, nouns))
    table = make_table(*columns, caption=caption)
    for split, figures in known.items():
        low, high = figures["accuracy_ci95"]
        classes = [row for row in figures["per_class"].values() if row["support"]] or [{}]
        means = [f"{np.mean([row.get(name, 0.0) for row in classes]):.3f}" for name in ("precision", "recall", "f1")]
        interval = f"{low:.1%} to {high:.1%}"
        table.add_row(split, f"{figures['accuracy']:.1%}", interval, *means, f"{figures['n']:,}")
    return table


def _others(figures: dict[str, Any]) -> str:
    """Lists the metrics that have no column: 'log loss 0.069, calibration error 0.9%'."""
    texts = (
        f"{metric.title} {(percent if metric.is_share else number)(figures[name]).replace(SPACE, '')}"
        for name, metric in all_metrics().items()
        if name not in IN_COLUMNS
    )
    return ", ".join(texts)
