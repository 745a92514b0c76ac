"""Classification in three forms: one of two classes, one of several, or any number of labels."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from app.custom_parts import find_custom
from tasks.answers import Answers, label_texts
from tasks.base import BaseTask

if TYPE_CHECKING:
    import tensorflow as tf

TEMPERATURES = (0.05, 20.0)
"""Range of temperatures."""
TEMPERATURE_SPREAD = 0.5
"""Standard deviation of the prior on the logarithm of the temperature."""


@dataclasses.dataclass(frozen=True)
class Classification(BaseTask):
    """A task whose answers are classes.

    Outputs and targets are float32 (n, num_outputs): probabilities, and 0 or 1.
    """

    name: str
    """Name in `model.json`."""
    activation: str
    """Activation of the head's outputs."""
    loss: str | Callable[..., Any]
    """Loss, or Keras' name of it. Training minimises it, and keeps the epoch with the lowest loss on val."""
    sections: tuple[str, ...]
    """Sections of the report about the measured split, in order."""

    def num_outputs(self, num_classes: int) -> int:
        """Returns the number of outputs: one per class, but a single one for two classes."""
        return 1 if self.two_classes else num_classes

    def gives(self, shapes: Sequence[tuple[int | None, ...]], num_classes: int) -> bool:
        """Returns whether a model with outputs of these shapes fits the task."""
        return shapes == [(None, self.num_outputs(num_classes))]

    def with_loss(self, name: str) -> Self:
        """Returns the task with the loss that the setting `loss` names."""
        return dataclasses.replace(self, loss=find_custom("loss", name) or self.loss)

    def encode(self, labels: Sequence[Sequence[str]], class_names: Sequence[str]) -> np.ndarray:
        """Turns the class names of each example into targets, in the order of `class_names`."""
        position = {name: index for index, name in enumerate(class_names)}
        targets = np.zeros((len(labels), len(class_names)), np.float32)
        for row, names in enumerate(labels):
            targets[row, [position[name] for name in names]] = 1
        return targets[:, 1:] if self.two_classes else targets

    def balanced_weights(self, targets: np.ndarray) -> np.ndarray:
        """Computes weights that make every class count equally: n / (number of classes x examples of the class).

        Returns:
            float32 (n,), of mean 1 where each example has one label. With several labels, an example has the mean
            weight of its labels; without any, 1.
        """
        membership = self.probabilities(targets)
        weight_of_class = len(targets) / (membership.shape[1] * np.maximum(membership.sum(0), 1))
        labels = membership.sum(1)
        return np.where(labels > 0, membership @ weight_of_class / np.maximum(labels, 1), 1).astype(np.float32)

    def losses(self, targets: "tf.Tensor", outputs: "tf.Tensor") -> "tf.Tensor":
        """Computes the loss of each example: float32 (..., n), from tensors (..., n, num_outputs)."""
        import keras

        return keras.losses.get(self.loss)(targets, outputs)

    def is_right(self, targets: "tf.Tensor", outputs: "tf.Tensor") -> "tf.Tensor":
        """Computes whether each example is right in all its labels: 0 or 1 (..., n), from tensors like `losses`."""
        import keras
        import tensorflow as tf

        if self.activation == "softmax":
            return keras.metrics.categorical_accuracy(targets, outputs)
        if self.two_classes:
            return keras.metrics.binary_accuracy(targets, outputs)[..., 0]
        return tf.cast(tf.reduce_all((outputs >= 0.5) == (targets >= 0.5), axis=-1), tf.float32)

    def probabilities(self, outputs: np.ndarray) -> np.ndarray:
        """Returns one probability per class (n, num_classes); for targets, 0 or 1."""
        return np.hstack([1 - outputs, outputs]) if self.two_classes else outputs

    def exported(self, outputs: np.ndarray) -> np.ndarray:
        """Turns outputs of a model into the form of an export."""
        return self.probabilities(outputs)

    def texts(self, answers: np.ndarray, class_names: Sequence[str]) -> list[str]:
        """Returns each answer of an export as text, for comparisons."""
        return label_texts(self.predicted(answers), class_names)

    def differences(self, answers: np.ndarray, reference: np.ndarray) -> np.ndarray:
        """Returns the largest difference of a probability in each answer, (n,)."""
        return np.abs(answers - reference).max(axis=1, initial=0.0)

    def predicted(self, probabilities: np.ndarray) -> np.ndarray:
        """Returns the predicted classes, bool (n, num_classes): by the thresholds, if set; else the likeliest class, or
        in a multi-label task all classes of at least 0.5."""
        if self.thresholds is not None:
            found = probabilities[:, -len(self.thresholds) :] >= np.array(self.thresholds, probabilities.dtype)
            return np.hstack([~found, found]) if self.two_classes else found
        if self.multi_label:
            return probabilities >= 0.5
        return np.arange(probabilities.shape[1]) == probabilities.argmax(axis=1)[:, None]

    def truth(self, targets: np.ndarray) -> np.ndarray:
        """Returns the true classes, bool (n, num_classes)."""
        return self.probabilities(targets) > 0.5

    def answers(self, targets: np.ndarray, outputs: np.ndarray) -> Answers:
        """Pairs the answers with the truth."""
        probabilities = self.probabilities(outputs.astype(np.float64))
        return Answers(self.truth(targets), self.predicted(probabilities), probabilities, self.multi_label)

    def measure(
        self,
        targets: np.ndarray,
        outputs: np.ndarray,
        class_names: Sequence[str],
        groups: np.ndarray | None = None,
    ) -> dict[str, Any] | None:
        """Measures outputs against targets; see `tasks.metrics.measure`."""
        from tasks.metrics import measure  # takes half a second to import

        return measure(self.answers(targets, outputs), class_names, groups)

    def fit_temperature(
        self, outputs: np.ndarray, targets: np.ndarray, sample_weights: np.ndarray | None = None
    ) -> float:
        """Finds the temperature that makes unseen examples likeliest: temperature scaling (Guo et al., 2017).

        If a few examples are all right, unlimited confidence would fit best. So a normal prior on its logarithm keeps
        the temperature near 1; the prior matters less with more examples.

        Args:
            outputs: probabilities.
            targets: 0 or 1.
            sample_weights: float32 (n,), of mean 1; None counts every example once.

        Returns:
            Above 1 for a model that is too confident; 1 for no examples.
        """
        from scipy.optimize import minimize_scalar

        if len(outputs) == 0:
            return 1.0
        right = targets > 0.5
        weights = np.ones(len(targets)) if sample_weights is None else sample_weights

        def loss(exponent: float) -> float:
            scaled = np.clip(self.apply_temperature(outputs, np.exp(exponent)), 1e-15, 1 - 1e-15)
            softmax = self.activation == "softmax"
            given = scaled[right][:, None] if softmax else np.where(right, scaled, 1 - scaled)
            return float(-(np.log(given) * weights[:, None]).sum() + 0.5 * (exponent / TEMPERATURE_SPREAD) ** 2)

        return float(np.exp(minimize_scalar(loss, bounds=tuple(np.log(TEMPERATURES)), method="bounded").x))

    def apply_temperature(self, outputs: np.ndarray, temperature: float) -> np.ndarray:
        """Divides the logits of probabilities by a temperature; the inverse temperature undoes it.

        Only confidence changes, never an answer.

        Returns:
            float64, same shape.
        """
        tiny = np.finfo(np.float32).tiny
        outputs = outputs.astype(np.float64)
        if self.activation == "softmax":
            powers = np.log(np.maximum(outputs, tiny)) / temperature
            powers = np.exp(powers - powers.max(axis=1, keepdims=True))
            return powers / powers.sum(axis=1, keepdims=True)
        logits = np.log(np.maximum(outputs, tiny)) - np.log(np.maximum(1 - outputs, np.finfo(np.float32).eps / 2))
        return 1 / (1 + np.exp(-logits / temperature))


SECTIONS = ("confusion", "classes", "groups", "thresholds", "certainty", "mistakes")
BINARY = Classification("binary", "sigmoid", "binary_crossentropy", SECTIONS, two_classes=True)
MULTICLASS = Classification("multiclass", "softmax", "categorical_crossentropy", SECTIONS)
MULTILABEL = Classification("multilabel", "sigmoid", "binary_crossentropy", SECTIONS[1:], multi_label=True)
