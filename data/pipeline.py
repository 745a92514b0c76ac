"""tf.data pipelines, whose order and variation depend on (seed, epoch, example) alone.

So a run can be repeated, or resumed from any epoch, to the bit. Augmentation happens here and not in layers, so the
saved model does not contain it.
"""

import functools
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from data.batches import Batch, Examples, View, reader
from data.kinds import Vary
from devices.replicas import Part

PARALLEL_READS = 2
BATCHES_SORTED = 16
"""Number of batches whose examples are sorted together by length."""
PREFETCHED = 2
"""Prefetched batches. By its own choice, TensorFlow prefetches gigabytes of examples for a slow network."""


class Varied(NamedTuple):
    """One random variation of some examples."""

    apply: Callable[[Batch, tf.Tensor], Batch]
    """Function that varies a batch by its draws."""
    draws: np.ndarray
    """Random numbers that decide how each example is varied, float32 (n, draws) in [0, 1)."""
    uses: tuple[Callable, ...] = ()
    """As in `Vary`."""


def training_batches(
    examples: Examples,
    *,
    batch_size: int,
    seed: int,
    epochs: range,
    first_step: int = 0,
    vary: Vary | None = None,
    part: Part | None = None,
) -> tf.data.Dataset:
    """Makes batches of shuffled examples for consecutive epochs; no batch spans two.

    Each epoch takes the next view of an example; examples start at different views.

    Args:
        examples: to learn from.
        batch_size: examples per batch; the last of an epoch may have fewer.
        seed: seed of order and variation.
        epochs: numbers of the epochs; each has its own order and its own variation.
        first_step: batches of the first epoch to skip, because a resumed run has learnt from them.
        vary: how to vary the examples anew in each epoch; None leaves them as they are.
        part: replicas whose shards of each batch to return, one after the other; None returns whole batches.

    Returns:
        Batches of (inputs, targets, weights); a weight is the share of an example in the mean of its batch: its sample
        weight divided by the number of examples in the batch.
    """
    count, read = len(examples.targets), reader(examples, part)
    lengths = examples.views[0].lengths if examples.views[0].is_ragged else None

    def load(epoch: tf.Tensor, positions: tf.Tensor, shares: tf.Tensor) -> tuple[Batch, tf.Tensor, tf.Tensor]:
        if lengths is None:
            indices = tf.random.experimental.index_shuffle(positions, tf.stack([seed, epoch]), count - 1)
        else:
            order = functools.lru_cache(maxsize=2)(functools.partial(_alike_in_length, lengths, batch_size, seed))
            indices = tf.numpy_function(
                lambda number, chosen: order(int(number))[chosen],
                [epoch, positions],
                tf.int64,
                stateful=False,
            )
            indices = tf.ensure_shape(indices, positions.shape)
        batch, targets, sample_weights = read(indices, epoch)
        if vary is not None:
            draws = tf.numpy_function(
                lambda number, chosen: variation(vary, seed, int(number), count).draws[chosen],
                [epoch, indices],
                tf.float32,
                stateful=False,
            )
            draws = tf.ensure_shape(draws, (positions.shape[0], vary.draws))
            batch = vary.apply(batch, draws)
            targets = targets if vary.move is None else vary.move(targets, draws)
        return batch, targets, sample_weights * shares

    def batches_of(epoch: tf.Tensor) -> tf.data.Dataset:
        skipped = tf.where(epoch == epochs.start, tf.constant(first_step, tf.int64), 0)
        dealt = _deal(tf.data.Dataset.range(count).batch(batch_size).skip(skipped), batch_size, part)
        return dealt.map(functools.partial(load, epoch), num_parallel_calls=PARALLEL_READS)

    return _prefetched(tf.data.Dataset.range(epochs.start, epochs.stop).flat_map(batches_of))


