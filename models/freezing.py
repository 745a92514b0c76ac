"""Lets some layers of the backbone learn, and freezes the others.

BatchNorm layers never do: their statistics were gathered over a million pictures, and a few batches of a small data set
make them worse (Keras' guide to transfer learning). A frozen BatchNorm also computes in inference mode, whatever `fit`
asks for. Only a backbone without pretrained weights has no statistics to protect, and there they learn.
"""

from collections.abc import Sequence

import keras

from app.config import TrainableLayers

FROM_SCRATCH_MOMENTUM = 0.9
"""Momentum of the statistics that BatchNorm layers gather from random weights on. The networks' own 0.99 or 0.999 is
for many thousands of steps: on 2,000 animals, EfficientNet-Lite0 had 85 % of the training pictures right after 640
steps, and 11 % of the val pictures, which were computed with statistics that were still those of the start."""


def set_trainable(
    backbone_layers: Sequence[keras.Layer],
    trainable_layers: TrainableLayers,
    batch_norm_learns: bool = False,
) -> None:
    """Lets the last layers learn and freezes the others. A compiled model must be compiled again.

    Args:
        backbone_layers: from input to output; each may have layers within it, which learn if it does.
        trainable_layers: how many of the last layers learn.
        batch_norm_learns: True only for a backbone without pretrained weights.
    """
    count = len(backbone_layers) if trainable_layers == "all" else min(trainable_layers, len(backbone_layers))
    first = len(backbone_layers) - count
    for index, layer in enumerate(backbone_layers):
        for part in layer._flatten_layers():  # itself first, which sets all within it
            is_batch_norm = isinstance(part, keras.layers.BatchNormalization)
            part.trainable = index >= first and (batch_norm_learns or not is_batch_norm)
            if is_batch_norm and batch_norm_learns:
                part.momentum = FROM_SCRATCH_MOMENTUM
