"""Chooses the settings that the user leaves open, by the backbone and the examples, and gives the reason for each."""

import math
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np

from app.config import HeadSolver, ModelConfig, Optimizer, TrainConfig, TrainingConfig
from app.errors import UsageError
from app.fields import flag_of
from app.terminal import show_stage
from data.kinds import Kind, find_kind, kinds
from models.backbones import Backbone
from training.fine_tuning import FineTuning, check_trainable_layers, fine_tuning_of, layers_to_fine_tune
from training.plan import EPOCHS_TO_FIT, Phase, Plan

if TYPE_CHECKING:
    from features.cuts import Cut  # which imports Keras

BATCH_SIZE = 32
"""Examples per step, of all devices together. The learning rates below are for that many; for other numbers they change
as the noise of the gradients does: in proportion for sgd (Goyal et al., 2017), by the square root for optimizers that
divide by the size of the gradient (Malladi et al., NeurIPS 2022). On the animals, a head trained with 128 and with 512
examples per step ends at a validation loss of 0.072 and 0.071 by the square root, as with 32; at an unchanged rate, at
0.071, in twice the epochs, and 0.085; in proportion, at 0.077 and 0.092."""
HEAD_STEPS = 4_500
HEAD_EPOCHS = (8, 60)
"""Steps of training a head, within these fewest and most epochs. The animals take that long to converge; CIFAR-10 has
its lowest validation loss after a third of it, and stops."""
HEAD_LEARNING_RATE = 1e-3
"""Learning rate for features of standard deviation 1. It is higher in proportion for a smaller deviation, which needs
larger weights for the same effect: Adam moves every weight by about the learning rate. 1e-3 is right for CIFAR-10 on
MobileNet (deviation 1.06): 3e-3, or more steps, overfits, and ends an eighth above its validation loss. On the animals
with EfficientNet-Lite0 (0.5), 1e-3 ends a third above the validation loss of 3e-3."""
LEAST_SPREAD = 0.1
"""Smallest deviation that still raises the rate: if hardly any signal passes a network, a rate of 1 does not help."""
ENOUGH = 0.97
"""Accuracy on val from which the effort 'standard' leaves the whole network as it is: the animals have 98 % after the
last layers, and each epoch of the whole network takes as long as all training before."""
FINE_TUNE_LEAST_EXAMPLES = 1_000
"""Fewest training examples for fine-tuning: with fewer, only the head learns, unless layers to train are asked for.

On 245 photos and on 250 and 500 examples of CIFAR-10, rates from 1e-5 to 3e-4 lowered the head's validation loss by
less than 4 %, or not at all. 37 photos of val choose by chance: the epoch of the whole network that was best on them
had 94.8 % of the test photos right, and the solved head 96.1 %."""
FINE_TUNE_LEARNING_RATE = 1e-4
FINE_TUNE_STEPS = 250
"""Fewest steps for this learning rate, which is lower in proportion for fewer: Adam moves every weight by about the
learning rate in each step, whatever the gradient, and a small data set ends before the damage of the first steps is
repaired. 3e-4 ends at the same accuracy, but first loses ten points, which a run that stops early never regains."""
VIEWS = 2
"""A second view lowers the head's validation loss by up to 6 % (animals, CIFAR-10), a third and a fourth by 1 or 2 %
more, at one more pass each. A solved head alone has one: a second lowers its validation loss by 1 % (CIFAR-10)."""
LEAST_SHARE_BEFORE = 0.25
"""Share of the network's work that must lie before a cut: with less, training behind it saves too little to be worth
the disk, and the network runs as a whole."""

FROM_SCRATCH_EPOCHS = 30
FROM_SCRATCH_LEARNING_RATE = 1e-3
"""Without pretrained weights there is nothing to keep: no head phase on random features, and Adam's usual rate."""


def with_backbone_of(config: TrainConfig, kind: Kind) -> TrainConfig:
    """Replaces the general default backbone by that of the kind of input.

    Raises:
        UsageError: the user gave the size of inputs of another kind.
    """
    for other in kinds():
        if other.size_setting != kind.size_setting and config.flat()[other.size_setting] is not None:
            raise UsageError(f"{flag_of(other.size_setting)} is for {other.nouns}; the data are {kind.nouns}.")
    return config.replace(backbone=kind.backbone) if config.model.backbone == ModelConfig().backbone else config


