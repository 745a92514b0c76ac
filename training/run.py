"""A run from start to end: load, build, train the head, fine-tune, measure, write."""

import datetime
import os
import platform
import re
import time
from importlib import metadata
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pandas as pd
import tensorflow as tf

from config import TrainConfig, UsageError
from data.pipeline import Examples
from data.prepare import ImageData
from data.sources import Split
from models.apply import apply_model
from models.classifier import Classifier, build_classifier
from models.freezing import set_trainable, split_into_blocks
from reports import plots, summary, writer
from terminal import progress_bar, show_stage
from training import phases
from training.phases import EpochResult
from training.preparation import Preparation
from training.recipe import choose_training

VERSIONED_PACKAGES = ("tensorflow", "keras", "numpy", "pillow", "scikit-learn", "pandas", "matplotlib")


def train(preparation: Preparation) -> Path:
    """Trains a classifier and writes its run folder.

    Returns:
        The run folder.

    Raises:
        UsageError: the weights do not fit, or the folder cannot be written.
    """
    data, seconds = preparation.data, {"total": 0.0, "prepare": preparation.seconds}
    keras.utils.set_random_seed(preparation.config.seed)
    tf.config.experimental.enable_op_determinism()

    classifier, config = _build(preparation)
    folder = _make_folder(config, data)
    writer.write_json(folder / "config.json", config.to_json())
    writer.write_json(folder / "environment.json", _environment())
    writer.write_quarantine(folder, data)

    results: list[EpochResult] = []

    def keep(result: EpochResult) -> None:
        results.append(result)
        writer.write_table(folder / "history.csv", pd.DataFrame(results))

    _train_head(classifier, data, config, seconds, keep)
    _fine_tune(classifier, data, config, preparation, seconds, keep)
    started = time.perf_counter()
    model = _save_and_reload(classifier.model, folder / "model.keras")
    outputs = _predict(model, data)
    seconds["evaluate"] = time.perf_counter() - started

    if results:
        writer.write_figure(folder / "figures" / "learning_curves.png", plots.learning_curves(pd.DataFrame(results)))
    writer.write_predictions(folder, data, outputs)
    record = summary.build_record(
        data, config, outputs, classifier.model, pd.DataFrame(results, columns=EpochResult._fields)
    )
    seconds["total"] = time.perf_counter() - preparation.started
    record["seconds"] = {stage: round(value, 3) for stage, value in seconds.items()}
    writer.write_json(folder / "metrics.json", record)
    summary.show_record(record, folder)
    return folder


def _build(preparation: Preparation) -> tuple[Classifier, TrainConfig]:
    config, row, data = preparation.config, preparation.row, preparation.data
    classifier = build_classifier(
        row,
        weights=config.weights,
        image_size=config.image_size,
        task=data.task,
        num_classes=len(data.class_names),
        pooling=config.pooling,
        head_units=config.head_units,
        dropout=config.dropout,
    )
    blocks = split_into_blocks(classifier.backbone_layers, row)
    config = choose_training(config, [len(block) for block in blocks], len(data.splits["train"]))
    millions = classifier.model.count_params() / 1e6
    show_stage("model", f"{row.name} ({config.weights}), {config.image_size} px, {millions:.1f} M parameters")
    return classifier, config


def _train_head(classifier: Classifier, data: ImageData, config: TrainConfig, seconds: dict, keep) -> None:
    """Trains the head: on features computed once, or on the whole network where every epoch has its own pictures."""
    seconds["features"] = seconds["head"] = 0.0
    if config.head_epochs == 0:
        return
    set_trainable(classifier.backbone_layers, 0)
    started = time.perf_counter()
    if config.augment == "fresh":
        model, features = classifier.model, None
    else:
        model, features = classifier.head, _pooled_features(classifier, data)
    seconds["features"] = time.perf_counter() - started
    started = time.perf_counter()
    _train_phase(
        "head",
        model,
        data,
        features,
        config,
        keep,
        epochs=config.head_epochs,
        learning_rate=config.learning_rate,
        augment=config.augment == "fresh",
    )
    seconds["head"] = time.perf_counter() - started


def _pooled_features(classifier: Classifier, data: ImageData) -> dict[Split, np.ndarray]:
    total = len(data.splits["train"]) + len(data.splits["val"])
    started = time.perf_counter()
    with progress_bar("features", total) as advance:
        features = {
            split: apply_model(classifier.features, data.pixels, data.splits[split], on_progress=advance)
            for split in ("train", "val")
        }
    taken = time.perf_counter() - started
    show_stage("features", f"{total:,} pictures through the frozen backbone, once, {total / taken:,.0f} per second")
    return features


