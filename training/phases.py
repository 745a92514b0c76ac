"""Trains, resumes and records the phases of a run, and fine-tunes the backbone after the head."""

import math
from collections.abc import Callable, Sequence

import keras
import numpy as np

from app.errors import RunError
from app.interrupts import put_off
from app.run_folder import checkpoints_of
from app.terminal import counted, progress_bar, show_stage
from devices.precision import learning_precision
from devices.replicas import check_alike, is_chief
from models.freezing import set_trainable
from reports import writer
from training import checkpoint
from training.budget import in_time
from training.checkpoint import Checkpoint
from training.frozen import PhaseInputs, longest_of, phase_examples, whole_network
from training.learner import DivergedError, EpochResult, Learner, PhaseResult, PhaseState
from training.memory import lacks_memory
from training.optimizers import layer_decay_factors
from training.plan import Phase, title
from training.recipe import ENOUGH
from training.state import Run
from training.steps import assign
from training.variation import vary_of


def fine_tune(run: Run, inputs: dict[Phase, PhaseInputs]) -> None:
    """Unfreezes the last layers of the backbone and trains them with the head, at a low rate; then more layers."""
    config, layers = run.config, run.classifier.backbone.layers
    for phase, trainable_layers, epochs in run.plan.fine_tuning:
        enough = phase == "deeper" and _why_no_deeper(run)
        if enough:
            show_stage("deeper", f"not begun: {enough}")
            continue
        set_trainable(layers, trainable_layers, batch_norm_learns=config.model.weights == "none")
        factors = None
        if config.training.layer_decay is not None:
            factors = layer_decay_factors(run.classifier.blocks, config.training.layer_decay)
        with run.clock.timed(phase):
            train_phase(
                run,
                phase,
                inputs,
                epochs=epochs,
                learning_rate=run.plan.fine_tune_learning_rate,
                learning_rate_factors=factors,
            )


def _why_no_deeper(run: Run) -> str | None:
    """Returns why training more layers is not worth the time; None if it is."""
    if run.config.training.effort != "standard":
        return None
    best = min(run.epochs, key=lambda epoch: math.inf if epoch.val_loss is None else epoch.val_loss, default=None)
    if best is None or best.val_accuracy is None:
        return "without a val split nothing shows whether that helps"
    if best.val_accuracy >= ENOUGH:
        return f"{best.val_accuracy:.1%} are right on val already; --effort best does it all the same"
    return lacks_memory(run.classifier.model, run.plan.batch_size, longest_of(run.data))


def train_phase(
    run: Run,
    phase: Phase,
    inputs: dict[Phase, PhaseInputs],
    *,
    epochs: float,
    learning_rate: float,
    learning_rate_factors: dict[str, float] | None = None,
) -> None:
    """Trains one phase, or the rest of it, and shows and records every epoch."""
    path = checkpoints_of(run.folder) / f"{phase}.npz"
    begun = checkpoint.load(path)
    state = begun and begun.state
    if begun is not None:
        take_over(run, begun)
    chosen = phase_inputs(run, phase, inputs)
    if begun is not None and begun.finished:
        assign(chosen.model.variables, begun.state.arrays["model"])
        show_phase(run, phase, PhaseResult(begun.state.epochs, begun.state.best_epoch))
        return
    if state is not None:
        done = counted(len(state.epochs), "epoch", "epochs"), counted(state.step, "step", "steps")
        show_stage(title(phase), f"resumes after {done[0]} and {done[1]} of the next")
    check_alike(run.strategy, state and (state.epochs, state.step))
    too_large = lacks_memory(chosen.model, run.plan.batch_size, longest_of(run.data))
    if too_large:
        show_stage("warning", f"{too_large}: if the process is killed, choose a smaller --batch-size")
    saver = checkpoint.Saver(path, run.config.run.checkpoint_seconds)
    learner = Learner(
        chosen.model,
        run.data.task,
        run.config.training.optimizer,
        learning_rate_factors,
        run.strategy,
        learning_precision(chosen.model, run.precision),
    )
    try:
        result = _learn(run, phase, learner, chosen, state, saver, epochs=epochs, learning_rate=learning_rate)
    except DivergedError as error:
        result = _best_before(run, phase, error)
    save_ended(run, saver, phase, chosen.model, result)


def save_ended(
    run: Run, saver: checkpoint.Saver, phase: Phase, model: keras.Model, result: PhaseResult, **more: list[np.ndarray]
) -> None:
    """Saves and shows the result of a phase, with further arrays."""
    arrays = {"model": [variable.numpy() for variable in model.variables], **more}
    ended = PhaseState(result.epochs, 0, result.best_epoch, None, arrays)
    if is_chief(run.strategy):
        saver.save(Checkpoint(True, run.clock.seconds(), ended))
    show_phase(run, phase, result)


