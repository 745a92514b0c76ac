"""A run from start to end: build, train the head, fine-tune, measure, write."""

import contextlib
import dataclasses
import os
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import keras
import numpy as np
import pandas as pd
import tensorflow as tf

from config import TrainConfig, UsageError
from data.pipeline import input_batches
from data.prepare import ImageData
from data.sources import Split
from features.cuts import Cut, find_cuts
from features.extract import BATCH_SIZE, apply_model
from features.store import Store, open_store
from inference.calibration import calibrate_head, fit_temperature
from inference.load import MODEL_FILE, RECORD_FILE
from models.backbones import Backbone
from models.classifier import Classifier
from models.freezing import set_trainable, split_into_blocks
from reports import plots, summary, writer
from reports.report import write_report
from reports.tensorboard import Board
from terminal import counted, progress_bar, show_stage
from training import phases
from training.frozen import (
    JUDGED,
    Phase,
    PhaseInputs,
    build_frozen,
    choose_cuts,
    examples,
    features_sample,
    fit_into_store,
    frozen_inputs,
    whole_network,
)
from training.inputs import RunInputs
from training.phases import EpochResult
from training.range_test import STEPS, choose_rate, range_test
from training.recipe import choose_head_learning_rate, choose_training

PICTURES_CHECKED = 4
LARGEST_DIFFERENCE = 1e-3
"""Between the probabilities that were measured and those of the saved file: rounding, in another order of steps."""


@dataclasses.dataclass
class Run:
    """What the stages of a run share."""

    folder: Path
    config: TrainConfig
    data: ImageData
    row: Backbone
    classifier: Classifier
    store: Store
    cuts: dict[Phase, Cut]
    """Where the network is cut in each phase."""
    epochs: list[EpochResult]
    """Every epoch so far, of both phases."""
    seconds: dict[str, float]
    """How long each stage took."""
    board: Board | None
    """For TensorBoard, if asked for."""

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
    make_deterministic(inputs.config.seed)
    run = _start(inputs)
    try:
        return _finish(run, inputs.started)
    except KeyboardInterrupt:
        show_stage("stopped", f"'{run.folder}' holds an unfinished run; the same --output starts it again")
        raise
    finally:
        if run.board is not None:
            run.board.close()


def make_deterministic(seed: int) -> None:
    """Makes everything that follows the same in every process of the same seed."""
    keras.utils.set_random_seed(seed)
    tf.config.experimental.enable_op_determinism()


def _finish(run: Run, started: float) -> Path:
    """All that takes long: trains, measures and writes."""
    inputs = _frozen_inputs(run)
    _choose_learning_rate(run, inputs)
    writer.write_json(run.folder / "config.json", run.config.to_json())
    _train_head(run, inputs)
    _fine_tune(run, inputs)
    with _timed(run, "evaluate"):
        temperature = _calibrate(run, inputs)
        outputs = _predict(run, inputs, JUDGED)
        _save(run, outputs, temperature)
    writer.write_predictions(run.folder, run.data, outputs)
    if run.epochs:
        writer.write_figure(run.folder / "figures" / "learning_curves.png", plots.learning_curves(run.history))
    record = summary.build_record(run.data, run.config, outputs, run.classifier.model, run.history, temperature)
    with _timed(run, "report"):
        record["seconds"] = _seconds(run, started)
        write_report(run.folder, run.data, outputs, record, run.classifier.model, run.config, run.history)
    record["seconds"] = _seconds(run, started)
    writer.write_json(run.folder / "metrics.json", record)  # last: a folder without it is of an unfinished run
    summary.show_record(record, run.folder)
    return run.folder