def _fine_tune(
    classifier: Classifier, data: ImageData, config: TrainConfig, preparation: Preparation, seconds: dict, keep
) -> None:
    """Unfreezes the backbone's last layers and trains them gently, together with the head."""
    seconds["fine_tune"] = 0.0
    set_trainable(classifier.backbone_layers, config.trainable_layers, batch_norm_learns=config.weights == "none")
    if config.fine_tune_epochs == 0 or config.trainable_layers == 0:
        return
    started = time.perf_counter()
    factors = None
    if config.layer_decay is not None:
        blocks = split_into_blocks(classifier.backbone_layers, preparation.row)
        factors = phases.layer_decay_factors(blocks, config.layer_decay)
    _train_phase(
        "fine_tune",
        classifier.model,
        data,
        None,
        config,
        keep,
        epochs=config.fine_tune_epochs,
        learning_rate=config.fine_tune_learning_rate,
        augment=config.augment != "none",
        learning_rate_factors=factors,
    )
    seconds["fine_tune"] = time.perf_counter() - started


def _train_phase(
    phase: str,
    model: keras.Model,
    data: ImageData,
    features: dict[Split, np.ndarray] | None,
    config: TrainConfig,
    keep,
    *,
    epochs: int,
    **settings: Any,
) -> None:
    """Trains on the pictures, or on `features` of them, and shows it."""
    train = _examples(data, "train", features)
    if config.class_weights:
        train = train._replace(sample_weights=phases.balanced_weights(train.targets, data.task))
    val = _examples(data, "val", features) if len(data.splits["val"]) else None

    with progress_bar(phase.replace("_", "-"), epochs) as advance:

        def on_epoch(result: EpochResult) -> None:
            keep(result)
            advance(1, _epoch_text(result))

        done, best_epoch = phases.train_phase(
            phase, model, data.task, train, val, config, epochs=epochs, on_epoch=on_epoch, **settings
        )
    kept = "none better than the start, which is kept"
    if best_epoch > 0:
        kept = f"kept {best_epoch}: {_epoch_text(done[best_epoch - 1])}"
    show_stage(phase.replace("_", "-"), f"{len(done)} epochs, {kept}")


def _examples(data: ImageData, split: Split, features: dict[Split, np.ndarray] | None) -> Examples:
    positions = data.splits[split]
    weights = np.ones(len(positions), np.float32)
    if features is None:
        return Examples(data.pixels, positions, data.targets[positions], weights)
    return Examples(features[split], np.arange(len(positions)), data.targets[positions], weights)


def _epoch_text(result: EpochResult) -> str:
    text = f"loss {result.loss:.4f}, accuracy {result.accuracy:.4f}"
    return text if result.val_loss is None else f"{text}, val loss {result.val_loss:.4f}, val {result.val_accuracy:.4f}"


def _make_folder(config: TrainConfig, data: ImageData) -> Path:
    """Makes the run folder; by now nothing of what the user typed can be wrong any more."""
    now = datetime.datetime.now().strftime("%Y%m%d-%H%M%S")
    name = re.sub(r"[^\w.-]+", "-", f"{now}-{config.backbone}-{data.name}")
    folder = config.output or Path("runs") / name
    try:
        folder.mkdir(parents=True, exist_ok=config.output is not None)
    except OSError as error:
        raise UsageError(
            f"--output must be a folder that can be written; '{folder}' is not: {error.strerror}."
        ) from None
    return folder


def _environment() -> dict[str, Any]:
    return {
        "time": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "cores": os.cpu_count(),
        "devices": [device.name for device in tf.config.list_logical_devices()],
        "packages": {name: metadata.version(name) for name in VERSIONED_PACKAGES},
    }


def _save_and_reload(model: keras.Model, path: Path) -> keras.Model:
    """Saves the model and returns what the file holds: the figures of a run are those of its file."""
    temporary = path.with_name(f".{path.name}")
    model.save(temporary, include_optimizer=False)
    os.replace(temporary, path)
    return keras.saving.load_model(path, compile=False, safe_mode=True)


def _predict(model: keras.Model, data: ImageData) -> dict[Split, np.ndarray]:
    judged: list[Split] = [split for split in ("val", "test") if len(data.splits[split])]
    with progress_bar("evaluate", sum(len(data.splits[split]) for split in judged)) as advance:
        return {split: apply_model(model, data.pixels, data.splits[split], on_progress=advance) for split in judged}
