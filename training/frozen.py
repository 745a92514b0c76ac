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
from features.runtimes import Runtime, choose_runtime
from inference.load import check_can_be_loaded
from models.classifier import Classifier, build_classifier
from models.detector import build_detector
from models.freezing import set_trainable
from tasks.detection import Detection
from training.cuts import Use, unique_cuts
from training.inputs import RunInputs
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
    """Variation of the inputs, anew in each epoch; None leaves them as they are."""


def build_frozen(inputs: RunInputs) -> Classifier:
    """Builds the network of a run with a frozen backbone.

    Raises:
        UsageError: the weights are not available, or Keras could not open the saved network again.
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
    return classifier


def examples(data: Data, split: Split, views: Sequence[View], class_weights: bool = False) -> Examples:
    """Makes the examples of a split from their views.

    Args:
        data: the examples.
        split: which of them.
        views: versions of them, as `PhaseInputs` has them.
        class_weights: whether every class counts alike.
    """
    targets = data.targets[data.splits[split]]
    weights = data.task.balanced_weights(targets) if class_weights else np.ones(len(targets), np.float32)
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
        The inputs of each use that has a cut.
    """
    started = time.perf_counter()
    kept, train = kept_examples(data), positions_by_length(data, data.splits["train"])
    plain_positions = evaluated_positions = kept
    replicas = strategy or tf.distribute.get_strategy()
    runtime = choose_runtime(config, classifier.model, len(train), replicas)
    if (precision, runtime) != ("float32", "tensorflow") and len(kept) > len(train):
        plain_positions, evaluated_positions = (
            positions_by_length(data, np.sort(each)) for each in (train, np.setdiff1d(kept, train))
        )
    most = max(views.values())
    count, saved, computed = len(kept) + (most - 1) * len(train), 0.0, []
    make = functools.partial(
        frozen_part, classifier, config=config, data=data, store=store, strategy=strategy, pool=pool
    )
    part = make(cuts, precision=precision, runtime=runtime)
    with progress_bar("features", count) as advance:
        for number in range(most):
            wanted = {use: cut for use, cut in cuts.items() if views[use] > number}
            if len(unique_cuts(wanted)) < len(part.cuts):
                part = make(wanted, precision=precision, runtime=runtime)
            arrays, seconds = load_or_compute(part, number, train if number else plain_positions, config, data, advance)
            computed.append(arrays)
            saved += seconds
        evaluated = computed[0]
        if evaluated_positions is not plain_positions:
            part = make(cuts, precision="float32")
            evaluated, seconds = load_or_compute(part, 0, evaluated_positions, config, data, advance)
            saved += seconds
    how = f"{saved:.1f} seconds saved by the cache"
    if not saved:
        how = f"{count / (time.perf_counter() - started):,.0f} {data.kind.nouns} per second"
    views_of = f" ({counted(most, 'view', 'views')} of each to train on)" if most > 1 else ""
    text = f"{counted(len(kept), data.kind.noun, data.kind.nouns)} through the frozen layers, once{views_of}: {how}"
    behind = [cut.share_after for use, cut in cuts.items() if use not in ("head", 0) and not cut.has_vectors]
    if behind:
        text += f"; fine-tuning computes the {max(behind):.0%} behind them"
    show_stage("features", text)

    learnt_from = data.splits["train"]
    varied_rows = places_of(learnt_from, train)
    moved = [moved_targets(data, config, number, train) for number in range(1, most)]
    targets = [None if each is None else each[varied_rows] for each in moved]
    inputs = {}
    for use, cut in cuts.items():
        plain, *varied = [tensors[cut.layer] for tensors in computed[: views[use]]]
        inputs[use] = PhaseInputs(
            part_of(cut.inputs, classifier.model.outputs),
            [
                View(plain, places_of(learnt_from, plain_positions)),
                *(View(tensors, varied_rows, targets[number]) for number, tensors in enumerate(varied)),
            ],
            {
                split: View(evaluated[cut.layer], places_of(data.splits[split], evaluated_positions))
                for split in EVALUATED
            },
            vary=None,
        )
    return inputs


def kept_examples(data: Data) -> np.ndarray:
    """Returns the positions of the examples of all splits, int64, in the order of the frozen pass."""
    return positions_by_length(data, np.sort(np.concatenate(list(data.splits.values()))))


def positions_by_length(data: Data, positions: np.ndarray) -> np.ndarray:
    """Sorts examples by length, if they differ in it, so that batches need as little padding as possible."""
    return positions[View(data.inputs, positions).shortest_first]


def longest_of(data: Data) -> int:
    """Returns the length of the longest training example; 0 if examples do not differ in length."""
    return int(View(data.inputs, data.splits["train"]).lengths.max(initial=0))


def places_of(wanted: np.ndarray, positions: np.ndarray) -> np.ndarray:
    """Returns where positions are among others, int64."""
    order = np.argsort(positions)
    return order[np.searchsorted(positions, wanted, sorter=order)]


def frozen_part(
    classifier: Classifier,
    cuts: Mapping[Use, Cut],
    config: TrainConfig,
    data: Data,
    store: Store,
    strategy: tf.distribute.Strategy | None = None,
    *,
    precision: Precision,
    pool: Pool | None = None,
    runtime: Runtime = "tensorflow",
) -> FrozenPart:
    """Prepares the forward pass through the layers before the cuts; see `frozen_inputs` for the arguments."""
    title = f"{data.name}, {config.model.backbone}, {data.reader.title}"
    return FrozenPart(classifier.model, unique_cuts(cuts), store, precision, title, strategy, pool, runtime)


def load_or_compute(
    part: FrozenPart,
    number: int,
    positions: np.ndarray,
    config: TrainConfig,
    data: Data,
    on_progress: Callable[[int], None],
) -> tuple[dict[str, tuple[Tensor, ...]], float]:
    """Returns what crosses each cut in one view, by the layer in front of it, and the seconds that the store saved.

    Views that are varied may be kept as float16: that is far below what augmentation changes. The plain one is kept
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
    return {cut.layer: tuple(itertools.islice(kept, len(cut.tensors))) for cut in part.cuts}, seconds


def features_sample(head: PhaseInputs) -> np.ndarray:
    """Returns features of some training examples, float32 (n, num_features), from the inputs of a head."""
    (features,), rows = head.train[0].inputs, head.train[0].rows
    return np.asarray(take_rows(features, rows[:: max(1, len(rows) // FEATURES_SAMPLED)]))
