"""What each phase learns from: the pictures, or what the frozen layers made of them, computed once.

A phase trains the layers behind its cut. The pass in front of the cuts runs once for each view of a picture, gives the
tensors for all phases together, and stays on disk for the next run.
"""

import dataclasses
import time
from collections.abc import Callable, Sequence
from typing import Literal, NamedTuple

import keras
import numpy as np

from config import TrainConfig
from data.pipeline import AUGMENTATION, View, augmentation_draws
from data.prepare import ImageData
from data.sources import Split
from features.cuts import Cut, cut_before_trainable, find_cuts
from features.extract import FrozenPart
from features.store import Store
from models.classifier import Classifier
from models.freezing import set_trainable
from terminal import counted, progress_bar, show_stage
from training.recipe import LEAST_SHARE_BEFORE

Phase = Literal["head", "fine_tune"]
JUDGED: tuple[Split, ...] = ("val", "test")


class PhaseInputs(NamedTuple):
    """What a phase trains, and on what."""

    model: keras.Model
    """The layers from the inputs to the probabilities; they are those of the classifier."""
    train: Sequence[View]
    judged: dict[Split, View]
    """Of val and test: never varied."""
    augment: bool
    """Whether to vary the inputs anew in each epoch."""


def choose_cuts(classifier: Classifier, config: TrainConfig) -> dict[Phase, Cut]:
    """Chooses where the network is cut in each phase; a phase without a cut runs the whole network.

    Args:
        classifier: all of its backbone is frozen afterwards.
        config: with every setting chosen.
    """
    if config.augment == "fresh":
        return {}
    trainable_layers = {"head": 0} if config.head_epochs else {}
    if config.fine_tune_epochs and config.trainable_layers != 0:
        trainable_layers["fine_tune"] = config.trainable_layers
    cuts, chosen = find_cuts(classifier.model), {}
    for phase, count in trainable_layers.items():
        set_trainable(classifier.backbone.layers, count)
        cut = cut_before_trainable(cuts, classifier.model)
        if 1 - cut.share_after >= LEAST_SHARE_BEFORE:
            chosen[phase] = cut
    set_trainable(classifier.backbone.layers, 0)
    return chosen


def plan_cuts(
    classifier: Classifier, config: TrainConfig, data: ImageData, store: Store
) -> tuple[dict[Phase, Cut], TrainConfig]:
    """Chooses the cuts and as many views as the store has room for; without room for one, fine-tuning has no cut.

    Returns:
        The cuts and the settings, changed or not; what is less than asked for is said on the terminal.
    """
    cuts = choose_cuts(classifier, config)
    kept, train = sum(map(len, data.splits.values())), len(data.splits["train"])
    for views in range(config.views, 0, -1):
        needed = sum(kept * cut.size(half=False) + (views - 1) * train * cut.size(half=True) for cut in _unique(cuts))
        if store.has_room(needed):
            if views < config.views:
                show_stage("cache", f"room for {views} of {config.views} views; more take a larger --cache-gb or disk")
            return cuts, dataclasses.replace(config, views=views)
    if "fine_tune" in cuts:
        del cuts["fine_tune"]
        show_stage("cache", "no room for what the frozen layers make: fine-tuning runs all of them; see --cache-gb")
    return cuts, config


def whole_network(classifier: Classifier, config: TrainConfig, data: ImageData) -> PhaseInputs:
    """The inputs of a phase that runs the whole network."""
    train = View(data.pixels, data.splits["train"])
    judged = {split: View(data.pixels, data.splits[split]) for split in JUDGED}
    return PhaseInputs(classifier.model, [train], judged, config.augment != "none")


def frozen_inputs(
    classifier: Classifier, cuts: dict[Phase, Cut], config: TrainConfig, data: ImageData, store: Store
) -> dict[Phase, PhaseInputs]:
    """Runs the frozen layers once for every view, or takes what the store has of it; shows which of the two.

    Args:
        classifier: the network.
        cuts: where it is cut in each phase.
        config: for views, seed and precision.
        data: the pictures: all in the plain view, those to train on in the others.
        store: where the results stay.

    Returns:
        The inputs of each phase that has a cut.
    """
    started = time.perf_counter()
    train, kept = data.splits["train"], np.sort(np.concatenate(list(data.splits.values())))
    title = f"{data.name}, {config.backbone}, {config.image_size} px"
    part = FrozenPart(classifier.model, _unique(cuts), store, config.precision, title)
    count, saved, views = len(kept) + (config.views - 1) * len(train), 0.0, []
    with progress_bar("features", count) as advance:
        for number in range(config.views):
            arrays, seconds = _load_or_compute(part, number, train if number else kept, config, data, advance)
            views.append(arrays)
            saved += seconds
    how = f"{saved:.1f} seconds saved by the cache"
    if not saved:
        how = f"once, {count / (time.perf_counter() - started):,.0f} per second"
    text = f"{count:,} pictures in {counted(config.views, 'view', 'views')} through the frozen layers, {how}"
    if "fine_tune" in cuts:
        text += f"; fine-tuning computes the {cuts['fine_tune'].share_after:.0%} behind them"
    show_stage("features", text)

    inputs, places = {}, [cut.layer for cut in _unique(cuts)]
    for phase, cut in cuts.items():
        plain, *varied = [arrays[places.index(cut.layer)] for arrays in views]
        inputs[phase] = PhaseInputs(
            keras.Model(cut.tensor, classifier.model.output),
            [View(plain, np.searchsorted(kept, train)), *(View(array, np.arange(len(train))) for array in varied)],
            {split: View(plain, np.searchsorted(kept, data.splits[split])) for split in JUDGED},
            augment=False,
        )
    return inputs


def _load_or_compute(
    part: FrozenPart,
    number: int,
    positions: np.ndarray,
    config: TrainConfig,
    data: ImageData,
    on_progress: Callable[[int], None],
) -> tuple[list[np.ndarray], float]:
    """What crosses each cut in one view, and the seconds that the store saved. View 0 is the pictures as they are.

    The others may be rounded: that is far below what augmentation changes. The plain one is judged by and stays exact.
    """
    draws = augmentation_draws(config.seed, number, len(positions)) if number else None
    varied = {"seed": config.seed, "view": number, **AUGMENTATION} if number else None
    description = {**data.describe(positions), "augmentation": varied}
    view = View(data.pixels, positions)
    return part.load_or_compute(view, draws, description, half=number > 0, on_progress=on_progress)


def _unique(cuts: dict[Phase, Cut]) -> list[Cut]:
    return list({cut.layer: cut for cut in cuts.values()}.values())
