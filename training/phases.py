"""The two phases of learning: first the new head on the frozen backbone, then the backbone's last layers with it.

A head of random weights would send large, meaningless gradients into the pretrained layers; so the head comes first
(Keras' guide to transfer learning; LP-FT, Kumar et al., ICLR 2022).
"""

import math
import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import keras
import numpy as np
import tensorflow as tf

from config import Task, TrainConfig
from data.pipeline import Examples, evaluation_batches, training_batches
from models.heads import OUTPUTS

OPTIMIZERS: dict[str, Callable[..., keras.optimizers.Optimizer]] = {
    "adam": keras.optimizers.Adam,
    "adamw": keras.optimizers.AdamW,
    "sgd": lambda **settings: keras.optimizers.SGD(momentum=0.9, nesterov=True, **settings),
    "rmsprop": keras.optimizers.RMSprop,
    "nadam": keras.optimizers.Nadam,
    "adagrad": keras.optimizers.Adagrad,
    "lion": keras.optimizers.Lion,
}
DEFAULT_WEIGHT_DECAY = {"adamw": 0.004}
WARM_UP_EPOCHS = 0.5
"""Share of a phase's first epoch in which the learning rate rises from 0, while the optimizer's moments are empty."""
EVALUATION_BATCH_SIZE = 64
STEPS_PER_CALL = 16
"""Steps on vectors that TensorFlow takes before Python has its turn, which costs more than such a step; on feature maps
it is one, so that Ctrl-C is heard."""


def exact_match(targets: tf.Tensor, outputs: tf.Tensor) -> tf.Tensor:
    """Whether all labels of a picture are right; float32 (n,), 0 or 1, from targets and outputs (n, num_labels)."""
    return tf.cast(tf.reduce_all((outputs >= 0.5) == (targets >= 0.5), axis=-1), tf.float32)


ACCURACY: dict[Task, Callable[[tf.Tensor, tf.Tensor], tf.Tensor]] = {
    "binary": lambda targets, outputs: keras.metrics.binary_accuracy(targets, outputs)[..., 0],
    "multiclass": keras.metrics.categorical_accuracy,
    "multilabel": exact_match,
}
"""Whether each picture is right: float32 (..., n), from targets and outputs (..., n, num_outputs)."""


class EpochResult(NamedTuple):
    """One line of `history.csv`."""

    phase: str
    epoch: int
    learning_rate: float
    loss: float
    accuracy: float
    val_loss: float | None
    val_accuracy: float | None
    seconds: float


class PhaseResult(NamedTuple):
    """How a phase went."""

    epochs: list[EpochResult]
    best_epoch: int
    """Number of the epoch whose weights were kept; 0 for those it started from."""


class Learner:
    """A model with its optimizer and the graphs of its steps: trains one phase, or several that start afresh.

    A loop of our own instead of `fit`: it keeps the weights it began with in mind, and loses no
    time between steps, which for a head on stored features is most of the time. Rates are variables, so that another
    phase with others needs no new graph.
    """

    def __init__(
        self,
        model: keras.Model,
        task: Task,
        optimizer: str,
        learning_rate_factors: dict[str, float] | None = None,
    ):
        """Makes the optimizer; the graphs are made when they are first used.

        Args:
            model: what is trained; its trainable layers are set already.
            task: decides loss and metric.
            optimizer: one of `OPTIMIZERS`.
            learning_rate_factors: factors on the learning rate, by path of the variable; 1 for the others.
        """
        self._model = model
        self._rates = Rates()
        self._optimizer = make_optimizer(optimizer, self._rates)
        self._optimizer.build(model.trainable_variables)
        if learning_rate_factors:
            factors = [learning_rate_factors.get(variable.path, 1.0) for variable in model.trainable_variables]
            scale_learning_rates(self._optimizer, factors)
        self._start = [variable.numpy() for variable in self._optimizer.variables]
        self._train_steps, self._judge_step, self._measured = _compile(model, self._optimizer, task)

    def train(
        self,
        phase: str,
        train: Examples,
        val: Examples | None,
        config: TrainConfig,
        *,
        epochs: int,
        learning_rate: float,
        augment: bool,
        on_epoch: Callable[[EpochResult], None] = lambda _: None,
    ) -> PhaseResult:
        """Trains until the validation loss no longer falls, and leaves the model at its best weights.

        The weights it starts from count as well: a phase never makes the validation loss worse.

        Args:
            phase: name for the history.
            train: examples to learn from.
            val: examples to stop and choose by; None trains all epochs and keeps the last weights.
            config: batch size, schedule, weight decay, patience and seed.
            epochs: maximum epochs.
            learning_rate: peak learning rate.
            augment: whether to vary the pictures.
            on_epoch: called after each epoch.

        Returns:
            What happened, epoch by epoch, and which epoch's weights the model has now.

        Raises:
            DivergedError: the loss is no longer a number.
        """
        steps = math.ceil(len(train.targets) / config.batch_size)
        for variable, start in zip(self._optimizer.variables, self._start, strict=True):
            variable.assign(start)
        self._rates.assign(config, learning_rate, steps, epochs)
        self._measured()  # a phase that an error ended has left sums

        on_vectors = train.views[0].values.ndim == 2
        steps_per_call = STEPS_PER_CALL if on_vectors else 1
        val_batches = () if val is None else evaluation_batches(val, EVALUATION_BATCH_SIZE)
        if on_vectors:
            val_batches = list(val_batches)  # small, and making an iterator takes longer than using it

        def judge() -> Measured | None:
            for batch in val_batches:
                self._judge_step(*batch)
            return None if val is None else self._measured()

        start = judge()
        best = Best(self._model, start and start.loss)
        batches = iter(
            training_batches(
                train, batch_size=config.batch_size, seed=config.seed, epochs=range(epochs), augment=augment
            )
        )
        results: list[EpochResult] = []
        for epoch in range(1, epochs + 1):
            started = time.perf_counter()
            for first in range(0, steps, steps_per_call):
                self._train_steps(batches, tf.constant(min(steps_per_call, steps - first)))
            trained, judged = self._measured(), judge()
            rate = float(keras.ops.convert_to_numpy(self._optimizer.learning_rate))
            seconds = time.perf_counter() - started
            results.append(EpochResult(phase, epoch, rate, *trained, *(judged or (None, None)), seconds))
            if not math.isfinite(trained.loss):
                raise DivergedError(f"the loss is {trained.loss} in epoch {epoch}")
            on_epoch(results[-1])
            best.update(epoch, judged and judged.loss)
            if epoch - best.epoch >= config.patience:
                break
        best.restore()
        return PhaseResult(results, best.epoch)


