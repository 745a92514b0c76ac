"""A run from start to end: build, train the head, fine-tune, measure, write."""

import contextlib
import dataclasses
import datetime
import os
import platform
import re
import time
from collections.abc import Iterator
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
from models.backbones import Backbone
from models.classifier import Classifier, build_classifier
from models.freezing import set_trainable, split_into_blocks
from reports import plots, summary, writer
from terminal import counted, progress_bar, show_stage
from training import phases
from training.inputs import RunInputs
from training.phases import EpochResult
from training.recipe import choose_training

VERSIONED_PACKAGES = ("tensorflow", "keras", "numpy", "pillow", "scikit-learn", "pandas", "matplotlib")


@dataclasses.dataclass
class Run:
    """What the stages of a run share."""

    folder: Path
    config: TrainConfig
    data: ImageData
    row: Backbone
    classifier: Classifier
    epochs: list[EpochResult]
    """Every epoch so far, of both phases."""
    seconds: dict[str, float]
    """How long each stage took."""

    @property
    def history(self) -> pd.DataFrame:
        """The table of `history.csv`."""
        return pd.DataFrame(self.epochs, columns=EpochResult._fields)


def train(inputs: RunInputs) -> Path:
    """Trains a classifier and writes its run folder.

    Args:
        inputs: the pictures and the settings, checked.

    Returns:
        The run folder.

    Raises:
        UsageError: the weights do not fit, the folder cannot be written, or the training diverges.
    """
    keras.utils.set_random_seed(inputs.config.seed)
    tf.config.experimental.enable_op_determinism()
    run = _start(inputs)
    try:
        return _finish(run, inputs.started)
    except KeyboardInterrupt:
        show_stage("stopped", f"'{run.folder}' holds an unfinished run; the same --output starts it again")
        raise


def _finish(run: Run, started: float) -> Path:
    """All that takes long: trains, measures and writes."""
    _train_head(run)
    _fine_tune(run)
    with _timed(run, "evaluate"):
        model = _save_and_reload(run)
        outputs = _predict(model, run.data)
    writer.write_predictions(run.folder, run.data, outputs)
    if run.epochs:
        writer.write_figure(run.folder / "figures" / "learning_curves.png", plots.learning_curves(run.history))
    record = summary.build_record(run.data, run.config, outputs, run.classifier.model, run.history)
    run.seconds["total"] = time.perf_counter() - started
    record["seconds"] = {stage: round(seconds, 3) for stage, seconds in run.seconds.items()}
    writer.write_json(run.folder / "metrics.json", record)
    summary.show_record(record, run.folder)
    return run.folder


def _start(inputs: RunInputs) -> Run:
    """Builds the network, sets what the user left open, and only then makes the run folder."""
    config, row, data = inputs.config, inputs.row, inputs.data
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
    set_trainable(classifier.backbone_layers, 0)
    blocks = split_into_blocks(classifier.backbone_layers, row)
    config = choose_training(config, [len(block) for block in blocks], len(data.splits["train"]))
    millions = classifier.model.count_params() / 1e6
    show_stage("model", f"{row.name} ({config.weights}), {config.image_size} px, {millions:.1f} M parameters")

    seconds = {"total": 0.0, "prepare": inputs.seconds, "features": 0.0, "head": 0.0, "fine_tune": 0.0, "evaluate": 0.0}
    run = Run(_make_folder(config, data), config, data, row, classifier, [], seconds)
    writer.write_json(run.folder / "config.json", config.to_json())
    writer.write_json(run.folder / "environment.json", _environment())
    writer.write_quarantine(run.folder, data)
    writer.write_table(run.folder / "history.csv", run.history)
    return run


def _train_head(run: Run) -> None:
    """Trains the head: on features computed once, or on the whole network where every epoch has its own pictures."""
    if run.config.head_epochs == 0:
        return
    fresh = run.config.augment == "fresh"
    features = None if fresh else _pooled_features(run)
    with _timed(run, "head"):
        _train_phase(
            run,
            "head",
            run.classifier.model if fresh else run.classifier.head,
            features,
            epochs=run.config.head_epochs,
            learning_rate=run.config.learning_rate,
            augment=fresh,
        )


def _pooled_features(run: Run) -> dict[Split, np.ndarray]:
    splits = {split: run.data.splits[split] for split in ("train", "val")}
    total = sum(map(len, splits.values()))
    with _timed(run, "features"), progress_bar("features", total) as advance:
        features = {
            split: apply_model(run.classifier.features, run.data.pixels, positions, on_progress=advance)
            for split, positions in splits.items()
        }
    rate = total / run.seconds["features"]
    show_stage("features", f"{total:,} pictures through the frozen backbone, once, {rate:,.0f} per second")
    return features


