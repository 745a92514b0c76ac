"""The two phases of learning: first the new head on the frozen backbone, then the backbone's last layers with it.

A head of random weights would send large, meaningless gradients into the pretrained layers; so the head comes first
(Keras' guide to transfer learning; LP-FT, Kumar et al., ICLR 2022).
"""

import functools
import math
import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import keras
import numpy as np
import tensorflow as tf

from config import Task, TrainConfig, UsageError
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
WARM_UP_EPOCHS = 0.5
"""Share of a phase's first epoch in which the learning rate rises from 0, while the optimizer's moments are empty."""
EVALUATION_BATCH_SIZE = 64
STEPS_PER_CALL = 16
"""Steps on vectors that TensorFlow takes before Python has its turn, which costs more than such a step; on feature maps
it is one, so that Ctrl-C is heard."""


def exact_match(targets: tf.Tensor, outputs: tf.Tensor) -> tf.Tensor:
    """Whether all labels of a picture are right; float32 (n,), 0 or 1, from targets and outputs (n, num_labels)."""
    return tf.cast(tf.reduce_all((outputs >= 0.5) == (targets >= 0.5), axis=-1), tf.float32)


ACCURACY: dict[Task, Callable[..., keras.metrics.Metric]] = {
    "binary": keras.metrics.BinaryAccuracy,
    "multiclass": keras.metrics.CategoricalAccuracy,
    "multilabel": functools.partial(keras.metrics.MeanMetricWrapper, exact_match),
}


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


def train_phase(
    phase: str,
    model: keras.Model,
    task: Task,
    train: Examples,
    val: Examples | None,
    config: TrainConfig,
    *,
    epochs: int,
    learning_rate: float,
    augment: bool,
    learning_rate_factors: dict[str, float] | None = None,
    on_epoch: Callable[[EpochResult], None] = lambda _: None,
) -> PhaseResult:
    """Trains a model until its validation loss no longer falls, and leaves it at its best weights.

    The weights it starts from count as well: a phase never makes the validation loss worse.

    Args:
        phase: name for the history.
        model: what is trained; its trainable layers are set already.
        task: decides loss and metric.
        train: examples to learn from.
        val: examples to stop and choose by; None trains all epochs and keeps the last weights.
        config: batch size, optimizer, patience and seed.
        epochs: maximum epochs.
        learning_rate: peak learning rate; it warms up to this and then falls to 0 along a cosine.
        augment: whether to vary the pictures.
        learning_rate_factors: factors on the learning rate, by path of the variable; 1 for the others.
        on_epoch: called after each epoch.

    Returns:
        What happened, epoch by epoch, and which epoch's weights the model has now.
    """
    steps = math.ceil(len(train.targets) / config.batch_size)
    schedule = _warm_up_and_cosine(learning_rate, steps, epochs)
    decay = {} if config.weight_decay is None else {"weight_decay": config.weight_decay}
    optimizer = OPTIMIZERS[config.optimizer](learning_rate=schedule, **decay)
    optimizer.build(model.trainable_variables)
    if learning_rate_factors:
        factors = [learning_rate_factors.get(variable.path, 1.0) for variable in model.trainable_variables]
        scale_learning_rates(optimizer, factors)
    train_steps, judge_step, measured = _compile(model, optimizer, task)

    on_vectors = train.views[0].values.ndim == 2
    steps_per_call = STEPS_PER_CALL if on_vectors else 1
    val_batches = () if val is None else evaluation_batches(val, EVALUATION_BATCH_SIZE)
    if on_vectors:
        val_batches = list(val_batches)  # small, and making an iterator takes longer than using it

    def judge() -> Measured | None:
        for batch in val_batches:
            judge_step(*batch)
        return None if val is None else measured()

    start = judge()
    best = Best(model, start and start.loss)
    batches = iter(
        training_batches(train, batch_size=config.batch_size, seed=config.seed, epochs=range(epochs), augment=augment)
    )
    results: list[EpochResult] = []
    for epoch in range(1, epochs + 1):
        started = time.perf_counter()
        for first in range(0, steps, steps_per_call):
            train_steps(batches, tf.constant(min(steps_per_call, steps - first)))
        trained, judged = measured(), judge()
        rate = float(keras.ops.convert_to_numpy(optimizer.learning_rate))
        seconds = time.perf_counter() - started
        results.append(EpochResult(phase, epoch, rate, *trained, *(judged or (None, None)), seconds))
        if not math.isfinite(trained.loss):
            flag = "--learning-rate" if phase == "head" else "--fine-tune-learning-rate"
            raise UsageError(f"Training diverged: the loss is {trained.loss} in epoch {epoch}. Lower {flag}.")
        on_epoch(results[-1])
        best.update(epoch, judged and judged.loss)
        if epoch - best.epoch >= config.patience:
            break
    best.restore()
    return PhaseResult(results, best.epoch)


class Measured(NamedTuple):
    """Means over the examples of an epoch."""

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
    """Makes graphs of training steps and of a validation step, and a function that reads and resets their means.

    A loop of our own instead of `fit`: it can start at any epoch, keeps the weights it began with in mind, and loses no
    time between steps, which for a head on stored features is most of the time.
    """
    loss_of = keras.losses.get(OUTPUTS[task].loss)
    mean_loss, accuracy = keras.metrics.Mean(), ACCURACY[task]()
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
        optimizer: not built yet.
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


def _warm_up_and_cosine(highest: float, steps: int, epochs: int) -> keras.optimizers.schedules.LearningRateSchedule:
    warm_up = max(1, round(WARM_UP_EPOCHS * steps))
    return keras.optimizers.schedules.CosineDecay(
        initial_learning_rate=0.0,
        warmup_target=highest,
        warmup_steps=warm_up,
        decay_steps=max(1, steps * epochs - warm_up),
    )
