"""Finds a learning rate by a range test: a short training whose rate rises with every step, until the loss diverges.

L. Smith, "Cyclical Learning Rates for Training Neural Networks", WACV 2017; steps, smoothing and end as in fastai's
`lr_find`.
"""

import math
from collections.abc import Callable

import keras
import numpy as np
import pandas as pd
import tensorflow as tf

from app.errors import RunError
from data.batches import Examples
from data.kinds import Vary
from devices.precision import Precision
from tasks.table import Task
from training.learner import bounded_by_memory
from training.optimizers import Rates, make_optimizer
from training.plan import Plan
from training.steps import assign, compile_graphs, learning_batches

LOWEST, HIGHEST = 1e-5, 10.0
STEPS_PER_TENFOLD = 32
"""With fewer steps per rate, the same fall of the loss needs a higher rate: with 20, chosen rates are 1.5 times as
high."""
STEPS = 1 + round(STEPS_PER_TENFOLD * math.log10(HIGHEST / LOWEST))
SMOOTHING = 0.9
"""Decay of the running mean of the loss: a loss counts for about ten steps, in which the rate doubles."""
DIVERGED = 4
"""The test ends when the smoothed loss is this many times its minimum."""
DIGITS = 2
"""Significant digits of the chosen rate: another seed changes even the first."""


class RisingRates(Rates):
    """A rate that rises exponentially to its peak, with the weight decay of the settings."""

    def __call__(self, step: tf.Tensor) -> tf.Tensor:
        """Returns the learning rate at a step, counted from 0."""
        step = keras.ops.cast(step, "float32")
        return self._peak * keras.ops.power(10.0, (step + 1 - STEPS) / STEPS_PER_TENFOLD)


def range_test(
    model: keras.Model,
    task: Task,
    train: Examples,
    plan: Plan,
    *,
    vary: Vary | None = None,
    strategy: tf.distribute.Strategy | None = None,
    precision: Precision = "float32",
    on_step: Callable[[], None] = lambda: None,
) -> pd.DataFrame:
    """Trains with rising rates; restores the model afterwards, including the state of its dropout.

    Args:
        model: model with its trainable layers set.
        task: task, which decides the loss.
        train: examples to learn from, in the order of a phase; few examples are repeated.
        plan: optimizer, weight decay, batch size and seed.
        vary: how to vary the examples anew in each epoch; None leaves them as they are.
        strategy: under which the model was built; None for one device.
        precision: in which the model computes.
        on_step: called after each step.

    Returns:
        A row per step with learning_rate, loss and smoothed_loss; both losses are measured before the step.
    """
    strategy = strategy or tf.distribute.get_strategy()
    start = [variable.numpy() for variable in model.variables]
    with strategy.scope():
        rates = RisingRates()
        optimizer = make_optimizer(plan.config.training.optimizer, rates, model.trainable_variables, precision)
    rates.assign(plan.config, HIGHEST, STEPS, epochs=1)
    graphs = compile_graphs(model, optimizer, task, strategy, precision)
    epochs = range(math.ceil(STEPS / math.ceil(len(train.targets) / plan.batch_size)))
    batches = learning_batches(strategy, train, plan, epochs, vary)
    rows: list[tuple[float, float, float]] = []
    mean, lowest = 0.0, math.inf
    for step in range(1, STEPS + 1):
        rate = float(keras.ops.convert_to_numpy(optimizer.learning_rate))
        with bounded_by_memory():
            graphs.train_steps(batches, tf.constant(1))
        loss = graphs.measured().loss
        mean = SMOOTHING * mean + (1 - SMOOTHING) * loss
        smoothed = mean / (1 - SMOOTHING**step)  # the mean began at 0
        if not math.isfinite(smoothed):
            break
        rows.append((rate, loss, smoothed))
        on_step()
        lowest = min(lowest, smoothed)
        if smoothed > DIVERGED * lowest:
            break
    assign(model.variables, start)
    return pd.DataFrame(rows, columns=["learning_rate", "loss", "smoothed_loss"], dtype=float)


def choose_rate(curve: pd.DataFrame) -> float:
    """Returns the middle of the tenfold range of rates in which the lowest smoothed loss falls most.

    It is the steepest descent of fastai's `lr_find`, over a range wide enough for the noise of single batches. A tenth
    of the rate of the lowest loss is no guide for a head, which memorises a few hundred examples at any rate: on 244
    photos, the loss is lowest at a rate of 0.2, but the validation loss at 0.002.

    Args:
        curve: from `range_test`.

    Raises:
        RunError: the loss falls at no rate.
    """
    lowest = curve["smoothed_loss"].cummin().to_numpy()  # recovering from a too large step does not count
    falls = lowest[:-STEPS_PER_TENFOLD] - lowest[STEPS_PER_TENFOLD:]
    if not (falls > 0).any():
        raise RunError("--learning-rate find: the loss falls at none of the rates tried. Give a number.")
    rate = curve["learning_rate"][int(np.argmax(falls)) + STEPS_PER_TENFOLD // 2]
    return float(f"{rate:.{DIGITS}g}")
