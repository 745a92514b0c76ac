"""The settings a user leaves open: chosen from the backbone, the pictures and their number, each with its reason."""

import dataclasses

from config import TrainConfig
from models.backbones import Backbone

SIZE_STEP = 32
"""Networks halve the picture five times: other sizes waste a part of a cell at the border."""
LARGEST_ENLARGEMENT = 4
"""Enlarging a picture more than this adds computation, not information."""

BATCH_SIZE = 32
HEAD_EPOCHS = 30
FINE_TUNED_BLOCKS = 3
FINE_TUNE_STEPS = 600
FINE_TUNE_EPOCHS = (3, 10)
FINE_TUNE_LEARNING_RATE = 3e-4


def choose_image_size(config: TrainConfig, row: Backbone, typical_size: int | None) -> TrainConfig:
    """Sets `image_size`: the backbone's own, but at most four times what the pictures have.

    Args:
        config: as the user gave it; a size in it stays.
        row: the backbone.
        typical_size: median of the pictures' shorter sides, pixels, if known.
    """
    if config.image_size is not None:
        return config
    size = row.image_size
    if typical_size is not None:
        useful = -(-LARGEST_ENLARGEMENT * typical_size // SIZE_STEP) * SIZE_STEP
        size = min(size, max(useful, row.family.smallest_size))
    return dataclasses.replace(config, image_size=size)


def choose_training(config: TrainConfig, layers_per_block: list[int], num_train: int) -> TrainConfig:
    """Sets what else is open: layers to fine-tune, epochs, learning rate and batch size.

    Args:
        config: with what the user gave.
        layers_per_block: number of layers of each block of the backbone, from input to output.
        num_train: training pictures.
    """
    from_scratch = config.weights == "none"
    batch_size = config.batch_size or BATCH_SIZE
    steps_per_epoch = -(-num_train // batch_size)
    trainable_layers = "all" if from_scratch else sum(layers_per_block[-FINE_TUNED_BLOCKS:])
    chosen = {
        "batch_size": batch_size,
        "trainable_layers": trainable_layers,
        "head_epochs": HEAD_EPOCHS,
        "fine_tune_epochs": _epochs_for(FINE_TUNE_STEPS, steps_per_epoch),
        "fine_tune_learning_rate": FINE_TUNE_LEARNING_RATE,
    }
    return dataclasses.replace(
        config, **{name: value for name, value in chosen.items() if getattr(config, name) is None}
    )


def _epochs_for(steps: int, steps_per_epoch: int) -> int:
    fewest, most = FINE_TUNE_EPOCHS
    return min(most, max(fewest, round(steps / steps_per_epoch)))
