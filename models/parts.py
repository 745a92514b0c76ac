"""A pretrained network in parts: the common form for networks of any library."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import keras


class Parts(NamedTuple):
    """Model, blocks and poolings of a backbone."""

    model: keras.Model
    """Inputs -> features, preprocessing included. `--trainable-layers` counts its layers, so a layer that hides blocks
    is unrolled: each block is a layer. If inputs have rows of different lengths, shape (n, None, ...), the last input
    is their mask."""
    blocks: Sequence[Sequence[keras.Layer]]
    """Its layers by block, from input to output."""
    pooling: Mapping[str, Callable[..., Any]]
    """Layers that turn features (and their mask, if any) into one vector, by the names of `--pooling`."""
    whole: keras.Model | None = None
    """The same network, sharing its weights, before unrolling; None if nothing was unrolled. This one is saved, as
    Keras cannot load some unrolled networks."""

    @property
    def mask(self) -> keras.KerasTensor | None:
        """Mask of rows that differ in length; None without such rows."""
        return self.model.inputs[-1] if any(is_ragged(tensor) for tensor in self.model.inputs) else None


def is_ragged(tensor: keras.KerasTensor) -> bool:
    """Returns True if rows of a tensor differ in length."""
    return len(tensor.shape) > 1 and tensor.shape[1] is None


def features_of(model: keras.Model) -> keras.KerasTensor | None:
    """Returns the input of a classifier's head, (n, num_features); None if it is not a vector."""
    made_by = model.outputs[0]._keras_history  # the layers may be part of other networks, too
    if made_by.operation.name != "head":
        return None
    tensor = made_by.operation._inbound_nodes[made_by.node_index].input_tensors[0]
    return tensor if len(tensor.shape) == 2 else None
