"""Memory that a training step takes, disk that the frozen layers' results take, and what there is of both."""

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
    """Says so if a step may exceed memory: the system then kills the process without a word.

    A step keeps what each layer makes of the batch: MobileNet takes 19 MiB more for each photo of 128 px, and its
    layers make 21; ResNet50 takes 30, and they make 46. On a GPU there is an error, and the batch is halved.

    Args:
        model: what is trained.
        batch_size: examples per step.
        longest: length of the longest example, where they differ in it.
    """
    shapes = [layer.output.shape[1:] for layer in model.layers]
    needed = 4 * batch_size * sum(math.prod(longest if size is None else size for size in shape) for shape in shapes)
    present = _physical_memory()
    if present is not None and needed > present and not tf.config.list_physical_devices("GPU"):
        return (
            f"a batch of {batch_size} takes up to {needed / 2**30:,.0f} GiB of memory, and {present / 2**30:,.0f} GiB "
            f"are there"
        )
    return None


def check_room(
    cuts: Mapping[Use, Cut],
    views: Mapping[Use, int],
    data: Data,
    store: Store,
    strategy: tf.distribute.Strategy,
) -> None:
    """Makes sure that there is room for what the frozen layers make of the examples, before it is computed.

    So the room decides whether a run starts, and never what it learns. Vectors are kept in memory where there is none.

    Args:
        cuts: where the network is cut for each use.
        views: number of views of each use.
        data: the examples.
        store: where their tensors will be.
        strategy: whose chief looks at the disk.

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
    """Bytes of memory that the process may have, as far as the system says it: of the machine, or of its container."""
    with contextlib.suppress(OSError, ValueError):
        return int(Path("/sys/fs/cgroup/memory.max").read_text())
    with contextlib.suppress(AttributeError, OSError, ValueError):  # Windows has none of these
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return None


def check_disk(folder: Path, model: keras.Model) -> None:
    """Makes sure that the model and two checkpoints of its training fit on the disk: weights, moments, best weights."""
    needed = 4 * model.count_params() * (2 + 2 * 4)
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise RunError(
            f"A run of this network needs up to {needed / 2**20:,.0f} MiB in '{folder}', which has {free / 2**20:,.0f} "
            f"MiB left. Make room, or choose another --output."
        )
