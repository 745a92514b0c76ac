"""A backbone with all that its trials share: examples, cuts, what the frozen layers made of them, compiled graphs."""

import functools
import math
import time
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from app.config import TrainableLayers, TrainConfig
from app.terminal import show_stage
from data.batches import Examples
from data.store import open_store
from devices.precision import choose_precision
from features.cuts import Cut, find_cuts
from models.freezing import set_trainable
from models.heads import build_head
from training.begun import CHOSEN_WITH_DATA
from training.cuts import check_learns, cuts_at, show_whole_network
from training.frozen import PhaseInputs, build_frozen, examples, features_sample, frozen_inputs, vary_of, whole_network
from training.inputs import RunInputs
from training.learner import DivergedError
from training.memory import check_room
from training.optimizers import UPDATE_RULES
from training.recipe import Plan, check_trainable_layers, choose_fine_tune_augment, choose_head_learning_rate, make_plan
from training.steps import Measured
from tuning.adjustable import BuildHead, HeadShape, is_adjustable
from tuning.heads import SolvedHead, StackedHeads
from tuning.space import TuneConfig
from tuning.tails import Tail
from tuning.trials import Outcome

STEPS_WORTH_A_GRAPH = 500
"""Unused slots cost as much as used ones: of 1,024 features, a step of 16 examples takes 0.9 ms for 3 heads,
and 1.7 ms for 24. Making graphs that have none takes a second."""
ROOM = 8
"""Places of an update rule, or a multiple, in graphs that are for other trials as well."""
MOST_STACKS = 4
"""Most stacks of one shape of heads; then those at hand are used again, or a search would take ever more memory."""
MOST_BLOCKS = 2
"""Last blocks that a search fine-tunes unless it is told which layers."""


