"""Compares the memory of a training step and the disk for outputs of frozen layers with what the machine has."""

import contextlib
import math
import os
import shutil
from collections.abc import Mapping
from pathlib import Path

import keras
import tensorflow as tf

from app.errors import RunError, UsageError
from data.batches import View
from data.prepare import Data
from data.store import Store
from devices.replicas import chief_decides
from features.cuts import Cut
from training.cuts import Use, unique_cuts
from training.frozen import kept_examples


def lacks_memory(model: keras.Model, batch_size: int, longest: int) -> str | None:
    """Returns a warning if a step may exceed memory, for which a system kills the process without a message.

    A step keeps the output of every layer: per photo of 128 px, MobileNet takes 19 MiB (its outputs have 21), and
    ResNet50 takes 30 (46). On a GPU there is an error instead, and the batch is halved.

    Args:
        model: model to train.
        batch_size: examples per step.
        longest: length of the longest example, if they differ in length.
    """
    shapes = [tensor.shape[1:] for layer in model.layers for tensor in keras.tree.flatten(layer.output)]
    needed = 4 * batch_size * sum(math.prod(longest if size is None else size for size in shape) for shape in shapes)
    present = _physical_memory()
    if present is not None and needed > present and not tf.config.list_physical_devices("GPU"):
        return (
            f"a batch of {batch_size} takes up to {needed / 2**30:,.0f} GiB of memory, and the machine has "
            f"{present / 2**30:,.0f} GiB"
        )
    return None


def check_room(
    cuts: Mapping[Use, Cut],
    views: Mapping[Use, int],
    data: Data,
    store: Store,
    strategy: tf.distribute.Strategy,
) -> None:
    """Makes sure that there is room for the outputs of the frozen layers, before they are computed.

    So room decides whether a run starts, never what it learns. Without room, vectors are kept in memory.

    Args:
        cuts: cut for each key.
        views: number of views for each key.
        data: the examples.
        store: store for the tensors.
        strategy: strategy, whose chief checks the disk.

    Raises:
        UsageError: the limit of the store is too low.
        RunError: the disk is too full.
    """
    positions = kept_examples(data)
    kept, train = len(positions), len(data.splits["train"])
    length = float(View(data.inputs, positions).lengths.mean())
    needed = sum(
        kept * cut.size(half=False, length=length)
        + (max(views[use] for use, other in cuts.items() if other.layer == cut.layer) - 1)
        * train
        * cut.size(half=True, length=length)
        for cut in unique_cuts(cuts)
    )
    room = chief_decides(strategy, store.room)
    if needed <= min(store.limit, room) or all(cut.has_vectors for cut in cuts.values()):
        return
    most = max(views.values())
    what = f"what the frozen layers make of {kept:,} {data.kind.nouns}{f' in {most} views' if most > 1 else ''}"
    choices = (
        f"{'--views 1, ' if most > 1 else ''}--trainable-layers 0, or --fine-tune-augment fresh, which runs the whole "
        f"network instead"
    )
    least = math.ceil(needed / 1e7) / 100
    if needed > store.limit:
        raise UsageError(
            f"--cache-gb must be at least {least:g} for {what}; received {store.limit / 1e9:g}. Raise it, or choose "
            f"{choices}."
        )
    raise RunError(
        f"The disk of '{store.folder}' has {room / 1e9:.2f} GB left for {what}, which takes {least:g}. Make room, or "
        f"choose another --cache-dir, {choices}."
    )


def _physical_memory() -> int | None:
    """Returns the memory of the machine or its container, bytes; None if the system does not say."""
    with contextlib.suppress(OSError, ValueError):
        return int(Path("/sys/fs/cgroup/memory.max").read_text())
    with contextlib.suppress(AttributeError, OSError, ValueError):  # Windows lacks these
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return None


def check_disk(folder: Path, model: keras.Model) -> None:
    """Makes sure that the model and two checkpoints (weights, moments, best weights) fit on the disk."""
    needed = 4 * model.count_params() * (2 + 2 * 4)
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise RunError(
            f"A run of this network needs up to {needed / 2**20:,.0f} MiB in '{folder}', which has {free / 2**20:,.0f} "
            f"MiB left. Make room, or choose another --output."
        )
