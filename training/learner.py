"""Trains a model for one phase, from the beginning or from any step, and keeps the best weights."""

import contextlib
import functools
import math
import time
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import keras
import numpy as np
import tensorflow as tf

from data.batches import Examples
from data.kinds import Vary
from data.pipeline import evaluation_batches
from devices.precision import Precision
from devices.replicas import distribute
from tasks.table import Task
from training.optimizers import Rates, make_optimizer
from training.plan import Plan
from training.steps import Measured, assign, compile_graphs, learning_batches

EVALUATION_BATCH_SIZE = 64
STEPS_PER_CALL = 16
"""Steps per call of TensorFlow on vectors and on TPUs, where returning to Python costs more than a step. On feature
maps it is one, so that Ctrl-C works."""
STEPS_TIMED = 3
"""Steps that are timed, after as many untimed ones, which compile and fill the pipeline."""


class EpochResult(NamedTuple):
    """One line of `history.csv`."""

    phase: str
    epoch: int
    learning_rate: float | None
    """Learning rate of the epoch's last step; None for a solved head, which counts as an epoch."""
    loss: float
    """Mean weighted by the sample weights, like `val_loss`; accuracies count every example once."""
    accuracy: float
    val_loss: float | None
    val_accuracy: float | None


class PhaseResult(NamedTuple):
    """Epochs of a phase, and the best one."""

    epochs: list[EpochResult]
    best_epoch: int
    """Number of the epoch whose weights were kept; 0 for the initial weights."""


class PhaseState(NamedTuple):
    """State from which a phase resumes with the same result, to the bit."""

    epochs: list[EpochResult]
    """Finished epochs."""
    step: int
    """Steps done in the next epoch."""
    best_epoch: int
    best_loss: float | None
    """Validation loss of the best epoch; None without validation."""
    arrays: dict[str, list[np.ndarray]]
    """Values of `model` (its dropout's state included), `optimizer`, the unfinished epoch's `sums`, and `best`."""


class DivergedError(Exception):
    """Training diverged (the loss is NaN or infinite); the model has its best weights again."""

    def __init__(self, problem: str, result: PhaseResult):
        super().__init__(problem)
        self.result = result


class BatchTooLargeError(Exception):
    """A training step needs more memory than there is."""


@contextlib.contextmanager
def bounded_by_memory() -> Iterator[None]:
    """Raises a BatchTooLargeError if a step in a block needs more memory than there is."""
    try:
        yield
    except tf.errors.ResourceExhaustedError:
        raise BatchTooLargeError("the memory is too small for its batch") from None