def _start(inputs: RunInputs) -> Run:
    """Builds the network, sets what the user left open, and only then makes the run folder."""
    config, row, data = inputs.config, inputs.row, inputs.data
    classifier = build_frozen(inputs)
    config = choose_training(config, find_cuts(classifier.backbone), len(data.splits["train"]))
    millions = classifier.model.count_params() / 1e6
    show_stage("model", f"{row.name} ({config.weights}), {config.image_size} px, {millions:.1f} M parameters")

    store = open_store(config.cache_dir, config.cache_gb)
    cuts, views = fit_into_store(choose_cuts(classifier, config), config.views, data, store)
    config = dataclasses.replace(config, views=views)
    seconds = {"total": 0.0, "prepare": inputs.seconds, "features": 0.0, "head": 0.0, "fine_tune": 0.0, "evaluate": 0.0}
    folder = writer.make_folder(config, data.name)
    board = Board(folder) if config.tensorboard else None
    run = Run(folder, config, data, row, classifier, store, cuts, [], seconds, board)
    writer.write_json(run.folder / "config.json", config.to_json())
    writer.write_environment(run.folder)
    writer.write_quarantine(run.folder, data)
    writer.write_table(run.folder / "history.csv", run.history)
    return run


def _frozen_inputs(run: Run) -> dict[Phase, PhaseInputs]:
    """Runs the frozen layers, once, for the phases that have some."""
    if not run.cuts:
        return {}
    with _timed(run, "features"):
        return frozen_inputs(run.classifier, run.cuts, run.config, run.data, run.store)


def _choose_learning_rate(run: Run, inputs: dict[Phase, PhaseInputs]) -> None:
    """Sets the learning rate of the head."""
    if run.config.learning_rate == "find":
        with _timed(run, "find"):
            run.config = dataclasses.replace(run.config, learning_rate=_find_learning_rate(run, inputs))
    else:
        features = features_sample(inputs["head"]) if "head" in inputs else None
        run.config = choose_head_learning_rate(run.config, features)


def _find_learning_rate(run: Run, inputs: dict[Phase, PhaseInputs]) -> float:
    """Looks for the learning rate of the head, and keeps what was seen."""
    model, views, _, augment = _phase_inputs(run, "head", inputs)
    train = examples(run.data, "train", views, run.config.class_weights)
    with progress_bar("find", STEPS) as advance:
        curve = range_test(model, run.data.task, train, run.config, augment=augment, on_step=advance)
    writer.write_table(run.folder / "learning_rate.csv", curve)
    rate = choose_rate(curve)
    writer.write_figure(run.folder / "figures" / "learning_rate.png", plots.learning_rate(curve, rate))
    tried = f"{counted(len(curve), 'step', 'steps')} up to {curve['learning_rate'].iloc[-1]:.2g}"
    show_stage("find", f"learning rate {rate:g}, around which the loss falls most, of {tried}")
    return rate


def _train_head(run: Run, inputs: dict[Phase, PhaseInputs]) -> None:
    """Trains the new head on the frozen backbone."""
    if run.config.head_epochs == 0:
        return
    with _timed(run, "head"):
        _train_phase(run, "head", inputs, epochs=run.config.head_epochs, learning_rate=run.config.learning_rate)


def _fine_tune(run: Run, inputs: dict[Phase, PhaseInputs]) -> None:
    """Unfreezes the backbone's last layers and trains them gently, together with the head."""
    config, layers = run.config, run.classifier.backbone.layers
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
            inputs,
            epochs=config.fine_tune_epochs,
            learning_rate=config.fine_tune_learning_rate,
            learning_rate_factors=factors,
        )


def _train_phase(
    run: Run,
    phase: Phase,
    inputs: dict[Phase, PhaseInputs],
    *,
    epochs: int,
    learning_rate: float,
    learning_rate_factors: dict[str, float] | None = None,
) -> None:
    """Trains one phase, and shows and records every epoch."""
    model, views, judged, augment = _phase_inputs(run, phase, inputs)
    train = examples(run.data, "train", views, run.config.class_weights)
    val = examples(run.data, "val", [judged["val"]]) if len(run.data.splits["val"]) else None
    learner = phases.Learner(model, run.data.task, run.config.optimizer, learning_rate_factors)
    title = phase.replace("_", "-")
    with progress_bar(title, epochs) as advance:

        def on_epoch(result: EpochResult) -> None:
            run.epochs.append(result)
            writer.write_table(run.folder / "history.csv", run.history)
            if run.board is not None:
                run.board.log_epoch(len(run.epochs), result._asdict())
            advance(1, _epoch_text(result))

        try:
            done, best_epoch = learner.train(
                phase,
                train,
                val,
                run.config,
                epochs=epochs,
                learning_rate=learning_rate,
                augment=augment,
                on_epoch=on_epoch,
            )
        except phases.DivergedError as error:
            flag = "--learning-rate" if phase == "head" else "--fine-tune-learning-rate"
            raise UsageError(f"Training diverged: {error}. Lower {flag}.") from None
    kept = "none better than the start, which is kept"
    if best_epoch > 0:
        kept = f"kept {best_epoch}: {_epoch_text(done[best_epoch - 1])}"
    show_stage(title, f"{counted(len(done), 'epoch', 'epochs')}, {kept}")


