"""The number formats a network computes in; its weights, its outputs and what is measured are always float32.

A precision belongs to a graph and not to the model: layers take it on while the graph is traced. So one model trains in
any precision, and is saved, exported and measured in float32.
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
"""Name of the layer that gives a model's outputs, which stay float32."""
EXACT_LAYERS = (keras.layers.InputLayer, keras.layers.Rescaling, keras.layers.Normalization)
"""Inputs are prepared in float32: bfloat16 would round them."""
BFLOAT16_CAPABILITY, FLOAT16_CAPABILITY = (8, 0), (7, 0)
"""NVIDIA's compute capability from which a GPU multiplies matrices in them several times as fast."""
BFLOAT16_INSTRUCTIONS = {"avx512_bf16", "amx_bf16"}
"""With them, as /proc/cpuinfo names them, CPUs make 1.4 times as many products per second in bfloat16, or more; without
them, fewer. A measurement would decide by what else the machine does at that moment."""
CPU_INFO = Path("/proc/cpuinfo")


def choose_precision(asked_for: Literal["auto"] | Precision, model: keras.Model, openvino: bool = False) -> Precision:
    """Decides what 'auto' means on this machine, by what it is: the fastest precision that learns as float32 does.

    Args:
        asked_for: the setting.
        model: the network.
        openvino: whether OpenVINO computes the frozen layers, which gains in bfloat16 on every network.
    """
    if asked_for != "auto":
        return asked_for
    gpus = tf.config.list_physical_devices("GPU")
    if tf.config.list_logical_devices("TPU"):
        return "mixed_bfloat16"
    if gpus:
        capability = min(_compute_capability(gpu) for gpu in gpus)
        if capability >= BFLOAT16_CAPABILITY:
            return "mixed_bfloat16"
        return "mixed_float16" if capability >= FLOAT16_CAPABILITY else "float32"
    return "mixed_bfloat16" if (openvino or _gains_on_cpus(model)) and _cpu_has_bfloat16() else "float32"


def is_rewritten(precision: Precision) -> bool:
    """Returns True if TensorFlow itself rewrites frozen graphs to this precision.

    It does so with bfloat16 on CPUs. Layers that compute in it are slower there, the more so the smaller the network.
    """
    return precision == "mixed_bfloat16" and not _has_accelerator()


def learning_precision(model: keras.Model, precision: Precision) -> Precision:
    """The precision of graphs that train a model in a run of a precision."""
    slower = precision == "mixed_bfloat16" and not _has_accelerator() and not _gains_on_cpus(model)
    return "float32" if slower else precision


def _gains_on_cpus(model: keras.Model) -> bool:
    """Returns True if a model is faster in bfloat16 on CPUs that have it: 2 to 3 times, if it mixes all channels.

    A model that convolves each channel by itself waits for memory: it is between 0.9 and 1.3 times as fast with
    its layers frozen, and 0.7 times when it learns.
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
    """Lets the layers of a model compute in a precision in every graph that is traced while a block runs.

    All but those that prepare inputs and the one that gives probabilities.
    """
    layers = [] if precision == "float32" else flat_layers(model)
    layers = [layer for layer in layers if not isinstance(layer, EXACT_LAYERS) and layer.name != OUTPUT_LAYER]
    for layer in layers:
        layer.dtype_policy = precision
    try:
        yield
    finally:
        for layer in layers:
            layer.dtype_policy = "float32"


def _has_accelerator() -> bool:
    return any(tf.config.list_logical_devices(kind) for kind in ("GPU", "TPU"))


def _compute_capability(gpu: tf.config.PhysicalDevice) -> tuple[int, int]:
    return tf.config.experimental.get_device_details(gpu).get("compute_capability", (0, 0))


def _cpu_has_bfloat16() -> bool:
    """Returns True if Linux says that the CPU multiplies bfloat16 faster than float32; not measured elsewhere."""
    try:
        flags = re.search(r"^flags\s*:(.*)$", CPU_INFO.read_text(), re.MULTILINE)
    except OSError:
        return False
    return flags is not None and not BFLOAT16_INSTRUCTIONS.isdisjoint(flags[1].split())
