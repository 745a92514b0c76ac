"""Runs the stages from start to end: build, train the head, fine-tune, measure, write."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from app.config import TrainConfig
from app.errors import RunError
from app.files import write_json
from app.run_folder import CONFIG_FILE, checkpoints_of
from app.terminal import attempt, listed, progress_bar, show_stage
from cluster.pool import Pool
from data.folds import with_out_of_fold
from data.sources import Split
from data.store import open_store
from devices.replicas import check_alike, chief_decides, has_workers, is_chief, wait_for_workers
from devices.strategy import chosen_precision, describe_batch, heed_lost_workers, make_strategy
from features.cuts import find_cuts, most_tensors_across
from features.forward_pass import apply_to_views
from features.runtimes import choose_runtime
from inference.load import TrainedRun
from inference.unknown import Familiar, write_familiar
from models.classifier import with_mirrored
from models.heads import calibrate_head, is_linear
from reports import plots, summary, writer
from reports.by_task import reporting
from reports.model_card import CARD_FILE, write_card
from reports.report import write_report
from reports.tensorboard import Board
from tasks.table import classes_of
from training.begun import as_asked, begin, forget, read_begun_with
from training.cuts import choose_cuts, show_whole_network
from training.familiar import learn_from_run
from training.folder import clean_up, folder_of
from training.frozen import EVALUATED, PhaseInputs, build_frozen, examples, frozen_inputs, whole_network
from training.head_phase import choose_learning_rate, train_head
from training.inputs import RunInputs, inputs_digest
from training.learner import BatchTooLargeError
from training.memory import check_disk, check_room
from training.phases import fine_tune
from training.plan import Phase, Plan
from training.recipe import FINE_TUNE_LEAST_EXAMPLES, choose_fine_tune_augment, is_too_small, make_plan
from training.saving import exact_phase, save_model
from training.state import Clock, Run
from training.variation import vary_of


def train(inputs: RunInputs, strategy: tf.distribute.Strategy | None = None) -> Path:
    """Trains a classifier and writes its run folder, or resumes where another process stopped.

    Args:
        inputs: checked examples and settings; `output` is the folder, see `training.folder.open_folder`.
        strategy: devices to train on; None for those of the settings.

    Returns:
        The run folder.

    Raises:
        UsageError: the weights do not fit, or the folder is not writable.
        RunError: memory or disk are too small, a worker is lost, or training diverges before anything is learnt.
    """
    if strategy is None:
        strategy = make_strategy(inputs.config.run.strategy, inputs.config.run.devices)
    clock = Clock(inputs.started, inputs.seconds)
    while True:
        try:
            with heed_lost_workers(strategy):
                return _train(inputs, strategy, clock)
        except _BatchHalvedError as halved:
            inputs = inputs._replace(config=halved.config)
            forget(folder_of(inputs.config))
            keras.backend.clear_session()
        except (tf.errors.ResourceExhaustedError, MemoryError):
            raise RunError(
                f"The memory is too small for {inputs.backbone.name} at {inputs.data.reader.title}. Choose a "
                f"smaller --image-size or --backbone."
            ) from None


class _BatchHalvedError(Exception):
    """Training must start again with these settings."""

    def __init__(self, config: TrainConfig):
        super().__init__()
        self.config = config


def _train(inputs: RunInputs, strategy: tf.distribute.Strategy, clock: Clock) -> Path:
    """Trains with one batch size."""
    make_deterministic(inputs.config.training.seed)
    with clock.timed("build"):
        run = _start(inputs, strategy, clock)
    try:
        return _finish(run, inputs.pool)
    except BatchTooLargeError:
        if has_workers(strategy):  # other workers may have enough memory
            kind = inputs.data.kind
            batch = describe_batch(run.plan.batch_size, strategy, kind.noun, kind.nouns)
            raise RunError(f"The memory of a worker is too small for {batch}. Choose a smaller --batch-size.") from None
        raise _BatchHalvedError(_halve_batch(inputs.config, run.plan.batch_size)) from None
    finally:
        if run.board is not None:
            run.board.close()


def make_deterministic(seed: int) -> None:
    """Seeds all random numbers, and makes TensorFlow's operations deterministic."""
    keras.utils.set_random_seed(seed)
    tf.config.experimental.enable_op_determinism()


