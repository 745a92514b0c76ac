"""Trains many heads at once: heads on the same features and with the same batch size are one computation.

A step of one small head is mostly overhead; eight together take hardly longer. Each head has its own learning rate,
weight decay, dropout and epochs, and the same result as alone: the layers are those of `build_head`, called once for
all heads, and the optimizers are Keras' own, which work element by element.
"""

import functools
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import keras
import numpy as np
import tensorflow as tf

from data.arrays import take_rows
from data.batches import Examples
from data.pipeline import training_batches
from tasks.table import Task
from training.learner import STEPS_PER_CALL
from training.optimizers import UPDATE_RULES, Rates, is_decayed, make_optimizer
from training.plan import Plan
from training.steps import Measured, assign

HEADS_AT_ONCE = 16
"""Most heads of one update rule that are trained together."""
EVALUATED_AT_ONCE = 1024
"""Vectors per validation step; for feature maps, fewer."""
PROBES = (0.25, 0.5)
"""Two values of the setting `dropout`, to see what a head does with it."""


class AdjustableDropout(keras.layers.Dropout):
    """Dropout whose `rate` may be a tensor; for the same seed and rate, it drops the same values as Keras' own."""

    def call(self, inputs: tf.Tensor, training: bool = False) -> tf.Tensor:
        """Drops while training."""
        if not training:
            return inputs
        draws = tf.random.stateless_uniform(tf.shape(inputs), self.seed_generator.next())
        return tf.where(draws >= self.rate, inputs / (1 - tf.cast(self.rate, inputs.dtype)), tf.zeros_like(inputs))


class HeadShape(NamedTuple):
    """Heads that can share graphs."""

    build: Callable[..., keras.Model]
    """Builds a head, given `dropout` and `seed`."""
    dropout: float | None = None
    """Dropout of all these heads; None if each may have its own, see `is_adjustable`."""

    def plain(self, seed: int = 0) -> keras.Model:
        """Builds a head for training alone."""
        return self.build(dropout=PROBES[0] if self.dropout is None else self.dropout, seed=seed)

    def shared(self) -> keras.Model:
        """Builds the head whose graphs all heads of this shape share."""

        def copy(layer: keras.Layer) -> keras.Layer:
            is_adjusted = self.dropout is None and type(layer) is keras.layers.Dropout
            return (AdjustableDropout if is_adjusted else type(layer)).from_config(layer.get_config())

        return keras.models.clone_model(self.plain(), clone_function=copy)


def is_adjustable(build: Callable[..., keras.Model]) -> bool:
    """Returns True if the setting `dropout` of a head affects only the rate of its Dropout layers."""
    first, second = ([_without_rate(layer, rate) for layer in build(dropout=rate).layers] for rate in PROBES)
    return first == second


def set_dropout(head: keras.Model, rate: tf.Tensor | tf.Variable) -> None:
    """Sets the dropout rate of a shared head to a tensor or a variable."""
    for layer in head.layers:
        if isinstance(layer, AdjustableDropout):
            layer.rate = rate


def seeds(head: keras.Model) -> list[keras.Variable]:
    """Returns the random states of a head's layers: a seed and a counter each."""
    return [variable for variable in head.non_trainable_variables if variable.path.endswith("seed_generator_state")]


def lowest(curve: Sequence[Measured]) -> int:
    """Returns the position of the lowest loss."""
    losses = [measured.loss for measured in curve]
    return losses.index(min(losses))


class SolvedHead(NamedTuple):
    """A trained head, and how it did on val."""

    curve: list[Measured]
    """Measures at the start and after each epoch, to the last one or until patience ended."""
    weights: list[np.ndarray]
    """Weights of the epoch with the lowest loss, in the order of `get_weights` of the head."""

    @property
    def best_epoch(self) -> int:
        """The epoch with the lowest loss; 0 is the start."""
        return lowest(self.curve)


