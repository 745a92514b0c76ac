"""The forward pass on the workers of a pool: a job is a few batches, with the same results as in one process.

Examples travel to the workers, and outputs travel back: the workers need neither the files nor the weights, nor a
shared folder.
"""

import functools
import importlib
import math
import pickle
from collections.abc import Callable, Iterator, Sequence
from typing import TypeAlias

import keras
import numpy as np
import tensorflow as tf

import models.own_layers
from app.custom_parts import custom_file
from app.errors import RunError
from cluster.pool import SHARD_BYTES, Pool
from data.arrays import take_rows
from data.batches import View
from data.code_digest import code_digest
from data.pipeline import Varied, input_batches
from devices.precision import Precision, computing_in, is_rewritten
from features.forward_pass import BATCH_SIZE, FROZEN_RAGGED_ROWS, Spread, convolutions_in
from features.runtimes import Runtime, runtime_function

MOST_BATCHES = 8
"""Most batches of a shard: with more, workers would end at different times, and progress would be coarse."""
Shard: TypeAlias = tuple[View, Varied | None]
"""Examples in memory, and their variation."""


class Shards(Sequence[Shard]):
    """The examples of a view in shards, each read on access."""

    def __init__(self, view: View, varied: Varied | None, output_bytes: float):
        """Divides the examples.

        Args:
            view: the examples.
            varied: random variation of the examples.
            output_bytes: bytes of the outputs for one example.
        """
        self._view, self._varied = view, varied
        row_bytes = max(output_bytes, sum(_row_bytes(tensor.shape, tensor.dtype, view) for tensor in view.inputs))
        self._size = BATCH_SIZE * min(MOST_BATCHES, max(1, int(SHARD_BYTES / (BATCH_SIZE * row_bytes))))

    def __len__(self) -> int:
        return math.ceil(len(self._view.rows) / self._size)

    def __getitem__(self, number: int) -> Shard:  # type: ignore[override]
        if not 0 <= number < len(self):
            raise IndexError(number)
        part = slice(number * self._size, (number + 1) * self._size)
        rows = self._view.rows[part]
        inputs = tuple(take_rows(tensor, rows) for tensor in self._view.inputs)
        varied = self._varied and self._varied._replace(draws=self._varied.draws[part])
        return View(inputs, np.arange(len(rows))), varied


class SharedSpread:
    """A network's forward pass on the workers of a pool, with the results of `features.forward_pass.Spread`."""

    def __init__(self, network: keras.Model, precision: Precision, pool: Pool, runtime: Runtime):
        """Args:

        network: network, whose current weights are used.
        precision: precision of its layers.
        pool: pool of workers.
        runtime: library that computes.
        """
        modules = {type(layer).__module__ for layer in network._flatten_layers()}
        self._make = functools.partial(
            make_worker, pickle.dumps(network), modules, precision, is_rewritten(precision), _CODE, runtime
        )
        self._output_shapes = [tensor.shape for tensor in network.outputs]
        self._pool = pool

    def outputs(self, view: View, varied: Varied | None = None) -> Iterator[list[np.ndarray]]:
        """Computes the batches in order; see `features.forward_pass.Spread.outputs`."""
        size = sum(_row_bytes(shape, np.dtype(np.float32), view) for shape in self._output_shapes)
        for batches in self._pool.in_order(self._make, Shards(view, varied, size)):
            yield from batches


def make_worker(
    network: bytes, modules: set[str], precision: Precision, rewritten: bool, code: str, runtime: Runtime
) -> Callable[[Shard], list[list[np.ndarray]]]:
    """Makes the function by which a worker computes a shard.

    Args:
        network: pickled network.
        modules: modules that define its layers.
        precision: precision of its layers.
        rewritten: whether TensorFlow rewrites graphs to that precision on the machine of the command.
        code: digest of the computing code on the machine of the command.
        runtime: library that computes.

    Raises:
        RunError: this machine has other code or devices.
    """
    if (_CODE, is_rewritten(precision)) != (code, rewritten):
        raise RunError("A worker's machine may compute other values than this one: its code or its devices differ.")
    custom_file()  # may define parts of layers
    for name in (models.own_layers.__name__, *modules):
        importlib.import_module(name)
    keras.utils.set_random_seed(0)  # the next line requires it
    tf.config.experimental.enable_op_determinism()
    compute = runtime_function(pickle.loads(network), precision, runtime)
    spread = Spread(compute, tf.distribute.get_strategy(), FROZEN_RAGGED_ROWS)

    def run(shard: Shard) -> list[list[np.ndarray]]:
        with convolutions_in(precision):
            return list(spread.outputs(*shard))

    return run


def _row_bytes(shape: Sequence[int | None], dtype: np.dtype, view: View) -> float:
    """Returns the bytes of one example, of mean length if rows differ in length."""
    length = float(view.lengths.mean()) if view.is_ragged and len(view.rows) else 1.0
    return dtype.itemsize * math.prod(length if size is None else size for size in shape[1:])


_CODE = code_digest(take_rows, View, input_batches, computing_in, Spread, runtime_function)
"""Digest of the computing code, which must be the same on all machines."""