def _finish(run: Run, pool: Pool | None) -> Path:
    """Trains, measures and writes."""
    inputs = _frozen_inputs(run, pool)
    if pool is not None:
        pool.close()  # frees the devices for training
    choose_learning_rate(run, inputs)
    write_json(run.folder / CONFIG_FILE, run.config.to_json())
    train_head(run, inputs)
    fine_tune(run, inputs)
    if run.data.kind.has_mirror and run.plan.mirrors(run.data.task.mirrored_efforts):
        with run.strategy.scope():
            run.classifier, run.cuts = with_mirrored(run.classifier), {}
    with run.clock.timed("evaluate"):
        temperature = _calibrate(run, inputs)
        outputs = _predict(run, inputs, EVALUATED)
        if run.out_of_fold is not None:
            run.out_of_fold = classes_of(run.data.task).apply_temperature(run.out_of_fold, temperature)
    if is_chief(run.strategy):
        with run.clock.timed("evaluate"):
            familiar = learn_from_run(_final_inputs(run, inputs))
        _write(run, outputs, temperature, familiar)
    wait_for_workers(run.strategy)
    return run.folder


def _write(
    run: Run, predicted: dict[Split, np.ndarray], temperature: float, familiar: tuple[Familiar, dict[str, Any]] | None
) -> None:
    """Saves the model and writes the results; an error in a drawing does not stop the rest."""
    data, outputs = with_out_of_fold(run.data, predicted, run.out_of_fold)
    data = reporting(data.task).decide(data, outputs, run.config.decision.rule)
    with run.clock.timed("save"):
        model = save_model(run, predicted, temperature, data.task.thresholds_of(data.class_names))
    if familiar is not None:
        write_familiar(run.folder, familiar[0])
    summary.write_predictions(run.folder, data, outputs)
    with run.clock.timed("report"):
        if run.epochs:
            path = run.folder / "figures" / "learning_curves.png"
            measure = data.task.measure_of_learning
            attempt(
                "The learning curves", lambda: writer.write_figure(path, plots.learning_curves(run.history, measure))
            )
        # A model file does not store which nested layers are trainable.
        network = run.classifier.whole or run.classifier.model
        record = summary.build_record(data, run.config, outputs, network, run.history, temperature)
        record["unknown"] = familiar and familiar[1]
        record["seconds"] = run.clock.seconds()
        attempt("The report", lambda: write_report(run.folder, data, outputs, record, model, run.config, run.history))
    trained = TrainedRun(run.folder, run.config, data.class_names, data.task, data.kind, None, temperature)
    attempt("The model card", lambda: write_card(run.folder / CARD_FILE, trained, record))
    record["seconds"] = run.clock.seconds()
    write_json(run.folder / "metrics.json", record)  # last: a folder without it is an unfinished run
    clean_up(run.folder)
    summary.show_record(record, run.folder, data)


def _start(inputs: RunInputs, strategy: tf.distribute.Strategy, clock: Clock) -> Run:
    """Builds the network, decides open settings, and only then begins the run folder."""
    folder, backbone, data = folder_of(inputs.config), inputs.backbone, inputs.data
    with strategy.scope():
        classifier = build_frozen(inputs)
    num_train = len(data.splits["train"])
    runtime = chief_decides(strategy, lambda: choose_runtime(inputs.config, classifier.model, num_train, strategy))
    precision = chosen_precision(inputs.config.training.precision, classifier.model, strategy, runtime == "openvino")
    precise = inputs.config.replace(precision=precision, runtime=runtime)
    varies = vary_of(data, inputs.config) is not None
    can_solve = is_linear(classifier.head)
    cuts_of_backbone = find_cuts(classifier.backbone, most_tensors_across(classifier.backbone))
    plan = make_plan(precise, cuts_of_backbone, num_train, varies, can_solve, data.task.choices, data.kind.name)
    cuts = choose_cuts(classifier, plan)
    plan = choose_fine_tune_augment(plan, has_cut="fine_tune" in cuts)
    config = plan.config
    millions = classifier.model.count_params() / 1e6
    weights = "pretrained" if config.model.weights == "imagenet" and backbone.kind != "image" else config.model.weights
    show_stage("model", f"{backbone.name} ({weights}), {data.reader.title}, {millions:.1f} M parameters")
    show_stage("batch", describe_batch(plan.batch_size, strategy, data.kind.noun, data.kind.nouns))
    if unused := plan.unused:
        show_stage("warning", f"no use for {listed(unused)}: the head is solved, and nothing is fine-tuned")
    if is_too_small(inputs.config, num_train) and not data.task.choices:  # which never fine-tune by themselves
        said = f"not begun with fewer than {FINE_TUNE_LEAST_EXAMPLES:,} training {data.kind.nouns}"
        show_stage("fine-tune", f"{said}; --fine-tune-epochs 2 does it all the same")
    if precise.training.fine_tune_augment is None and plan.fine_tune_augment == "fresh" != plan.augment:
        show_whole_network(plan.trainable_layers)

    checkpoints_of(folder).mkdir(parents=True, exist_ok=True)
    digest, versions = inputs_digest(inputs), writer.package_versions()
    begun = read_begun_with(config, digest, versions)
    positions: dict[str, int] = {phase: cut.position for phase, cut in cuts.items()}
    if begun is not None and begun != positions:
        raise RunError(
            f"'{folder}' was begun by a version that cuts the network elsewhere. Choose another --output to start anew."
        )
    store = open_store(config.run.cache_dir, config.run.cache_gb)
    check_room(cuts, _views(cuts, plan), data, store, strategy)
    check_alike(strategy, (config.to_json(), digest, positions))
    if is_chief(strategy):
        check_disk(folder, classifier.model)
    if begun is None:
        begin(config, digest, versions, positions)
    board = Board(folder) if config.run.tensorboard else None
    run = Run(folder, plan, data, backbone, classifier, strategy, precision, store, cuts, [], clock, board)
    writer.write_environment(run.folder)
    writer.write_quarantine(run.folder, data)
    writer.write_reader_files(run.folder, data)
    writer.write_learnt_from(run.folder, data)
    writer.write_table(run.folder / "history.csv", run.history)
    return run


