"""Predicts in the very steps in which a run measured itself."""

import keras
import numpy as np
import tensorflow as tf

from data.batches import Batch
from features.cuts import find_cuts, part_of
from features.forward_pass import compute_rows, frozen_function, inputs_of


class Predictor:
    """A model as a function, its weights folded in as constants.

    An example's probabilities do not depend on the other examples of its batch.
    """

    def __init__(self, model: keras.Model, cut: str | None = None):
        """Folds the weights in; the graph is made at the first batch.

        Args:
            model: from inputs to probabilities.
            cut: layer at which a run cut it in two. Computed in two parts as well, the results are those of the run to
                the bit; None computes it as a whole, which may round otherwise.
        """
        self.model = model
        cuts = {each.layer: each for each in find_cuts(model)} if cut else {}
        self._cut = cuts.get(cut) if cut else None
        parts = [model]
        if self._cut is not None:
            parts = [part_of(model.inputs, self._cut.tensors), part_of(self._cut.inputs, model.outputs)]
        self._functions = [frozen_function(part) for part in parts]

    def __call__(self, batch: Batch | np.ndarray) -> np.ndarray:
        """Computes probabilities.

        Args:
            batch: of each input; pictures are uint8 or float32 (n, image_size, image_size, 3) in [0, 255].

        Returns:
            float32 (n, num_outputs).
        """
        inputs = [tf.cast(each, of.dtype) for each, of in zip(inputs_of(batch), self.model.inputs, strict=True)]
        if self._cut is not None:
            mask = inputs[-1:] if self._cut.mask is not None else []
            inputs = [*self._functions[0](*inputs), *mask]
        (values,) = compute_rows(self._functions[-1], *inputs)
        return values.numpy()
