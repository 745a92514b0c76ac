"""A backbone with all that its trials share: examples, cuts, outputs of the frozen layers, compiled graphs."""

import functools
import math
import time
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence

import keras
import numpy as np
import tensorflow as tf

from app.config import TrainableLayers, TrainConfig
from data.batches import Examples, by_length
from data.store import open_store
from devices.precision import choose_precision
from features.cuts import Cut, find_cuts, most_tensors_across, part_of
from models.freezing import set_trainable
from models.heads import is_linear
from tasks.table import classes_of
from training.begun import CHOSEN_WITH_DATA
from training.cuts import check_learns, cuts_at, show_whole_network
from training.fine_tuning import check_trainable_layers, fine_tuning_of
from training.frozen import build_frozen, examples, features_sample, frozen_inputs, whole_network
from training.inputs import RunInputs
from training.learner import BatchTooLargeError
from training.linear_head import solve
from training.memory import check_room
from training.optimizers import UPDATE_RULES
from training.plan import Plan
from training.recipe import choose_fine_tune_augment, choose_head_learning_rate, make_plan
from training.steps import Measured
from training.variation import vary_of
from tuning.heads import HeadShape, SolvedHead, StackedHeads, is_adjustable
from tuning.records import Job, Outcome, failed
from tuning.scoring import Scoring
from tuning.space import SPACE, TuneConfig, default_config
from tuning.tail import Tail

STEPS_WORTH_A_GRAPH = 500
"""Fewest steps for which graphs without unused slots are worth the second that tracing takes. Unused slots cost as much
as used ones: with 1,024 features, a step of 16 examples takes 0.9 ms for 3 heads, and 1.7 ms for 24."""
ROOM = 8
"""Graphs that several groups of trials share have a multiple of this number of slots for each update rule."""
MOST_STACKS = 4
"""With this many graphs for heads of one shape, further ones have multiples of `ROOM` slots, to bound memory."""
MOST_BLOCKS = 2
"""Most last blocks that a search fine-tunes by default."""


