"""Frozen is frozen: weights to the bit, BatchNorm in every case."""

import functools

import keras
import numpy as np
import pytest
import tensorflow as tf

from models.backbones import find
from models.classifier import build_classifier
from models.freezing import set_trainable
from tasks.classification import BINARY
from training.optimizers import layer_decay_factors


@pytest.fixture
def classifier():
    return build_classifier(find("mobilenet"), weights="none", image_size=32, task=BINARY, num_classes=2)


def names_of_learning(classifier) -> list[str]:
    return [layer.name for layer in classifier.backbone.layers if layer.trainable and layer.weights]


def test_the_last_layers_learn_but_their_batch_norm_does_not(classifier):
    set_trainable(classifier.backbone.layers, 6)
    assert names_of_learning(classifier) == ["conv_dw_13", "conv_pw_13"]


def test_zero_freezes_all_and_all_unfreezes_all(classifier):
    set_trainable(classifier.backbone.layers, "all")
    assert len(names_of_learning(classifier)) == 27
    set_trainable(classifier.backbone.layers, 0)
    assert names_of_learning(classifier) == []


def test_without_pretrained_weights_batch_norm_learns(classifier):
    set_trainable(classifier.backbone.layers, "all", batch_norm_learns=True)
    assert len(names_of_learning(classifier)) == 54


def test_without_pretrained_weights_the_statistics_follow_within_a_few_steps(classifier):
    set_trainable(classifier.backbone.layers, "all", batch_norm_learns=True)
    pictures = np.random.default_rng(0).uniform(0, 255, (16, 32, 32, 3)).astype(np.float32)
    step = tf.function(functools.partial(classifier.backbone, training=True))
    for _ in range(200):
        learning = step([pictures])
    np.testing.assert_allclose(classifier.backbone([pictures], training=False), learning, atol=0.01)


def test_training_moves_what_learns_and_nothing_else():
    backbone = find("efficientnet_lite0")
    classifier = build_classifier(backbone, weights="imagenet", image_size=32, task=BINARY, num_classes=2)
    set_trainable(classifier.backbone.layers, 11)
    before = {layer.name: layer.get_weights() for layer in classifier.backbone.layers}
    classifier.model.compile("adam", "binary_crossentropy")
    pictures = np.random.default_rng(0).uniform(0, 255, (8, 32, 32, 3))
    classifier.model.fit(pictures, np.array([[0.0], [1.0]] * 4), epochs=3, verbose=0)
    moved = [
        layer.name
        for layer in classifier.backbone.layers
        if any(not np.array_equal(a, b) for a, b in zip(before[layer.name], layer.get_weights(), strict=True))
    ]
    assert moved == ["block7a_expand_conv", "block7a_dwconv", "block7a_project_conv", "top_conv"]


def test_a_backbone_in_inference_mode_does_not_depend_on_training(classifier):
    set_trainable(classifier.backbone.layers, 0)
    pictures = np.random.default_rng(0).uniform(0, 255, (4, 32, 32, 3)).astype(np.float32)
    training = classifier.backbone(pictures, training=True)
    np.testing.assert_array_equal(training, classifier.backbone(pictures, training=False))


def test_blocks_come_in_order_with_what_lies_between_them(classifier):
    blocks = classifier.blocks
    assert [block[-1].name for block in blocks] == [f"conv_pw_{number}_relu" for number in range(1, 14)]
    assert isinstance(blocks[0][0], keras.layers.InputLayer)


def nested_model() -> tuple[keras.Model, list[keras.Layer]]:
    """A model whose two blocks are hidden within one layer, each with a BatchNorm; and the blocks."""

    class Encoder(keras.layers.Layer):
        def __init__(self):
            super().__init__(name="encoder")
            self.blocks = [
                keras.Sequential([keras.layers.Dense(4), keras.layers.BatchNormalization()], name=f"block_{number}")
                for number in range(2)
            ]

        def call(self, inputs):
            for block in self.blocks:
                inputs = block(inputs)
            return inputs

    inputs = keras.Input((4,))
    encoder = Encoder()
    return keras.Model(inputs, encoder(inputs)), encoder.blocks


def test_layers_within_a_layer_learn_with_it_but_their_batch_norm_does_not():
    model, _ = nested_model()
    set_trainable(model.layers, 1)
    assert [path.split("/")[-1] for path in paths_of(model)] == ["kernel", "bias"] * 2
    set_trainable(model.layers, 0)
    assert paths_of(model) == []
    set_trainable(model.layers, 1, batch_norm_learns=True)
    assert len(paths_of(model)) == 8


def test_blocks_within_a_layer_are_frozen_and_slowed_one_by_one():
    model, blocks = nested_model()
    set_trainable(blocks, 1)
    assert all("block_1" in path for path in paths_of(model))
    assert len(paths_of(model)) == 2
    set_trainable(blocks, "all")
    factors = layer_decay_factors([[block] for block in blocks], 0.5)
    assert [factors[path] for path in paths_of(model)] == [0.25, 0.25, 0.5, 0.5]


def paths_of(model: keras.Model) -> list[str]:
    return [variable.path for variable in model.trainable_variables]