def evaluation_batches(examples: Examples, batch_size: int, part: Part | None = None) -> tf.data.Dataset:
    """Makes batches of examples in order, each once, in its first view; the last batch may be smaller.

    Args:
        examples: to evaluate on.
        batch_size: examples per batch.
        part: see `training_batches`.

    Returns:
        Batches of (inputs, targets, weights), see `training_batches`.
    """
    read = reader(examples._replace(views=examples.views[:1]), part)

    def load(positions: tf.Tensor, shares: tf.Tensor) -> tuple[Batch, tf.Tensor, tf.Tensor]:
        batch, targets, sample_weights = read(positions, 0)
        return batch, targets, sample_weights * shares

    dealt = _deal(tf.data.Dataset.range(len(examples.targets)).batch(batch_size), batch_size, part)
    return _prefetched(dealt.map(load, num_parallel_calls=PARALLEL_READS))


def input_batches(
    view: View, batch_size: int, varied: Varied | None = None, part: Part | None = None
) -> tf.data.Dataset:
    """Makes batches of inputs in order; the last may be smaller.

    Args:
        view: examples, or outputs of a network.
        batch_size: examples per batch.
        varied: random variation of the view; None leaves the examples as they are.
        part: see `training_batches`.

    Returns:
        Batches of inputs, see `Batch`.
    """
    count = len(view.rows)
    draws = np.zeros((count, 0), np.float32) if varied is None else varied.draws
    batches = evaluation_batches(Examples([view], draws, np.ones(count, np.float32)), batch_size, part)
    if varied is None:
        return batches.map(lambda batch, *_: batch)
    # Varied while the network computes the previous batch.
    return _prefetched(batches.map(lambda batch, draws, _: varied.apply(batch, draws)))


def _alike_in_length(lengths: np.ndarray, batch_size: int, seed: int, epoch: int) -> np.ndarray:
    """Returns a shuffled order, int64 (n,), in which the examples of a batch have similar lengths.

    Examples are sorted within chunks of a few batches, and the batches are then shuffled. Padding is wasted
    computation: half of all for texts in random order.
    """
    random = np.random.default_rng((seed, epoch))
    order = random.permutation(len(lengths))
    chunk = batch_size * BATCHES_SORTED
    pieces = []
    for start in range(0, len(order), chunk):
        part = order[start : start + chunk]
        part = part[np.argsort(lengths[part], kind="stable")]
        batches = [part[first : first + batch_size] for first in range(0, len(part), batch_size)]
        full, rest = (batches, []) if len(batches[-1]) == batch_size else (batches[:-1], batches[-1:])
        pieces += [full[number] for number in random.permutation(len(full))] + rest
    return np.concatenate(pieces)


@functools.lru_cache(maxsize=2)
def variation(vary: Vary, seed: int, number: int, count: int) -> Varied:
    """Draws a variation of `count` examples; the draws of the first ones do not depend on how many follow.

    Args:
        vary: how examples of a kind are varied.
        seed: seed of the run.
        number: number of the epoch or of the view.
        count: number of examples.
    """
    draws = np.random.default_rng((seed, number)).random((count, vary.draws), np.float32)
    return Varied(vary.apply, draws, vary.uses)


def _deal(batches: tf.data.Dataset, batch_size: int, part: Part | None) -> tf.data.Dataset:
    """Deals batches of positions to the replicas that a pipeline feeds.

    Args:
        batches: batches of positions, int64 (at most batch_size,).
        batch_size: size of all batches but the last.
        part: which replicas; None for a single one, which takes whole batches.

    Returns:
        Positions, and the share of each in the mean of its batch: 1 / examples, or 0 for repeated ones, which fill up a
        shard.
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

    TensorFlow's tuning is off: its thread sleeps for 10 ms, 20, 40 and so on, and a pipeline ends only when it wakes,
    which makes an epoch up to twice as long.
    """
    options = tf.data.Options()
    options.autotune.enabled = False
    return batches.prefetch(PREFETCHED).with_options(options)
