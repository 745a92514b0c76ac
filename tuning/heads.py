"""Many heads at once: those that learn from the same features in batches of one size are one computation.

A step of one small head is mostly waiting for the next; eight together take hardly longer. Each has its own learning
rate, weight decay, dropout and epochs, and comes out as it would alone: the layers are those of `build_head`, called
once for all heads, and the optimizers are Keras' own, which treat every number by itself.
"""

import functools
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import keras
import numpy as np
import tensorflow as tf

from app.terminal import show_stage
from data.batches import Examples
from data.pipeline import evaluation_batches, training_batches
from tasks.table import Task
from training.learner import STEPS_PER_CALL
from training.optimizers import UPDATE_RULES, Rates, is_decayed, make_optimizer
from training.recipe import Plan
from training.steps import Measured, assign
from tuning.adjustable import HeadShape, dropout_rates, plain_weights, seeds

HEADS_AT_ONCE = 16
"""Most heads of one update rule that learn together."""
EVALUATED_AT_ONCE = 1024
"""Examples per validation step."""


class SolvedHead(NamedTuple):
    """One of the heads, trained."""

    curve: list[Measured]
    """At the start and after each epoch, up to the last or to where patience ended."""
    weights: list[np.ndarray]
    """Weights of the epoch with the lowest loss, in the order of `get_weights` of the head."""

    def best_epoch(self, epochs: int) -> int:
        """The epoch of the lowest loss among the first of them; 0 is the start."""
        losses = [measured.loss for measured in self.curve[: epochs + 1]]
        return losses.index(min(losses))


