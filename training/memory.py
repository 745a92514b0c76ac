"""How much memory a training step takes, and how much there is."""

import contextlib
import math
import os
from pathlib import Path

import keras
import tensorflow as tf

from terminal import show_stage


def warn_of_memory(model: keras.Model, batch_size: int) -> None:
    """Says it if a batch needs more memory than the machine has: the system then kills the process without a word.

    A step keeps what each layer makes of the batch: MobileNet takes 19 MiB more for each picture of 128 px, and its
    layers make 21; ResNet50 takes 30, and they make 46. On a GPU there is an error, and the batch is halved.

    Args:
        model: what is trained.
        batch_size: pictures per step.
    """
    needed = 4 * batch_size * sum(math.prod(layer.output.shape[1:]) for layer in model.layers)
    present = _physical_memory()
    if present is not None and needed > present and not tf.config.list_physical_devices("GPU"):
        show_stage(
            "warning",
            f"a batch of {batch_size} takes up to {needed / 2**30:,.0f} GiB of memory, and {present / 2**30:,.0f} GiB "
            f"are there: if the process is killed, choose a smaller --batch-size",
        )


def _physical_memory() -> int | None:
    """Bytes of memory that the process may have, as far as the system says it: of the machine, or of its container."""
    with contextlib.suppress(OSError, ValueError):
        return int(Path("/sys/fs/cgroup/memory.max").read_text())
    with contextlib.suppress(AttributeError, OSError, ValueError):  # Windows has none of these
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return None
