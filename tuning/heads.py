"""Many heads at once: those that learn from the same features in batches of one size are one computation.

A step of one small head is mostly waiting for the next; eight together take hardly longer. Each has its own learning
rate, weight decay, dropout and epochs, and comes out as it would alone: the optimizers are Keras' own, which treat
every number by itself, and what is dropped follows the same seeds as Keras' Dropout layers.
"""

import functools
import math
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import keras
import numpy as np
import tensorflow as tf

from app.config import CompleteConfig, Task
from data.pipeline import Examples, evaluation_batches, training_batches
from models.heads import OUTPUTS, build_head
from training.learner import ACCURACY, STEPS_PER_CALL, Measured, assign
from training.optimizers import UPDATE_RULES, Rates, make_optimizer

HEADS_AT_ONCE = 16
"""Of an update rule."""
JUDGED_AT_ONCE = 1024
"""Pictures per validation step."""


class SolvedHead(NamedTuple):
    """One of the heads, trained."""

    curve: list[Measured]
    """At the start and after each epoch, up to the last or to where patience ended."""
    weights: list[np.ndarray]
    """Of the epoch with the lowest loss, in the order of `get_weights` of the head."""

    def best_epoch(self, epochs: int) -> int:
        """The epoch of the lowest loss among the first of them; 0 is the start."""
        losses = [judged.loss for judged in self.curve[: epochs + 1]]
        return losses.index(min(losses))


