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
from data.batches import Examples
from data.kinds import Vary
from data.store import open_store
from devices.precision import Precision, choose_precision, learning_precision
from features.cuts import Cut, find_cuts, part_of
from models.classifier import Classifier
from models.freezing import set_trainable
from tasks.table import Task
from training.begun import CHOSEN_WITH_DATA
from training.cuts import check_learns, cuts_at, show_whole_network
from training.frozen import build_frozen, examples, features_sample, frozen_inputs, vary_of, whole_network
from training.inputs import RunInputs
from training.learner import DivergedError, Learner
from training.memory import check_room
from training.optimizers import UPDATE_RULES
from training.plan import Plan
from training.recipe import check_trainable_layers, choose_fine_tune_augment, choose_head_learning_rate, make_plan
from training.steps import Measured
from tuning.heads import HeadShape, SolvedHead, StackedHeads, is_adjustable, lowest, seeds, set_dropout
from tuning.records import Job, Outcome, failed
from tuning.space import TuneConfig

STEPS_WORTH_A_GRAPH = 500
"""Unused slots cost as much as used ones: of 1,024 features, a step of 16 examples takes 0.9 ms for 3 heads,
and 1.7 ms for 24. Making graphs that have none takes a second."""
ROOM = 8
"""Places of an update rule, or a multiple, in graphs that are for other trials as well."""
MOST_STACKS = 4
"""Graphs for heads of one shape, after which none without unused slots is made, or a search would take ever more
memory."""
MOST_BLOCKS = 2
"""Last blocks that a search fine-tunes unless it is told which layers."""
POOLED = "pooling"
"""Name of the layer whose output the head gets."""


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
            self._classifier,
            cuts,
            views,
            config,
            self._data,
            store,
            self._strategy,
            precision=self._precision,
            pool=inputs.pool,
        )
        self._whole = whole_network(self._classifier, self._data)
        self._shapes: dict[tuple[int, ...], HeadShape] = {}
        self._rules = sorted({UPDATE_RULES[name] for name in search.space["optimizer"]})
        self._stacks: dict[HeadShape, dict[tuple, StackedHeads]] = defaultdict(dict)
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

    def run(self, job: Job) -> Iterator[tuple[int, Outcome]]:
        """Runs trials together; where that takes more memory than there is, one after the other.

        Args:
            job: alike in batch size, head, views and seed; at most `HEADS_AT_ONCE` of an update rule.

        Yields:
            Number and outcome of each, as soon as it is known.
        """
        waiting = dict(job)
        try:
            for number, outcome in self._run(job):
                del waiting[number]
                yield number, outcome
        except (tf.errors.ResourceExhaustedError, MemoryError) as error:
            if len(job) == 1:
                yield job[0][0], failed(f"{type(error).__name__}: {error}".splitlines()[0])
                return
            for trial in waiting.items():
                yield from self.run([trial])

    def _run(self, job: Job) -> Iterator[tuple[int, Outcome]]:
        started = time.perf_counter()
        heads = self._solve([plan for _, plan in job])
        share = (time.perf_counter() - started) / len(job)
        solved = zip(job, heads, strict=True)
        for (number, plan), head in sorted(solved, key=lambda each: each[0][1].trainable_layers != 0):
            curve, started = head.curve, time.perf_counter()
            if plan.trainable_layers != 0 and math.isfinite(curve[-1].loss):
                curve = self._fine_tune(plan, head)
            yield number, _outcome(curve, share + time.perf_counter() - started)

    def _solve(self, plans: Sequence[Plan]) -> list[SolvedHead]:
        """Trains heads, together as far as they can share graphs."""
        together: dict[HeadShape, list[int]] = defaultdict(list)
        for position, plan in enumerate(plans):
            together[self._shape_of(plan)].append(position)
        train, val = self._examples(0, plans[0], plans[0].views)
        solved: dict[int, SolvedHead] = {}
        for shape, positions in together.items():
            chosen = [plans[position] for position in positions]
            solved |= zip(positions, self._stack_for(shape, chosen).train(train, val, chosen), strict=True)
        return [solved[position] for position in range(len(plans))]

    def _stack_for(self, shape: HeadShape, plans: Sequence[Plan]) -> StackedHeads:
        """Graphs that have room for some heads, and none besides where they take many steps."""
        stacks, counts = self._stacks[shape], Counter(UPDATE_RULES[plan.config.training.optimizer] for plan in plans)
        steps = len(self._data.splits["train"]) / plans[0].batch_size * max(plan.head_epochs for plan in plans)
        sizes = tuple(sorted(counts.items()))
        if sizes not in stacks and (steps < STEPS_WORTH_A_GRAPH or len(stacks) >= MOST_STACKS):
            sizes = tuple((rule, max(1, math.ceil(counts[rule] / ROOM)) * ROOM) for rule in self._rules)
        if sizes not in stacks:
            stacks[sizes] = StackedHeads(shape, self._data.task, dict(sizes))
        return stacks[sizes]

    def _shape_of(self, plan: Plan) -> HeadShape:
        """The heads whose graphs a trial can use."""
        units = plan.config.model.head_units
        if units not in self._shapes:
            build = functools.partial(self._classifier.build_head, head_units=units)
            self._shapes[units] = HeadShape(build, None if is_adjustable(build) else math.nan)
        shape, dropout = self._shapes[units], plan.config.model.dropout
        return shape if shape.dropout is None else shape._replace(dropout=dropout)

    def _fine_tune(self, plan: Plan, head: SolvedHead) -> list[Measured]:
        """Trains the tail of a trial behind its head; see `Tail.train`."""
        depth, shape, classifier = plan.trainable_layers, self._shape_of(plan), self._classifier
        set_trainable(classifier.backbone.layers, depth, batch_norm_learns=plan.config.model.weights == "none")
        if (depth, shape) not in self._tails:
            inputs = self._tail_inputs.get(depth, classifier.model.inputs)
            self._tails[depth, shape] = Tail(
                classifier, inputs, self._data.task, shape, self._strategy, self._precision
            )
        train, val = self._examples(depth, plan, plan.views if plan.fine_tune_augment == "views" else 1)
        vary = vary_of(self._data, plan.config) if plan.fine_tune_augment == "fresh" else None
        try:
            return self._tails[depth, shape].train(head, train, val, plan, vary)
        finally:
            set_trainable(classifier.backbone.layers, 0)

    def _examples(self, depth: TrainableLayers, plan: Plan, views: int) -> tuple[Examples, Examples]:
        """Examples to learn from and to choose by, as they cross the cut before the layers that learn."""
        inputs, class_weights = self._inputs.get(depth, self._whole), plan.config.training.class_weights
        train = examples(self._data, "train", inputs.train[:views], class_weights)
        return train, examples(self._data, "val", [inputs.evaluated["val"]], class_weights)


