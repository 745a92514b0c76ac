"""tf.data pipelines: order and augmentation depend on (seed, epoch, picture) alone.

So a run can be repeated, or continued from any epoch, to the bit. Augmentation happens here and not in layers, so that
the saved model has none of it.
"""

import functools
import gc
import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from data.arrays import release
from data.images.augment import NUM_DRAWS, augment_pictures
from devices.replicas import Part

PARALLEL_READS = 2
PREFETCHED = 2
"""Batches that wait. Left to itself, TensorFlow keeps gigabytes of pictures waiting for a slow network."""
MOST_IN_MEMORY = 2**30
"""Bytes of vectors that are kept in memory to pick from: Python takes longer to read them than a step on them takes."""
LARGE = 2**24
"""Bytes of vectors that are worth the tenth of a second in which Python looks for those no longer used."""


class View(NamedTuple):
    """One version of some pictures. The values are not copied: they may be larger than memory."""

    values: np.ndarray
    """(m, ...): uint8 pictures (height, width, 3), or what a network makes of them in float32 or float16."""
    rows: np.ndarray
    """Which of the values, in order, int64 (n,)."""


class Examples(NamedTuple):
    """What is learnt from or judged by."""

    views: Sequence[View]
    """Versions of the same n pictures, in dtypes that may differ; an epoch takes one of each picture."""
    targets: np.ndarray
    """float32 (n, num_outputs)."""
    sample_weights: np.ndarray
    """float32 (n,)."""