def choose_size(config: TrainConfig, backbone: Backbone, useful_size: int | None) -> TrainConfig:
    """Sets the size of inputs, the backbone's own or the largest useful one, and also `pooling` and `split_seed`.

    Args:
        config: settings from the user; a given size stays.
        backbone: the backbone.
        useful_size: largest useful size, if known; see `Kind`.
    """
    setting = find_kind(backbone.kind).size_setting
    size = config.flat()[setting]
    if size is None:
        size = backbone.image_size
        if useful_size is not None and not (backbone.is_own and backbone.kind == "image"):
            step = backbone.step
            size = min(size, max(-(-useful_size // step) * step, backbone.smallest_size))
    pooling = config.model.pooling or backbone.family.pooling[0]
    return config.replace(**{setting: size}, pooling=pooling, split_seed=config.seed_of_split)


def make_plan(
    config: TrainConfig,
    cuts: "Sequence[Cut]",
    num_train: int,
    varies: bool = True,
    is_linear: bool = True,
    of_task: Mapping[str, Any] = MappingProxyType({}),
    kind: str = "image",
) -> Plan:
    """Decides open settings: layers to fine-tune, views, epochs, learning rate of fine-tuning and batch size.

    Args:
        config: settings from the user.
        cuts: cuts of the backbone.
        num_train: number of training examples.
        varies: whether examples of this kind can be varied; if not, there is one view.
        is_linear: whether only the output layer of the head has weights, so that the head can be solved.
        of_task: choices of the task that replace those of the recipe for a pretrained network.
        kind: name of the kind of input.

    Raises:
        UsageError: the backbone has fewer layers than requested, settings contradict each other, or nothing would be
        trained.
    """
    training, recipe = config.training, fine_tuning_of(kind)
    check_trainable_layers(config.model.trainable_layers, cuts, config.model.backbone)
    check_trainable_layers(training.deeper_layers, cuts, config.model.backbone, "--deeper-layers")
    batch_size = training.batch_size or of_task.get("batch_size", BATCH_SIZE)
    solver = _choose_head_solver(config, is_linear)
    if config.model.weights == "none":
        choices = _choose_from_scratch(training, batch_size)
    else:
        choices = _choose_pretrained(config, cuts, num_train, batch_size, solver, recipe)
    deeper_epochs = recipe.deeper_epochs[training.effort]
    goes_deeper = choices["deeper_layers"] or training.deeper_layers
    choices |= {"batch_size": batch_size, "deeper_epochs": deeper_epochs if goes_deeper else 0}
    if not recipe.varies and training.vary == "mild":
        choices["views"] = 1
    if config.model.weights != "none":
        choices |= of_task
        if of_task and config.model.trainable_layers is None:
            choices["fine_tune_epochs"] = 0
    if training.max_minutes is not None:
        choices |= {name: None for name in EPOCHS_TO_FIT.values() if choices[name]}
    given = config.flat()
    decided = {name: value for name, value in choices.items() if given[name] is None}
    if not varies or "views" not in (training.augment, training.fine_tune_augment):
        decided["views"] = 1
    plan = Plan.of(config.replace(**decided))
    if not plan.has_head_phase and not plan.fine_tuning:
        raise UsageError(
            "Nothing would learn: neither the head has epochs, nor fine-tuning epochs and layers. Raise --head-epochs, "
            "or --fine-tune-epochs and --trainable-layers."
        )
    return plan if plan.fine_tuning or given["fine_tune_learning_rate"] else plan.replace(fine_tune_learning_rate=None)


def _choose_from_scratch(training: TrainingConfig, batch_size: int) -> dict[str, Any]:
    """Decides how the whole of a network without pretrained weights learns."""
    return {
        "views": VIEWS,
        "trainable_layers": "all",
        "head_solver": "optimizer",
        "head_epochs": 0,
        "fine_tune_epochs": FROM_SCRATCH_EPOCHS,
        "deeper_layers": 0,
        "fine_tune_learning_rate": FROM_SCRATCH_LEARNING_RATE * batch_factor(training.optimizer, batch_size),
    }


def _choose_pretrained(
    config: TrainConfig,
    cuts: "Sequence[Cut]",
    num_train: int,
    batch_size: int,
    solver: HeadSolver,
    recipe: FineTuning,
) -> dict[str, Any]:
    """Decides how the head of a pretrained network learns, and how much of the network after it."""
    model, training = config.model, config.training
    trainable_layers = layers_to_fine_tune(cuts, recipe.share)
    if trainable_layers == 0 and model.trainable_layers is None:
        show_stage(
            "warning",
            f"{model.backbone} cannot be cut before its last blocks: only the head learns. To fine-tune the whole "
            f"network: --trainable-layers all",
        )
    steps_per_epoch = -(-num_train // batch_size)
    enough = config.data.folds is None and not _has_too_few(config, num_train)
    fine_tune_epochs = recipe.epochs if enough and training.effort != "quick" else 0
    left_open = model.trainable_layers is None and training.fine_tune_epochs is None
    goes_deeper = fine_tune_epochs and left_open and training.effort in recipe.goes_deeper
    epochs = fine_tune_epochs if training.fine_tune_epochs is None else training.fine_tune_epochs
    steps = max(1, epochs * steps_per_epoch)
    rate = FINE_TUNE_LEARNING_RATE * batch_factor(training.optimizer, batch_size) * min(1.0, steps / FINE_TUNE_STEPS)
    fine_tunes = bool(epochs or training.deeper_layers)
    has_time = training.max_minutes is None  # else better spent on varying examples in each epoch than on a view
    sees_more = solver == "optimizer" or training.vary != "mild" or (fine_tunes and has_time)
    return {
        "views": VIEWS if sees_more else 1,
        "trainable_layers": trainable_layers,
        "head_solver": solver,
        "head_epochs": 0 if solver == "lbfgs" else int(np.clip(round(HEAD_STEPS / steps_per_epoch), *HEAD_EPOCHS)),
        "fine_tune_epochs": fine_tune_epochs,
        "deeper_layers": "all" if goes_deeper else 0,
        "fine_tune_learning_rate": rate,
    }


def _choose_head_solver(config: TrainConfig, is_linear: bool) -> HeadSolver:
    """Decides an open `head_solver`: lbfgs, unless a setting asks for training or rules lbfgs out."""
    training = config.training
    reasons = {
        "a head with layers of its own (--head-units, --head or --pooling)": not is_linear,
        "--augment fresh": training.augment == "fresh",
        "--head-epochs": bool(training.head_epochs),
        "--learning-rate": training.learning_rate is not None,
    }
    against = [reason for reason, applies in reasons.items() if applies]
    if config.data.folds is not None:
        others = {
            "--weights none": config.model.weights == "none",
            "--head-solver optimizer": training.head_solver == "optimizer",
            # A run that is resumed has the recipe's choices: a solved head of 0 epochs, and 0 epochs of fine-tuning.
            "--head-epochs": training.head_epochs == 0 and training.head_solver is None,
            "--trainable-layers": config.model.trainable_layers and training.fine_tune_epochs != 0,
            "--fine-tune-epochs": training.fine_tune_epochs,
            "--deeper-layers": training.deeper_layers,
        }
        against += [reason for reason, applies in others.items() if applies]
        if against:
            raise UsageError(f"--folds is for a head that is solved, and goes without {against[0]}. Leave one out.")
    if training.head_solver == "lbfgs" and against:
        raise UsageError(f"--head-solver lbfgs does not go with {against[0]}. Leave one of them out.")
    return training.head_solver or ("optimizer" if against or training.head_epochs == 0 else "lbfgs")


def is_too_small(config: TrainConfig, num_train: int) -> bool:
    """Returns True if a run fine-tunes nothing because it has too few training examples.

    Args:
        config: settings from the user.
        num_train: number of training examples.
    """
    training = config.training
    left_open = training.fine_tune_epochs is None and config.model.weights != "none"
    is_asked = left_open and config.data.folds is None and training.effort != "quick"
    return is_asked and _has_too_few(config, num_train)


def choose_fine_tune_augment(plan: Plan, has_cut: bool) -> Plan:
    """Decides `fine_tune_augment`: equals `augment`, but not views if there are too few frozen layers for them.

    Args:
        plan: plan so far; given values stay.
        has_cut: whether fine-tuning starts from a cut; if not, it runs the whole network.

    Raises:
        UsageError: the user asked for views, but the whole network runs.
    """
    given = plan.config.training.fine_tune_augment
    chosen = given or plan.augment
    if chosen == "views" and not has_cut and plan.fine_tunes:
        if given is not None:
            raise UsageError(
                f"--fine-tune-augment views needs frozen layers before those that learn, and --trainable-layers "
                f"{plan.trainable_layers} leaves too few of them. Choose 'fresh' or 'none'."
            )
        chosen = "fresh" if plan.views > 1 else "none"
    return plan.replace(fine_tune_augment=chosen)


def most_epochs(plan: Plan, phase: Phase, kind: str, choices: Mapping[str, Any]) -> int:
    """Returns the most epochs of a phase whose number `max_minutes` decides; the defaults of a task, `choices`, win."""
    if plan.config.model.weights == "none":
        return FROM_SCRATCH_EPOCHS
    if phase == "fine_tune" and "fine_tune_epochs" in choices:
        return choices["fine_tune_epochs"]
    recipe = fine_tuning_of(kind)
    return recipe.deeper_epochs["best"] if phase == "deeper" else recipe.epochs


def choose_head_learning_rate(plan: Plan, features: np.ndarray | None) -> Plan:
    """Decides `learning_rate`.

    Args:
        plan: plan so far; a given rate stays.
        features: float32 (n, num_features) of some training examples; None if they are not computed beforehand.
    """
    if math.isnan(plan.learning_rate) and plan.head_solver == "optimizer":
        spread = 1.0 if features is None else float(np.std(features, axis=0).mean())
        factor = batch_factor(plan.config.training.optimizer, plan.batch_size)
        plan = plan.replace(learning_rate=HEAD_LEARNING_RATE * factor / max(spread, LEAST_SPREAD))
    return plan


def batch_factor(optimizer: Optimizer, batch_size: int) -> float:
    """Returns the factor on the learning rates, which were tuned for `BATCH_SIZE` examples per step."""
    ratio = batch_size / BATCH_SIZE
    return ratio if optimizer == "sgd" else ratio**0.5


def _has_too_few(config: TrainConfig, num_train: int) -> bool:
    return num_train < FINE_TUNE_LEAST_EXAMPLES and config.model.trainable_layers is None
