"""The whole network as one Keras model: pictures -> preprocessing -> backbone -> pooling -> head -> probabilities."""

from collections.abc import Sequence
from typing import Literal, NamedTuple

import keras

from models.backbones import Backbone
from models.heads import build_head
from models.weights import build_backbone
from tasks.table import Task

POOLING = {"avg": keras.layers.GlobalAveragePooling2D, "max": keras.layers.GlobalMaxPooling2D}


class Classifier(NamedTuple):
    """A model and its parts, which share their layers with it."""

    model: keras.Model
    """float32 pictures (n, image_size, image_size, 3) in [0, 255] -> probabilities (n, num_outputs)."""
    backbone: keras.Model
    """The same pictures -> the last feature map, preprocessing included."""
    head: keras.Sequential
    """Pooled features -> probabilities."""


def build_classifier(
    row: Backbone,
    *,
    weights: str,
    image_size: int,
    task: Task,
    num_classes: int,
    pooling: Literal["avg", "max"] = "avg",
    head_units: Sequence[int] = (),
    dropout: float = 0.0,
    seed: int = 0,
) -> Classifier:
    """Builds a classifier; the arguments are settings of `app.config.TrainConfig`, explained there.

    Args:
        row: the backbone.
        weights: 'imagenet', 'none' or the path of a file.
        image_size: height and width of the pictures, pixels.
        task: decides the output.
        num_classes: number of classes, at least 2.
        pooling: how the last feature map becomes one vector.
        head_units: units of each dense layer before the output.
        dropout: fraction of values dropped before each dense layer while training.
        seed: of the head.

    Raises:
        UsageError: the weights cannot be had, or do not fit the backbone.
    """
    backbone = build_backbone(row, image_size, weights)
    pooled = POOLING[pooling](name="pooling")(backbone.output)
    head = build_head(pooled.shape[-1], task, num_classes, head_units, dropout, seed)
    return Classifier(
        model=keras.Model(backbone.inputs[0], head(pooled), name=f"{row.name}_classifier"),
        backbone=backbone,
        head=head,
    )
