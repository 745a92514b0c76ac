"""Inputs of each phase: the examples, or the outputs of the frozen layers for them, computed once.

A phase trains the layers behind its cut. One forward pass through the layers before the cuts, for each view of an
example, computes the tensors for all phases; they stay on disk for later runs.
"""

import functools
import itertools
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import keras
import numpy as np
import tensorflow as tf

from app.config import TrainConfig
from app.terminal import counted, progress_bar, show_stage
from cluster.pool import Pool
from data.arrays import Tensor, take_rows
from data.batches import Examples, View, by_length
from data.kinds import Vary
from data.pipeline import variation
from data.prepare import Data
from data.sources import Split
from data.store import Store
from devices.precision import Precision
from features.cuts import Cut, part_of
from features.frozen_part import FrozenPart
from features.runtimes import choose_runtime
from inference.load import check_can_be_loaded
from models.classifier import Classifier, build_classifier
from models.detector import build_detector
from models.freezing import set_trainable
from tasks.detection import Detection
from tasks.table import classes_of
from training.cuts import Use, unique_cuts
from training.inputs import RunInputs
from training.own_parts import try_own_parts
from training.variation import moved_targets, vary_of

FEATURES_SAMPLED = 1_000
EVALUATED: tuple[Split, ...] = ("val", "test")


class PhaseInputs(NamedTuple):
    """Model and examples of a phase."""

    model: keras.Model
    """The layers from these inputs to the probabilities, shared with the classifier."""
    train: Sequence[View]
    evaluated: dict[Split, View]
    """Views of val and test, which are never varied."""
    vary: Vary | None
    """New variation of the inputs in each epoch; None leaves them as they are."""


class Computed(NamedTuple):
    """Tensors that the frozen layers made of some examples in one view."""

    tensors: dict[str, tuple[Tensor, ...]]
    """Tensors that cross each cut, by the layer in front of it."""
    positions: np.ndarray
    """Positions of the examples among all, in the order of the tensors' rows."""
    seconds: float
    """Seconds that the store saved; 0 if anything was computed."""

    def view(self, cut: Cut, positions: np.ndarray, targets: np.ndarray | None = None) -> View:
        """Returns the tensors of some examples at a cut; `targets` are those of all examples here, if boxes moved."""
        order = np.argsort(self.positions)
        rows = order[np.searchsorted(self.positions, positions, sorter=order)]
        return View(self.tensors[cut.layer], rows, None if targets is None else targets[rows])


def build_frozen(inputs: RunInputs) -> Classifier:
    """Builds the network of a run with a frozen backbone.

    Raises:
        UsageError: the weights are not available, Keras could not open the saved network again, or a part of
            `custom.py` fails.
    """
    config, data = inputs.config, inputs.data
    settings: dict[str, Any] = {
        "weights": config.model.weights,
        "image_size": config.data.chosen_size,
        "num_classes": len(data.class_names),
        "head_units": config.model.head_units,
        "seed": config.training.seed,
    }
    if isinstance(data.task, Detection):
        classifier = build_detector(inputs.backbone, **settings)
    else:
        classifier = build_classifier(
            inputs.backbone,
            **settings,
            task=data.task,
            pooling=config.model.pooling,
            head=config.model.head,
            dropout=config.model.dropout,
        )
    check_can_be_loaded(classifier.saved)
    set_trainable(classifier.backbone.layers, 0)
    try_own_parts(config, data, classifier.model.inputs[0].shape[1:])
    return classifier


def examples(data: Data, split: Split, views: Sequence[View], class_weights: bool = False) -> Examples:
    """Makes the examples of a split from their views.

    Args:
        data: the examples.
        split: the split.
        views: versions of its examples, as in `PhaseInputs`.
        class_weights: whether every class counts equally.
    """
    targets = data.targets[data.splits[split]]
    weights = classes_of(data.task).balanced_weights(targets) if class_weights else np.ones(len(targets), np.float32)
    return Examples(views, targets, weights)


def phase_examples(data: Data, inputs: PhaseInputs, class_weights: bool) -> tuple[Examples, Examples | None]:
    """Makes the training examples of a phase, and those of val to choose by; None without val."""
    train = examples(data, "train", inputs.train, class_weights)
    if not len(data.splits["val"]):
        return train, None
    return train, by_length(examples(data, "val", [inputs.evaluated["val"]], class_weights))


def whole_network(classifier: Classifier, data: Data, vary: Vary | None = None) -> PhaseInputs:
    """Makes the inputs of a phase that runs the whole network.

    Args:
        classifier: the network.
        data: the examples.
        vary: how to vary them anew in each epoch; None leaves them as they are.
    """
    train = View(data.inputs, data.splits["train"])
    evaluated = {split: View(data.inputs, data.splits[split]) for split in EVALUATED}
    return PhaseInputs(classifier.model, [train], evaluated, vary)


