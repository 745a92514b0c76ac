"""Batch-dependent layers under data parallelism.

Left alone, every replica would take the statistics of its own part, and drop the same places in it as the others do.
"""

import contextlib
from collections.abc import Callable, Iterator

import keras
import tensorflow as tf


@contextlib.contextmanager
def as_one_batch(model: keras.Model, replicas: int) -> Iterator[None]:
    """Lets a model learn from the parts of a batch as from the whole, in every graph that is traced while a block runs.

    BatchNorm layers that learn take the statistics of all replicas. Dropout draws for the whole batch, and each replica
    takes its rows of that: what is dropped is what one device drops. Parts are of one size; a single replica needs
    nothing.
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
            del layer.call  # the one of its class shows again


def flat_layers(model: keras.Model) -> list[keras.Layer]:
    """Returns all layers of a model that are no models themselves, those within its layers included."""
    return [layer for layer in model._flatten_layers(include_self=False) if not isinstance(layer, keras.Model)]


def _dropping_for_all(drop: Callable[..., tf.Tensor], replicas: int) -> Callable[..., tf.Tensor]:
    """A dropout for a part of a batch, from one for the whole."""

    def call(inputs: tf.Tensor, training: bool = False) -> tf.Tensor:
        rows = tf.shape(inputs)[0]
        number = tf.distribute.get_replica_context().replica_id_in_sync_group
        factors = drop(tf.ones(tf.stack([rows * replicas, *inputs.shape[1:]]), inputs.dtype), training=training)
        return inputs * factors[number * rows : (number + 1) * rows]

    return call