class Network:
    """A backbone on which trials run."""

    def __init__(self, inputs: RunInputs, search: TuneConfig, strategy: tf.distribute.Strategy | None = None):
        """Builds the network, and runs its frozen layers or takes from the store what they made.

        Args:
            inputs: examples and settings.
            search: for layers to train, views and optimizers.
            strategy: whose replicas run the frozen layers and fine-tune; heads are too small to be shared, and learn on
                one device. None for one device.
        """
        config, self._data = inputs.config, inputs.data
        self._strategy = strategy or tf.distribute.get_strategy()
        keras.utils.set_random_seed(config.training.seed)  # random weights do not depend on other networks
        with self._strategy.scope():
            self._classifier = build_frozen(inputs)
        settings = config.flat()
        self._given = {name: settings[name] for name in CHOSEN_WITH_DATA}
        default: Sequence[TrainableLayers] = (
            ["all"] if config.model.weights == "none" else last_blocks(self._classifier.blocks)
        )
        self.depths: Sequence[TrainableLayers] = search.space["trainable_layers"] or default
        """Choices of `trainable_layers`."""
        self._cuts = find_cuts(self._classifier.backbone)
        for depth in self.depths:
            check_trainable_layers(depth, self._cuts, inputs.backbone.name)
            check_learns(self._classifier, depth, inputs.backbone.name)
        self._varies = self._data.kind.vary is not None
        self._views = max(search.space["views"]) if self._varies else 1
        cuts = self._choose_cuts(config)
        views = {depth: 1 if depth and config.training.fine_tune_augment == "none" else self._views for depth in cuts}
        store = open_store(config.run.cache_dir, config.run.cache_gb)
        check_room(cuts, views, self._data, store, self._strategy)
        self._precision = choose_precision(config.training.precision, self._classifier.model)
        self._inputs = frozen_inputs(
            self._classifier, cuts, views, config, self._data, store, self._strategy, precision=self._precision
        )
        self._whole = whole_network(self._classifier, self._data)
        self._optimizers = search.space["optimizer"]
        self._shapes: dict[tuple[int, ...], tuple[BuildHead, bool]] = {}
        """Function that builds a head of some units, and whether its graphs serve any dropout."""
        self._stacks: dict[HeadShape, list[StackedHeads]] = defaultdict(list)
        self._tails: dict[tuple, Tail] = {}

    def _choose_cuts(self, config: TrainConfig) -> dict[TrainableLayers, Cut]:
        """Cuts the network for heads and for every number of trainable layers that leaves a cut; tells the others."""
        deeper = [] if config.training.fine_tune_augment == "fresh" else [depth for depth in self.depths if depth != 0]
        cuts = cuts_at(self._classifier, {depth: depth for depth in (0, *deeper)})
        self._tail_inputs = {depth: cut.inputs for depth, cut in cuts.items()}
        for depth in deeper:
            trial = self._choose(config.replace(trainable_layers=depth, views=self._views))
            if config.training.fine_tune_augment is None and trial.fine_tune_augment == "fresh":
                show_whole_network(depth)
        return cuts

    def complete(self, config: TrainConfig) -> Plan:
        """Sets what a trial leaves open as `train.py` would."""
        views = min(self._views, config.training.views or self._views)
        return choose_head_learning_rate(self._choose(config.replace(**self._given, views=views)), self._features)

    def _choose(self, config: TrainConfig) -> Plan:
        plan = make_plan(config, self._cuts, len(self._data.splits["train"]), self._varies)
        return choose_fine_tune_augment(plan, has_cut=plan.trainable_layers in self._tail_inputs)

    @functools.cached_property
    def _features(self) -> np.ndarray:
        return features_sample(self._inputs[0])

    def run(self, plans: Sequence[Plan]) -> Iterator[tuple[int, Outcome]]:
        """Runs trials that learn in the same order: alike in batch size, head, views and seed.

        Args:
            plans: at most `HEADS_AT_ONCE` of an update rule.

        Yields:
            Position and outcome of each, as soon as it is known.
        """
        alike = plans[0]
        started = time.perf_counter()
        train, val = self._examples(self._inputs[0], alike, alike.views)
        groups = _by_settings(plans, "head_epochs")
        heads = self._solve(
            train,
            val,
            [plans[group[0]] for group in groups],
            [max(plans[position].head_epochs for position in group) for group in groups],
        )
        seconds = (time.perf_counter() - started) / len(plans)
        solved = {position: head for group, head in zip(groups, heads, strict=True) for position in group}
        deep = [position for position, plan in enumerate(plans) if plan.trainable_layers != 0]
        for position, head in solved.items():
            if position not in deep or not math.isfinite(head.curve[-1].loss):
                yield position, _outcome(head.curve, plans[position].head_epochs, seconds)
        deep = [position for position in deep if math.isfinite(solved[position].curve[-1].loss)]
        for group in _by_settings([plans[position] for position in deep], "fine_tune_epochs"):
            yield from self._fine_tune([deep[index] for index in group], plans, solved, seconds)

    def _solve(self, train: Examples, val: Examples, plans: Sequence[Plan], epochs: Sequence[int]) -> list[SolvedHead]:
        """Trains heads, together as far as they can share graphs."""
        together: dict[HeadShape, list[int]] = {}
        for position, plan in enumerate(plans):
            together.setdefault(self._shape_of(plan), []).append(position)
        solved: dict[int, SolvedHead] = {}
        for positions in together.values():
            chosen = [plans[position] for position in positions]
            heads = self._stack_for(chosen).train(train, val, chosen, [epochs[position] for position in positions])
            solved |= zip(positions, heads, strict=True)
        return [solved[position] for position in range(len(plans))]

    def _shape_of(self, plan: Plan) -> HeadShape:
        """The heads whose graphs a trial can use."""
        units, num_classes = plan.config.model.head_units, len(self._data.class_names)
        if units not in self._shapes:
            build: BuildHead = functools.partial(
                build_head, self._features.shape[-1], self._data.task, num_classes, units
            )
            self._shapes[units] = build, is_adjustable(build)
            if not self._shapes[units][1]:
                text = "more than the rates of this head's Dropout layers depends on --dropout"
                show_stage("warning", f"{text}: only trials that have the same learn together")
        build, of_any_dropout = self._shapes[units]
        return HeadShape(build, None if of_any_dropout else plan.config.model.dropout)

    def _stack_for(self, plans: Sequence[Plan]) -> StackedHeads:
        """Graphs that have room for some heads, and none besides where they take many steps."""
        counts = Counter(UPDATE_RULES[plan.config.training.optimizer] for plan in plans)
        shape = self._shape_of(plans[0])
        steps = len(self._data.splits["train"]) / plans[0].batch_size * max(plan.head_epochs for plan in plans)
        stacks = self._stacks[shape]
        if steps < STEPS_WORTH_A_GRAPH or len(stacks) >= MOST_STACKS:
            rules = {UPDATE_RULES[name] for name in self._optimizers}
            sizes = {rule: max(1, math.ceil(counts[rule] / ROOM)) * ROOM for rule in sorted(rules)}
            good = [stack for stack in stacks if all(stack.sizes.get(rule, 0) >= n for rule, n in counts.items())]
        else:
            sizes = dict(sorted(counts.items()))
            good = [stack for stack in stacks if stack.sizes == sizes]
        if good:
            return min(good, key=lambda stack: sum(stack.sizes.values()))
        stacks.append(StackedHeads(shape, self._data.task, sizes))
        return stacks[-1]

    def _fine_tune(
        self,
        positions: Sequence[int],
        plans: Sequence[Plan],
        solved: dict[int, SolvedHead],
        seconds: float,
    ) -> Iterator[tuple[int, Outcome]]:
        """Trains a tail once, for trials that differ in their epochs at most."""
        plan, head = plans[positions[0]], solved[positions[0]]
        epochs = max(plans[position].fine_tune_epochs for position in positions)
        started = time.perf_counter()
        curve = [head.curve[head.best_epoch(plan.head_epochs)]]
        set_trainable(
            self._classifier.backbone.layers,
            plan.trainable_layers,
            batch_norm_learns=plan.config.model.weights == "none",
        )
        inputs = self._inputs.get(plan.trainable_layers, self._whole)
        shape = self._shape_of(plan)
        place = (plan.trainable_layers, shape)
        if place not in self._tails:
            model = self._classifier.model
            tail_inputs = self._tail_inputs.get(plan.trainable_layers, model.inputs)
            self._tails[place] = Tail(model, tail_inputs, self._data.task, shape, self._strategy, self._precision)
        train, val = self._examples(inputs, plan, plan.views if plan.fine_tune_augment == "views" else 1)
        steps = (len(head.curve) - 1) * math.ceil(len(train.targets) / plan.batch_size)
        try:
            self._tails[place].train(
                head.weights,
                steps,
                train,
                val,
                plan,
                epochs,
                vary_of(self._data) if plan.fine_tune_augment == "fresh" else None,
                on_evaluated=curve.append,
            )
        except DivergedError:
            curve.append(Measured(math.nan, math.nan))
        finally:
            set_trainable(self._classifier.backbone.layers, 0)
        seconds += (time.perf_counter() - started) / len(positions)
        for position in positions:
            yield position, _outcome(curve, plans[position].fine_tune_epochs, seconds)

    def _examples(self, inputs: PhaseInputs, plan: Plan, views: int) -> tuple[Examples, Examples]:
        class_weights = plan.config.training.class_weights
        train = examples(self._data, "train", inputs.train[:views], class_weights)
        return train, examples(self._data, "val", [inputs.evaluated["val"]], class_weights)


