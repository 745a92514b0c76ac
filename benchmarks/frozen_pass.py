"""Pictures per second through the frozen part, against what the machine could do at most.

`python -m benchmarks.frozen_pass resnet50 mobilenet` runs every network in both precisions and runtimes, and as
`tf.function` runs a model that is not folded, in turn. Weights are random: they change nothing about the speed. The
gain over the folded network in float32 is the median of the rounds.
"""

import argparse
import importlib.util
import statistics
import time
from collections.abc import Callable

from benchmarks.machine import Machine, measure_machine
from models.backbones import find

SECONDS = 3.0
"""How long each candidate runs at a time."""
ROUNDS = 5


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
        for label, rate, share, gain in measure(name, flags.image_size or find(name).image_size, machine):
            numbers = f"{rate:8,.1f} pictures/s  {share:5.0%} of the peak  {gain:5.2f}x"
            print(f"{name:<20} {label:<24} {numbers}", flush=True)


def measure(name: str, image_size: int, machine: Machine) -> list[tuple[str, float, float, float]]:
    """Measures one network.

    Args:
        name: of the backbone.
        image_size: height and width of the pictures, pixels.
        machine: its limits.

    Returns:
        Label, pictures per second (the best round), share of the precision's peak and gain of each candidate.
    """
    import keras
    import tensorflow as tf

    from devices.precision import Precision
    from features.cuts import find_cuts
    from features.forward_pass import BATCH_SIZE, convolutions_in, frozen_function
    from features.runtimes import OpenVino
    from models import backbones

    backbone = backbones.build(find(name), image_size).model
    model = keras.Model(backbone.inputs[0], keras.layers.GlobalAveragePooling2D()(backbone.output))
    macs = find_cuts(backbone)[-1].macs_before
    batch = tf.random.uniform((BATCH_SIZE, image_size, image_size, 3), 0, 255)
    plain = tf.function(lambda pictures: model(pictures, training=False), autograph=False)
    folded = frozen_function(model)
    candidates: dict[str, tuple[Precision, Callable]] = {
        "tf.function": ("float32", plain),
        "folded": ("float32", folded),
        "folded, bfloat16": ("mixed_bfloat16", folded),
    }
    if importlib.util.find_spec("openvino") is not None:
        candidates["openvino"] = ("float32", OpenVino(model, "float32"))
        candidates["openvino, bfloat16"] = ("mixed_bfloat16", OpenVino(model, "mixed_bfloat16"))
    rates: dict[str, list[float]] = {label: [] for label in candidates}
    for _ in range(ROUNDS):
        for label, (precision, compute) in candidates.items():
            with convolutions_in(precision):
                calls = _calls_per_second(lambda compute=compute: compute(batch))
                rates[label].append(calls * BATCH_SIZE)
    return [
        (
            label,
            max(rates[label]),
            max(rates[label]) * 2 * macs / machine.flops[precision],
            statistics.median(rate / usual for rate, usual in zip(rates[label], rates["folded"], strict=True)),
        )
        for label, (precision, _) in candidates.items()
    ]


def _calls_per_second(work: Callable) -> float:
    work()
    started, calls = time.perf_counter(), 0
    while time.perf_counter() - started < SECONDS:
        work()
        calls += 1
    return calls / (time.perf_counter() - started)


if __name__ == "__main__":
    main()
