"""Places where a network can be cut in two: a few tensors carry all that the rest needs.

The part before such a place that does not learn is a pure function of the example, so it need not be computed twice.

Rows that differ in length come with their mask as the last input of a network, see `data.batches.Batch`. The mask is
always at hand, so it may cross a cut beside what was computed.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import keras

from models.parts import is_ragged

NEXT_TO_NOTHING = 1.01
"""Factor on the work behind a cut that is worth a narrower one."""


class Cut(NamedTuple):
    """A place between two layers."""

    layer: str
    """Name of the layer (or operation) before the cut."""
    position: int
    """Number of operations up to and including it."""
    tensors: tuple[keras.KerasTensor, ...]
    """Tensors that cross, each (n, ...)."""
    mask: keras.KerasTensor | None
    """Input of the network with the mask of what crosses; None where no row differs in length."""
    macs_before: int
    """Multiply-adds for one example up to here; for rows that differ in length, for one value of each."""
    macs_after: int
    """Multiply-adds for one example from here on."""
    layers_after: int
    """Number of the model's layers from here on, as `model.layers` counts them."""

    @property
    def share_after(self) -> float:
        """Fraction of the multiply-adds behind the cut: what training on what crosses it still has to compute."""
        return self.macs_after / max(1, self.macs_before + self.macs_after)

    @property
    def values(self) -> int:
        """Numbers that cross for one example; for rows that differ in length, for one value of each."""
        return sum(_numbers(tensor) for tensor in self.tensors)

    @property
    def has_vectors(self) -> bool:
        """Returns True if only vectors cross: what a head learns from."""
        return all(len(tensor.shape) == 2 for tensor in self.tensors)

    def size(self, half: bool, length: float = 1.0) -> float:
        """Returns the bytes that are kept for one example.

        Args:
            half: whether feature maps are kept as float16.
            length: mean length of rows that differ in it.
        """
        return sum(
            _numbers(tensor)
            * (2 if kept_dtype(tensor, half) == "float16" else 4)
            * (length if is_ragged(tensor) else 1)
            for tensor in self.tensors
        )

    @property
    def inputs(self) -> list[keras.KerasTensor]:
        """Inputs of the network from here on: what crosses, and its mask."""
        return [*self.tensors, *([] if self.mask is None else [self.mask])]


def find_cuts(model: keras.Model, most_tensors: int = 1) -> list[Cut]:
    """Finds every cut of a model, from input to output.

    Args:
        model: built from the functional API, each of its layers used once.
        most_tensors: tensors that may cross a cut, besides a mask.

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


def cut_before_trainable(cuts: Sequence[Cut], model: keras.Model) -> Cut:
    """Returns the last cut before the first trainable layer, or the narrowest of those that cost next to nothing more.

    Args:
        cuts: of the model, in order.
        model: with its trainable layers set. If none is, the cut is the model's output; if the first is, its input.
    """
    trainable = [bool(getattr(operation, "trainable_variables", ())) for operation in model.operations]
    first = trainable.index(True) if any(trainable) else len(trainable)
    before = [cut for cut in cuts if cut.position <= first]
    close = [cut for cut in before if cut.macs_after <= NEXT_TO_NOTHING * before[-1].macs_after]
    return min(close, key=lambda cut: (cut.values, -cut.position))


def part_of(
    inputs: Sequence[keras.KerasTensor], outputs: Sequence[keras.KerasTensor], name: str | None = None
) -> keras.Model:
    """Returns the layers between some tensors as a model that shares them; a single tensor is passed without a list."""
    # Keras spoils an input that it finds beside computed tensors, so that its network cannot be saved any more.
    if len(inputs) > 1 and any(is_ragged(tensor) for tensor in inputs):
        fresh = [keras.Input(batch_shape=tensor.shape, dtype=tensor.dtype) for tensor in inputs]
        inputs, outputs = fresh, keras.Function(list(inputs), list(outputs)).call(fresh)
    ends = (tensors[0] if len(tensors) == 1 else list(tensors) for tensors in (inputs, outputs))
    return keras.Model(*ends, name=name)


def kept_dtype(tensor: keras.KerasTensor, half: bool) -> str:
    """Returns how a tensor is kept: feature maps as float16 if `half`, vectors always as float32."""
    return "float16" if half and len(tensor.shape) > 2 else "float32"


def _numbers(tensor: keras.KerasTensor) -> int:
    """Numbers of a tensor for one example, of one value where their number differs."""
    return math.prod(size or 1 for size in tensor.shape[1:])


def _multiply_adds(operation: keras.Operation) -> int:
    """Multiply-adds of a layer for one example: each kernel is applied once at every place of the output."""
    kernels = [weight.shape for weight in getattr(operation, "weights", ()) if len(weight.shape) >= 2]
    if not kernels or isinstance(operation, keras.layers.Normalization | keras.layers.Embedding):
        return 0
    output = keras.tree.flatten(operation.output)[0]
    return math.prod(size or 1 for size in output.shape[1:-1]) * sum(math.prod(shape) for shape in kernels)
