"""Interpolates position embeddings, so that networks of KerasHub take pictures of another size than in training."""

import math
from typing import Any

import keras_hub
import numpy as np
from scipy import ndimage

from models.own_layers import split_tokens


def resized(network: Any, target: Any, side: int) -> Any:
    """Copies the weights of a network for `side` pixels to one for another size; interpolates positions."""
    for old, new in zip(network.weights, target.weights, strict=True):
        if old.shape == new.shape:
            new.assign(old)
        elif isinstance(target, keras_hub.models.DINOV2Backbone):
            sides = (side, side), target.image_shape[:2]
            new.assign(target.embeddings._interpolate_position_embeddings(old, target.patch_size, *sides))
        elif not old.path.endswith("position_ids"):
            new.assign(interpolate_positions(old.numpy(), new.shape[-2]).reshape(new.shape))
    return target


def interpolate_positions(positions: np.ndarray, count: int) -> np.ndarray:
    """Interpolates position embeddings (..., positions, width) to `count` positions.

    Interpolation is bilinear between the outermost patches, as by the authors of ViT
    (google-research/vision_transformer). Positions of tokens other than patches stay.
    """
    table = positions.reshape(-1, positions.shape[-1])
    ahead, old = split_tokens(len(table))
    new = math.isqrt(count - ahead)
    grid = table[ahead:].reshape(old, old, -1)
    grid = ndimage.zoom(grid, (new / old, new / old, 1), order=1)
    return np.concatenate([table[:ahead], grid.reshape(new * new, -1)])