def training_batches(
    examples: Examples,
    *,
    batch_size: int,
    seed: int,
    epochs: range,
    first_step: int = 0,
    augment: bool = False,
    part: Part | None = None,
) -> tf.data.Dataset:
    """Batches of shuffled examples for several epochs, one after the other; no batch spans two.

    Each epoch takes the next view of a picture, starting from another one for each picture.

    Args:
        examples: what is learnt from.
        batch_size: examples per batch; the last of an epoch may have fewer.
        seed: seed of order and augmentation.
        epochs: numbers of the epochs; each has its own order and its own augmentation.
        first_step: batches of the first of these epochs that are left out, as they were learnt from before.
        augment: whether to vary the pictures anew in each epoch.
        part: of every batch, one replica after the other; None makes whole batches.

    Returns:
        Batches of (float32 inputs, targets, weights): what each example counts in the mean of its batch, which is its
        sample weight over the examples of the batch.
    """
    count, read = len(examples.targets), _reader(examples)

    def load(epoch: tf.Tensor, positions: tf.Tensor, shares: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        indices = tf.random.experimental.index_shuffle(positions, tf.stack([seed, epoch]), count - 1)
        batch, targets, sample_weights = read(indices, epoch)
        if augment:
            draws = tf.numpy_function(
                lambda number, chosen: augmentation_draws(seed, int(number), count)[chosen],
                [epoch, indices],
                tf.float32,
                stateful=False,
            )
            batch = augment_pictures(batch, tf.ensure_shape(draws, (positions.shape[0], NUM_DRAWS)))
        return batch, targets, sample_weights * shares

    def batches_of(epoch: tf.Tensor) -> tf.data.Dataset:
        skipped = tf.where(epoch == epochs.start, tf.constant(first_step, tf.int64), 0)
        dealt = _deal(tf.data.Dataset.range(count).batch(batch_size).skip(skipped), batch_size, part)
        return dealt.map(functools.partial(load, epoch), num_parallel_calls=PARALLEL_READS)

    return _prefetched(tf.data.Dataset.range(epochs.start, epochs.stop).flat_map(batches_of))


def evaluation_batches(examples: Examples, batch_size: int, part: Part | None = None) -> tf.data.Dataset:
    """Batches of examples in order, each once, in its first view, the last batch as small as it is.

    Args:
        examples: what is judged by.
        batch_size: examples per batch.
        part: of every batch; see `training_batches`.

    Returns:
        Batches of (float32 inputs, targets, weights), as `training_batches`.
    """
    read = _reader(examples._replace(views=examples.views[:1]))

    def load(positions: tf.Tensor, shares: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        batch, targets, sample_weights = read(positions, 0)
        return batch, targets, sample_weights * shares

    dealt = _deal(tf.data.Dataset.range(len(examples.targets)).batch(batch_size), batch_size, part)
    return _prefetched(dealt.map(load, num_parallel_calls=PARALLEL_READS))


def input_batches(
    view: View, batch_size: int, draws: np.ndarray | None = None, part: Part | None = None
) -> tf.data.Dataset:
    """Batches of inputs in order, the last as small as it is.

    Args:
        view: pictures, or what a network makes of them.
        batch_size: inputs per batch.
        draws: from `augmentation_draws`, for each picture of the view, which are then varied by them.
        part: of every batch, one replica after the other; None makes whole batches.

    Returns:
        float32 batches (batch_size, ...); pictures in [0, 255].
    """
    count = len(view.rows)
    beside = np.zeros((count, 0), np.float32) if draws is None else draws
    batches = evaluation_batches(Examples([view], beside, np.ones(count, np.float32)), batch_size, part)
    if draws is None:
        return batches.map(lambda batch, *_: batch)
    # Varied while the network computes the batch before.
    return _prefetched(batches.map(lambda batch, beside, _: augment_pictures(batch, beside)))


@functools.lru_cache(maxsize=2)
def augmentation_draws(seed: int, number: int, count: int) -> np.ndarray:
    """Draws what decides the augmentation of `count` pictures; the first of them do not depend on how many follow.

    Args:
        seed: seed of the run.
        number: of the epoch, or of the view.
        count: pictures.

    Returns:
        float32 (count, NUM_DRAWS) in [0, 1).
    """
    return np.random.default_rng((seed, number)).random((count, NUM_DRAWS), np.float32)


def _deal(batches: tf.data.Dataset, batch_size: int, part: Part | None) -> tf.data.Dataset:
    """Batches of positions, dealt to the replicas that a pipeline feeds.

    Args:
        batches: int64 (at most batch_size,).
        batch_size: of those that are not the last.
        part: which replicas; None for one that takes the batches as they are.

    Returns:
        Positions, and the share of each in the mean of its batch: 1 / examples, or 0 for those that come again.
    """
    if part is None:
        return batches.map(lambda positions: (positions, tf.fill(tf.shape(positions), _share(positions))))
    rows = -(-batch_size // part.replicas)
    places = np.arange(part.first * rows, (part.first + part.num_fed) * rows).reshape(part.num_fed, rows)

    def deal(positions: tf.Tensor) -> tf.data.Dataset:
        count = tf.size(positions)
        shares = tf.where(places < count, _share(positions), 0.0)
        return tf.data.Dataset.from_tensor_slices((tf.gather(positions, places % count), shares))

    return batches.flat_map(deal)


def _share(positions: tf.Tensor) -> tf.Tensor:
    return 1 / tf.cast(tf.size(positions), tf.float32)


def _prefetched(batches: tf.data.Dataset) -> tf.data.Dataset:
    """Prepares the next batches while one is used.

    Without TensorFlow's tuning: its thread sleeps for 10 ms, 20, 40 and so on, and a pipeline only ends when it wakes,
    which makes a pass up to twice as long.
    """
    options = tf.data.Options()
    options.autotune.enabled = False
    return batches.prefetch(PREFETCHED).with_options(options)


def _reader(examples: Examples) -> Callable[..., tuple[tf.Tensor, tf.Tensor, tf.Tensor]]:
    """Makes what reads a batch, from indices and the number of the epoch: inputs, targets and sample weights."""
    shape = examples.views[0].values.shape[1:]
    size = 4 * math.prod(shape) * len(examples.targets) * len(examples.views)
    if len(shape) > 1 or size > MOST_IN_MEMORY:
        return functools.partial(_read, examples)
    if size > LARGE:
        gc.collect()  # a pipeline that is no longer used holds its vectors by a circle of references
    with tf.device("CPU:0"):  # where pipelines run
        inputs = tf.constant(np.stack([view.values[view.rows] for view in examples.views]), tf.float32)
        targets, sample_weights = tf.constant(examples.targets), tf.constant(examples.sample_weights)

    def pick(indices: tf.Tensor, epoch: tf.Tensor | int) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        places = tf.stack([(indices + epoch) % len(examples.views), indices], axis=1)
        return tf.gather_nd(inputs, places), tf.gather(targets, indices), tf.gather(sample_weights, indices)

    return pick


def _read(examples: Examples, indices: tf.Tensor, epoch: tf.Tensor | int) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """Reads a batch by Python, so that no array becomes a constant of the graph, which may not exceed 2 GB."""
    shape = examples.views[0].values.shape[1:]
    dtype = np.result_type(*(view.values for view in examples.views))

    def read(chosen: np.ndarray, epoch: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        inputs = np.empty((len(chosen), *shape), dtype)
        for number, view in enumerate(examples.views):
            of_view = (chosen + epoch) % len(examples.views) == number
            inputs[of_view] = view.values[view.rows[chosen[of_view]]]
            release(view.values)
        return inputs, examples.targets[chosen], examples.sample_weights[chosen]

    dtypes = [dtype, tf.float32, tf.float32]
    inputs, targets, sample_weights = tf.numpy_function(read, [indices, epoch], dtypes, stateful=False)
    return (
        tf.cast(tf.ensure_shape(inputs, (*indices.shape, *shape)), tf.float32),
        tf.ensure_shape(targets, (*indices.shape, *examples.targets.shape[1:])),
        tf.ensure_shape(sample_weights, indices.shape),
    )
