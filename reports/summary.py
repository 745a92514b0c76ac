"""Makes the record of a run, `metrics.json`, its predictions, and the table of results on the terminal."""

from pathlib import Path
from typing import Any

import keras
import numpy as np
import pandas as pd

from app.config import TrainConfig
from app.terminal import attempt, console, counted, share_text, show_stage
from data.prepare import Data
from data.sources import Split, choose_measured
from reports import plots
from reports.by_task import reporting
from reports.decision import decision_lines
from reports.page import method_name
from reports.per_class import answers_of, confusion_counts
from reports.writer import write_figure, write_table


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
        data: the examples.
        config: settings, all chosen.
        outputs: float32 (n, num_outputs) for each measured split, in the order of `data.splits`.
        model: the trained model; its trainable layers are those of the last phase.
        history: the table of `history.csv`.
        temperature: temperature by which the logits of `outputs` are already divided.
    """
    is_head = history["phase"] == "head"
    of_task = reporting(data.task)
    own = of_task.own_record(data, config, outputs, temperature)
    return {
        "data": {
            "classes": list(data.class_names),
            **{split: len(positions) for split, positions in data.splits.items()},
            **({} if own["folds"] is None else {"val": 0}),
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
        "val": None,
        "test": None,
        **{split: of_task.measure(data, split, each) for split, each in outputs.items()},
        **own,
        "epochs": {"head": int(is_head.sum()), "fine_tune": int((~is_head).sum())},
        "phases": _phases(history, config),
        "diverged": history.loc[~np.isfinite(history["loss"].astype(float)), "phase"].tolist(),
    }


def _phases(history: pd.DataFrame, config: TrainConfig) -> list[dict[str, Any]]:
    """Returns for each phase the trained layers and the best figures on val so far; None without val."""
    layers = {"fine_tune": config.model.trainable_layers, "deeper": config.training.deeper_layers}
    phases, losses = [], history["val_loss"].astype(float)
    for phase in history["phase"].unique():
        count = layers.get(phase)
        trained = (
            "head" if count is None else "all layers" if count == "all" else f"last {counted(count, 'layer', 'layers')}"
        )
        epochs = int((history["phase"] == phase).sum())
        until = losses[: history.index[history["phase"] == phase][-1] + 1]
        best = None if until.isna().all() else history.loc[until.idxmin()]
        measured = {name: None if best is None else float(best[name]) for name in ("val_loss", "val_accuracy")}
        phases.append({"phase": phase, "trained": trained, "epochs": epochs, **measured})
    return phases


def write_predictions(folder: Path, data: Data, outputs: dict[Split, np.ndarray]) -> None:
    """Writes `predictions.csv`, and the confusion matrix of the test split, or of val without test.

    Args:
        folder: the run folder.
        data: examples, labels and splits.
        outputs: float32 (n, num_outputs) for each measured split, in the order of `data.splits`.
    """
    write_table(folder / "predictions.csv", reporting(data.task).predictions_table(data, outputs))
    split = choose_measured(outputs)
    if split is None or "confusion" not in data.task.sections:
        return
    counts = confusion_counts(answers_of(data, split, outputs[split]))
    matrix = pd.DataFrame(counts, columns=data.class_names)
    matrix.insert(0, "label", data.class_names, allow_duplicates=True)
    write_table(folder / "confusion_matrix.csv", matrix)
    title, path = f"{split} split, {counts.sum():,} {data.kind.nouns}", folder / "figures" / "confusion_matrix.png"
    attempt(
        "The figure of the confusion matrix",
        lambda: write_figure(path, plots.confusion_matrix(counts, data.class_names, title)),
    )


def show_record(record: dict[str, Any], folder: Path, data: Data) -> None:
    """Prints the results as a short table, and the path of the report."""
    measured = {split: record[split] for split in ("val", "test") if record[split] is not None}
    table = reporting(data.task).results_table(measured, data.kind.nouns)
    for name, accuracy in reversed(record["baseline"].items()):
        if accuracy is not None:
            table.add_row(method_name(name), share_text(accuracy))
    if table.row_count:
        console.print(table)
    for line in decision_lines(record["decision"]) if record["decision"] else ():
        show_stage("decision", line)
    if record["folds"] is not None:
        folds = record["folds"]
        # By a threshold, an accuracy says little; the line of the decision has sensitivity and specificity.
        spread = "" if record["decision"] else f": {share_text(folds['mean'])} ± {folds['deviation']:.1%}"
        heads = f"{len(folds['accuracy'])} heads, each measured on {data.kind.nouns} that it has not seen"
        show_stage("folds", f"val: {heads}{spread}")
    if (folder / "report.html").exists():
        show_stage("report", str(folder / "report.html"))