def last_blocks(blocks: Sequence[Sequence[keras.Layer]]) -> list[int]:
    """Numbers of layers in no, the last, and the last two blocks that have something to learn."""
    counts, layers = [0], 0
    for block in reversed(blocks):
        layers += len(block)
        if any(len(weights.shape) > 1 for layer in block for weights in layer.weights):
            counts.append(layers)
        if len(counts) > MOST_BLOCKS:
            break
    return counts


def _by_settings(plans: Sequence[Plan], epochs: str) -> list[list[int]]:
    """Positions of plans that one run answers: equal ones, and under a constant learning rate fewer epochs."""
    groups: dict[TrainConfig, list[int]] = {}
    for position, plan in enumerate(plans):
        indifferent: dict[str, Any] = {}
        if epochs == "head_epochs":  # a head is the same whatever is done with it later
            indifferent |= {"trainable_layers": 0, "fine_tune_epochs": 0, "fine_tune_learning_rate": None}
            indifferent |= {"fine_tune_augment": None}
        needs_weights = epochs == "head_epochs" and plan.trainable_layers != 0
        if plan.config.training.schedule == "constant" and not needs_weights:
            indifferent[epochs] = 0
        groups.setdefault(plan.config.replace(**indifferent), []).append(position)
    return list(groups.values())


def _outcome(curve: Sequence[Measured], epochs: int, seconds: float) -> Outcome:
    """The epoch that the trial would keep."""
    curve = curve[: epochs + 1]
    if not math.isfinite(curve[-1].loss):
        return Outcome("failed", math.nan, math.nan, seconds, "training diverged: the loss is no number")
    best = min(curve, key=lambda measured: measured.loss)
    return Outcome("done", best.accuracy, best.loss, seconds)
