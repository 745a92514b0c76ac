"""Finds places where a network can be cut in two: a few tensors carry all that the rest needs.

If the part before a cut is frozen, it is a pure function of the example, so it need not be computed twice.

If the rows of inputs differ in length, the last input of a network is their mask, see `data.batches.Batch`. The mask is
always available, so it may cross a cut beside the computed tensors.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import keras

from models.parts import is_ragged

NEXT_TO_NOTHING = 1.01
"""Largest factor by which a narrower cut may increase the computation behind it."""
NEAR_AN_END = 0.05
"""A cut with less than this fraction of the multiply-adds before or behind it is at an end of the network."""


class Cut(NamedTuple):
    """A place between two layers."""

    layer: str
    """Name of the layer (or operation) before the cut."""
    position: int
    """Number of operations up to and including that one."""
    tensors: tuple[keras.KerasTensor, ...]
    """Tensors that cross, each (n, ...)."""
    mask: keras.KerasTensor | None
    """Input of the network that is the mask of the tensors; None if rows do not differ in length."""
    macs_before: int
    """Multiply-adds for one example up to the cut; for rows that differ in length, per value of a row."""
    macs_after: int
    """Multiply-adds for one example behind the cut."""
    layers_after: int
    """Number of the model's layers behind the cut, as `model.layers` counts them."""

    @property
    def share_after(self) -> float:
        """Fraction of the multiply-adds behind the cut, which training on the stored tensors still computes."""
        return self.macs_after / max(1, self.macs_before + self.macs_after)

    @property
    def values(self) -> int:
        """Numbers that cross for one example; for rows that differ in length, per value of a row."""
        return sum(_numbers(tensor) for tensor in self.tensors)

    @property
    def has_vectors(self) -> bool:
        """Returns True if only vectors cross, as in front of a head."""
        return all(len(tensor.shape) == 2 for tensor in self.tensors)

    def size(self, half: bool, length: float = 1.0) -> float:
        """Returns the stored bytes for one example.

        Args:
            half: whether feature maps are stored as float16.
            length: mean length of rows, if they differ in length.
        """
        return sum(
            _numbers(tensor)
            * (2 if kept_dtype(tensor, half) == "float16" else 4)
            * (length if is_ragged(tensor) else 1)
            for tensor in self.tensors
        )

    @property
    def inputs(self) -> list[keras.KerasTensor]:
        """Inputs of the network behind the cut: the tensors that cross, and their mask."""
        return [*self.tensors, *([] if self.mask is None else [self.mask])]


def find_cuts(model: keras.Model, most_tensors: int = 1) -> list[Cut]:
    """Finds every cut of a model, from input to output.

    Args:
        model: model of the functional API that uses each layer once.
        most_tensors: most tensors that may cross a cut, besides a mask.

    Returns:
        At least two: the inputs themselves, and the outputs.
    """
    operations = model.operations
    last_use: dict[int, float] = {id(tensor): math.inf for tensor in model.outputs}
    for position, operation in enumerate(operations):
        if not isinstance(operation, keras.layers.InputLayer):
            for tensor in keras.tree.flatten(operation.input):
                last_use[id(tensor)] = max(position, last_use.get(id(tensor), position))
    macs = [_multiply_adds(operation) for operation in operations]
    is_layer = [isinstance(operation, keras.Layer) for operation in operations]
    mask = model.inputs[-1] if any(map(is_ragged, model.inputs)) else None
    inputs = {id(tensor): tensor for tensor in model.inputs}
    cuts, alive = [], dict(inputs)
    for position, operation in enumerate(operations):
        alive |= {id(tensor): tensor for tensor in keras.tree.flatten(operation.output)}
        alive = {key: tensor for key, tensor in alive.items() if last_use.get(key, -1) > position}
        tensors = tuple(tensor for tensor in alive.values() if tensor is not mask)
        needs_mask = any(map(is_ragged, tensors))
        few = len(tensors) <= most_tensors or alive.keys() <= inputs.keys() or position == len(operations) - 1
        if few and (needs_mask or mask is None or id(mask) not in alive):
            before, layers_after = sum(macs[: position + 1]), sum(is_layer[position + 1 :])
            crossing = tensors, mask if needs_mask else None
            cuts.append(Cut(operation.name, position + 1, *crossing, before, sum(macs) - before, layers_after))
    return cuts


def most_tensors_across(backbone: keras.Model) -> int:
    """Returns how many tensors may cross a cut of a network: as many as leave its backbone, or one more if all of those
    cuts are at its ends. Each cell of NASNet, for example, takes the outputs of the two cells before it."""
    count = len(backbone.outputs)
    shares = [cut.share_after for cut in find_cuts(backbone, count)]
    return count if any(NEAR_AN_END < share < 1 - NEAR_AN_END for share in shares) else count + 1


def cut_before_trainable(cuts: Sequence[Cut], model: keras.Model) -> Cut:
    """Returns the last cut before the first trainable layer, or a narrower one that costs hardly more computation.

    Args:
        cuts: cuts of the model, in order.
        model: model with its trainable layers set. Without any, the cut is the output; if the first layer is trainable,
            the input.
    """
    trainable = [bool(getattr(operation, "trainable_variables", ())) for operation in model.operations]
    first = trainable.index(True) if any(trainable) else len(trainable)
    before = [cut for cut in cuts if cut.position <= first]
    close = [cut for cut in before if cut.macs_after <= NEXT_TO_NOTHING * before[-1].macs_after]
    return min(close, key=lambda cut: (cut.values, -cut.position))


def part_of(inputs: Sequence[keras.KerasTensor], outputs: Sequence[keras.KerasTensor]) -> keras.Model:
    """Returns a model of the layers between tensors, which it shares; a single tensor is passed without a list."""
    # Keras changes inputs of a network that it gets beside computed tensors, and that network cannot be saved any more.
    if len(inputs) > 1 and any(is_ragged(tensor) for tensor in inputs):
        fresh = [keras.Input(batch_shape=tensor.shape, dtype=tensor.dtype) for tensor in inputs]
        inputs, outputs = fresh, keras.Function(list(inputs), list(outputs)).call(fresh)
    ends = (tensors[0] if len(tensors) == 1 else list(tensors) for tensors in (inputs, outputs))
    return keras.Model(*ends)


def kept_dtype(tensor: keras.KerasTensor, half: bool) -> str:
    """Returns the dtype of a stored tensor: float16 for feature maps if `half`, float32 for vectors."""
    return "float16" if half and len(tensor.shape) > 2 else "float32"


def _numbers(tensor: keras.KerasTensor) -> int:
    """Returns the numbers of a tensor for one example, or per value of a row if rows differ in length."""
    return math.prod(size or 1 for size in tensor.shape[1:])


def _multiply_adds(operation: keras.Operation) -> int:
    """Returns the multiply-adds of a layer for one example: each kernel is applied once per place of the output."""
    kernels = [weight.shape for weight in getattr(operation, "weights", ()) if len(weight.shape) >= 2]
    if not kernels or isinstance(operation, keras.layers.Normalization | keras.layers.Embedding):
        return 0
    output = keras.tree.flatten(operation.output)[0]
    return math.prod(size or 1 for size in output.shape[1:-1]) * sum(math.prod(shape) for shape in kernels)
