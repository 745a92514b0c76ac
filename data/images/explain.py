"""Computes where a network looked: Grad-CAM (Selvaraju et al., 2017).

The classifiers here are flat: the layers of the backbone are layers of the classifier, so the last feature map is the
input of the layer 'pooling'. For a transformer, the tokens of patches before the last layer of attention are used:
behind it, the class token no longer depends on them.
"""

import math

import keras
import numpy as np
import tensorflow as tf
from matplotlib import colormaps

from data.class_scores import make_class_scores

BATCH_SIZE = 16
"""Examples per batch: few, because gradients take more memory than predictions."""
OPACITY = 0.5
COLOURS = "inferno"


def grad_cam(
    model: keras.Model, pictures: np.ndarray, classes: np.ndarray, shape: tuple[int, int] | None = None
) -> np.ndarray:
    """Computes which parts of pictures speak for a class.

    Args:
        model: a classifier, loaded or built.
        pictures: uint8 or float32 (n, height, width, 3) in [0, 255].
        classes: int (n,), the class to explain for each picture.
        shape: height and width of the result, if the network itself makes pictures of its inputs.

    Returns:
        float32 (n, height, width) in [0, 1], scaled to a largest value of 1; all 0 if nothing speaks for the class.

    Raises:
        ValueError: there is no feature map to look at. A network of the user may raise any exception.
    """
    pooling, head = model.get_layer("pooling"), model.get_layer("head")
    source = _last_maps(model, pooling)
    to_maps, to_pooled = keras.Model(model.inputs[0], source), keras.Model(source, pooling.output)
    ahead = 0 if len(source.shape) == 4 else getattr(pooling, "ahead", 0)
    class_scores = make_class_scores(head)

    def compute(batch: tf.Tensor, chosen: tf.Tensor) -> tf.Tensor:
        maps = to_maps(batch, training=False)[: tf.shape(batch)[0]]  # the rest are mirrored pictures
        with tf.GradientTape() as tape:
            tape.watch(maps)
            scores = class_scores(to_pooled(maps, training=False), chosen)
        gradients = tape.gradient(scores, maps)
        if len(maps.shape) == 3:
            maps, gradients = _as_grid(maps, ahead), _as_grid(gradients, ahead)
        weights = tf.reduce_mean(gradients, axis=(1, 2), keepdims=True)
        relevance = tf.nn.relu(tf.reduce_sum(weights * maps, axis=-1, keepdims=True))
        relevance = tf.image.resize(relevance, shape or tf.shape(batch)[1:3])[..., 0]
        return tf.math.divide_no_nan(relevance, tf.reduce_max(relevance, axis=(1, 2), keepdims=True))

    heatmaps = np.zeros((len(pictures), *(shape or pictures.shape[1:3])), np.float32)
    for start in range(0, len(pictures), BATCH_SIZE):
        rows = slice(start, start + BATCH_SIZE)
        heatmaps[rows] = compute(tf.cast(pictures[rows], tf.float32), tf.cast(classes[rows], tf.int32))
    return heatmaps


def _last_maps(model: keras.Model, pooling: keras.Layer) -> keras.KerasTensor:
    """Returns the network up to the maps (n, height, width, channels), or tokens (n, tokens, width), to look at."""
    source = pooling.input
    if isinstance(source, keras.KerasTensor) and len(source.shape) == 4:
        return source
    attention = [layer for layer in model.layers if _attends(layer)]
    source = keras.tree.flatten(attention[-1].input)[0] if attention else source
    if not isinstance(source, keras.KerasTensor) or len(source.shape) != 3:
        raise ValueError("the layer 'pooling' takes no feature map (n, height, width, channels), and no tokens")
    return source


def _attends(layer: keras.Layer) -> bool:
    return any("Attention" in type(part).__name__ for part in layer._flatten_layers())


def _as_grid(tokens: tf.Tensor, ahead: int) -> tf.Tensor:
    """Arranges the tokens of patches as a map: (n, tokens, width) -> (n, height, width, width of a token)."""
    side = math.isqrt(tokens.shape[1] - ahead)
    return tf.reshape(tokens[:, ahead:], (-1, side, side, tokens.shape[2]))


def overlay(picture: np.ndarray, heatmap: np.ndarray) -> np.ndarray:
    """Lays a heatmap, float32 (height, width) in [0, 1], over a picture, uint8 (height, width, 3)."""
    grey = np.repeat(picture.mean(axis=2, keepdims=True), 3, axis=2)
    colours = colormaps[COLOURS](heatmap)[..., :3] * 255
    opacity = OPACITY * heatmap[..., None] ** 0.5
    return np.clip((1 - opacity) * grey + opacity * colours, 0, 255).astype(np.uint8)
