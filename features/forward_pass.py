"""The fast forward pass in inference mode: weights folded into the graph as constants.

With constants, TensorFlow merges a convolution with the BatchNorm behind it, and arranges weights for the machine once
instead of in every step: a quarter more examples per second on a CPU, with the same values except for rounding.
"""

import contextlib
import functools
import math
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from typing import TypeVar

import keras
import numpy as np
import tensorflow as tf

from data.arrays import LENGTH_STEP, rounded_up
from data.batches import Batch, View
from data.pipeline import Varied, input_batches
from devices.precision import Precision, computing_in, is_rewritten
from devices.replicas import distribute, is_shared

BATCH_SIZE = 32
"""Examples per batch: twice as many are no faster, and take a gigabyte more with a network such as EfficientNet."""
MOST_FOLDED = 2**28
"""Most bytes of weights to make constants, which takes twenty times their memory: 7.1 GiB for ConvNeXtBase, which
otherwise needs 2.6. Of the larger networks, ConvNeXt gains nothing by it."""
Name = TypeVar("Name", bound=Hashable)
ROWS = 16
"""Number of float32 values in the widest vector register."""
FROZEN_RAGGED_ROWS = ROWS // LENGTH_STEP
"""Multiple of ragged rows that is enough in front of a head, where a row has a multiple of `LENGTH_STEP` vectors."""


def frozen_function(model: keras.Model, precision: Precision = "float32") -> Callable[..., list[tf.Tensor]]:
    """Makes a function of a model in inference mode, with its current weights; later training does not change it.

    Args:
        model: the network.
        precision: precision of its layers.

    Returns:
        A function from a batch of each input, in the model's order, to the list of its outputs in float32.
    """
    is_folded = sum(4 * math.prod(variable.shape) for variable in model.variables) <= MOST_FOLDED
    keep = np.asarray if is_folded else tf.constant
    trainable = [keep(variable.numpy()) for variable in model.trainable_variables]
    others = [keep(variable.numpy()) for variable in model.non_trainable_variables]

    @tf.function(input_signature=[tf.TensorSpec(each.shape, each.dtype) for each in model.inputs], autograph=False)
    def compute(*inputs: tf.Tensor) -> list[tf.Tensor]:
        # Arrays become constants of the graph here; tensors do not.
        weights = [tf.convert_to_tensor(each) for each in trainable], [tf.convert_to_tensor(each) for each in others]
        with computing_in(model, precision):
            batch = inputs[0] if len(inputs) == 1 else list(inputs)
            outputs, _ = model.stateless_call(*weights, batch, training=False)
        return [tf.cast(output, tf.float32) for output in keras.tree.flatten(outputs)]

    return compute


class Spread:
    """A frozen function on all replicas of a strategy: shards batches over them and gathers the outputs."""

    def __init__(self, compute: Callable[..., list], strategy: tf.distribute.Strategy, ragged_rows: int = ROWS):
        """Args:

        compute: function of `frozen_function`, or of another runtime.
        strategy: strategy whose replicas compute.
        ragged_rows: see `compute_rows`.
        """
        self._strategy = strategy

        @tf.function(autograph=False)
        def compute_shared(*inputs: tf.Tensor) -> list[tf.Tensor]:
            # `run` does not take a function with a signature.
            outputs = strategy.run(lambda *of_replica: compute(*of_replica), inputs)
            return [strategy.gather(output, axis=0) for output in outputs]

        self._compute = (
            compute_shared if is_shared(strategy) else functools.partial(compute_rows, compute, ragged_rows=ragged_rows)
        )

    def outputs(self, view: View, varied: Varied | None = None) -> Iterator[list[np.ndarray]]:
        """Computes the batches in the order of the examples.

        Args:
            view: examples, or outputs of a network.
            varied: random variation of the examples; None leaves them as they are.

        Yields:
            The outputs for the next rows, float32 (n, ...).
        """
        size, left = BATCH_SIZE * self._strategy.num_replicas_in_sync, len(view.rows)
        batches = distribute(self._strategy, functools.partial(input_batches, view, size, varied))
        for batch in batches:
            outputs = [np.asarray(output)[:left] for output in self._compute(*inputs_of(batch))]
            left -= len(outputs[0])
            yield outputs


def apply_model(model: keras.Model, view: View, strategy: tf.distribute.Strategy | None = None) -> np.ndarray:
    """Computes a model's output for one view; see `apply_to_views`."""
    return apply_to_views(model, {"": view}, strategy=strategy)[""]


