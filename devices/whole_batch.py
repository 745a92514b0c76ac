"""Batch-dependent layers under data parallelism.

Without this, BatchNorm would use only the statistics of each replica's own shard, and dropout would drop the same
positions in every shard.
"""

import contextlib
from collections.abc import Callable, Iterator

import keras
import tensorflow as tf


@contextlib.contextmanager
def as_one_batch(model: keras.Model, replicas: int) -> Iterator[None]:
    """Makes training on shards equal to training on the whole batch, in every graph traced while a block runs.

    Trainable BatchNorm layers use the statistics of all replicas. Dropout draws for the whole batch, and each replica
    takes its rows, so the same values are dropped as on one device. Shards have equal sizes; a single replica needs no
    change.
    """
    layers = flat_layers(model) if replicas > 1 else []
    batch_norms = [layer for layer in layers if isinstance(layer, keras.layers.BatchNormalization) and layer.trainable]
    dropouts = [layer for layer in layers if isinstance(layer, keras.layers.Dropout)]
    for layer in batch_norms:
        layer.synchronized = True
    for layer in dropouts:
        layer.call = _dropping_for_all(layer.call, replicas)
    try:
        yield
    finally:
        for layer in batch_norms:
            layer.synchronized = False
        for layer in dropouts:
            del layer.call  # restores the method of the class


def flat_layers(model: keras.Model) -> list[keras.Layer]:
    """Returns all layers of a model that are not models themselves, including nested ones."""
    return [layer for layer in model._flatten_layers(include_self=False) if not isinstance(layer, keras.Model)]


def _dropping_for_all(drop: Callable[..., tf.Tensor], replicas: int) -> Callable[..., tf.Tensor]:
    """Turns a dropout for a whole batch into one for a shard."""

    def call(inputs: tf.Tensor, training: bool = False) -> tf.Tensor:
        rows = tf.shape(inputs)[0]
        number = tf.distribute.get_replica_context().replica_id_in_sync_group
        factors = drop(tf.ones(tf.stack([rows * replicas, *inputs.shape[1:]]), inputs.dtype), training=training)
        return inputs * factors[number * rows : (number + 1) * rows]

    return call