class Network:
    """A backbone on which trials run."""

    def __init__(self, inputs: RunInputs, search: TuneConfig, strategy: tf.distribute.Strategy | None = None):
        """Builds the network, and runs its frozen layers or takes their outputs from the store.

        Args:
            inputs: examples and settings.
            search: settings of the search: layers to train, views and optimizers.
            strategy: strategy whose replicas run the frozen layers and fine-tune; heads are too small to share, and are
                trained on one device. None for one device.
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
        self._cuts = find_cuts(self._classifier.backbone, most_tensors_across(self._classifier.backbone))
        for depth in self.depths:
            check_trainable_layers(depth, self._cuts, inputs.backbone.name)
            check_learns(self._classifier, depth, inputs.backbone.name)
        asked = config.training.vary != "mild" or search.space["views"] != SPACE["views"].values
        varies = vary_of(self._data, config) is not None
        self._varies = varies and (asked or fine_tuning_of(self._data.kind.name).varies)
        self._is_linear = functools.cache(lambda units: is_linear(self._classifier.build_head(head_units=units)))
        by_itself = self._plan(default_config(search, inputs.backbone.name).replace(**self._given))
        self._views = max(*search.space["views"], by_itself.views) if self._varies else 1
        cuts = self._choose_cuts(config, by_itself.trainable_layers)
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
        self.default = self._finish(by_itself)
        """Plan of the trial that does what `train.py` does by default, without its `deeper` phase."""
        self._shapes: dict[tuple[int, ...], HeadShape] = {}
        self._scoring = Scoring(search.search.objective, self._data, self._strategy)
        self._rules = sorted({UPDATE_RULES[name] for name in search.space["optimizer"]})
        self._stacks: dict[HeadShape, dict[tuple, StackedHeads]] = defaultdict(dict)
        self._tails: dict[tuple, Tail] = {}
        self._linear: dict[int, SolvedHead] = {}
        """Solved heads by number of views."""
        self._trained: dict[tuple, tuple[SolvedHead, float | None]] = {}
        """Heads of detectors and their scores, by all settings of their training."""

    def _choose_cuts(self, config: TrainConfig, default: TrainableLayers) -> dict[TrainableLayers, Cut]:
        """Cuts the network for heads and for every number of trainable layers that leaves a cut; shows the others."""
        deeper = [depth for depth in dict.fromkeys([*self.depths, default]) if depth != 0]
        if config.training.fine_tune_augment == "fresh":
            deeper = []
        cuts = cuts_at(self._classifier, {depth: depth for depth in (0, *deeper)})
        self._tail_inputs = {depth: cut.inputs for depth, cut in cuts.items()}
        for depth in deeper:
            trial = self._augment(self._plan(config.replace(trainable_layers=depth, views=self._views)))
            if config.training.fine_tune_augment is None and trial.fine_tune_augment == "fresh":
                show_whole_network(depth)
        return cuts

    def complete(self, config: TrainConfig) -> Plan:
        """Decides the open settings of a trial as `train.py` would."""
        views = config.training.views and min(self._views, config.training.views)
        return self._finish(self._plan(config.replace(**self._given, views=views)))

    def _plan(self, config: TrainConfig) -> Plan:
        can_solve = self._is_linear(config.model.head_units)
        num_train = len(self._data.splits["train"])
        task, kind = self._data.task, self._data.kind
        plan = make_plan(config, self._cuts, num_train, self._varies, can_solve, task.choices, kind.name)
        return plan if plan.fine_tunes else plan.replace(trainable_layers=0)

    def _augment(self, plan: Plan) -> Plan:
        return choose_fine_tune_augment(plan, has_cut=plan.trainable_layers in self._tail_inputs)

    def _finish(self, plan: Plan) -> Plan:
        return choose_head_learning_rate(self._augment(plan), self._features)

    @functools.cached_property
    def _features(self) -> np.ndarray | None:
        return features_sample(self._inputs[0]) if self._data.task.solves_linear_head else None

    def run(self, job: Job) -> Iterator[tuple[int, Outcome]]:
        """Runs trials together, or one after the other if memory is too small.

        Args:
            job: trials with equal batch size, head, solver, views and seed; at most `HEADS_AT_ONCE` of an update rule.

        Yields:
            Number and outcome of each, as soon as it is known.
        """
        waiting = dict(job)
        try:
            for number, outcome in self._run(job):
                del waiting[number]
                yield number, outcome
        except (BatchTooLargeError, tf.errors.ResourceExhaustedError, MemoryError) as error:
            if len(job) == 1:
                yield job[0][0], failed(f"{type(error).__name__}: {error}".splitlines()[0])
                return
            for trial in waiting.items():
                yield from self.run([trial])

    def _run(self, job: Job) -> Iterator[tuple[int, Outcome]]:
        started = time.perf_counter()
        plans = [plan for _, plan in job]
        if not self._data.task.solves_linear_head:
            heads = [self._train_head(plan) for plan in plans]
        else:
            heads = [(head, None) for head in self._solve(plans)]
        share = (time.perf_counter() - started) / len(job)
        solved = zip(job, heads, strict=True)
        for (number, plan), (head, score) in sorted(solved, key=lambda each: each[0][1].trainable_layers != 0):
            started = time.perf_counter()
            if plan.trainable_layers != 0 and all(math.isfinite(each.loss) for each in head.curve[-1:]):
                head, score = self._fine_tune(plan, head)
            elif score is None and not self._scoring.is_measured:
                model = self._shape_of(plan).plain()
                model.set_weights(head.weights)
                score = self._scoring.score(part_of(model.inputs, model.outputs), self._examples(0, plan, 1)[1])
            yield number, self._scoring.outcome(head.curve, score, share + time.perf_counter() - started)

    def _train_head(self, plan: Plan) -> tuple[SolvedHead, float | None]:
        """Trains the head of a detector alone, unless another trial has done so: convolutions gain nothing together."""
        training = plan.config.training
        learnt_with = plan.learning_rate, plan.head_epochs, plan.batch_size, plan.views
        key = (*learnt_with, training.optimizer, training.weight_decay, training.seed, plan.config.model.head_units)
        if key in self._trained:
            return self._trained[key]
        shape = self._shape_of(plan)
        start = SolvedHead([], shape.plain(training.seed).get_weights())
        if not plan.head_epochs:
            return start, None
        data = self._examples(0, plan, plan.views)
        self._trained[key] = self._tail(0, shape).train("head", start, *data, plan, None, self._scoring.score)
        return self._trained[key]

    def _solve(self, plans: Sequence[Plan]) -> list[SolvedHead]:
        """Trains heads, together as far as they can share graphs; or solves the head from which all of them start."""
        train, val = self._examples(0, plans[0], plans[0].views)
        if plans[0].head_solver == "lbfgs":
            if plans[0].views not in self._linear:
                solution = solve(train, val, classes_of(self._data.task))
                weights = [np.array(each, np.float32) for each in (solution.kernel, solution.bias)]
                self._linear[plans[0].views] = SolvedHead([Measured(*(solution.val or ()))], weights)
            return [self._linear[plans[0].views]] * len(plans)
        together: dict[HeadShape, list[int]] = defaultdict(list)
        for position, plan in enumerate(plans):
            together[self._shape_of(plan)].append(position)
        solved: dict[int, SolvedHead] = {}
        for shape, positions in together.items():
            chosen = [plans[position] for position in positions]
            solved |= zip(positions, self._stack_for(shape, chosen).train(train, val, chosen), strict=True)
        return [solved[position] for position in range(len(plans))]

    def _stack_for(self, shape: HeadShape, plans: Sequence[Plan]) -> StackedHeads:
        """Returns graphs with slots for these heads, without unused slots if the heads take many steps."""
        stacks, counts = self._stacks[shape], Counter(UPDATE_RULES[plan.config.training.optimizer] for plan in plans)
        steps = len(self._data.splits["train"]) / plans[0].batch_size * max(plan.head_epochs for plan in plans)
        sizes = tuple(sorted(counts.items()))
        if sizes not in stacks and (steps < STEPS_WORTH_A_GRAPH or len(stacks) >= MOST_STACKS):
            sizes = tuple((rule, max(1, math.ceil(counts[rule] / ROOM)) * ROOM) for rule in self._rules)
        if sizes not in stacks:
            stacks[sizes] = StackedHeads(shape, self._data.task, dict(sizes))
        return stacks[sizes]

    def _shape_of(self, plan: Plan) -> HeadShape:
        """Returns the shape of the heads whose graphs a trial can share."""
        units = plan.config.model.head_units
        if units not in self._shapes:
            build = functools.partial(self._classifier.build_head, head_units=units)
            self._shapes[units] = HeadShape(build, None if is_adjustable(build) else math.nan)
        shape, dropout = self._shapes[units], plan.config.model.dropout
        return shape if shape.dropout is None else shape._replace(dropout=dropout)

    def _tail(self, depth: TrainableLayers, shape: HeadShape) -> Tail:
        """Returns the graphs of the trainable tail for a number of layers, and sets these layers trainable."""
        if (depth, shape) not in self._tails:
            inputs = self._tail_inputs.get(depth, self._classifier.model.inputs)
            self._tails[depth, shape] = Tail(
                self._classifier, inputs, self._data.task, shape, self._strategy, self._precision
            )
        return self._tails[depth, shape]

    def _fine_tune(self, plan: Plan, head: SolvedHead) -> tuple[SolvedHead, float | None]:
        """Trains the tail of a trial behind its head; see `Tail.train`."""
        depth, classifier = plan.trainable_layers, self._classifier
        set_trainable(classifier.backbone.layers, depth, batch_norm_learns=plan.config.model.weights == "none")
        train, val = self._examples(depth, plan, plan.views if plan.fine_tune_augment == "views" else 1)
        vary = vary_of(self._data, plan.config) if plan.fine_tune_augment == "fresh" else None
        try:
            tail = self._tail(depth, self._shape_of(plan))
            return tail.train("fine_tune", head, train, val, plan, vary, self._scoring.score)
        finally:
            set_trainable(classifier.backbone.layers, 0)

    def _examples(self, depth: TrainableLayers, plan: Plan, views: int) -> tuple[Examples, Examples]:
        """Returns training and val examples as tensors at the cut before the trainable layers."""
        inputs, class_weights = self._inputs.get(depth, self._whole), plan.config.training.class_weights
        train = examples(self._data, "train", inputs.train[:views], class_weights)
        return train, by_length(examples(self._data, "val", [inputs.evaluated["val"]], class_weights))


def last_blocks(blocks: Sequence[Sequence[keras.Layer]]) -> list[int]:
    """Returns the numbers of layers in no, the last, and the last two blocks that have weights."""
    counts, layers = [0], 0
    for block in reversed(blocks):
        layers += len(block)
        if any(len(weights.shape) > 1 for layer in block for weights in layer.weights):
            counts.append(layers)
        if len(counts) > MOST_BLOCKS:
            break
    return counts
