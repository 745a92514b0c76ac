"""Predicts in the very steps in which a run measured itself."""

import keras
import numpy as np
import tensorflow as tf

from features.cuts import find_cuts, part_of
from features.forward_pass import compute_rows, frozen_function


class Predictor:
    """A model as a function, its weights folded in as constants.

    A picture's probabilities do not depend on the other pictures of its batch.
    """

    def __init__(self, model: keras.Model, cut: str | None = None):
        """Folds the weights in; the graph is made at the first batch.

        Args:
            model: from pictures to probabilities.
            cut: layer at which a run cut it in two. Computed in two parts as well, the results are those of the run to
                the bit; None computes it as a whole, which may round otherwise.
        """
        self.model = model
        cuts = {each.layer: each for each in find_cuts(model)} if cut else {}
        parts = [model]
        if cut in cuts:
            tensors = cuts[cut].tensors
            parts = [part_of(model.inputs, tensors), part_of(tensors, model.outputs)]
        self._functions = [frozen_function(part) for part in parts]

    def __call__(self, pictures: np.ndarray | tf.Tensor) -> np.ndarray:
        """Computes probabilities.

        Args:
            pictures: uint8 or float32 (n, image_size, image_size, 3) in [0, 255].

        Returns:
            float32 (n, num_outputs).
        """
        values = tf.cast(pictures, tf.float32)
        *first, last = self._functions
        for compute in first:
            (values,) = compute(values)
        (values,) = compute_rows(last, values)
        return values.numpy()
