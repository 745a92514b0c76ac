"""A pretrained network taken apart: what a family of networks gives, whatever library it comes from."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import keras


class Parts(NamedTuple):
    """A backbone."""

    model: keras.Model
    """Inputs -> features, preprocessing included. Its layers in order are what `--trainable-layers` counts, so a layer
    that hides blocks is unrolled here, each block a layer of its own. If rows of an input differ in length, shape
    (None, ...), the last input is their mask."""
    blocks: Sequence[Sequence[keras.Layer]]
    """Its layers by block, from input to output."""
    pooling: Mapping[str, Callable[..., Any]]
    """Layers that turn features, and their mask if there is one, into one vector, by the names of `--pooling`."""
    whole: keras.Model | None = None
    """The same network, with the same weights, before it was unrolled; None where nothing was. It is what is saved, as
    Keras cannot load some networks that were unrolled."""

    @property
    def mask(self) -> keras.KerasTensor | None:
        """Mask of rows that differ in length."""
        return self.model.inputs[-1] if any(is_ragged(tensor) for tensor in self.model.inputs) else None


def is_ragged(tensor: keras.KerasTensor) -> bool:
    """Returns True if rows of a tensor differ in length."""
    return len(tensor.shape) > 1 and tensor.shape[1] is None
