"""The phases of a run, and the decisions about them."""

import math
from collections.abc import Sequence
from typing import Any, Literal, NamedTuple, Self

from app.config import Augment, Effort, HeadSolver, TrainableLayers, TrainConfig
from app.fields import flag_of

Phase = Literal["head", "fine_tune", "deeper"]
EPOCHS_TO_FIT = {"fine_tune": "fine_tune_epochs", "deeper": "deeper_epochs"}
"""Setting of the epochs of a phase; with `max_minutes`, it stays open until the phase begins."""


def title(phase: Phase) -> str:
    """Returns the shown name of a phase."""
    return phase.replace("_", "-")


OF_STEPS = ("optimizer", "weight_decay", "layer_decay", "schedule", "patience", "dropout")
"""Settings that only steps of training use."""


class Plan(NamedTuple):
    """Settings of a run after all decisions; those that the recipe makes are also fields, whose types exclude None."""

    config: TrainConfig
    """Settings with every decision filled in."""
    trainable_layers: TrainableLayers
    head_solver: HeadSolver
    head_epochs: int
    fine_tune_epochs: float
    """Maximum epochs, like `deeper_epochs`; with `max_minutes`, NaN until `training.budget.in_time` decides."""
    deeper_layers: TrainableLayers
    deeper_epochs: float
    fine_tune_learning_rate: float
    """NaN if nothing is fine-tuned."""
    batch_size: int
    views: int
    augment: Augment
    """Augmentation of the head phase."""
    fine_tune_augment: Augment
    """Augmentation of the fine-tuning phase; equals `augment` until `choose_fine_tune_augment`."""
    learning_rate: float
    """Learning rate of the head phase; NaN until `choose_head_learning_rate`, because it depends on the features, and
    NaN for a solved head."""

    @classmethod
    def of(cls, config: TrainConfig) -> Self:
        """Makes a plan from settings; of the recipe's choices, learning rates and epochs may still be open."""
        decided = {name: value for name, value in config.flat().items() if name in cls._fields}
        for name in ("learning_rate", "fine_tune_learning_rate", *EPOCHS_TO_FIT.values()):
            decided[name] = math.nan if decided[name] in (None, "find") else decided[name]
        decided["fine_tune_augment"] = decided["fine_tune_augment"] or decided["augment"]
        return cls(config, **decided)

    def replace(self, **values: Any) -> Self:
        """Makes a plan with other settings."""
        return self.of(self.config.replace(**values))

    @property
    def has_head_phase(self) -> bool:
        """True if the head learns before fine-tuning."""
        return self.head_solver == "lbfgs" or self.head_epochs > 0

    @property
    def unused(self) -> list[str]:
        """Flags of settings that were given for steps of training, if there are none: the head is solved alone."""
        if self.fine_tuning or self.head_solver != "lbfgs":
            return []
        changed = self.config.changed()
        return [flag_of(name) for name in OF_STEPS if name in changed]

    def mirrors(self, efforts: Sequence[Effort]) -> bool:
        """True if the finished model also looks at mirror images, which the task does at these efforts."""
        training = self.config.training
        return training.effort in efforts and self.augment != "none" and training.vary != "medical"

    @property
    def fine_tunes(self) -> bool:
        """True if there is a fine-tuning phase."""
        return self.fine_tune_epochs != 0 and self.trainable_layers != 0

    @property
    def fine_tuning(self) -> list[tuple[Phase, TrainableLayers, float]]:
        """Phases after the head: names, layers to train and maximum epochs."""
        phases: list[tuple[Phase, TrainableLayers, float]] = [
            ("fine_tune", self.trainable_layers, self.fine_tune_epochs),
            ("deeper", self.deeper_layers, self.deeper_epochs),
        ]
        return [phase for phase in phases if phase[1] != 0 and phase[2] != 0]

    def augment_of(self, phase: Phase) -> Augment:
        """Returns the augmentation of a phase; the deeper phase runs the whole network."""
        if phase == "deeper":
            varied = self.fine_tune_augment == "fresh" or (self.fine_tune_augment == "views" and self.views > 1)
            return "fresh" if varied else "none"
        return self.augment if phase == "head" else self.fine_tune_augment