def _halve_batch(config: TrainConfig, batch_size: int) -> TrainConfig:
    """Returns the user's settings with half the batch size; the recipe then chooses open ones again."""
    if batch_size == 1:
        raise RunError("The memory is too small for a batch of one. Choose a smaller --image-size or --backbone.")
    show_stage(
        "warning",
        f"the memory is too small for a batch of {batch_size}: starting again with {batch_size // 2}; learning rates "
        f"and epochs that you left open are chosen anew",
    )
    return as_asked(config).replace(batch_size=batch_size // 2)


def _frozen_inputs(run: Run, pool: Pool | None) -> dict[Phase, PhaseInputs]:
    """Runs the frozen layers once for all phases that have some."""
    if not run.cuts:
        return {}
    with run.clock.timed("features"):
        return frozen_inputs(
            run.classifier,
            run.cuts,
            _views(run.cuts, run.plan),
            run.config,
            run.data,
            run.store,
            run.strategy,
            precision=run.precision,
            pool=pool,
        )


def _views(cuts: Iterable[Phase], plan: Plan) -> dict[Phase, int]:
    """Returns the number of views of each phase."""
    return {phase: plan.views if plan.augment_of(phase) == "views" else 1 for phase in cuts}


def _final_inputs(run: Run, inputs: dict[Phase, PhaseInputs]) -> PhaseInputs:
    """Returns inputs for the trained network: outputs of the frozen layers if `exact_phase` has them."""
    phase = exact_phase(run)
    return inputs[phase] if phase else whole_network(run.classifier, run.data)


def _calibrate(run: Run, inputs: dict[Phase, PhaseInputs]) -> float:
    """Calibrates the model on val; returns the temperature."""
    if not run.data.task.is_calibrated:
        return 1.0
    task = classes_of(run.data.task)
    data, outputs = with_out_of_fold(run.data, _predict(run, inputs, ("val",)), run.out_of_fold)
    if not outputs:
        return 1.0
    val = examples(data, "val", [], run.config.training.class_weights)
    temperature = task.fit_temperature(outputs["val"], val.targets, val.sample_weights)
    calibrate_head(run.classifier.head, temperature)
    return temperature


def _predict(run: Run, inputs: dict[Phase, PhaseInputs], splits: Sequence[Split]) -> dict[Split, np.ndarray]:
    """Predicts the splits that are not empty, from outputs of the frozen layers if the last phase has them."""
    final = _final_inputs(run, inputs)
    model = run.classifier.answering(final.model)
    evaluated = {split: final.evaluated[split] for split in splits if len(final.evaluated[split].rows)}
    # With a TPU, its host CPU measures.
    strategy = None if isinstance(run.strategy, tf.distribute.TPUStrategy) else run.strategy
    with progress_bar("evaluate", sum(len(view.rows) for view in evaluated.values())) as advance:
        return apply_to_views(model, evaluated, advance, strategy)
