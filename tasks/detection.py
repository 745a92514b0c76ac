"""Detection: the boxes of things in a picture, with their classes."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from app.config import Effort
from tasks.base import BaseTask

if TYPE_CHECKING:
    import tensorflow as tf

CHOICES: dict[str, Any] = {
    "batch_size": 8,
    "views": 4,
    "head_epochs": 20,
    "learning_rate": 2e-3,
    "fine_tune_epochs": 10,
    "fine_tune_learning_rate": 5e-4,
    "deeper_layers": 0,
}
"""Defaults for detection, tuned on 233 photos of blood cells. The last layers are fine-tuned only if
`--trainable-layers` asks for it."""
SPACE: dict[str, tuple[Any, ...]] = {
    "learning_rate": (5e-4, 5e-3),
    "head_epochs": (15, 30),
    "fine_tune_learning_rate": (1e-4, 1e-3),
    "fine_tune_epochs": (4, 8),
    "batch_size": (8,),
    "optimizer": ("adam", "adamw"),
    "head_units": (0, 32, 96),
    "dropout": (0.0,),
    "weight_decay": (1e-5, 1e-2),
    "views": (4,),
}
"""Default ranges of a search."""
LEAST_SCORE = 0.05
"""Lowest threshold; boxes below it are noise."""


@dataclasses.dataclass(frozen=True)
class Detection(BaseTask):
    """A task whose answers are boxes.

    Targets are float32 (n, most boxes, 6): x1, y1, x2, y2 as fractions of the network's input, the number of the class
    (-1 for padding), and 1 for an ignored box. The outputs in training are maps, see `tasks.detection_maps`. Answers
    are float32 (n, most answers, 6): corners, probability, number of the class; the likeliest come first, and padding
    has probability 0.
    """

    name: str = "detection"
    sections: tuple[str, ...] = ("box_classes", "box_pictures", "box_curves", "box_mistakes")
    """Sections of the report about the measured split, in order."""
    multi_label: bool = True

    has_boxes = True
    least_classes = 1
    solves_linear_head = False
    is_calibrated = False  # a threshold is chosen on val for each class instead
    mirrored_efforts: ClassVar[tuple[Effort, ...]] = ("standard", "best")
    choices: ClassVar[Mapping[str, Any]] = CHOICES
    space: ClassVar[Mapping[str, tuple[Any, ...]]] = SPACE
    figures: ClassVar[tuple[str, ...]] = ("n", "ap", "ap50")
    leading_figure = "ap50"
    measure_of_learning = "boxes found"
    outputs: ClassVar[tuple[str, ...]] = ("boxes", "scores", "classes")  # see `models.detector.DecodeBoxes`

    def gives(self, shapes: Sequence[tuple[int | None, ...]], num_classes: int) -> bool:
        """Returns whether a model with outputs of these shapes fits the task: boxes, scores and classes."""
        return [len(shape) for shape in shapes] == [3, 2, 2] and shapes[0][2] == 4

    def losses(self, targets: "tf.Tensor", outputs: "tf.Tensor") -> "tf.Tensor":
        """Computes the loss of each example, float32 (n,), from maps."""
        from tasks import detection_maps

        return detection_maps.losses(targets, outputs)

    def is_right(self, targets: "tf.Tensor", outputs: "tf.Tensor") -> "tf.Tensor":
        """Computes the share of each example's boxes that is found, float32 (n,), from maps."""
        from tasks import detection_maps

        return detection_maps.found(targets, outputs)

    def answered(self, outputs: np.ndarray) -> np.ndarray:
        """Marks the boxes that are answers, bool (n, most answers): those that reach the threshold of their class."""
        thresholds = np.array(self.thresholds or (LEAST_SCORE,) * (1 + int(outputs[..., 5].max(initial=0))), np.float32)
        return outputs[..., 4] >= np.maximum(thresholds, LEAST_SCORE)[outputs[..., 5].astype(int)]

    def chosen(self, outputs: np.ndarray) -> list[np.ndarray]:
        """Returns the boxes of each example that are answers, (boxes, 6) each."""
        return [each[is_answer] for each, is_answer in zip(outputs, self.answered(outputs), strict=True)]

    def exported(self, outputs: np.ndarray) -> np.ndarray:
        """Returns outputs unchanged: exports have the same form."""
        return outputs

    def texts(self, answers: np.ndarray, class_names: Sequence[str]) -> list[str]:
        """Returns the number of boxes of each class in each answer as text, for comparisons."""
        classes = np.where(self.answered(answers), answers[..., 5].astype(int), -1)
        counts = (classes[..., None] == np.arange(len(class_names))).sum(axis=1)
        return [" ".join(map(str, row)) for row in counts]

    def differences(self, answers: np.ndarray, reference: np.ndarray) -> np.ndarray:
        """Returns the distance between the boxes of each answer and those of a reference, in any order, (n,).

        Returns:
            Differences of a probability or, as a fraction of the picture, of a corner; at most 1, for a box that has
            no counterpart of its class.
        """
        pairs = zip(answers, reference, strict=True)
        return np.array([max(self._farthest(one, other), self._farthest(other, one)) for one, other in pairs])

    def _farthest(self, boxes: np.ndarray, others: np.ndarray) -> float:
        """Returns the largest distance of an answered box from the nearest other box of its class."""
        found = boxes[self.answered(boxes[None])[0]]
        away = np.abs(found[:, None, :5] - others[None, :, :5]).max(axis=2)
        away = np.where(found[:, None, 5] == others[None, :, 5], away, 1.0)
        return float(away.min(axis=1).max(initial=0.0))


DETECTION = Detection()
