"""The number format in which a network computes; weights, outputs and measures are always float32.

A precision belongs to a graph, not to the model: layers adopt it while the graph is traced. So one model trains in any
precision, and is saved, exported and measured in float32.
"""

import contextlib
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import keras
import tensorflow as tf

from devices.whole_batch import flat_layers

Precision = Literal["float32", "mixed_bfloat16", "mixed_float16"]
OUTPUT_LAYER = "probabilities"
"""Name of a model's output layer, which stays in float32."""
EXACT_LAYERS = (keras.layers.InputLayer, keras.layers.Rescaling, keras.layers.Normalization)
"""Layers that prepare inputs, which bfloat16 would round."""
BFLOAT16_CAPABILITY, FLOAT16_CAPABILITY = (8, 0), (7, 0)
"""NVIDIA's compute capability from which GPUs multiply matrices several times as fast in that precision."""
BFLOAT16_INSTRUCTIONS = {"avx512_bf16", "amx_bf16"}
"""Features in /proc/cpuinfo of CPUs that compute 1.4 times as many products per second in bfloat16, or more; without
them, fewer. A measurement instead would depend on the load of the machine."""
CPU_INFO = Path("/proc/cpuinfo")


def choose_precision(asked_for: Literal["auto"] | Precision, model: keras.Model, openvino: bool = False) -> Precision:
    """Resolves 'auto' by the type of machine: the fastest precision that learns as well as float32.

    Args:
        asked_for: the setting.
        model: the network.
        openvino: whether OpenVINO computes the frozen layers; it is faster in bfloat16 for every network.
    """
    if asked_for != "auto":
        return asked_for
    gpus = tf.config.get_visible_devices("GPU")
    if tf.config.list_logical_devices("TPU"):
        return "mixed_bfloat16"
    if gpus:
        capability = min(_compute_capability(gpu) for gpu in gpus)
        if capability >= BFLOAT16_CAPABILITY:
            return "mixed_bfloat16"
        return "mixed_float16" if capability >= FLOAT16_CAPABILITY else "float32"
    return "mixed_bfloat16" if (openvino or _gains_on_cpus(model)) and _cpu_has_bfloat16() else "float32"


def has_accelerator() -> bool:
    """Returns True if there is a GPU or a TPU."""
    return any(tf.config.list_logical_devices(kind) for kind in ("GPU", "TPU"))


def is_rewritten(precision: Precision) -> bool:
    """Returns True if TensorFlow itself rewrites frozen graphs to this precision.

    It does so with bfloat16 on CPUs. Layers in bfloat16 would be slower there, most of all in small networks.
    """
    return precision == "mixed_bfloat16" and not has_accelerator()


def learning_precision(model: keras.Model, precision: Precision) -> Precision:
    """Returns the precision of the training graphs of a model, given the precision of its run."""
    slower = precision == "mixed_bfloat16" and not has_accelerator() and not _gains_on_cpus(model)
    return "float32" if slower else precision


def _gains_on_cpus(model: keras.Model) -> bool:
    """Returns True if a model is faster in bfloat16 on CPUs that support it: 2 to 3 times, if it mixes all channels.

    Depthwise convolutions wait for memory: such a model runs at 0.9 to 1.3 times the speed when frozen, and 0.7 times
    when trained.
    """
    layers = flat_layers(model)
    depthwise = any(
        isinstance(layer, keras.layers.DepthwiseConv2D | keras.layers.SeparableConv2D)
        or (isinstance(layer, keras.layers.Conv2D) and layer.groups > 1)
        for layer in layers
    )
    return not depthwise and any(isinstance(layer, keras.layers.Conv2D) for layer in layers)


@contextlib.contextmanager
def computing_in(model: keras.Model, precision: Precision) -> Iterator[None]:
    """Makes the layers of a model compute in a precision, in every graph traced while a block runs.

    Layers that prepare inputs (`EXACT_LAYERS`, and our own with the attribute `exact`) and the output layer stay in
    float32.
    """
    layers = [] if precision == "float32" else flat_layers(model)
    layers = [layer for layer in layers if not _is_exact(layer)]
    for layer in layers:
        layer.dtype_policy = precision
    try:
        yield
    finally:
        for layer in layers:
            layer.dtype_policy = "float32"


def _is_exact(layer: keras.Layer) -> bool:
    return isinstance(layer, EXACT_LAYERS) or getattr(layer, "exact", False) or layer.name == OUTPUT_LAYER


def _compute_capability(gpu: tf.config.PhysicalDevice) -> tuple[int, int]:
    return tf.config.experimental.get_device_details(gpu).get("compute_capability", (0, 0))


def _cpu_has_bfloat16() -> bool:
    """Returns True if Linux says that the CPU multiplies bfloat16 faster; False on other systems (not measured)."""
    try:
        flags = re.search(r"^flags\s*:(.*)$", CPU_INFO.read_text(), re.MULTILINE)
    except OSError:
        return False
    return flags is not None and not BFLOAT16_INSTRUCTIONS.isdisjoint(flags[1].split())
