"""The record of a run, `metrics.json`, and the table that ends it on the terminal."""

from pathlib import Path
from typing import Any

import keras
import numpy as np
import pandas as pd
from rich.table import Column, Table

from config import TrainConfig
from data.prepare import ImageData
from data.sources import Split
from reports.baselines import raw_pixels_accuracy
from reports.metrics import majority_accuracy, measure
from terminal import console, show_stage

TABLE_COLUMNS = ("", "accuracy", "95 % interval", "mean precision", "mean recall", "mean F1", "pictures")
"""Of the table on the terminal; means are over classes."""


def build_record(
    data: ImageData,
    config: TrainConfig,
    outputs: dict[Split, np.ndarray],
    model: keras.Model,
    history: pd.DataFrame,
) -> dict[str, Any]:
    """Gathers what `metrics.json` holds, but for the seconds.

    Args:
        data: the pictures.
        config: with every setting chosen.
        outputs: float32 (n, num_outputs) for each judged split, in the order of `data.splits`.
        model: as it was trained last.
        history: the table of `history.csv`.
    """

    def measured(split: Split) -> dict[str, Any] | None:
        if split not in outputs:
            return None
        return measure(data.targets[data.splits[split]], outputs[split], data.class_names, data.task)

    train = data.splits["train"]
    judged = data.splits["test"] if len(data.splits["test"]) else data.splits["val"]
    return {
        "data": {
            "classes": list(data.class_names),
            **{split: len(positions) for split, positions in data.splits.items()},
            "quarantined": len(data.quarantine),
            "duplicates": data.duplicates,
        },
        "model": {
            "backbone": config.backbone,
            "weights": config.weights,
            "image_size": config.image_size,
            "parameters": model.count_params(),
            "trainable_parameters": sum(int(np.prod(variable.shape)) for variable in model.trainable_variables),
        },
        "val": measured("val"),
        "test": measured("test"),
        "baseline": {
            "majority": majority_accuracy(data.targets[train], data.targets[judged]),
            "raw_pixels": raw_pixels_accuracy(data.pixels, data.targets, train, judged, data.task),
        },
        "epochs": {phase: int((history["phase"] == phase).sum()) for phase in ("head", "fine_tune")},
    }


def show_record(record: dict[str, Any], folder: Path) -> None:
    """Prints the result as a short table, and where the run folder is."""
    table = Table(*(Column(name, no_wrap=True) for name in TABLE_COLUMNS))
    for split in ("val", "test"):
        if record[split] is None:
            continue
        measured = record[split]
        low, high = measured["accuracy_ci95"]
        classes = [row for row in measured["per_class"].values() if row["support"]] or [{}]
        means = [f"{np.mean([row.get(name, 0.0) for row in classes]):.3f}" for name in ("precision", "recall", "f1")]
        interval = f"{low:.1%} to {high:.1%}"
        table.add_row(split, f"{measured['accuracy']:.1%}", interval, *means, f"{measured['n']:,}")
    for name, label in (("raw_pixels", "raw pixels"), ("majority", "majority")):
        if record["baseline"][name] is not None:
            table.add_row(label, f"{record['baseline'][name]:.1%}")
    if table.row_count:
        console.print(table)
    show_stage("done", f"{record['seconds']['total']:.0f} seconds; run folder: {folder}")