class StackedHeads:
    """Graphs that train heads of one shape; used for group after group, so that no trial makes new ones."""

    def __init__(self, shape: HeadShape, task: Task, sizes: Mapping[str, int]):
        """Makes the variables and the optimizers.

        Args:
            shape: of the heads.
            task: decides loss and metric.
            sizes: most heads of each of `training.optimizers.UPDATE_RULES`.
        """
        self.sizes = dict(sizes)
        self._shape = shape
        self._head = shape.shared()
        self._stacks = {name: _Stack(name, size, self._head.trainable_variables) for name, size in sizes.items()}
        heads = sum(sizes.values())
        self._rates = tf.Variable(tf.zeros(heads))
        self._seeds = [tf.Variable(variable.value) for variable in seeds(self._head)]
        self._states = [
            tf.Variable(tf.zeros((heads, *variable.shape), variable.dtype)) for variable in _states(self._head)
        ]
        self._vectorised = True
        self._train_steps, self._evaluate_step = self._compile(task)

    def train(self, train: Examples, val: Examples, plans: Sequence[Plan], epochs: Sequence[int]) -> list[SolvedHead]:
        """Trains heads until their validation losses no longer fall, as `training.learner.Learner` trains one.

        Args:
            train: features to learn from.
            val: features to stop and choose by.
            plans: of each head, no more of an update rule than there is room for, alike in batch size, seed and
                views.
            epochs: maximum epochs of each.

        Returns:
            The heads; one that diverged has a loss that is no number at the end of its curve.
        """
        steps = math.ceil(len(train.targets) / plans[0].batch_size)
        places = self._reset(plans, epochs, steps)
        sample_weights = np.split(val.sample_weights, range(EVALUATED_AT_ONCE, len(val.targets), EVALUATED_AT_ONCE))
        batches = zip(evaluation_batches(val, EVALUATED_AT_ONCE), sample_weights, strict=True)
        val_batches = [(inputs, targets, weights) for (inputs, targets, _), weights in batches]
        batch_size = plans[0].batch_size
        # Many batches are read at once, which takes hardly longer than one.
        size = batch_size * STEPS_PER_CALL
        chunks = iter(
            training_batches(train, batch_size=size, seed=plans[0].config.training.seed, epochs=range(max(epochs)))
        )
        measured = self._evaluate(val_batches)
        curves = [[measured[place]] for place in places]
        best = self._weights()
        running = {number for number, most in enumerate(epochs) if most > 0}
        for epoch in range(1, max(epochs) + 1):
            for _ in range(0, steps, STEPS_PER_CALL):
                self._train_steps(*next(chunks), tf.constant(batch_size))
            current, measured = self._weights(), self._evaluate(val_batches)
            for number in sorted(running):
                place, losses = places[number], [before.loss for before in curves[number]]
                loss = measured[place].loss
                curves[number].append(measured[place])
                if loss < min(losses):
                    for kept, values in zip(best, current, strict=True):
                        kept[place] = values[place]
                waited = epoch - int(np.argmin([*losses, loss]))
                if (
                    waited >= plans[number].config.training.patience
                    or epoch == epochs[number]
                    or not math.isfinite(loss)
                ):
                    running.remove(number)
            if not running:
                break
        weights = [[values[place] for values in best] for place in places]
        return [SolvedHead(*parts) for parts in zip(curves, weights, strict=True)]

    def _reset(self, plans: Sequence[Plan], epochs: Sequence[int], steps: int) -> list[int]:
        """Gives every head its settings, and returns the place of each."""
        start = self._shape.plain(plans[0].config.training.seed)
        chosen: dict[str, list[int]] = {name: [] for name in self._stacks}
        for number, plan in enumerate(plans):
            chosen[UPDATE_RULES[plan.config.training.optimizer]].append(number)
        places, rates = [0] * len(plans), np.zeros(self._rates.shape, np.float32)
        first = 0
        for name, stack in self._stacks.items():
            for place, number in enumerate(chosen[name], start=first):
                places[number], rates[place] = place, plans[number].config.model.dropout
            spare = [0] * (self.sizes[name] - len(chosen[name]))
            heads = [plans[number] for number in chosen[name] + spare]
            stack.reset(start.trainable_variables, heads, [epochs[number] for number in chosen[name] + spare], steps)
            first += self.sizes[name]
        self._rates.assign(rates)
        assign(self._seeds, [variable.numpy() for variable in seeds(start)])
        for stacked, variable in zip(self._states, _states(start), strict=True):
            stacked.assign(np.broadcast_to(variable.numpy(), stacked.shape))
        return places

    def _weights(self) -> list[np.ndarray]:
        """Weights of all heads, in the order of `get_weights`."""
        trained = zip(self._head.trainable_variables, self._trained(), strict=True)
        stacked = {
            id(variable): values
            for variable, values in (*trained, *zip(_states(self._head), self._states, strict=True))
        }
        return [stacked[id(variable)].numpy() for variable in plain_weights(self._head)]

    def _trained(self) -> list[tf.Tensor]:
        """Trainable values of the heads, (heads, ...) for each variable of a head."""
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
            Probabilities (heads, n, num_outputs), and the seeds and states (heads, ...) that the call leaves.
        """
        drawn, rates = [id(each) for each in seeds(self._head)], {id(each) for each in dropout_rates(self._head)}
        states = [id(each) for each in _states(self._head)]
        variables = self._head.non_trainable_variables

        def call_one(of_head: Any) -> tuple[tf.Tensor, list[tf.Tensor], list[tf.Tensor]]:
            trained, rate, kept = of_head
            # The seeds are the same for all, so what is drawn is drawn once.
            values = dict(zip([*drawn, *states], [*self._seeds, *kept], strict=True)) | dict.fromkeys(rates, rate)
            untrained = [tf.convert_to_tensor(values[id(variable)]) for variable in variables]
            outputs, after = self._head.stateless_call(trained, untrained, features, training=training)
            left = {id(variable): value for variable, value in zip(variables, after, strict=True)}
            return outputs, [left[each] for each in drawn], [left[each] for each in states]

        stacked = self._trained(), self._rates.value(), [state.value() for state in self._states]
        if self._vectorised:
            try:
                return tf.vectorized_map(call_one, stacked, fallback_to_while_loop=False)
            except ValueError as error:
                self._vectorised = False
                show_stage("warning", f"heads learn one after the other, which is slower: {error}".splitlines()[0])
        return tf.vectorized_map(call_one, stacked)

    def _compile(self, task: Task) -> tuple[Callable[..., None], Callable[..., tuple[tf.Tensor, tf.Tensor]]]:
        def spread(targets: tf.Tensor) -> tf.Tensor:
            return tf.repeat(targets[None], self._rates.shape[0], axis=0)

        @tf.function(reduce_retracing=True, autograph=False)
        def train_step(features: tf.Tensor, targets: tf.Tensor, weights: tf.Tensor) -> None:
            with tf.GradientTape() as tape:
                outputs, drawn, states = self._call(features, training=True)
                losses = task.losses(spread(targets), outputs)
                loss = tf.reduce_sum(losses * weights)  # each head's gradient is of its own mean
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
                # The weights are parts of the mean of all batches that are here.
                factor = tf.cast(count, tf.float32) / tf.cast(end - first, tf.float32)
                train_step(features[first:end], targets[first:end], weights[first:end] * factor)

        @tf.function(reduce_retracing=True, autograph=False)
        def evaluate_step(features: tf.Tensor, targets: tf.Tensor, weights: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            outputs, targets = self._call(features, training=False)[0], spread(targets)
            losses, right = task.losses(targets, outputs), tf.cast(task.is_right(targets, outputs), tf.float32)
            return tf.reduce_sum(losses * weights, axis=1), tf.reduce_sum(right, axis=1)

        return train_steps, evaluate_step


class _Stack:
    """The heads of one update rule: a matrix per head of each variable that learns, (heads, rows, columns).

    As matrices, whatever their shape, so that one rate per head spreads over all of them.
    """

    def __init__(self, update_rule: str, size: int, trained: Sequence[keras.Variable]):
        self.variables = [keras.Variable(np.zeros((size, *_as_matrix(each).shape), np.float32)) for each in trained]
        self._rates = Rates((size, 1, 1))
        biases = [mine for mine, each in zip(self.variables, trained, strict=True) if not is_decayed(each)]
        self.optimizer = make_optimizer(update_rule, self._rates, self.variables, biases=biases)
        self._start = [variable.numpy() for variable in self.optimizer.variables]

    def reset(self, start: Sequence[keras.Variable], plans: Sequence[Plan], epochs: Sequence[int], steps: int) -> None:
        for variable, values in zip(self.variables, start, strict=True):
            variable.assign(np.broadcast_to(_as_matrix(values), variable.shape))
        assign(self.optimizer.variables, self._start)
        self._rates.assign([plan.config for plan in plans], [plan.learning_rate for plan in plans], steps, epochs)


def _as_matrix(variable: keras.Variable) -> np.ndarray:
    values = variable.numpy()
    return values.reshape(-1, values.shape[-1] if values.ndim else 1)


def _states(head: keras.Model) -> list[keras.Variable]:
    """Variables that layers change by themselves, such as the statistics of BatchNorm."""
    known = {id(variable) for variable in (*dropout_rates(head), *seeds(head))}
    return [variable for variable in head.non_trainable_variables if id(variable) not in known]
