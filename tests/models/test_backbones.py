"""Every row of the table: complete, right, and usable from building to reloading."""

import importlib
import inspect

import keras
import numpy as np
import pytest

from app.errors import UsageError
from models.backbones import TABLE, Backbone, build, find
from models.classifier import Classifier, build_classifier
from models.freezing import set_trainable
from tasks.classification import MULTICLASS
from tests.untrained import keep_signals
from tests.weight_files import files_asked_for

QUICK = {
    "efficientnet_lite0",
    "alexnet",
    "vgg16",
    "mobilenet",
    "mobilenetv3small",
    "resnet50",
    "efficientnetb0",
}
"""Networks whose whole life is tested in every run; the others are marked slow."""
OTHERS = {"efficientnet_lite", "alexnet"}
"""Families with tests of their own."""
ROWS = [
    pytest.param(backbone, id=backbone.name, marks=() if backbone.name in QUICK else pytest.mark.slow)
    for backbone in TABLE
]


@pytest.fixture(autouse=True)
def _forget_models():
    yield
    keras.backend.clear_session()


def test_the_table_has_every_network_of_keras_applications():
    networks = {name for name, value in vars(keras.applications).items() if inspect.isfunction(value)}
    assert networks == {backbone.builder for backbone in TABLE} - {"EfficientNetLite0", "AlexNet"}


def test_names_are_unique_and_lower_case():
    names = [backbone.name for backbone in TABLE]
    assert len(set(names)) == len(names)
    assert names == [name.lower() for name in names]


def test_an_unknown_name_is_answered_with_the_nearest():
    with pytest.raises(UsageError, match=r"received 'ResNet-50'\. Did you mean 'resnet50'\?"):
        find("ResNet-50")


@pytest.mark.parametrize(("name", "other"), [("moonshine_tiny_en", "whisper_tiny_en"), ("ELMo", "roberta")])
def test_a_network_that_is_not_here_is_answered_with_one_that_is(name, other):
    with pytest.raises(UsageError, match=f"--backbone '{name}' is none of the networks here. Take '{other}'"):
        find(name)


@pytest.mark.parametrize("backbone", ROWS)
def test_the_weights_file_is_the_one_keras_asks_for(backbone: Backbone, monkeypatch):
    if backbone.module in OTHERS:
        pytest.skip("is not of Keras")
    assert files_asked_for(backbone, backbone.family.smallest_size, False, monkeypatch) == [backbone.weights_file]


@pytest.mark.parametrize("backbone", ROWS)
def test_a_network_trains_saves_reloads_and_predicts_the_same(backbone: Backbone, tmp_path):
    size = backbone.family.smallest_size
    classifier = build_classifier(backbone, weights="none", image_size=size, task=MULTICLASS, num_classes=3)
    pictures = np.random.default_rng(0).uniform(0, 255, (4, size, size, 3)).astype(np.float32)
    targets = np.eye(3, dtype=np.float32)[[0, 1, 2, 0]]

    parameters = classifier.backbone.count_params() / 1e6
    assert parameters == pytest.approx(backbone.parameters, abs=0.06)

    blocks = classifier.blocks
    assert len(blocks) >= 5
    assert sorted(layer.name for block in blocks for layer in block) == sorted(
        layer.name for layer in classifier.backbone.layers
    )

    set_trainable(classifier.backbone.layers, len(blocks[-1]) + len(blocks[-2]))
    frozen = [layer for layer in classifier.backbone.layers if not layer.trainable]
    let_gradients_through(classifier)
    before = [layer.get_weights() for layer in frozen]
    learning = [variable.numpy() for variable in classifier.model.trainable_variables]
    classifier.model.compile("adam", "categorical_crossentropy")
    classifier.model.fit(pictures, targets, epochs=1, verbose=0)
    for layer, values in zip(frozen, before, strict=True):
        for value, now in zip(values, layer.get_weights(), strict=True):
            np.testing.assert_array_equal(value, now, err_msg=layer.name)
    moved = [
        not np.array_equal(old, new) for old, new in zip(learning, classifier.model.trainable_variables, strict=True)
    ]
    assert moved[-1]
    assert any(moved[:-2])

    expected = classifier.model(pictures, training=False).numpy()
    classifier.model.save(tmp_path / "model.keras")
    reloaded = keras.saving.load_model(tmp_path / "model.keras", safe_mode=True, compile=False)
    np.testing.assert_array_equal(reloaded(pictures, training=False).numpy(), expected)
    np.testing.assert_allclose(expected.sum(axis=1), 1, rtol=1e-5)


def let_gradients_through(classifier: Classifier) -> None:
    """Undoes what hides an untrained backbone from the loss: an output of zeros, and signals that fade with depth."""
    kernel = classifier.head.layers[-1].kernel
    kernel.assign(np.random.default_rng(1).normal(size=kernel.shape))
    keep_signals(classifier.backbone)


@pytest.mark.parametrize("backbone", ROWS)
def test_preprocessing_is_done_once_and_as_keras_does_it(backbone: Backbone):
    if backbone.module in OTHERS:
        pytest.skip("is not of Keras")
    size = backbone.family.smallest_size
    pictures = np.random.default_rng(0).uniform(0, 255, (2, size, size, 3)).astype(np.float32)
    ours = build(backbone, size).model
    theirs = getattr(keras.applications, backbone.builder)(include_top=False, weights=None, input_shape=(size, size, 3))
    theirs.set_weights(ours.get_weights())
    for layer in theirs.layers:
        if isinstance(layer, keras.layers.Normalization):
            layer.finalize_state()
    preprocess_input = importlib.import_module(f"keras.applications.{backbone.module}").preprocess_input
    expected = theirs(preprocess_input(pictures.copy()), training=False)
    atol = 1e-4 * np.abs(expected).max()  # signals fade in some untrained networks
    np.testing.assert_allclose(ours(pictures, training=False), expected, rtol=1e-4, atol=atol)
