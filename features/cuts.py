"""Where a network can be cut in two: the places at which a single tensor carries all that the rest needs.

What comes before such a place and does not learn is a pure function of the example, so it need not be computed twice.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import keras

NEXT_TO_NOTHING = 1.01
"""Factor on the work behind a cut that is worth a narrower one."""


class Cut(NamedTuple):
    """A place between two layers."""

    layer: str
    """Name of the layer (or operation) whose output crosses the cut."""
    position: int
    """Number of operations up to and including it."""
    tensor: keras.KerasTensor
    """What crosses, (n, ...)."""
    macs_before: int
    """Multiply-adds for one example up to here."""
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
        """Numbers that cross for one example."""
        return math.prod(self.tensor.shape[1:])

    def dtype(self, half: bool) -> str:
        """How what crosses is kept: feature maps as float16 if `half`, vectors always as float32."""
        return "float16" if half and len(self.tensor.shape) > 2 else "float32"

    def size(self, half: bool) -> int:
        """Bytes that cross for one example."""
        return self.values * (2 if self.dtype(half) == "float16" else 4)


def find_cuts(model: keras.Model) -> list[Cut]:
    """Finds every cut of a model with one input and one output, from input to output.

    Args:
        model: built from the functional API, each of its layers used once.

    Returns:
        At least one: the output itself.
    """
    operations = model.operations
    last_use: dict[int, float] = {id(model.output): math.inf}
    for position, operation in enumerate(operations):
        if not isinstance(operation, keras.layers.InputLayer):
            for tensor in _tensors(operation.input):
                last_use[id(tensor)] = max(position, last_use.get(id(tensor), position))
    macs = [_multiply_adds(operation) for operation in operations]
    is_layer = [isinstance(operation, keras.Layer) for operation in operations]
    cuts, alive = [], set()
    for position, operation in enumerate(operations):
        alive |= {id(operation.output)}
        alive = {tensor for tensor in alive if last_use[tensor] > position}
        if len(alive) == 1:
            before = sum(macs[: position + 1])
            layers_after = sum(is_layer[position + 1 :])
            cuts.append(Cut(operation.name, position + 1, operation.output, before, sum(macs) - before, layers_after))
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


def _tensors(tensors: keras.KerasTensor | Sequence[keras.KerasTensor]) -> Sequence[keras.KerasTensor]:
    return tensors if isinstance(tensors, list | tuple) else [tensors]


def _multiply_adds(operation: keras.Operation) -> int:
    """Multiply-adds of a layer for one example: each kernel is applied once at every place of the output."""
    kernels = [weight.shape for weight in getattr(operation, "weights", ()) if len(weight.shape) >= 2]
    if not kernels or isinstance(operation, keras.layers.Normalization):
        return 0
    places = math.prod(operation.output.shape[1:-1])
    return places * sum(math.prod(shape) for shape in kernels)
