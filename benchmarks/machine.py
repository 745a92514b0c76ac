"""The most that the machine can do: the yardstick for every other figure. `python -m benchmarks.machine` prints it."""

import functools
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

SIDE = 4096
"""Rows and columns of the matrices whose product is timed: large enough to keep every core busy."""
REPEATS = 5


class Machine(NamedTuple):
    """Measured limits."""

    flops: dict[str, float]
    """Multiply-adds times two, per second, by precision: the best of a few matrix products."""
    bandwidth: float
    """Bytes copied in memory per second."""


def measure_machine() -> Machine:
    """Measures what `Machine` holds; about ten seconds."""
    import tensorflow as tf

    flops = {}
    for precision, dtype in (("float32", tf.float32), ("mixed_bfloat16", tf.bfloat16)):
        matrix = tf.cast(tf.random.normal((SIDE, SIDE)), dtype)
        product = tf.function(tf.matmul)
        flops[precision] = 2 * SIDE**3 / best_seconds(functools.partial(product, matrix, matrix))
    block = np.ones(2**27, np.uint8)
    return Machine(flops, block.nbytes / best_seconds(block.copy))


def decode_seconds(paths: list[Path], image_size: int) -> float:
    """Seconds that one core takes to read, decode and resize a picture, on average over some."""
    from data.images.decode import read_picture

    started = time.perf_counter()
    for path in paths:
        read_picture(path, image_size)
    return (time.perf_counter() - started) / len(paths)


def best_seconds(work: Callable[[], Any], repeats: int = REPEATS) -> float:
    """The fastest of a few calls, after one that does not count."""
    seconds = []
    for _ in range(repeats + 1):
        started = time.perf_counter()
        result = work()
        if hasattr(result, "numpy"):
            result[:1].numpy()  # waits for a device, and brings back little of what is there
        seconds.append(time.perf_counter() - started)
    return min(seconds[1:])


if __name__ == "__main__":
    from app.terminal import import_tensorflow

    import_tensorflow()
    machine = measure_machine()
    for precision, flops in machine.flops.items():
        print(f"{precision:<15} {flops / 1e9:8,.0f} GFLOP/s")
    print(f"{'copy':<15} {machine.bandwidth / 1e9:8,.1f} GB/s")