def _phase_inputs(run: Run, phase: Phase, inputs: dict[Phase, PhaseInputs]) -> PhaseInputs:
    return inputs.get(phase) or whole_network(run.classifier, run.config, run.data)


def _epoch_text(result: EpochResult) -> str:
    text = f"loss {result.loss:.4f}, accuracy {result.accuracy:.4f}"
    return text if result.val_loss is None else f"{text}, val loss {result.val_loss:.4f}, val {result.val_accuracy:.4f}"


def _seconds(run: Run, started: float) -> dict[str, float]:
    """How long each stage took, and all until now."""
    run.seconds["total"] = time.perf_counter() - started
    return {stage: round(seconds, 3) for stage, seconds in run.seconds.items()}


@contextlib.contextmanager
def _timed(run: Run, stage: str) -> Iterator[None]:
    started = time.perf_counter()
    yield
    run.seconds[stage] = time.perf_counter() - started


def _exact_phase(run: Run) -> Phase | None:
    """The last phase, if it has exactly what the frozen layers made of the pictures; None if not."""
    last: Phase = "fine_tune" if (run.history["phase"] == "fine_tune").any() else "head"
    return last if last in run.cuts and run.config.precision == "float32" else None


def _calibrate(run: Run, inputs: dict[Phase, PhaseInputs]) -> float:
    """Makes the model as sure as it is right on val; returns the temperature."""
    outputs = _predict(run, inputs, ("val",))
    if not outputs:
        return 1.0
    temperature = fit_temperature(outputs["val"], run.data.targets[run.data.splits["val"]], run.data.task)
    calibrate_head(run.classifier.head, temperature)
    return temperature


def _predict(run: Run, inputs: dict[Phase, PhaseInputs], splits: Sequence[Split]) -> dict[Split, np.ndarray]:
    """Predicts splits, but for empty ones, from what the frozen layers made of them where the last phase has that."""
    phase = _exact_phase(run)
    final = inputs[phase] if phase else whole_network(run.classifier, run.config, run.data)
    model, _, views, _ = final
    judged = {split: views[split] for split in splits if len(views[split].rows)}
    with progress_bar("evaluate", sum(len(view.rows) for view in judged.values())) as advance:
        return {split: apply_model(model, input_batches(view, BATCH_SIZE), advance) for split, view in judged.items()}


def _save(run: Run, outputs: dict[Split, np.ndarray], temperature: float) -> None:
    """Saves the model, and makes sure that the file predicts what the run says it does."""
    phase = _exact_phase(run)
    record = {"classes": list(run.data.class_names), "task": run.data.task, "temperature": temperature}
    writer.write_json(run.folder / RECORD_FILE, {**record, "cut": run.cuts[phase].layer if phase else None})
    path = run.folder / MODEL_FILE
    temporary = path.with_name(f".{path.name}")
    run.classifier.model.save(temporary)
    reloaded = keras.saving.load_model(temporary, compile=False, safe_mode=True)
    for split, predicted in outputs.items():
        pixels = run.data.pixels[run.data.splits[split][:PICTURES_CHECKED]].astype(np.float32)
        if not np.allclose(reloaded(pixels, training=False), predicted[: len(pixels)], atol=LARGEST_DIFFERENCE):
            raise RuntimeError(f"'{temporary}' does not predict what was measured on the {split} split")
    os.replace(temporary, path)
