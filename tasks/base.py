"""Base class of the tasks: the properties that other code reads, and thresholds by class."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Self

from app.config import Effort


@dataclasses.dataclass(frozen=True, kw_only=True)
class BaseTask:
    """Properties of every task; the default values are those of classification."""

    two_classes: bool = False
    """True if the only output is the probability of the second of two classes."""
    multi_label: bool = False
    """True if an example may have any number of classes."""
    thresholds: tuple[float, ...] | None = None
    """Threshold of each output, exact in float32; None for the likelier answer. See `tasks.decision`."""

    has_boxes: ClassVar[bool] = False
    """True if answers are boxes in an example, not classes of the whole example."""
    least_classes: ClassVar[int] = 2
    """Fewest classes that it can have."""
    solves_linear_head: ClassVar[bool] = True
    """True if a linear head is solved, and several heads are trained as one computation."""
    is_calibrated: ClassVar[bool] = True
    """True if val sets the temperature of its probabilities."""
    mirrored_efforts: ClassVar[tuple[Effort, ...]] = ("best",)
    """Efforts at which a finished model also looks at mirror images."""
    choices: ClassVar[Mapping[str, Any]] = {}
    """Defaults that replace those of the recipe."""
    space: ClassVar[Mapping[str, tuple[Any, ...]]] = {}
    """Ranges of a search that replace those of `tuning.space`."""
    figures: ClassVar[tuple[str, ...]] = ("n", "accuracy", "macro_f1", "log_loss", "ece")
    """Figures that every measured split has."""
    leading_figure: ClassVar[str] = "accuracy"
    """Metric by which models are compared."""
    measure_of_learning: ClassVar[str] = "accuracy"
    """Name of the measure that `is_right` computes."""
    outputs: ClassVar[tuple[str, ...]] = ("probabilities",)
    """Names of the outputs of an exported model."""

    def allows(self, num_classes: int) -> bool:
        """Returns whether the task can have this number of classes."""
        return num_classes == 2 if self.two_classes else num_classes >= self.least_classes

    def thresholds_of(self, class_names: Sequence[str]) -> dict[str, float]:
        """Returns the thresholds by class (of two classes, only the positive one); empty without thresholds."""
        return dict(zip(class_names[-len(self.thresholds) :], self.thresholds, strict=True)) if self.thresholds else {}

    def with_thresholds(self, class_names: Sequence[str], thresholds: Mapping[str, Any]) -> Self:
        """Returns the task with thresholds from `thresholds_of`.

        Raises:
            ValueError: the thresholds do not fit the classes, or are not numbers.
        """
        if not thresholds:
            return self
        names = class_names[1:] if self.two_classes else class_names
        values = [thresholds.get(name) for name in names]
        known = (self.two_classes or self.multi_label) and thresholds.keys() == set(names)
        numbers = [float(value) for value in values if isinstance(value, int | float) and 0 <= value < 2]
        if not known or len(numbers) < len(names):
            raise ValueError("thresholds are no numbers for its classes")
        return dataclasses.replace(self, thresholds=tuple(numbers))
