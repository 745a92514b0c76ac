"""Predicts in the same steps in which a run measured itself."""

import functools

import keras
import numpy as np
import tensorflow as tf

from data.batches import Batch
from features.cuts import find_cuts, part_of
from features.forward_pass import FROZEN_RAGGED_ROWS, compute_rows, frozen_function, inputs_of, side_by_side
from models.parts import features_of

MOST_TENSORS = 9
"""Most tensors that cross a cut: those of a feature pyramid, of three strides with three blocks each."""


class Predictor:
    """A model as a function, with its weights as constants.

    An example's probabilities do not depend on the other examples of its batch.
    """

    def __init__(self, model: keras.Model, cut: str | None = None, features: bool = False):
        """Prepares the function; the graph is traced at the first batch.

        Args:
            model: model from inputs to probabilities.
            cut: layer at which the run cut the model in two. Computing in the same two parts gives the results of the
                run to the bit; None computes the model as a whole, which may round in another way.
            features: whether `with_features` will be called.
        """
        self.model = model
        self._cut = next((each for each in find_cuts(model, MOST_TENSORS) if each.layer == cut), None) if cut else None
        vectors = features_of(model) if features else None
        outputs = [*model.outputs, *([] if vectors is None else [vectors])]
        parts = [model if vectors is None else part_of(model.inputs, outputs)]
        self._vectors_cross = self._cut is not None and any(each is vectors for each in self._cut.tensors)
        if self._vectors_cross:
            outputs = model.outputs  # Keras allows no tensor at both ends of a part
        if self._cut is not None:
            parts = [part_of(model.inputs, self._cut.tensors), part_of(self._cut.inputs, outputs)]
        self._functions = [frozen_function(part) for part in parts]

    def __call__(self, batch: Batch | np.ndarray) -> np.ndarray:
        """Computes probabilities.

        Args:
            batch: batch of each input; pictures are uint8 or float32 (n, image_size, image_size, 3) in [0, 255].

        Returns:
            float32 (n, num_outputs).
        """
        outputs = self._compute(batch)[: len(self.model.outputs)]  # without features
        return side_by_side([output.numpy() for output in outputs])

    def with_features(self, batch: Batch | np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Computes probabilities as a call does, and the features for the head, float32 (n, num_features)."""
        outputs, features = self._compute(batch)
        return outputs.numpy(), features.numpy()

    def _compute(self, batch: Batch | np.ndarray) -> list[tf.Tensor]:
        inputs = [tf.cast(each, of.dtype) for each, of in zip(inputs_of(batch), self.model.inputs, strict=True)]
        if self._cut is not None:
            mask = inputs[-1:] if self._cut.mask is not None else []
            frozen = self._functions[0]
            if inputs[-1].dtype == tf.bool:
                frozen = functools.partial(compute_rows, frozen, ragged_rows=FROZEN_RAGGED_ROWS)
            inputs = [*frozen(*inputs), *mask]
        outputs = compute_rows(self._functions[-1], *inputs)
        return [*outputs, inputs[0]] if self._vectors_cross else outputs
