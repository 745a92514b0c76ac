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
    steps = math.ceil(len(train.rows) / config.batch_size)
    schedule = _warm_up_and_cosine(learning_rate, steps, epochs)
    decay = {} if config.weight_decay is None else {"weight_decay": config.weight_decay}
    optimizer = OPTIMIZERS[config.optimizer](learning_rate=schedule, **decay)
    if learning_rate_factors:
        factors = [learning_rate_factors.get(variable.path, 1.0) for variable in model.trainable_variables]
        scale_learning_rates(optimizer, factors)
    model.compile(optimizer, OUTPUTS[task].loss, weighted_metrics=[ACCURACY[task](name="accuracy")])

    val_batches = None if val is None else evaluation_batches(val, EVALUATION_BATCH_SIZE)
    start = None if val is None else model.evaluate(val_batches, verbose=0, return_dict=True)["loss"]
    keep_best = KeepBest(phase, config.patience, start, on_epoch)
    batches = training_batches(
        train, batch_size=config.batch_size, seed=config.seed, epochs=range(epochs), augment=augment
    )
    model.fit(
        batches,
        epochs=epochs,
        steps_per_epoch=steps,
        validation_data=val_batches,
        callbacks=[keep_best],
        shuffle=False,
        verbose=0,
    )
    best_epoch = len(keep_best.results) if val is None else keep_best.best_epoch
    return PhaseResult(keep_best.results, best_epoch)


class KeepBest(keras.callbacks.Callback):
    """Records every epoch, stops when the validation loss has not fallen for `patience` epochs, restores the best.

    Unlike Keras' EarlyStopping it counts the weights it starts from.
    """

    def __init__(self, phase: str, patience: int, start_loss: float | None, on_epoch: Callable[[EpochResult], None]):
        super().__init__()
        self.phase = phase
        self.patience = patience
        self.best_loss = start_loss
        self.best_epoch = 0
        self.on_epoch = on_epoch
        self.results: list[EpochResult] = []

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        self._best_values = self.model.get_weights()

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        self._started = time.perf_counter()

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        result = EpochResult(
            phase=self.phase,
            epoch=epoch + 1,
            learning_rate=float(keras.ops.convert_to_numpy(self.model.optimizer.learning_rate)),
            loss=logs["loss"],
            accuracy=logs["accuracy"],
            val_loss=logs.get("val_loss"),
            val_accuracy=logs.get("val_accuracy"),
            seconds=time.perf_counter() - self._started,
        )
        if not math.isfinite(result.loss):
            flag = "--learning-rate" if self.phase == "head" else "--fine-tune-learning-rate"
            raise UsageError(f"Training diverged: the loss is {result.loss} in epoch {epoch + 1}. Lower {flag}.")
        self.results.append(result)
        self.on_epoch(result)
        if result.val_loss is None:
            return
        if result.val_loss < self.best_loss:
            self.best_loss, self.best_epoch = result.val_loss, epoch + 1
            self._best_values = self.model.get_weights()
        elif epoch + 1 - self.best_epoch >= self.patience:
            self.model.stop_training = True

    def on_train_end(self, logs: dict[str, Any] | None = None) -> None:
        if self.best_loss is not None:
            self.model.set_weights(self._best_values)


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
