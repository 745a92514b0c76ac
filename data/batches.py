"""Versions of examples, and how batches of them are read: inputs of any number and dtype, dense or ragged."""

import functools
import gc
import math
from collections.abc import Callable, Sequence
from typing import NamedTuple, Self, TypeAlias

import numpy as np
import tensorflow as tf

from data.arrays import Ragged, Tensor, mask_of, padded, rounded_up, take_rows
from devices.replicas import Part

MOST_IN_MEMORY = 2**30
"""Vectors of up to this many bytes stay in memory: reading a batch of them by Python takes longer than a step on it."""
LARGE = 2**24
"""Bytes of vectors above which a garbage collection (0.1 seconds) is worth it: it frees those of earlier pipelines."""
AS_FLOAT32 = ("uint8", "int16", "float16", "float64")
"""Dtypes of stored numbers that networks take as float32; whole numbers of other dtypes keep theirs."""

Batch: TypeAlias = tf.Tensor | tuple[tf.Tensor, ...]
"""Inputs of a network, each (batch_size, ...), in its order; a single input is that tensor itself.

Ragged rows are padded with zeros, and then the last tensor is their mask, bool (batch_size, longest).
"""


class View(NamedTuple):
    """One version of some examples. The values are not copied: they may be larger than memory."""

    inputs: tuple[Tensor, ...]
    """Inputs of a network, or the output of a part of it; all ragged ones have the same offsets."""
    rows: np.ndarray
    """Rows of the inputs, in order, int64 (n,)."""
    targets: np.ndarray | None = None
    """Targets of this version, (n, ...), if the variation moved them; None for the targets of the examples."""

    @property
    def is_ragged(self) -> bool:
        """Returns True if the rows of an input differ in length."""
        return any(isinstance(tensor, Ragged) for tensor in self.inputs)

    @property
    def has_vectors(self) -> bool:
        """Returns True if every input is one vector per example: what a head learns from."""
        return all(not isinstance(tensor, Ragged) and tensor.ndim == 2 for tensor in self.inputs)

    @property
    def lengths(self) -> np.ndarray:
        """Lengths of the rows, int64 (n,); 0 where no input is ragged."""
        ragged = (tensor.lengths[self.rows] for tensor in self.inputs if isinstance(tensor, Ragged))
        return next(ragged, np.zeros(len(self.rows), np.int64))

    @property
    def shortest_first(self) -> np.ndarray:
        """Positions of the rows by increasing length, int64 (n,): the order in which batches need least padding."""
        return np.argsort(self.lengths, kind="stable")

    def read(self, longest: int) -> list[np.ndarray]:
        """Copies the rows of each input to memory; ragged ones are padded to a length and followed by their mask."""
        taken = [take_rows(tensor, self.rows) for tensor in self.inputs]
        inputs = [padded(rows, longest) if isinstance(rows, Ragged) else rows for rows in taken]
        return [*inputs, mask_of(self.lengths, longest)] if self.is_ragged else inputs


class Examples(NamedTuple):
    """Examples to learn from or to evaluate on."""

    views: Sequence[View]
    """Versions of the same n examples, whose dtypes may differ; an epoch takes one version of each example."""
    targets: np.ndarray
    """float32 (n, ...), in the form of the task."""
    sample_weights: np.ndarray
    """float32 (n,)."""

    def take(self, rows: np.ndarray) -> Self:
        """Returns some of the examples."""
        views = [
            View(view.inputs, view.rows[rows], None if view.targets is None else view.targets[rows])
            for view in self.views
        ]
        return self._replace(views=views, targets=self.targets[rows], sample_weights=self.sample_weights[rows])


def by_length(examples: Examples) -> Examples:
    """Sorts examples by length, if they differ in it, so that batches need as little padding as possible."""
    view = examples.views[0]
    return examples.take(view.shortest_first) if view.is_ragged else examples


def float32_bytes(view: View) -> int:
    """Returns the bytes that a view's vectors take in memory as float32."""
    return sum(4 * len(view.rows) * math.prod(size or 1 for size in each.shape[1:]) for each in view.inputs)