class DivergedError(Exception):
    """Training ended in numbers that are none."""


class Rates(keras.optimizers.schedules.LearningRateSchedule):
    """Learning rate by step, and weight decay, as variables.

    The rate rises to its peak in the first half epoch, then stays there or falls to 0 along a cosine.
    """

    def __init__(self, shape: tuple[int, ...] = ()):
        """Args:

        shape: () for one model; for several that are trained as one, a shape that spreads over their variables.
        """
        self.weight_decay = keras.Variable(np.zeros(shape, np.float32), trainable=False, name="weight_decay")
        self._peak, self._warm_up, self._fall, self._end = (
            keras.Variable(np.ones(shape, np.float32), trainable=False, name=name)
            for name in ("peak", "warm_up", "fall", "end")
        )

    def assign(
        self,
        config: TrainConfig | Sequence[TrainConfig],
        learning_rate: float | Sequence[float],
        steps: int,
        epochs: int | Sequence[int],
    ) -> None:
        """Sets the rates.

        Args:
            config: for schedule, optimizer and weight decay; of each model, as are the peak learning rates and epochs.
            learning_rate: peak.
            steps: per epoch.
            epochs: maximum epochs.
        """
        configs = [config] if isinstance(config, TrainConfig) else config
        warm_up = max(1, round(WARM_UP_EPOCHS * steps))
        decay = [
            DEFAULT_WEIGHT_DECAY.get(each.optimizer, 0.0) if each.weight_decay is None else each.weight_decay
            for each in configs
        ]
        values = (
            (self.weight_decay, decay),
            (self._peak, learning_rate),
            (self._warm_up, [warm_up] * len(configs)),
            (self._fall, [each.schedule == "cosine" for each in configs]),
            (self._end, np.maximum(np.multiply(steps, epochs) - warm_up, 1)),
        )
        for variable, value in values:
            variable.assign(np.reshape(np.asarray(value, np.float32), variable.shape))

    def __call__(self, step: tf.Tensor) -> tf.Tensor:
        """Returns the learning rate at a step, counted from 0."""
        step = keras.ops.cast(step, "float32")
        progress = keras.ops.clip((step - self._warm_up) / self._end, 0.0, 1.0)
        falling = 1 - self._fall * 0.5 * (1 - keras.ops.cos(math.pi * progress))
        return self._peak * keras.ops.where(step < self._warm_up, step / self._warm_up, falling)


def make_optimizer(name: str, rates: Rates) -> keras.optimizers.Optimizer:
    """Makes an optimizer whose learning rate and weight decay are those of `rates`."""
    optimizer = OPTIMIZERS[name](learning_rate=rates)
    optimizer.weight_decay = rates.weight_decay
    return optimizer