class Tail:
    """A network from a cut to the probabilities, trained again and again in the same graphs: no trial traces any."""

    def __init__(
        self,
        classifier: Classifier,
        inputs: Sequence[keras.KerasTensor],
        task: Task,
        shape: HeadShape,
        strategy: tf.distribute.Strategy,
        precision: Precision,
    ):
        """Builds a head of its own; the other layers are those of the classifier.

        Args:
            classifier: whose trainable layers are set.
            inputs: tensors of the classifier that cross the cut.
            task: decides loss and metric.
            shape: of the heads.
            strategy: under which the classifier was built.
            precision: of the run.
        """
        self._shape = shape
        with strategy.scope():
            self._head, self._dropout = shape.shared(), tf.Variable(0.0)
        set_dropout(self._head, self._dropout)
        model = part_of(inputs, [self._head(classifier.model.get_layer(POOLED).output)])
        own = {id(variable) for variable in self._head.variables}
        self._pretrained = [(each, each.numpy()) for each in model.variables if id(each) not in own]
        precision = learning_precision(model, precision)
        self._learner_of = functools.cache(
            lambda optimizer: Learner(model, task, optimizer, strategy=strategy, precision=precision)
        )

    def train(self, head: SolvedHead, train: Examples, val: Examples, plan: Plan, vary: Vary | None) -> list[Measured]:
        """Fine-tunes from the pretrained weights and a solved head, and leaves the pretrained weights as they were.

        Args:
            head: what is dropped continues from there.
            train: examples to learn from.
            val: examples to stop and choose by.
            plan: of the trial.
            vary: how to vary the examples anew in each epoch; None leaves them as they are.

        Returns:
            Measures of val at the start and after each epoch; NaN at the end where the loss diverged.
        """
        self._head.set_weights(head.weights)
        self._dropout.assign(plan.config.model.dropout)
        steps = (len(head.curve) - 1) * math.ceil(len(train.targets) / plan.batch_size)
        fresh = self._shape.plain(plan.config.training.seed)
        for seed, start in zip(seeds(self._head), seeds(fresh), strict=True):
            seed.assign(start.numpy() + np.array([0, steps], start.dtype))
        learner = self._learner_of(plan.config.training.optimizer)
        settings: dict[str, Any] = {"epochs": plan.fine_tune_epochs, "learning_rate": plan.fine_tune_learning_rate}
        try:
            result = learner.train("fine_tune", train, val, plan, **settings, vary=vary)
        except DivergedError:
            return [Measured(math.nan, math.nan)]
        finally:
            for variable, values in self._pretrained:  # which other tails have as well
                variable.assign(values)
        measured = [Measured._make(epoch[-2:]) for epoch in result.epochs]
        return [head.curve[head.best_epoch], *measured]


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


def _outcome(curve: Sequence[Measured], seconds: float) -> Outcome:
    """The epoch that the trial would keep."""
    if not math.isfinite(curve[-1].loss):
        return Outcome("failed", math.nan, math.nan, seconds, "training diverged: the loss is no number")
    best = curve[lowest(curve)]
    return Outcome("done", best.accuracy, best.loss, seconds)
