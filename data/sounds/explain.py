"""Computes which moments of a recording decided, by Grad-CAM (Selvaraju et al., 2017) along time: the gradient of an
answer with respect to the features of each moment, times these features."""

import keras
import numpy as np
import tensorflow as tf

from app.spectrogram import PICTURE_LAYER
from data.class_scores import make_class_scores
from data.images.explain import BATCH_SIZE, grad_cam


def heard_parts(model: keras.Model, sounds: np.ndarray, classes: np.ndarray) -> np.ndarray:
    """Computes how much each moment speaks for a class.

    Args:
        model: a classifier of recordings.
        sounds: int16 (n, samples).
        classes: int (n,), the class to explain for each recording.

    Returns:
        float32 (n, moments) from 0 to 1, the strongest moment.
    """
    for layer in model.layers:
        if layer.name == PICTURE_LAYER:  # a network for pictures
            scores = grad_cam(model, sounds, classes, layer.output.shape[1:3]).mean(axis=1)
            return scores / np.maximum(scores.max(axis=1, keepdims=True), 1e-9)
    pooling, head = model.get_layer("pooling"), model.get_layer("head")
    both, class_scores = keras.Model(model.inputs, [pooling.input, pooling.output]), make_class_scores(head)
    found = []
    for start in range(0, len(sounds), BATCH_SIZE):
        batch = tf.cast(sounds[start : start + BATCH_SIZE], tf.float32)
        with tf.GradientTape() as tape:
            frames, pooled = both(batch, training=False)
            asked = class_scores(pooled, tf.cast(classes[start : start + BATCH_SIZE], tf.int32))
        counted = (tape.gradient(asked, frames) * frames)[..., :-1]  # the last feature says whether there is sound
        scores = tf.maximum(tf.reduce_sum(counted, axis=-1), 0)
        found.append((scores / tf.maximum(tf.reduce_max(scores, axis=1, keepdims=True), 1e-9)).numpy())
    return np.concatenate(found)
