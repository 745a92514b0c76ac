"""Chooses where the network is cut in each phase."""

from collections.abc import Hashable, Mapping
from typing import Any, TypeVar

from app.config import TrainableLayers
from app.errors import UsageError
from app.terminal import show_stage
from features.cuts import Cut, cut_before_trainable, find_cuts, most_tensors_across
from models.classifier import Classifier
from models.freezing import set_trainable
from training.plan import Phase, Plan
from training.recipe import LEAST_SHARE_BEFORE

Use = TypeVar("Use", bound=Hashable)
"""Key of a cut: a phase, or in a search a number of trainable layers."""


def choose_cuts(classifier: Classifier, plan: Plan) -> dict[Phase, Cut]:
    """Chooses where the network is cut in each phase; a phase without a cut runs the whole network.

    Args:
        classifier: its backbone is left frozen.
        plan: plan of the run; while `fine_tune_augment` is open, fine-tuning is cut if possible.
    """
    if plan.fine_tunes:
        check_learns(classifier, plan.trainable_layers, plan.config.model.backbone)
    trainable_layers: dict[Phase, TrainableLayers] = {}
    if plan.has_head_phase and plan.augment != "fresh":
        trainable_layers["head"] = 0
    if plan.fine_tunes and plan.fine_tune_augment != "fresh":
        trainable_layers["fine_tune"] = plan.trainable_layers
    return cuts_at(classifier, trainable_layers)


def check_learns(classifier: Classifier, trainable_layers: TrainableLayers, backbone: str) -> None:
    """Raises a UsageError if the last layers of a backbone have no weights to train.

    Args:
        classifier: all of its backbone is frozen afterwards.
        trainable_layers: number of the backbone's last layers to train.
        backbone: name of the backbone.
    """
    layers = classifier.backbone.layers
    set_trainable(layers, "all")
    learning = [bool(layer.trainable_variables) for layer in layers]
    set_trainable(layers, 0)
    asked = len(layers) if trainable_layers == "all" else trainable_layers
    if asked and not any(learning[-asked:]):
        least = 1 + learning[::-1].index(True) if any(learning) else None
        choices = f"at least {least}, 'all' or 0" if least else "0"
        raise UsageError(
            f"--trainable-layers must be {choices} for {backbone}, as its last layers have nothing that learns; "
            f"received {trainable_layers}."
        )


def cuts_at(classifier: Classifier, trainable_layers: Mapping[Use, TrainableLayers]) -> dict[Use, Cut]:
    """Returns, for each key, the cut before its trainable layers, if it saves enough.

    Args:
        classifier: all of its backbone is frozen afterwards.
        trainable_layers: number of the backbone's last layers to train.
    """
    cuts, chosen = find_cuts(classifier.model, most_tensors_across(classifier.backbone)), {}
    for use, count in trainable_layers.items():
        set_trainable(classifier.backbone.layers, count)
        cut = cut_before_trainable(cuts, classifier.model)
        if count == 0 or 1 - cut.share_after >= LEAST_SHARE_BEFORE:
            chosen[use] = cut
    set_trainable(classifier.backbone.layers, 0)
    return chosen


def unique_cuts(cuts: Mapping[Any, Cut]) -> list[Cut]:
    """Returns the distinct cuts."""
    return list({cut.layer: cut for cut in cuts.values()}.values())


def show_whole_network(trainable_layers: TrainableLayers) -> None:
    """Warns that fine-tuning varies examples in every epoch, although the user asked for views."""
    show_stage(
        "augment",
        f"fine-tuning of {trainable_layers} layers runs the whole network: examples are varied anew in every epoch "
        f"(--fine-tune-augment fresh), in place of views",
    )