def apply_to_views(
    model: keras.Model,
    views: Mapping[Name, View],
    on_progress: Callable[[int], None] = lambda _: None,
    strategy: tf.distribute.Strategy | None = None,
) -> dict[Name, np.ndarray]:
    """Computes a model's output, in inference mode and float32.

    Args:
        model: model with one output, or with several (n, rows, ...), which are joined, see `side_by_side`.
        views: examples, or outputs of another network, by any names.
        on_progress: called with the number of examples done since the last call.
        strategy: strategy whose replicas compute; None for one device.

    Returns:
        Outputs of each view, float32 (number of examples, ...).
    """
    spread = Spread(frozen_function(model), strategy or tf.distribute.get_strategy())
    found: dict[Name, np.ndarray] = {}
    for name, view in views.items():
        # Sorted by length, because padding is wasted computation.
        order = view.shortest_first if view.is_ragged else None
        if order is not None:
            view = view._replace(rows=view.rows[order])
        outputs = [side_by_side([np.zeros((0, *output.shape[1:]), np.float32) for output in model.outputs])]
        for of_batch in spread.outputs(view):
            outputs.append(side_by_side(of_batch))
            on_progress(len(outputs[-1]))
        found[name] = np.concatenate(outputs)
        if order is not None:
            found[name] = found[name][np.argsort(order)]
    return found


def side_by_side(outputs: Sequence[np.ndarray]) -> np.ndarray:
    """Returns the output of a network; joins several, such as boxes (n, rows, 4) and scores (n, rows), to one array."""
    if len(outputs) == 1:
        return outputs[0]
    return np.concatenate([each if each.ndim == 3 else each[..., None] for each in map(np.asarray, outputs)], axis=-1)


def inputs_of(batch: Batch | np.ndarray) -> Sequence[tf.Tensor]:
    """Returns the tensors of a batch."""
    return batch if isinstance(batch, list | tuple) else [batch]


def compute_rows(compute: Callable[..., list], *inputs: tf.Tensor, ragged_rows: int = ROWS) -> list:
    """Calls a function so that no bit of a row's result depends on the other rows of the batch.

    The batch is padded to a multiple of `ROWS` rows: TensorFlow computes 16 values of an activation at once, and the
    remaining few in another way; a product with one row also differs from one with several. Ragged rows, whose mask is
    the last input, are computed together with those of the same padded length only.

    Args:
        compute: function from a batch of each input to the list of its outputs.
        inputs: batch of each input.
        ragged_rows: multiple to which the number of ragged rows is padded.
    """
    if inputs[-1].dtype == tf.bool:
        return _by_length(compute, inputs, ragged_rows)
    return _padded_rows(compute, inputs, ROWS)


def _by_length(compute: Callable[..., list], inputs: Sequence[tf.Tensor], multiple: int) -> list:
    """Computes rows of each padded length by themselves; see `compute_rows`."""
    longest = inputs[-1].shape[1]
    lengths = np.array([rounded_up(each) for each in np.asarray(inputs[-1]).sum(1)])
    parts: list[list[tf.Tensor]] = []
    for length in np.unique(lengths):
        rows = np.flatnonzero(lengths == length)
        of_rows = (tf.gather(each, rows) for each in inputs)
        shorter = [each[:, :length] if _has_length(each, longest) else each for each in of_rows]
        found = _padded_rows(compute, shorter, multiple)
        parts.append([_padded_at(1, longest - length if _has_length(each, length) else 0, each) for each in found])
    order = np.argsort(np.argsort(lengths, kind="stable"), kind="stable")
    return [tf.gather(tf.concat(of_output, 0), order) for of_output in zip(*parts, strict=True)]


def _has_length(tensor: tf.Tensor, length: int) -> bool:
    """Returns whether a tensor is of tokens, of a mask, or of vectors, (n, length, ...)."""
    is_vector = len(tensor.shape) == 2 and tf.as_dtype(tensor.dtype).is_floating
    return not is_vector and tensor.shape[1] == length


def _padded_at(axis: int, count: int, tensor: tf.Tensor) -> tf.Tensor:
    return tf.pad(tensor, [[0, count if each == axis else 0] for each in range(len(tensor.shape))]) if count else tensor


def _padded_rows(compute: Callable[..., list], inputs: Sequence[tf.Tensor], multiple: int) -> list:
    count = len(inputs[0])
    missing = -count % multiple
    return [output[:count] for output in compute(*(_padded_at(0, missing, each) for each in inputs))]


@contextlib.contextmanager
def convolutions_in(precision: Precision) -> Iterator[None]:
    """Makes TensorFlow rewrite graphs to bfloat16 while a block runs (oneDNN; Keras' policy is slower on CPUs)."""
    options = {"auto_mixed_precision_onednn_bfloat16": is_rewritten(precision)}
    tf.config.optimizer.set_experimental_options(options)
    try:
        yield
    finally:
        tf.config.optimizer.set_experimental_options(dict.fromkeys(options, False))