def frozen_inputs(
    classifier: Classifier,
    cuts: Mapping[Use, Cut],
    views: Mapping[Use, int],
    config: TrainConfig,
    data: Data,
    store: Store,
    strategy: tf.distribute.Strategy | None = None,
    *,
    precision: Precision,
    pool: Pool | None = None,
) -> dict[Use, PhaseInputs]:
    """Runs the frozen layers once for every view, or takes the outputs from the store; prints which.

    For val and test, TensorFlow computes in float32 whatever the precision and the runtime, like the saved model.

    Args:
        classifier: the network.
        cuts: cut for each key.
        views: number of views for each key.
        config: settings, for the seed and the runtime.
        data: the examples: all of them in the plain view, training examples in the others.
        store: store for the results.
        strategy: whose replicas share the work; None for one device.
        precision: in which the network learns.
        pool: workers that compute; None if there are none.

    Returns:
        The inputs for each key that has a cut.
    """
    started, most = time.perf_counter(), max(views.values())
    kept, train = kept_examples(data), positions_by_length(data, data.splits["train"])
    strategy = strategy or tf.distribute.get_strategy()
    runtime = choose_runtime(config, classifier.model, len(train), strategy)
    plain = evaluated = kept
    if (precision, runtime) != ("float32", "tensorflow") and len(kept) > len(train):
        plain, evaluated = (positions_by_length(data, np.sort(each)) for each in (train, np.setdiff1d(kept, train)))
    make_part = functools.partial(
        FrozenPart, classifier.model, store=store, title=pass_title(config, data), strategy=strategy, pool=pool
    )
    part = make_part(cuts=unique_cuts(cuts), precision=precision, runtime=runtime)
    computed = []
    with progress_bar("features", len(kept) + (most - 1) * len(train)) as advance:
        for number in range(most):
            wanted = unique_cuts({use: cut for use, cut in cuts.items() if views[use] > number})
            if len(wanted) < len(part.cuts):
                part = make_part(cuts=wanted, precision=precision, runtime=runtime)
            computed.append(load_or_compute(part, number, train if number else plain, config, data, advance))
        exact = computed[0]
        if evaluated is not plain:
            part = make_part(cuts=unique_cuts(cuts), precision="float32")
            exact = load_or_compute(part, 0, evaluated, config, data, advance)
            computed.append(exact)
    _show(cuts, most, data, time.perf_counter() - started, sum(each.seconds for each in computed))
    targets = [None, *(moved_targets(data, config, number, train) for number in range(1, most))]
    return {
        use: PhaseInputs(
            part_of(cut.inputs, classifier.model.outputs),
            [computed[number].view(cut, data.splits["train"], targets[number]) for number in range(views[use])],
            {split: exact.view(cut, data.splits[split]) for split in EVALUATED},
            vary=None,
        )
        for use, cut in cuts.items()
    }


def pass_title(config: TrainConfig, data: Data) -> str:
    """Returns the title of the entries in the store: names of the data and the backbone, and size of the inputs."""
    return f"{data.name}, {config.model.backbone}, {data.reader.title}"


def kept_examples(data: Data) -> np.ndarray:
    """Returns the positions of the examples of all splits, int64, in the order of the frozen pass."""
    return positions_by_length(data, np.sort(np.concatenate(list(data.splits.values()))))


def positions_by_length(data: Data, positions: np.ndarray) -> np.ndarray:
    """Sorts examples by length, if they differ in it, so that batches need as little padding as possible."""
    return positions[View(data.inputs, positions).shortest_first]


def longest_of(data: Data) -> int:
    """Returns the length of the longest training example; 0 if examples do not differ in length."""
    return int(View(data.inputs, data.splits["train"]).lengths.max(initial=0))


def load_or_compute(
    part: FrozenPart,
    number: int,
    positions: np.ndarray,
    config: TrainConfig,
    data: Data,
    on_progress: Callable[[int], None],
) -> Computed:
    """Computes what crosses each cut in one view, or takes it from the store.

    Varied views may be kept as float16, whose rounding is far below what augmentation changes. The plain view is kept
    as it was computed.

    Args:
        part: the frozen part.
        number: number of the view; 0 for the examples as they are.
        positions: positions of the examples.
        config: settings, for the seed and the variation.
        data: the examples.
        on_progress: called with the number of examples done since the last call.
    """
    seed, vary = config.training.seed, vary_of(data, config) if number else None
    varied = variation(vary, seed, number, len(positions)) if vary else None
    augmentation = {"seed": seed, "view": number, "vary": config.training.vary} if vary else None
    description = {**data.describe(positions), "augmentation": augmentation}
    view = View(data.inputs, positions)
    tensors, seconds = part.load_or_compute(view, varied, description, half=number > 0, on_progress=on_progress)
    kept = iter(tensors)
    crossing = {cut.layer: tuple(itertools.islice(kept, len(cut.tensors))) for cut in part.cuts}
    return Computed(crossing, positions, seconds)


def features_sample(head: PhaseInputs) -> np.ndarray:
    """Returns features of some training examples, float32 (n, num_features), from the inputs of a head."""
    (features,), rows = head.train[0].inputs, head.train[0].rows
    return np.asarray(take_rows(features, rows[:: max(1, len(rows) // FEATURES_SAMPLED)]))


def _show(cuts: Mapping[Use, Cut], most: int, data: Data, seconds: float, saved: float) -> None:
    """Shows how many examples went through the frozen layers, in at most so many views, and how fast."""
    kept, num_train = sum(map(len, data.splits.values())), len(data.splits["train"])
    how = f"{saved:.1f} seconds saved by the cache"
    if not saved:
        how = f"{(kept + (most - 1) * num_train) / seconds:,.0f} {data.kind.nouns} per second"
    views_of = f" ({counted(most, 'view', 'views')} of each to train on)" if most > 1 else ""
    text = f"{counted(kept, data.kind.noun, data.kind.nouns)} through the frozen layers, once{views_of}: {how}"
    behind = [cut.share_after for use, cut in cuts.items() if use not in ("head", 0) and not cut.has_vectors]
    if behind:
        text += f"; fine-tuning computes the {max(behind):.0%} behind them"
    show_stage("features", text)