class StackedHeads:
    """Graphs that train heads of one shape; groups of trials use them in turn without tracing new ones."""

    def __init__(self, shape: HeadShape, task: Task, sizes: Mapping[str, int]):
        """Makes the variables and the optimizers.

        Args:
            shape: shape of the heads.
            task: task, which decides loss and metric.
            sizes: most heads of each of `training.optimizers.UPDATE_RULES`.
        """
        self._shape = shape
        self._head = shape.shared()
        self._stacks = {rule: _Stack(rule, size, self._head.trainable_variables) for rule, size in sizes.items()}
        heads = sum(sizes.values())
        self._dropout = tf.Variable(tf.zeros(heads))
        self._seeds = [tf.Variable(variable.value) for variable in seeds(self._head)]
        self._states = [
            tf.Variable(tf.zeros((heads, *variable.shape), variable.dtype)) for variable in _states(self._head)
        ]
        self._train_steps, self._evaluate_step = self._compile(task)

    def train(self, train: Examples, val: Examples, plans: list[Plan]) -> list[SolvedHead]:
        """Trains heads until their validation losses no longer fall, as `training.learner.Learner` trains one.

        Args:
            train: features to learn from.
            val: features to stop and choose by.
            plans: plan of each head, with the same batch size, seed and views; at most `sizes` of each update rule.

        Returns:
            The heads; the curve of a diverged head ends with a loss of NaN or infinity.
        """
        batch_size, seed = plans[0].batch_size, plans[0].config.training.seed
        steps, epochs = math.ceil(len(train.targets) / batch_size), max(plan.head_epochs for plan in plans)
        places = self._reset(plans, steps)
        val_features = take_rows(val.views[0].inputs[0], val.views[0].rows)
        val_parts = tf.data.Dataset.from_tensor_slices((val_features, val.targets, val.sample_weights))
        val_batches = list(val_parts.batch(-(-EVALUATED_AT_ONCE // math.prod(val_features.shape[1:-1]))))
        # Reading many batches at once takes hardly longer than reading one.
        size = batch_size * STEPS_PER_CALL
        chunks = iter(training_batches(train, batch_size=size, seed=seed, epochs=range(epochs)))
        measured, best = self._evaluate(val_batches), self._weights()
        curves = [[measured[place]] for place in places]
        running = {number for number, plan in enumerate(plans) if plan.head_epochs > 0}
        for epoch in range(1, epochs + 1):
            for _ in range(0, steps, STEPS_PER_CALL):
                self._train_steps(*next(chunks), tf.constant(batch_size))
            current, measured = self._weights(), self._evaluate(val_batches)
            for number in sorted(running):
                place, curve, plan = places[number], curves[number], plans[number]
                curve.append(measured[place])
                best_epoch = lowest(curve)
                if best_epoch == epoch:
                    for kept, values in zip(best, current, strict=True):
                        kept[place] = values[place]
                last = plan.head_epochs, best_epoch + plan.config.training.patience
                if epoch in last or not math.isfinite(curve[-1].loss):
                    running.remove(number)
            if not running:
                break
        weights = [[values[place] for values in best] for place in places]
        return [SolvedHead(*parts) for parts in zip(curves, weights, strict=True)]

    def _reset(self, plans: list[Plan], steps: int) -> list[int]:
        """Sets every head to its plan, and returns the slot of each."""
        start = self._shape.plain(plans[0].config.training.seed)
        places, dropout, first = [0] * len(plans), np.zeros(self._dropout.shape, np.float32), 0
        for rule, stack in self._stacks.items():
            chosen = [place for place, plan in enumerate(plans) if UPDATE_RULES[plan.config.training.optimizer] == rule]
            for place, number in enumerate(chosen, start=first):
                places[number], dropout[place] = place, plans[number].config.model.dropout
            heads = [plans[number] for number in chosen] + plans[:1] * (stack.size - len(chosen))
            stack.reset(start.trainable_variables, heads, steps)
            first += stack.size
        self._dropout.assign(dropout)
        assign(self._seeds, [variable.numpy() for variable in seeds(start)])
        for stacked, variable in zip(self._states, _states(start), strict=True):
            stacked.assign(np.broadcast_to(variable.numpy(), stacked.shape))
        return places

    def _weights(self) -> list[np.ndarray]:
        """Returns the weights of all heads, in the order of `get_weights`."""
        variables = [*self._head.trainable_variables, *_states(self._head)]
        stacked = dict(zip(map(id, variables), [*self._trained(), *self._states], strict=True))
        return [stacked[id(variable)].numpy() for variable in self._head.weights]

    def _trained(self) -> list[tf.Tensor]:
        """Returns the trainable values of the heads, (heads, ...) for each variable of a head."""
        parts = zip(*(stack.variables for stack in self._stacks.values()), strict=True)
        return [
            tf.reshape(tf.concat([part.value for part in each], axis=0), (-1, *variable.shape))
            for each, variable in zip(parts, self._head.trainable_variables, strict=True)
        ]

    def _evaluate(self, val_batches: Sequence[tuple[tf.Tensor, ...]]) -> list[Measured]:
        sums = functools.reduce(np.add, (np.stack(self._evaluate_step(*batch)) for batch in val_batches))
        return [Measured(*means) for means in (sums / sum(len(targets) for _, targets, _ in val_batches)).T.tolist()]

    def _call(self, features: tf.Tensor, training: bool) -> tuple[tf.Tensor, list[tf.Tensor], list[tf.Tensor]]:
        """Calls all heads on features (n, num_features).

        Returns:
            Probabilities (heads, n, num_outputs), and the new seeds and states (heads, ...).
        """
        drawn, states = ([id(each) for each in group(self._head)] for group in (seeds, _states))
        variables = [id(variable) for variable in self._head.non_trainable_variables]

        def call_one(of_head: Any) -> tuple[tf.Tensor, list[tf.Tensor], list[tf.Tensor]]:
            trained, rate, kept = of_head
            set_dropout(self._head, rate)
            # All heads have the same seeds, so random numbers are drawn once.
            values = dict(zip([*drawn, *states], [*self._seeds, *kept], strict=True))
            untrained = [tf.convert_to_tensor(values[each]) for each in variables]
            outputs, after = self._head.stateless_call(trained, untrained, features, training=training)
            left = dict(zip(variables, after, strict=True))
            return outputs, [left[each] for each in drawn], [left[each] for each in states]

        stacked = self._trained(), self._dropout.value(), [state.value() for state in self._states]
        # An operation that TensorFlow cannot vectorise runs head by head: slower, with the same result.
        return tf.vectorized_map(call_one, stacked)

    def _compile(self, task: Task) -> tuple[Callable[..., None], Callable[..., tuple[tf.Tensor, tf.Tensor]]]:
        def spread(targets: tf.Tensor) -> tf.Tensor:
            return tf.repeat(targets[None], self._dropout.shape[0], axis=0)

        @tf.function(reduce_retracing=True, autograph=False)
        def train_step(features: tf.Tensor, targets: tf.Tensor, weights: tf.Tensor) -> None:
            with tf.GradientTape() as tape:
                outputs, drawn, states = self._call(features, training=True)
                losses = task.losses(spread(targets), outputs)
                loss = tf.reduce_sum(losses * weights)  # gives each head the gradient of its own mean
            variables = [[variable.value for variable in stack.variables] for stack in self._stacks.values()]
            for stack, gradients in zip(self._stacks.values(), tape.gradient(loss, variables), strict=True):
                stack.optimizer.apply(gradients, stack.variables)
            for variable, values in zip(self._seeds, drawn, strict=True):
                variable.assign(values[0])
            for variable, values in zip(self._states, states, strict=True):
                variable.assign(values)

        @tf.function(reduce_retracing=True)
        def train_steps(features: tf.Tensor, targets: tf.Tensor, weights: tf.Tensor, batch_size: tf.Tensor) -> None:
            count = tf.shape(targets)[0]
            for first in tf.range(0, count, batch_size):
                end = tf.minimum(first + batch_size, count)
                # The weights are shares of the mean of all batches here.
                factor = tf.cast(count, tf.float32) / tf.cast(end - first, tf.float32)
                train_step(features[first:end], targets[first:end], weights[first:end] * factor)

        @tf.function(reduce_retracing=True, autograph=False)
        def evaluate_step(features: tf.Tensor, targets: tf.Tensor, weights: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            outputs, targets = self._call(features, training=False)[0], spread(targets)
            losses, right = task.losses(targets, outputs), tf.cast(task.is_right(targets, outputs), tf.float32)
            return tf.reduce_sum(losses * weights, axis=1), tf.reduce_sum(right, axis=1)

        return train_steps, evaluate_step


class _Stack:
    """The heads of one update rule: trainable variables have a row per head, so rates per head broadcast."""

    def __init__(self, update_rule: str, size: int, trained: Sequence[keras.Variable]):
        self.size = size
        self.variables = [keras.Variable(np.zeros((size, math.prod(each.shape)), np.float32)) for each in trained]
        self._rates = Rates((size, 1))
        biases = [mine for mine, each in zip(self.variables, trained, strict=True) if not is_decayed(each)]
        self.optimizer = make_optimizer(update_rule, self._rates, self.variables, biases=biases)
        self._start = [variable.numpy() for variable in self.optimizer.variables]

    def reset(self, start: Sequence[keras.Variable], plans: Sequence[Plan], steps: int) -> None:
        for variable, values in zip(self.variables, start, strict=True):
            variable.assign(np.broadcast_to(values.numpy().ravel(), variable.shape))
        assign(self.optimizer.variables, self._start)
        rates, epochs = [plan.learning_rate for plan in plans], [plan.head_epochs for plan in plans]
        self._rates.assign([plan.config for plan in plans], rates, steps, epochs)


def _states(head: keras.Model) -> list[keras.Variable]:
    """Returns the variables that layers update themselves, such as the statistics of BatchNorm."""
    drawn = {id(variable) for variable in seeds(head)}
    return [variable for variable in head.non_trainable_variables if id(variable) not in drawn]


def _without_rate(layer: keras.Layer, rate: float) -> dict:
    """Returns the configuration of a layer, without its name, and without a Dropout rate equal to the setting."""
    settings = {**layer.get_config(), "name": None}
    if type(layer) is keras.layers.Dropout and settings["rate"] == rate:
        del settings["rate"]
    return settings