def reader(examples: Examples, part: Part | None) -> Callable[..., tuple[Batch, tf.Tensor, tf.Tensor]]:
    """Makes the function that reads a batch (inputs, targets, sample weights), given indices and an epoch number."""
    views = examples.views
    size = sum(map(float32_bytes, views))
    if not views[0].has_vectors or size > MOST_IN_MEMORY:
        return functools.partial(_read, examples, part)
    if size > LARGE:
        gc.collect()  # reference cycles keep the vectors of unused pipelines in memory
    with tf.device("CPU:0"):  # where pipelines run
        inputs = [
            tf.constant(
                np.stack([np.asarray(take_rows(view.inputs[place], view.rows)) for view in views]), _batch_dtype(tensor)
            )
            for place, tensor in enumerate(views[0].inputs)
        ]
        targets, sample_weights = tf.constant(examples.targets), tf.constant(examples.sample_weights)

    def pick(indices: tf.Tensor, epoch: tf.Tensor | int) -> tuple[Batch, tf.Tensor, tf.Tensor]:
        places = tf.stack([(indices + epoch) % len(views), indices], axis=1)
        batch = _as_batch([tf.gather_nd(values, places) for values in inputs])
        return batch, tf.gather(targets, indices), tf.gather(sample_weights, indices)

    return pick


def _read(
    examples: Examples, part: Part | None, indices: tf.Tensor, epoch: tf.Tensor | int
) -> tuple[Batch, tf.Tensor, tf.Tensor]:
    """Reads a batch by Python; arrays in the graph would be constants, and a graph is limited to 2 GB."""
    first, lengths = examples.views[0], [view.lengths for view in examples.views]
    # A batch can be shared among replicas only if its shape is static.
    longest = max(map(rounded_up, lengths)) if part is not None and first.is_ragged else None
    versions = zip(*(view.inputs for view in examples.views), strict=True)
    dtypes = [np.result_type(*(tensor.dtype for tensor in tensors)) for tensors in versions]
    shapes = [[longest if size is None else size for size in tensor.shape[1:]] for tensor in first.inputs]
    if first.is_ragged:
        shapes, dtypes = [*shapes, [longest]], [*dtypes, np.dtype(bool)]

    @tf.autograph.experimental.do_not_convert
    def read(chosen: np.ndarray, epoch: np.ndarray) -> list[np.ndarray]:
        of_views = (chosen + epoch) % len(examples.views)
        parts = [
            (of_views == number, View(view.inputs, view.rows[chosen[of_views == number]]))
            for number, view in enumerate(examples.views)
        ]
        targets = examples.targets[chosen]
        for number, view in enumerate(examples.views):
            if view.targets is not None:
                targets[of_views == number] = view.targets[chosen[of_views == number]]
        batch_length = longest or max(rounded_up(view.lengths) for _, view in parts)
        batch = [
            np.empty((len(chosen), *(batch_length if size is None else size for size in shape)), dtype)
            for shape, dtype in zip(shapes, dtypes, strict=True)
        ]
        for of_view, view in parts:
            for values, rows in zip(batch, view.read(batch_length), strict=True):
                values[of_view] = rows
        return [*batch, targets, examples.sample_weights[chosen]]

    *batch, targets, sample_weights = tf.numpy_function(
        read, [indices, epoch], [*dtypes, tf.float32, tf.float32], stateful=False
    )
    inputs = [
        tf.cast(tf.ensure_shape(values, (*indices.shape, *shape)), _batch_dtype(values))
        for values, shape in zip(batch, shapes, strict=True)
    ]
    return (
        _as_batch(inputs),
        tf.ensure_shape(targets, (*indices.shape, *examples.targets.shape[1:])),
        tf.ensure_shape(sample_weights, indices.shape),
    )


def _as_batch(inputs: Sequence[tf.Tensor]) -> Batch:
    return inputs[0] if len(inputs) == 1 else tuple(inputs)


def _batch_dtype(tensor: Tensor | tf.Tensor) -> tf.DType:
    """Returns the dtype in which a network gets a stored tensor."""
    dtype = tf.as_dtype(tensor.dtype)
    return tf.float32 if dtype.name in AS_FLOAT32 else dtype