class StackedHeads:
    """Graphs that train heads of one shape; used for group after group, so that no trial makes new ones."""

    def __init__(
        self, num_features: int, task: Task, num_classes: int, head_units: Sequence[int], sizes: Mapping[str, int]
    ):
        """Makes the variables and the optimizers; see `models.heads.build_head` for the arguments.

        Args:
            num_features: length of a feature vector.
            task: decides the output.
            num_classes: number of classes.
            head_units: units of each dense layer before the output.
            sizes: most heads of each of `training.optimizers.UPDATE_RULES`.
        """
        self._shape = (num_features, task, num_classes, tuple(head_units))
        self.sizes = dict(sizes)
        shapes = [weights.shape for weights in _as_matrices(build_head(*self._shape).get_weights())]
        self._stacks = {name: _Stack(name, size, shapes) for name, size in sizes.items()}
        self._dropout = tf.Variable(tf.zeros((sum(sizes.values()), 1, 1)))
        self._dropout_seed = tf.Variable(0, dtype=tf.int64)
        self._steps = tf.Variable(0, dtype=tf.int64)
        self._train_steps, self._judge_step = self._compile(task)

    def train(
        self, train: Examples, val: Examples, configs: Sequence[CompleteConfig], epochs: Sequence[int]
    ) -> list[SolvedHead]:
        """Trains heads until their validation losses no longer fall, as `training.learner.Learner` trains one.

        Args:
            train: features to learn from.
            val: features to stop and choose by.
            configs: of each head, no more of an update rule than there is room for, alike in batch size, seed and
                views.
            epochs: maximum epochs of each.

        Returns:
            The heads; one that diverged has a loss that is no number at the end of its curve.
        """
        steps = math.ceil(len(train.targets) / configs[0].batch_size)
        places = self._reset(configs, epochs, steps)
        sample_weights = np.split(val.sample_weights, range(JUDGED_AT_ONCE, len(val.targets), JUDGED_AT_ONCE))
        batches = zip(evaluation_batches(val, JUDGED_AT_ONCE), sample_weights, strict=True)
        val_batches = [(inputs, targets, weights) for (inputs, targets, _), weights in batches]
        batch_size = configs[0].batch_size
        # Many batches are read at once, which takes hardly longer than one.
        size = batch_size * STEPS_PER_CALL
        chunks = iter(training_batches(train, batch_size=size, seed=configs[0].seed, epochs=range(max(epochs))))
        judged = self._judge(val_batches)
        curves = [[judged[place]] for place in places]
        best = self._weights()
        running = {number for number, most in enumerate(epochs) if most > 0}
        for epoch in range(1, max(epochs) + 1):
            for _ in range(0, steps, STEPS_PER_CALL):
                self._train_steps(*next(chunks), tf.constant(batch_size))
            current, judged = self._weights(), self._judge(val_batches)
            for number in sorted(running):
                place, losses = places[number], [before.loss for before in curves[number]]
                loss = judged[place].loss
                curves[number].append(judged[place])
                if loss < min(losses):
                    for kept, values in zip(best, current, strict=True):
                        kept[place] = values[place]
                waited = epoch - int(np.argmin([*losses, loss]))
                if waited >= configs[number].patience or epoch == epochs[number] or not math.isfinite(loss):
                    running.remove(number)
            if not running:
                break
        weights = [[values[place] for values in best] for place in places]
        for of_head in weights:
            of_head[1::2] = [bias[0] for bias in of_head[1::2]]
        return [SolvedHead(*parts) for parts in zip(curves, weights, strict=True)]

    def _reset(self, configs: Sequence[CompleteConfig], epochs: Sequence[int], steps: int) -> list[int]:
        """Gives every head its settings, and returns the place of each."""
        start = _as_matrices(build_head(*self._shape, seed=configs[0].seed).get_weights())
        chosen: dict[str, list[int]] = {name: [] for name in self._stacks}
        for number, config in enumerate(configs):
            chosen[UPDATE_RULES[config.optimizer]].append(number)
        places, dropout = [0] * len(configs), np.zeros(self._dropout.shape, np.float32)
        first = 0
        for name, stack in self._stacks.items():
            for place, number in enumerate(chosen[name], start=first):
                places[number], dropout[place] = place, configs[number].dropout
            spare = [0] * (self.sizes[name] - len(chosen[name]))
            heads = [configs[number] for number in chosen[name] + spare]
            stack.reset(start, heads, [epochs[number] for number in chosen[name] + spare], steps)
            first += self.sizes[name]
        self._dropout.assign(dropout)
        self._dropout_seed.assign(configs[0].seed)
        self._steps.assign(0)
        return places

    def _weights(self) -> list[np.ndarray]:
        """Kernels and biases of all heads."""
        return [tf.concat(parts, axis=0).numpy() for parts in self._parts()]

    def _parts(self) -> list[list[tf.Tensor]]:
        """Kernels and biases by layer, of every optimizer."""
        of_stack = ([variable.value for variable in stack.variables] for stack in self._stacks.values())
        return list(map(list, zip(*of_stack, strict=True)))

    def _judge(self, val_batches: Sequence[tuple[tf.Tensor, ...]]) -> list[Measured]:
        sums = functools.reduce(np.add, (np.stack(self._judge_step(*batch)) for batch in val_batches))
        return [Measured(*means) for means in (sums / sum(len(targets) for _, targets, _ in val_batches)).T.tolist()]

    def _outputs(self, features: tf.Tensor, training: bool) -> tf.Tensor:
        """Probabilities (heads, n, num_outputs) from features (n, num_features)."""
        values = features[None]
        weights = [tf.concat(parts, axis=0) if len(parts) > 1 else parts[0] for parts in self._parts()]
        layers = list(zip(weights[::2], weights[1::2], strict=True))
        for number, (kernel, bias) in enumerate(layers, start=1):
            last = number == len(layers)
            if training:
                values = self._drop(values, 0 if last else number)  # as `build_head` numbers them
                values = tf.matmul(values, kernel) / (1 - self._dropout) + bias
            else:
                values = tf.matmul(values, kernel) + bias
            values = keras.activations.get(OUTPUTS[self._shape[1]].activation if last else "relu")(values)
        return values

    def _drop(self, values: tf.Tensor, number: int) -> tf.Tensor:
        """Zeros for what a Dropout layer of the same seed would drop; the rest is scaled behind the product."""
        draws = tf.random.stateless_uniform(tf.shape(values)[1:], tf.stack([self._dropout_seed + number, self._steps]))
        return tf.where(draws >= self._dropout, values, 0.0)

    def _compile(self, task: Task) -> tuple[Callable[..., None], Callable[..., tuple[tf.Tensor, tf.Tensor]]]:
        loss_of, is_right = keras.losses.get(OUTPUTS[task].loss), ACCURACY[task]

        def spread(targets: tf.Tensor) -> tf.Tensor:
            return tf.repeat(targets[None], self._dropout.shape[0], axis=0)

        @tf.function(reduce_retracing=True, autograph=False)
        def train_step(features: tf.Tensor, targets: tf.Tensor, weights: tf.Tensor) -> None:
            with tf.GradientTape() as tape:
                losses = loss_of(spread(targets), self._outputs(features, training=True))
                loss = tf.reduce_sum(losses * weights)  # each head's gradient is of its own mean
            variables = [[variable.value for variable in stack.variables] for stack in self._stacks.values()]
            for stack, gradients in zip(self._stacks.values(), tape.gradient(loss, variables), strict=True):
                stack.optimizer.apply(gradients, stack.variables)
            self._steps.assign_add(1)

        @tf.function(reduce_retracing=True)
        def train_steps(features: tf.Tensor, targets: tf.Tensor, weights: tf.Tensor, batch_size: tf.Tensor) -> None:
            count = tf.shape(targets)[0]
            for first in tf.range(0, count, batch_size):
                end = tf.minimum(first + batch_size, count)
                # The weights are parts of the mean of all batches that are here.
                factor = tf.cast(count, tf.float32) / tf.cast(end - first, tf.float32)
                train_step(features[first:end], targets[first:end], weights[first:end] * factor)

        @tf.function(reduce_retracing=True, autograph=False)
        def judge_step(features: tf.Tensor, targets: tf.Tensor, weights: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            outputs, targets = self._outputs(features, training=False), spread(targets)
            losses, right = loss_of(targets, outputs), tf.cast(is_right(targets, outputs), tf.float32)
            return tf.reduce_sum(losses * weights, axis=1), tf.reduce_sum(right, axis=1)

        return train_steps, judge_step


class _Stack:
    """The heads of one update rule: kernels (heads, inputs, outputs) and biases (heads, 1, outputs) of each layer."""

    def __init__(self, update_rule: str, size: int, shapes: Sequence[tuple[int, int]]):
        self.variables = [keras.Variable(np.zeros((size, *shape), np.float32)) for shape in shapes]
        self._rates = Rates((size, 1, 1))
        self.optimizer = make_optimizer(update_rule, self._rates, self.variables, biases=self.variables[1::2])
        self._start = [variable.numpy() for variable in self.optimizer.variables]

    def reset(
        self, start: Sequence[np.ndarray], configs: Sequence[CompleteConfig], epochs: Sequence[int], steps: int
    ) -> None:
        for variable, values in zip(self.variables, start, strict=True):
            variable.assign(np.broadcast_to(values, variable.shape))
        assign(self.optimizer.variables, self._start)
        self._rates.assign(configs, [config.learning_rate for config in configs], steps, epochs)


def _as_matrices(weights: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Kernels as they are, biases as rows: so that one rate per head spreads over both."""
    return [array if array.ndim == 2 else array[None] for array in weights]