class Measured(NamedTuple):
    """Means over the examples of an epoch, or of a split."""

    loss: float
    accuracy: float


class Best:
    """The weights of the lowest validation loss so far; those a phase starts from count as well."""

    def __init__(self, model: keras.Model, start_loss: float | None):
        self._model = model
        self._loss = start_loss
        self._weights = model.get_weights()
        self.epoch = 0
        """Number of the epoch that has them; 0 for the start. Without validation, the last."""

    def update(self, epoch: int, loss: float | None) -> None:
        """Takes note of an epoch's validation loss; None where there is no validation."""
        if loss is None or loss < self._loss:
            self._loss, self.epoch, self._weights = loss, epoch, self._model.get_weights()

    def restore(self) -> None:
        """Gives the model the best weights."""
        self._model.set_weights(self._weights)


def _compile(
    model: keras.Model, optimizer: keras.optimizers.Optimizer, task: Task
) -> tuple[Callable[..., None], Callable[..., None], Callable[[], Measured]]:
    """Makes graphs of training steps and of a validation step, and a function that reads and resets their means."""
    loss_of = keras.losses.get(OUTPUTS[task].loss)
    mean_loss, accuracy = keras.metrics.Mean(), keras.metrics.MeanMetricWrapper(ACCURACY[task])
    variables = model.trainable_variables

    @tf.function(reduce_retracing=True, autograph=False)
    def train_step(inputs: tf.Tensor, targets: tf.Tensor, sample_weights: tf.Tensor) -> None:
        with tf.GradientTape() as tape:
            outputs = model(inputs, training=True)
            losses = loss_of(targets, outputs) * sample_weights
            loss = tf.reduce_mean(losses)
        optimizer.apply(tape.gradient(loss, [variable.value for variable in variables]), variables)
        mean_loss.update_state(losses)
        accuracy.update_state(targets, outputs, sample_weight=sample_weights)

    @tf.function
    def train_steps(batches: tf.data.Iterator, count: tf.Tensor) -> None:
        for _ in tf.range(count):
            train_step(*next(batches))

    @tf.function(reduce_retracing=True, autograph=False)
    def judge_step(inputs: tf.Tensor, targets: tf.Tensor) -> None:
        outputs = model(inputs, training=False)
        mean_loss.update_state(loss_of(targets, outputs))
        accuracy.update_state(targets, outputs)

    def measured() -> Measured:
        means = Measured(float(mean_loss.result()), float(accuracy.result()))
        mean_loss.reset_state()
        accuracy.reset_state()
        return means

    return train_steps, judge_step, measured


def scale_learning_rates(optimizer: keras.optimizers.Optimizer, factors: Sequence[float]) -> None:
    """Gives each variable a learning rate of its own: the optimizer's times the variable's factor.

    Multiplying gradients would do nothing under Adam, whose steps do not depend on their scale.

    Args:
        optimizer: whose steps are scaled from now on.
        factors: one for each variable it will be built with, in order.
    """
    update_step = optimizer.update_step  # and the index below: what Keras documents for optimizers of one's own

    def scaled_update_step(gradient: tf.Tensor, variable: Any, learning_rate: tf.Tensor) -> None:
        update_step(gradient, variable, learning_rate * factors[optimizer._get_variable_index(variable)])

    optimizer.update_step = scaled_update_step


def layer_decay_factors(blocks: Sequence[Sequence[keras.Layer]], layer_decay: float) -> dict[str, float]:
    """Factors for layer-wise learning-rate decay: `layer_decay` for the last block, its square for the one before ...

    The head keeps 1 (ULMFiT, Howard & Ruder, 2018; BEiT uses the same rule).

    Args:
        blocks: the backbone's layers by block, from input to output.
        layer_decay: above 0 and at most 1.

    Returns:
        Factors by path of the variable.
    """
    return {
        variable.path: layer_decay ** (len(blocks) - index)
        for index, block in enumerate(blocks)
        for layer in block
        for variable in layer.trainable_variables
    }


def balanced_weights(targets: np.ndarray, task: Task) -> np.ndarray:
    """Weights that make every class count alike: number of pictures / (number of classes x pictures of the class).

    Args:
        targets: float32 (n, num_outputs).
        task: in a multi-label task a picture has the mean weight of its labels, or 1 without labels.

    Returns:
        float32 (n,), of mean 1 where each picture has one label.
    """
    membership = np.hstack([1 - targets, targets]) if task == "binary" else targets
    weight_of_class = len(targets) / (membership.shape[1] * np.maximum(membership.sum(0), 1))
    labels = membership.sum(1)
    return np.where(labels > 0, membership @ weight_of_class / np.maximum(labels, 1), 1).astype(np.float32)
