"""Shards batches over the replicas of a network, on the devices of one machine or of several.

It works for any `tf.distribute.Strategy`; with one replica, batches stay whole.
"""

import hashlib
import json
from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar

import numpy as np
import tensorflow as tf

from app.errors import UsageError

Decision = TypeVar("Decision")


class Part(NamedTuple):
    """Shard of every batch that one pipeline makes, if several replicas share the batches.

    Every replica gets the same number of rows in every batch, so shapes are static. A smaller batch is filled up by
    repeated rows with a weight of 0; only the statistics of a trained BatchNorm notice them.
    """

    replicas: int
    """Number of replicas that share a batch."""
    first: int
    """Number of the first replica that this pipeline feeds."""
    num_fed: int
    """Number of replicas that this pipeline feeds."""

    @classmethod
    def of(cls, context: tf.distribute.InputContext) -> "Part":
        """Returns the part for the pipeline of a worker."""
        count = context.num_replicas_in_sync // context.num_input_pipelines
        return cls(context.num_replicas_in_sync, context.input_pipeline_id * count, count)


def is_shared(strategy: tf.distribute.Strategy) -> bool:
    """Returns True if batches are sharded over replicas, in static shapes: with several replicas, and on TPUs."""
    return strategy.num_replicas_in_sync > 1 or isinstance(strategy, tf.distribute.TPUStrategy)


def distribute(
    strategy: tf.distribute.Strategy, make: Callable[..., tf.data.Dataset]
) -> tf.data.Dataset | tf.distribute.DistributedDataset:
    """Makes batches for all replicas; `make` makes a pipeline, given a `Part` of each batch, or None for whole ones."""
    return strategy.distribute_datasets_from_function(
        lambda context: make(part=Part.of(context) if is_shared(strategy) else None)
    )


def has_workers(strategy: tf.distribute.Strategy) -> bool:
    """Returns True if several processes train together."""
    return isinstance(strategy, tf.distribute.MultiWorkerMirroredStrategy)


def is_chief(strategy: tf.distribute.Strategy) -> bool:
    """Returns True if this process writes files: the first of several, or the only one."""
    return not has_workers(strategy) or strategy.extended.should_checkpoint


def chief_decides(strategy: tf.distribute.Strategy, decide: Callable[[], Decision]) -> Decision:
    """Returns in all workers the result of the chief's `decide`, a JSON value; the others wait and do not call it."""
    if not has_workers(strategy):
        return decide()
    text = json.dumps(decide()).encode() if is_chief(strategy) else b""
    size = int(_from_chief(strategy, np.array(len(text))))
    return json.loads(_from_chief(strategy, np.frombuffer(text.ljust(size), np.uint8)).astype(np.uint8).tobytes())


def wait_for_workers(strategy: tf.distribute.Strategy) -> None:
    """Waits until every worker has reached this point."""
    chief_decides(strategy, lambda: None)


def check_alike(strategy: tf.distribute.Strategy, state: Any) -> None:
    """Raises a UsageError unless the `repr` of a state is the same in all workers."""
    mine = hashlib.sha256(repr(state).encode()).hexdigest()
    if chief_decides(strategy, lambda: mine) != mine:
        raise UsageError(
            "The workers do not start from the same state: all need the same flags, and shared folders for --data, "
            "--cache-dir and --output."
        )


def _from_chief(strategy: tf.distribute.Strategy, values: np.ndarray) -> np.ndarray:
    """Returns the chief's whole numbers, int64, in all workers; each must pass an array of the same size."""
    of_replicas = strategy.experimental_distribute_values_from_function(
        lambda context: tf.constant(values * (context.replica_id_in_sync_group == 0), tf.int64)
    )
    return strategy.reduce(tf.distribute.ReduceOp.SUM, of_replicas, axis=None).numpy()