class Learner:
    """A model with its optimizer and compiled steps; trains one phase, or several that each start afresh.

    It replaces `fit`: it counts the initial weights as a candidate, resumes from any step, and loses no time between
    steps, which for a head on stored features would be most of the time. Rates are variables, so a phase with other
    rates needs no new graph.
    """

    def __init__(
        self,
        model: keras.Model,
        task: Task,
        optimizer: str,
        learning_rate_factors: dict[str, float] | None = None,
        strategy: tf.distribute.Strategy | None = None,
        precision: Precision = "float32",
    ):
        """Makes the optimizer; the graphs are traced at first use.

        Args:
            model: model to train, with its trainable layers set.
            task: decides loss and metric.
            optimizer: one of `OPTIMIZERS`.
            learning_rate_factors: factors on learning rate and weight decay, by path of the variable; 1 if not listed.
            strategy: under which the model was built; None for one device.
            precision: in which the model computes while it learns; its weights, its outputs and the loss are float32.
        """
        self._model = model
        self._strategy = strategy or tf.distribute.get_strategy()
        with self._strategy.scope():
            self._rates = Rates()
            self._optimizer = make_optimizer(
                optimizer, self._rates, model.trainable_variables, precision, learning_rate_factors
            )
        self._start = [variable.numpy() for variable in self._optimizer.variables]
        self._graphs = compile_graphs(model, self._optimizer, task, self._strategy, precision)

    def train(
        self,
        phase: str,
        train: Examples,
        val: Examples | None,
        plan: Plan,
        *,
        epochs: float,
        learning_rate: float,
        vary: Vary | None = None,
        state: PhaseState | None = None,
        is_over: Callable[[], bool] = lambda: False,
        on_step: Callable[[Callable[[], PhaseState]], None] = lambda _: None,
        on_epoch: Callable[[EpochResult], None] = lambda _: None,
    ) -> PhaseResult:
        """Trains until the validation loss no longer falls, and leaves the model at its best weights.

        The initial weights are a candidate, too: a phase never makes the validation loss worse.

        Args:
            phase: name for the history.
            train: examples to learn from.
            val: examples to stop and choose by; None trains all epochs and keeps the last weights.
            plan: batch size, schedule, weight decay, patience and seed.
            epochs: maximum epochs; the last may be partial.
            learning_rate: peak learning rate.
            vary: how to vary the examples anew in each epoch; None leaves them as they are.
            state: where to resume; None starts afresh.
            is_over: called after every step; returns whether to end early, as after the last epoch.
            on_step: called between steps with a function that returns the current state.
            on_epoch: called after each epoch.

        Returns:
            The results of each epoch, and the epoch whose weights the model has now.

        Raises:
            DivergedError: the loss is NaN or infinite.
            BatchTooLargeError: a step needs more memory than there is.
        """
        steps = math.ceil(len(train.targets) / plan.batch_size)
        total = max(1, round(epochs * steps))
        most = math.ceil(total / steps)
        on_vectors = train.views[0].has_vectors
        on_tpu = isinstance(self._strategy, tf.distribute.TPUStrategy)
        steps_per_call = STEPS_PER_CALL if on_vectors or on_tpu else 1
        evaluate = self._evaluation(val, on_vectors)
        results, step, best = self._begin(evaluate) if state is None else self._resume(state)
        # After the optimizer's variables, which the state contains.
        self._rates.assign(plan.config, learning_rate, steps, epochs)
        batches = learning_batches(self._strategy, train, plan, range(len(results), most), vary, step)
        over = False
        while len(results) < most and not over and len(results) - best.epoch < plan.config.training.patience:
            last = min(steps, total - len(results) * steps)
            for first in range(step, last, steps_per_call):
                count = min(steps_per_call, last - first)
                with bounded_by_memory():
                    self._graphs.train_steps(batches, tf.constant(count))
                on_step(functools.partial(self._state, results, first + count, best))
                over = is_over()
                if over:
                    break
            step = 0
            sums = [variable.numpy() for variable in self._graphs.sums]
            trained = self._graphs.measured()
            evaluated = evaluate(functools.partial(on_step, functools.partial(self._state, results, last, best, sums)))
            number = len(results) + 1
            results.append(EpochResult(phase, number, self._last_rate(), *trained, *(evaluated or (None, None))))
            if not math.isfinite(trained.loss):
                best.restore()
                raise DivergedError(f"the loss is {trained.loss} in epoch {number}", PhaseResult(results, best.epoch))
            best.update(number, evaluated and evaluated.loss)
            on_epoch(results[-1])
            on_step(lambda: self._state(results, 0, best))
        best.restore()
        return PhaseResult(results, best.epoch)

    def seconds(self, train: Examples, val: Examples | None, plan: Plan, vary: Vary | None) -> tuple[float, float]:
        """Times a training step and the evaluation on val, in seconds; the model stays unchanged.

        Args:
            train: examples to learn from.
            val: examples to evaluate on; None for no evaluation.
            plan: batch size and seed.
            vary: how to vary the examples.

        Raises:
            BatchTooLargeError: a step needs more memory than there is.
        """
        before = [variable.numpy() for variable in self._model.variables]
        batches = learning_batches(self._strategy, train, plan, range(2 * STEPS_TIMED), vary)
        with bounded_by_memory():
            steps, evaluation = _timed(lambda: self._graphs.train_steps(batches, tf.constant(STEPS_TIMED))), 0.0
        if val is not None:
            size = EVALUATION_BATCH_SIZE * self._strategy.num_replicas_in_sync
            batch = next(iter(distribute(self._strategy, functools.partial(evaluation_batches, val, size))))
            evaluation = _timed(lambda: self._graphs.evaluate_step(batch)) * math.ceil(len(val.targets) / size)
        assign(self._model.variables, before)
        return steps / STEPS_TIMED, evaluation

    def _last_rate(self) -> float:
        """Returns the learning rate of the last step; the optimizer's own is for the next step."""
        return float(keras.ops.convert_to_numpy(self._rates(keras.ops.maximum(self._optimizer.iterations, 1) - 1)))

    def _evaluation(self, val: Examples | None, on_vectors: bool) -> Callable[..., Measured | None]:
        """Makes the function that evaluates on val, after each batch of which it calls `on_batch`."""
        size = EVALUATION_BATCH_SIZE * self._strategy.num_replicas_in_sync
        batches = () if val is None else distribute(self._strategy, functools.partial(evaluation_batches, val, size))
        if on_vectors:
            batches = list(batches)  # small; making an iterator would take longer than using it

        def evaluate(on_batch: Callable[[], None] = lambda: None) -> Measured | None:
            for batch in batches:
                self._graphs.evaluate_step(batch)
                on_batch()
            return None if val is None else self._graphs.measured()

        return evaluate

    def _begin(self, evaluate: Callable[..., Measured | None]) -> tuple[list[EpochResult], int, "Best"]:
        """Starts a phase afresh; returns its epochs, the steps done in the next one, and the best so far."""
        assign(self._optimizer.variables, self._start)
        self._graphs.measured()  # resets sums that an error left behind
        start = evaluate()
        return [], 0, Best(self._model, 0, start and start.loss, self._model.get_weights())

    def _resume(self, state: PhaseState) -> tuple[list[EpochResult], int, "Best"]:
        for name, variables in self._variables().items():
            assign(variables, state.arrays[name])
        return (
            list(state.epochs),
            state.step,
            Best(self._model, state.best_epoch, state.best_loss, state.arrays["best"]),
        )

    def _state(
        self, results: Sequence[EpochResult], step: int, best: "Best", sums: list[np.ndarray] | None = None
    ) -> PhaseState:
        arrays = {name: [variable.numpy() for variable in each] for name, each in self._variables().items()}
        arrays["sums"] = arrays["sums"] if sums is None else sums  # validation has overwritten them
        return PhaseState(list(results), step, best.epoch, best.loss, {**arrays, "best": best.weights})

    def _variables(self) -> dict[str, Sequence[keras.Variable]]:
        """Returns all variables that a phase changes."""
        return {"model": self._model.variables, "optimizer": self._optimizer.variables, "sums": self._graphs.sums}


def _timed(action: Callable[[], None]) -> float:
    """Returns the seconds of an action whose graph is compiled already."""
    action()
    started = time.perf_counter()
    action()
    return time.perf_counter() - started


class Best:
    """The weights of the lowest validation loss so far, the initial ones included."""

    def __init__(self, model: keras.Model, epoch: int, loss: float | None, weights: list[np.ndarray]):
        self._model = model
        self.epoch = epoch
        """Number of the epoch of the best weights; 0 for the initial ones. Without validation, the last epoch."""
        self.loss = loss
        self.weights = weights

    def update(self, epoch: int, loss: float | None) -> None:
        """Records an epoch's validation loss, None without validation, and keeps the weights if it is the lowest."""
        if loss is None or self.loss is None or loss < self.loss:
            self.loss, self.epoch, self.weights = loss, epoch, self._model.get_weights()

    def restore(self) -> None:
        """Sets the model to the best weights."""
        self._model.set_weights(self.weights)
