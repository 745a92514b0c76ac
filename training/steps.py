"""Compiles the steps of training and evaluation, for all replicas of a strategy."""

import functools
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import keras
import numpy as np
import tensorflow as tf

from data.batches import Batch, Examples
from data.kinds import Vary
from data.pipeline import training_batches
from devices.precision import Precision, computing_in
from devices.replicas import distribute
from devices.whole_batch import as_one_batch
from tasks.table import Task
from training.plan import Plan


class Measured(NamedTuple):
    """Means over the examples of an epoch, or of a split."""

    loss: float
    """Mean by the sample weights."""
    accuracy: float
    """Mean in which every example counts equally."""


class Graphs(NamedTuple):
    """Compiled steps for a model, its optimizer and its task."""

    train_steps: Callable[..., None]
    """Trains, given an iterator of batches and a number of steps."""
    evaluate_step: Callable[..., None]
    """Takes a batch."""
    measured: Callable[[], Measured]
    """Returns the means since the last call, and resets the sums."""
    sums: list[tf.Variable]
    """Sums for the means."""


def compile_graphs(
    model: keras.Model,
    optimizer: keras.optimizers.Optimizer,
    task: Task,
    strategy: tf.distribute.Strategy,
    precision: Precision,
) -> Graphs:
    """Makes graphs of training steps and of an evaluation step.

    Args:
        model: model, built under the strategy.
        optimizer: optimizer, built under it for the model's trainable variables.
        task: task, which decides loss and metric.
        strategy: whose replicas share every batch.
        precision: precision of training; evaluation is in float32.
    """
    variables = model.trainable_variables
    sums = tf.Variable(tf.zeros(3), trainable=False)

    def add(totals: tf.Tensor) -> None:
        loss, right, count = tf.unstack(strategy.reduce(tf.distribute.ReduceOp.SUM, totals, axis=None))
        sums.assign_add(tf.stack([count * loss, right, count]))  # the weights of a batch are shares of its mean

    def totals_of(losses: tf.Tensor, outputs: tf.Tensor, targets: tf.Tensor, weights: tf.Tensor) -> tf.Tensor:
        right, counted = task.is_right(targets, outputs), tf.cast(weights > 0, tf.float32)
        return tf.stack([tf.reduce_sum(values) for values in (losses * weights, right * counted, counted)])

    @tf.autograph.experimental.do_not_convert
    def train_replica(inputs: Batch, targets: tf.Tensor, weights: tf.Tensor) -> tf.Tensor:
        with tf.GradientTape() as tape:
            outputs = model(inputs, training=True)
            losses = task.losses(targets, outputs)
            loss = optimizer.scale_loss(tf.reduce_sum(losses * weights))
        gradients = tape.gradient(loss, [variable.value for variable in variables])
        if isinstance(optimizer, keras.optimizers.LossScaleOptimizer):
            # Skips a step whose gradients overflow: all replicas, or none.
            gradients = tf.distribute.get_replica_context().all_reduce(tf.distribute.ReduceOp.MEAN, gradients)
        optimizer.apply(gradients, variables)  # sums the gradients of all replicas
        return totals_of(losses, outputs, targets, weights)

    @tf.autograph.experimental.do_not_convert
    def evaluate_replica(inputs: Batch, targets: tf.Tensor, weights: tf.Tensor) -> tf.Tensor:
        outputs = model(inputs, training=False)
        return totals_of(task.losses(targets, outputs), outputs, targets, weights)

    @tf.function
    def train_steps(batches: tf.data.Iterator, count: tf.Tensor) -> None:
        with computing_in(model, precision), as_one_batch(model, strategy.num_replicas_in_sync):
            for _ in tf.range(count):
                add(strategy.run(train_replica, next(batches)))

    @tf.function(reduce_retracing=True, autograph=False)
    def evaluate_step(batch: tuple[Batch, tf.Tensor, tf.Tensor]) -> None:
        add(strategy.run(evaluate_replica, batch))

    def measured() -> Measured:
        loss, right, count = sums.numpy().tolist()
        sums.assign(tf.zeros(3))
        return Measured(loss / count, right / count) if count else Measured(math.nan, math.nan)

    return Graphs(train_steps, evaluate_step, measured, [sums])


def learning_batches(
    strategy: tf.distribute.Strategy,
    train: Examples,
    plan: Plan,
    epochs: range,
    vary: Vary | None,
    first_step: int = 0,
) -> Iterator[Any]:
    """Makes an iterator of training batches, on all replicas; see `data.pipeline.training_batches`."""
    make_batches = functools.partial(
        training_batches,
        train,
        batch_size=plan.batch_size,
        seed=plan.config.training.seed,
        epochs=epochs,
        first_step=first_step,
        vary=vary,
    )
    return iter(distribute(strategy, make_batches))


def assign(variables: Sequence[keras.Variable], values: Sequence[np.ndarray]) -> None:
    """Sets variables to values."""
    for variable, value in zip(variables, values, strict=True):
        variable.assign(value)
