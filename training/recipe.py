"""The settings a user leaves open: chosen from the backbone, the pictures and their number, each with its reason."""

import dataclasses
from typing import Any

from config import TrainConfig
from models.backbones import Backbone

SIZE_STEP = 32
"""Networks halve the picture five times: other sizes waste a part of a cell at the border."""
LARGEST_ENLARGEMENT = 4
"""Enlarging a picture more than this adds computation, not information."""

BATCH_SIZE = 32
HEAD_STEPS = 3_000
HEAD_EPOCHS = (20, 100)
"""On features computed once, an epoch takes a moment: enough of them to converge, or to stop by patience."""

FINE_TUNED_PART = 1 / 3
"""Share of the blocks that is fine-tuned. On the animals, the last third of EfficientNet-Lite0 gets 99.1 % right where
a sixth gets 98.6 %, at a quarter more time. Earlier blocks see edges and textures, which are the same everywhere."""
FINE_TUNE_STEPS = 440
FINE_TUNE_EPOCHS = (2, 5)
FINE_TUNE_LEARNING_RATE = 1.5e-4
"""For at least FINE_TUNE_STEPS steps, and less in proportion for fewer: Adam moves every weight by about the learning
rate in each step, whatever the gradient, and a small data set ends before what the first steps broke is mended. On 245
photos 3e-4 loses 2 points in its first epoch and never regains them. On 4,000 and 7,000 pictures this rate gains 1 to 3
points, as 3e-4 does, and loses none on the way."""

FROM_SCRATCH_EPOCHS = 30
FROM_SCRATCH_LEARNING_RATE = 1e-3
"""Without pretrained weights there is nothing to keep: no head phase on random features, and Adam's usual rate."""


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
    config = _fill(config, batch_size=BATCH_SIZE)
    if config.weights == "none":
        return _fill(
            config,
            trainable_layers="all",
            head_epochs=0,
            fine_tune_epochs=FROM_SCRATCH_EPOCHS,
            fine_tune_learning_rate=FROM_SCRATCH_LEARNING_RATE,
        )
    steps_per_epoch = -(-num_train // config.batch_size)
    last_blocks = layers_per_block[-max(1, round(FINE_TUNED_PART * len(layers_per_block))) :]
    config = _fill(
        config,
        trainable_layers=sum(last_blocks),
        head_epochs=_epochs(HEAD_STEPS, steps_per_epoch, *HEAD_EPOCHS),
        fine_tune_epochs=_epochs(FINE_TUNE_STEPS, steps_per_epoch, *FINE_TUNE_EPOCHS),
    )
    steps = max(1, config.fine_tune_epochs * steps_per_epoch)
    return _fill(config, fine_tune_learning_rate=FINE_TUNE_LEARNING_RATE * min(1.0, steps / FINE_TUNE_STEPS))


def _fill(config: TrainConfig, **choices: Any) -> TrainConfig:
    """Sets what is still open."""
    return dataclasses.replace(
        config, **{name: value for name, value in choices.items() if getattr(config, name) is None}
    )


def _epochs(steps: int, steps_per_epoch: int, fewest: int, most: int) -> int:
    """Epochs of about as many steps, within bounds."""
    return min(most, max(fewest, round(steps / steps_per_epoch)))
