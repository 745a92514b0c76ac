"""Pictures per second through the frozen part, against plain Keras and what the machine could do at most.

`python -m benchmarks.frozen_pass resnet50 vit_small_patch16_224` runs every network up to its features, pooled as by
default: by Keras' `predict`, as `tf.function` runs a model that is not folded, and in both precisions and runtimes, in
turn. Weights are random: they change nothing about the speed. The gains over `predict` and over the folded network in
float32 are medians of the rounds.
"""

import argparse
import importlib.util
import statistics
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

from app.cli import run_command
from benchmarks.machine import Machine, measure_machine
from models.backbones import find

if TYPE_CHECKING:
    import keras
    import tensorflow as tf

SECONDS = 3.0
"""How long each candidate runs at a time."""
ROUNDS = 5
PREDICTED = 4
"""Batches for a call of `predict`, which costs 50 ms by itself."""


class Measured(NamedTuple):
    """A way to compute a network."""

    label: str
    rate: float
    """Pictures per second in the best round."""
    share: float
    """Fraction of the machine's peak in this precision."""
    over_predict: float
    """Times the rate of Keras' `predict`."""
    over_folded: float
    """Times the rate of the folded network in float32."""


def main() -> None:
    """Measures the networks named on the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("backbones", nargs="+")
    parser.add_argument("--image-size", type=int, help="pixels; default: what each backbone was trained at")
    flags = parser.parse_args()

    from app.terminal import import_tensorflow

    import_tensorflow()
    machine = measure_machine()
    for name in flags.backbones:
        for found in measure(name, flags.image_size or find(name).image_size, machine):
            numbers = f"{found.rate:8,.1f} pictures/s  {found.share:5.0%} of the peak"
            gains = f"{found.over_predict:5.2f}x predict  {found.over_folded:5.2f}x folded"
            print(f"{name:<22} {found.label:<18} {numbers}  {gains}", flush=True)


def measure(name: str, image_size: int, machine: Machine) -> list[Measured]:
    """Measures one network.

    Args:
        name: of the backbone.
        image_size: height and width of the pictures, pixels.
        machine: its limits.
    """
    import keras
    import numpy as np
    import tensorflow as tf

    from devices.precision import Precision
    from features.cuts import find_cuts
    from features.forward_pass import BATCH_SIZE, convolutions_in
    from features.runtimes import runtime_function
    from models import backbones

    backbone = find(name)
    parts = backbones.build(backbone, image_size)
    pool = parts.pooling[backbone.family.pooling[0]](name="features")
    model = keras.Model(parts.model.inputs[0], pool(parts.model.output))
    whole = parts.whole or parts.model
    usual = keras.Model(whole.inputs[0], pool(whole.output))
    macs = find_cuts(parts.model)[-1].macs_before
    batch = tf.random.uniform((BATCH_SIZE, image_size, image_size, 3), 0, 255)
    pictures = np.concatenate(PREDICTED * [batch.numpy()])
    plain = tf.function(lambda pictures: model(pictures, training=False), autograph=False)
    candidates: dict[str, tuple[Precision, Callable]] = {
        "predict": ("float32", lambda _: usual.predict(pictures, BATCH_SIZE, verbose=0)),
        "tf.function": ("float32", plain),
        "folded": ("float32", runtime_function(model, "float32", "tensorflow")),
        "folded, bfloat16": ("mixed_bfloat16", runtime_function(model, "mixed_bfloat16", "tensorflow")),
    }
    if importlib.util.find_spec("openvino") is not None:
        candidates["openvino"] = ("float32", runtime_function(model, "float32", "openvino"))
        candidates["openvino, bfloat16"] = ("mixed_bfloat16", runtime_function(model, "mixed_bfloat16", "openvino"))
    rates: dict[str, list[float]] = {label: [] for label in candidates}
    for _ in range(ROUNDS):
        for label, (precision, compute) in candidates.items():
            with convolutions_in(precision):
                calls = _calls_per_second(lambda compute=compute: compute(batch))
                rates[label].append(calls * (len(pictures) if label == "predict" else BATCH_SIZE))

    def gain(label: str, over: str) -> float:
        return statistics.median(rate / other for rate, other in zip(rates[label], rates[over], strict=True))

    return [
        Measured(
            label,
            max(rates[label]),
            max(rates[label]) * 2 * macs / machine.flops[precision],
            gain(label, "predict"),
            gain(label, "folded"),
        )
        for label, (precision, _) in candidates.items()
    ]


def frozen_layers(model: "keras.Model") -> "tuple[Callable[..., Any], tf.Tensor]":
    """Returns the function of a model up to its pooled features, and a batch of random pictures for it."""
    import keras
    import tensorflow as tf

    from features.forward_pass import BATCH_SIZE, frozen_function

    function = frozen_function(keras.Model(model.inputs, model.get_layer("pooling").output))
    return function, tf.random.uniform((BATCH_SIZE, *model.input_shape[1:]), 0, 255)


def _calls_per_second(work: Callable) -> float:
    _finish(outputs := work())
    started, calls = time.perf_counter(), 0
    while time.perf_counter() - started < SECONDS:
        outputs = work()
        calls += 1
    _finish(outputs)
    return calls / (time.perf_counter() - started)


def _finish(outputs: Any) -> None:
    """Waits for what a device may still compute."""
    import keras
    import numpy as np

    keras.tree.map_structure(np.asarray, outputs)


if __name__ == "__main__":
    run_command(main)
