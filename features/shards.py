"""The forward pass on the workers of a pool: each job is some batches of examples, the same as of one process.

Examples travel to the workers as they were read, and what the network makes of them back: the workers need neither the
files nor the weights, nor a folder that they share.
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
from features.forward_pass import BATCH_SIZE, Spread, convolutions_in
from features.runtimes import Runtime, runtime_function

MOST_BATCHES = 8
"""Batches of a shard: with more, workers end at different times, and progress is shown in steps."""
Shard: TypeAlias = tuple[View, Varied | None]
"""Examples in memory, and how each is varied."""


class Shards(Sequence[Shard]):
    """The examples of a view, divided; what a shard holds is read when it is asked for."""

    def __init__(self, view: View, varied: Varied | None, output_bytes: float):
        """Divides the examples.

        Args:
            view: the examples.
            varied: how each is varied.
            output_bytes: of what comes back for one example.
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
    """A network's forward pass as `features.forward_pass.Spread` computes it, on the workers of a pool."""

    def __init__(self, network: keras.Model, precision: Precision, pool: Pool, runtime: Runtime):
        """Args:

        network: as it is now.
        precision: in which its layers compute.
        pool: of the workers.
        runtime: library that computes.
        """
        modules = {type(layer).__module__ for layer in network._flatten_layers()}
        self._make = functools.partial(
            make_worker, pickle.dumps(network), modules, precision, is_rewritten(precision), _CODE, runtime
        )
        self._output_shapes = [tensor.shape for tensor in network.outputs]
        self._pool = pool

    def outputs(self, view: View, varied: Varied | None = None) -> Iterator[list[np.ndarray]]:
        """Computes batch after batch; see `features.forward_pass.Spread.outputs`."""
        size = sum(_row_bytes(shape, np.dtype(np.float32), view) for shape in self._output_shapes)
        for batches in self._pool.in_order(self._make, Shards(view, varied, size)):
            yield from batches


def make_worker(
    network: bytes, modules: set[str], precision: Precision, rewritten: bool, code: str, runtime: Runtime
) -> Callable[[Shard], list[list[np.ndarray]]]:
    """Makes the function of a worker that computes a shard, batch after batch.

    Args:
        network: pickled.
        modules: where its layers are defined.
        precision: in which its layers compute.
        rewritten: whether TensorFlow rewrites graphs to it on the machine of the command.
        code: digest of the code that computes, there.
        runtime: library that computes.

    Raises:
        RunError: this machine computes otherwise.
    """
    if (_CODE, is_rewritten(precision)) != (code, rewritten):
        raise RunError("A worker's machine computes otherwise than this one: its code or its devices are others.")
    custom_file()  # which may define what layers have within them
    for name in (models.own_layers.__name__, *modules):
        importlib.import_module(name)
    keras.utils.set_random_seed(0)  # which the next line wants
    tf.config.experimental.enable_op_determinism()
    spread = Spread(runtime_function(pickle.loads(network), precision, runtime), tf.distribute.get_strategy())

    def run(shard: Shard) -> list[list[np.ndarray]]:
        with convolutions_in(precision):
            return list(spread.outputs(*shard))

    return run


def _row_bytes(shape: Sequence[int | None], dtype: np.dtype, view: View) -> float:
    """Returns the bytes of one example; of rows that differ in length, of one of mean length."""
    length = float(view.lengths.mean()) if view.is_ragged and len(view.rows) else 1.0
    return dtype.itemsize * math.prod(length if size is None else size for size in shape[1:])


_CODE = code_digest(take_rows, View, input_batches, computing_in, Spread, runtime_function)
"""Code that computes, which all machines need alike."""