def _learn(
    run: Run,
    phase: Phase,
    learner: Learner,
    inputs: PhaseInputs,
    state: PhaseState | None,
    saver: checkpoint.Saver,
    *,
    epochs: float,
    learning_rate: float,
) -> PhaseResult:
    """Trains, and saves checkpoints at intervals and before an interrupt."""
    train, val = phase_examples(run.data, inputs, run.config.training.class_weights)
    epochs, is_over = in_time(run, phase, learner, train, val, inputs.vary, epochs)
    if epochs == 0:
        return PhaseResult([], 0)
    with progress_bar(title(phase), math.ceil(epochs)) as advance, put_off() as interrupted:
        advance(len(state.epochs) if state else 0)

        def on_step(make_state: Callable[[], PhaseState]) -> None:
            interrupt = interrupted()
            if interrupt is not None:
                saver.save(Checkpoint(False, run.clock.seconds(), make_state()))
                raise interrupt
            saver.save_if_due(lambda: Checkpoint(False, run.clock.seconds(), make_state()))

        def on_epoch(result: EpochResult) -> None:
            record_epochs(run, [result])
            accuracy = result.accuracy if result.val_accuracy is None else result.val_accuracy
            measure = run.data.task.measure_of_learning
            advance(1, f"{'' if result.val_accuracy is None else 'val '}{measure} {accuracy:.1%}")

        return learner.train(
            phase,
            train,
            val,
            run.plan,
            epochs=epochs,
            learning_rate=learning_rate,
            vary=inputs.vary,
            state=state,
            is_over=is_over,
            on_step=on_step,
            on_epoch=on_epoch,
        )


def _best_before(run: Run, phase: Phase, error: DivergedError) -> PhaseResult:
    """Returns the epochs before a phase diverged; raises a RunError if nothing was learnt before."""
    result = error.result
    record_epochs(run, result.epochs[-1:])
    flag = "--learning-rate" if phase == "head" else "--fine-tune-learning-rate"
    if result.best_epoch == 0 and not any(epoch.phase != phase for epoch in run.epochs):
        raise RunError(f"Training diverged before anything was learnt: {error}. Lower {flag}.") from None
    show_stage("warning", f"{error}: stopped, and the best weights before are kept. Lower {flag}.")
    return result


def take_over(run: Run, begun: Checkpoint) -> None:
    """Takes over the results of an earlier process."""
    record_epochs(run, begun.state.epochs)
    run.clock.take_over(begun.seconds)


def record_epochs(run: Run, results: Sequence[EpochResult]) -> None:
    """Adds epochs to the history of a run, `history.csv` and TensorBoard."""
    for result in results:
        run.epochs.append(result)
        if run.board is not None:
            run.board.log_epoch(len(run.epochs), result._asdict())
    writer.write_table(run.folder / "history.csv", run.history)


def show_phase(run: Run, phase: Phase, result: PhaseResult) -> None:
    """Shows the result of a phase in a line."""
    measure = run.data.task.measure_of_learning
    if result.epochs and result.epochs[0].learning_rate is None:
        return show_stage(title(phase), f"solved: {_epoch_text(result.epochs[0], measure)}")
    if not result.epochs:
        return show_stage(title(phase), "not begun: too little is left of --max-minutes")
    kept = "none better than the start, which is kept"
    if result.best_epoch > 0:
        kept = f"epoch {result.best_epoch} kept: {_epoch_text(result.epochs[result.best_epoch - 1], measure)}"
    show_stage(title(phase), f"{counted(len(result.epochs), 'epoch', 'epochs')}, {kept}")


def phase_inputs(run: Run, phase: Phase, inputs: dict[Phase, PhaseInputs]) -> PhaseInputs:
    """Returns the inputs of a phase: outputs of the frozen layers, or examples for the whole network."""
    if phase in inputs:
        return inputs[phase]
    is_varied = run.plan.augment_of(phase) == "fresh"
    return whole_network(run.classifier, run.data, vary_of(run.data, run.config) if is_varied else None)


def _epoch_text(result: EpochResult, measure: str) -> str:
    text = f"loss {result.loss:.4f}, {measure} {result.accuracy:.2%}"
    if result.val_loss is None:
        return text
    return f"{text}, val loss {result.val_loss:.4f}, val {measure} {result.val_accuracy:.2%}"
