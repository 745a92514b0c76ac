"""Makes some layers of the backbone trainable, and freezes the others.

BatchNorm layers always stay frozen: their statistics are from a million pictures, and a few batches of a small data set
make them worse (Keras' guide to transfer learning). A frozen BatchNorm also computes in inference mode, even in `fit`.
Only in a backbone without pretrained weights, which has no statistics to protect, do they learn.
"""

from collections.abc import Sequence

import keras

from app.config import TrainableLayers

FROM_SCRATCH_MOMENTUM = 0.9
"""Momentum of BatchNorm statistics in training from random weights. The networks' own 0.99 or 0.999 needs many
thousands of steps: after 640 steps on 2,000 animals, EfficientNet-Lite0 was right for 85 % of the training pictures but
11 % of the val pictures, because the statistics were still close to the initial ones."""


def set_trainable(
    backbone_layers: Sequence[keras.Layer],
    trainable_layers: TrainableLayers,
    batch_norm_learns: bool = False,
) -> None:
    """Makes the last layers trainable and freezes the others. A compiled model must be compiled again.

    Args:
        backbone_layers: layers from input to output; nested layers follow the layer that contains them.
        trainable_layers: number of last layers to train, or 'all'.
        batch_norm_learns: True only for a backbone without pretrained weights.
    """
    count = len(backbone_layers) if trainable_layers == "all" else min(trainable_layers, len(backbone_layers))
    first = len(backbone_layers) - count
    for index, layer in enumerate(backbone_layers):
        for part in layer._flatten_layers():  # the layer itself comes first, and sets all nested ones
            is_batch_norm = isinstance(part, keras.layers.BatchNormalization)
            part.trainable = index >= first and (batch_norm_learns or not is_batch_norm)
            if is_batch_norm and batch_norm_learns:
                part.momentum = FROM_SCRATCH_MOMENTUM
