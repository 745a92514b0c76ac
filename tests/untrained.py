"""Weights for untrained networks, in which much would be equal by chance: outputs start as zeros, and signals fade."""

import keras
import numpy as np


def randomise(network: keras.Model, seed: int = 0) -> None:
    """Gives a network weights of which all matter; its own start with zeros, and with tokens that are equal."""
    random = np.random.default_rng(seed)
    for weight in network.weights:
        if weight.dtype.startswith("float") and "variance" not in weight.path:
            size = 0.2 if len(weight.shape) < 2 else 1 / np.sqrt(np.prod(weight.shape[:-1]))
            weight.assign(random.normal(1 if weight.path.endswith(("gamma", "scale")) else 0, size, weight.shape))


def normalize(model: keras.Model, inputs: np.ndarray) -> None:
    """Sets BatchNorm to the statistics of some inputs, or what differs between them fades from layer to layer."""
    for layer in model.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.momentum = 0.0
    model(inputs, training=True)


def keep_signals(backbone: keras.Model) -> None:
    """Keeps signals from fading in a MobileNet."""
    if backbone.name.startswith("mobilenet"):
        for layer in backbone.layers:
            if isinstance(layer, keras.layers.BatchNormalization):
                layer.moving_variance.assign(keras.ops.full(layer.moving_variance.shape, 0.1))