def _fine_tune(run: Run) -> None:
    """Unfreezes the backbone's last layers and trains them gently, together with the head."""
    config, layers = run.config, run.classifier.backbone_layers
    if config.fine_tune_epochs == 0 or config.trainable_layers == 0:
        return
    set_trainable(layers, config.trainable_layers, batch_norm_learns=config.weights == "none")
    factors = None
    if config.layer_decay is not None:
        factors = phases.layer_decay_factors(split_into_blocks(layers, run.row), config.layer_decay)
    with _timed(run, "fine_tune"):
        _train_phase(
            run,
            "fine_tune",
            run.classifier.model,
            features=None,
            epochs=config.fine_tune_epochs,
            learning_rate=config.fine_tune_learning_rate,
            augment=config.augment != "none",
            learning_rate_factors=factors,
        )


def _train_phase(
    run: Run, phase: str, model: keras.Model, features: dict[Split, np.ndarray] | None, *, epochs: int, **settings: Any
) -> None:
    """Trains a model on the pictures, or on `features` of them, and shows and records every epoch."""
    train = _examples(run.data, "train", features)
    if run.config.class_weights:
        train = train._replace(sample_weights=phases.balanced_weights(train.targets, run.data.task))
    val = _examples(run.data, "val", features) if len(run.data.splits["val"]) else None
    title = phase.replace("_", "-")
    with progress_bar(title, epochs) as advance:

        def on_epoch(result: EpochResult) -> None:
            run.epochs.append(result)
            writer.write_table(run.folder / "history.csv", run.history)
            advance(1, _epoch_text(result))

        done, best_epoch = phases.train_phase(
            phase, model, run.data.task, train, val, run.config, epochs=epochs, on_epoch=on_epoch, **settings
        )
    kept = "none better than the start, which is kept"
    if best_epoch > 0:
        kept = f"kept {best_epoch}: {_epoch_text(done[best_epoch - 1])}"
    show_stage(title, f"{counted(len(done), 'epoch', 'epochs')}, {kept}")


def _examples(data: ImageData, split: Split, features: dict[Split, np.ndarray] | None) -> Examples:
    positions = data.splits[split]
    weights = np.ones(len(positions), np.float32)
    if features is None:
        return Examples(data.pixels, positions, data.targets[positions], weights)
    return Examples(features[split], np.arange(len(positions)), data.targets[positions], weights)


def _epoch_text(result: EpochResult) -> str:
    text = f"loss {result.loss:.4f}, accuracy {result.accuracy:.4f}"
    return text if result.val_loss is None else f"{text}, val loss {result.val_loss:.4f}, val {result.val_accuracy:.4f}"


@contextlib.contextmanager
def _timed(run: Run, stage: str) -> Iterator[None]:
    started = time.perf_counter()
    yield
    run.seconds[stage] = time.perf_counter() - started


def _make_folder(config: TrainConfig, data: ImageData) -> Path:
    """Makes the run folder; by now nothing of what the user typed can be wrong any more."""
    folder = config.output
    if folder is None:
        now = datetime.datetime.now().strftime("%Y%m%d-%H%M%S")
        name = re.sub(r"[^\w.-]+", "-", f"{now}-{config.backbone}-{data.name}")
        names = (name, *(f"{name}-{number}" for number in range(2, 1000)))
        folder = next(path for path in (Path("runs") / name for name in names) if not path.exists())
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"--output must be writable; '{folder}' is not: {error.strerror}.") from None
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


def _save_and_reload(run: Run) -> keras.Model:
    """Saves the model and returns what the file holds: the figures of a run are those of its file."""
    path = run.folder / "model.keras"
    temporary = path.with_name(f".{path.name}")
    for part in (run.classifier.model, run.classifier.head):
        part.compiled = False  # optimizer, loss and metrics stay out of a file that is there to predict
    run.classifier.model.save(temporary)
    os.replace(temporary, path)
    return keras.saving.load_model(path, compile=False, safe_mode=True)


def _predict(model: keras.Model, data: ImageData) -> dict[Split, np.ndarray]:
    judged: list[Split] = [split for split in ("val", "test") if len(data.splits[split])]
    with progress_bar("evaluate", sum(len(data.splits[split]) for split in judged)) as advance:
        return {split: apply_model(model, data.pixels, data.splits[split], on_progress=advance) for split in judged}
