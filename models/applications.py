"""Networks of `keras.applications` and others of the same form: flat models whose blocks follow from layer names."""

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
    """Builds preprocessing of pictures in [0, 255] and a network as one flat model, by a function like those of
    `keras.applications`; see `models.backbones.build`."""
    pictures = keras.Input((image_size, image_size, 3), name="pictures")
    model = builder(
        include_top=include_top,
        weights=weights,
        input_shape=pictures.shape[1:],
        input_tensor=preprocess_input(pictures),
    )
    return Parts(model, split_into_blocks(model.layers, backbone.family.block), POOLING)


def split_into_blocks(layers: Sequence[keras.Layer], block: str) -> list[list[keras.Layer]]:
    """Groups the layers of a flat model into blocks, in order, by a regular expression over their names.

    Layers with the same first group (or match) form a block. Layers between two blocks belong to the later one; layers
    after the last block form their own.
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
