"""Networks of `keras.applications`, and others that are built as these are: flat models, with blocks by layer names."""

import importlib
import re
from collections.abc import Callable, Sequence
from typing import Any

import keras

from models.backbones import Backbone
from models.parts import Parts

POOLING: dict[str, Callable[..., Any]] = {
    "avg": keras.layers.GlobalAveragePooling2D,
    "max": keras.layers.GlobalMaxPooling2D,
}


def build(backbone: Backbone, image_size: int, weights: str | None, include_top: bool) -> Parts:
    """Builds a network of `keras.applications`; see `models.backbones.build`."""
    builder = getattr(keras.applications, backbone.builder)
    preprocessing = importlib.import_module(f"keras.applications.{backbone.module}")
    return build_flat(builder, preprocessing.preprocess_input, backbone, image_size, weights, include_top)


def build_flat(
    builder: Callable[..., keras.Model],
    preprocess_input: Callable[[keras.KerasTensor], keras.KerasTensor],
    backbone: Backbone,
    image_size: int,
    weights: str | None,
    include_top: bool,
) -> Parts:
    """Builds a network as one flat model behind its preprocessing; see `models.backbones.build`.

    Args:
        builder: takes the arguments of the functions of `keras.applications`.
        preprocess_input: prepares float32 pictures in [0, 255].
        backbone: whose family tells blocks by the names of layers.
        image_size: height and width of the pictures, pixels.
        weights: None or "imagenet".
        include_top: whether it ends in its 1000 classes.
    """
    pictures = keras.Input((image_size, image_size, 3), name="pictures")
    model = builder(
        include_top=include_top,
        weights=weights,
        input_shape=pictures.shape[1:],
        input_tensor=preprocess_input(pictures),
    )
    return Parts(model, split_into_blocks(model.layers, backbone.family.block), POOLING)


def split_into_blocks(layers: Sequence[keras.Layer], block: str) -> list[list[keras.Layer]]:
    """Groups the layers of a flat model into blocks, from input to output.

    Layers between two blocks belong to the later one, those after the last block form one of their own.

    Args:
        layers: in order.
        block: regular expression over their names; the same first group (or match) is the same block.
    """
    blocks: list[list[keras.Layer]] = []
    names: set[str] = set()
    between: list[keras.Layer] = []
    for layer in layers:
        between.append(layer)
        if match := re.search(block, layer.name):
            name = match.group(match.lastindex or 0)
            blocks += [[]] if name not in names else []
            names.add(name)
            blocks[-1] += between
            between = []
    return [*blocks, between] if between else blocks
