"""Grad-CAM finds what speaks for a class, in networks of every family."""

import json

import keras
import numpy as np
import pytest
import tensorflow as tf

from data.images.explain import grad_cam, overlay
from devices.precision import OUTPUT_LAYER
from inference.answering import of_run
from inference.load import read_run
from inference.web_page import load_ask
from models.applications import POOLING
from models.backbones import TABLE
from models.classifier import build_classifier
from models.own_layers import TokenPooling
from tasks.classification import BINARY, MULTICLASS
from tests.reports.read_page import text_of
from tests.small_runs import make_run

SMALLEST = {backbone.module: backbone for backbone in sorted(TABLE, key=lambda backbone: -backbone.parameters)}
"""The smallest network of each family."""
QUICK = ("vgg16", "resnet", "mobilenet", "efficientnet_lite")


def build(module: str, task: str = MULTICLASS, **settings):
    """A network of random weights whose last feature map has several places, and three pictures."""
    backbone = SMALLEST[module]
    size = 2 * backbone.family.smallest_size
    classifier = build_classifier(backbone, weights="none", image_size=size, task=task, num_classes=3, **settings)
    noise = np.random.default_rng(0)
    classifier.head.set_weights([noise.normal(size=array.shape) for array in classifier.head.get_weights()])
    return classifier, noise.integers(0, 256, (3, size, size, 3), dtype=np.uint8)


def maps_of(classifier, pictures: np.ndarray) -> np.ndarray:
    model = keras.Model(classifier.backbone.inputs[0], classifier.backbone.output)
    return model(pictures.astype(np.float32), training=False).numpy()


@pytest.mark.parametrize(
    "module", [name if name in QUICK else pytest.param(name, marks=pytest.mark.slow) for name in SMALLEST]
)
def test_for_averaged_maps_it_is_the_class_activation_map(module):
    """Zhou et al. (2016), which Grad-CAM generalises: the maps, weighted as the one dense layer weights their means."""
    classifier, pictures = build(module)
    maps = maps_of(classifier, pictures)
    expected = np.maximum(maps @ classifier.head.layers[-1].kernel.numpy()[:, 1], 0)
    expected = tf.image.resize(expected[..., None], pictures.shape[1:3])[..., 0].numpy()
    expected /= np.maximum(expected.max(axis=(1, 2), keepdims=True), np.finfo(np.float32).tiny)
    found = grad_cam(classifier.model, pictures, np.full(3, 1))
    assert found.shape == pictures.shape[:3]
    np.testing.assert_allclose(found, expected, atol=1e-3)


def test_of_tokens_it_is_what_each_of_them_adds_to_the_mean():
    """A block that adds nothing, and a mean of patches: each adds its product with the kernel of the output."""
    keras.utils.set_random_seed(1)  # with some weights, no token speaks for the class
    inputs = keras.Input((8, 8, 3))
    tokens = keras.layers.Reshape((4, 6))(keras.layers.Conv2D(6, 4, 4, name="patches")(inputs))
    ahead = keras.layers.Concatenate(axis=1, name="tokens")([tokens[:, :1] * 2, tokens])
    attention = keras.layers.MultiHeadAttention(2, 3, name="attention")
    x = keras.layers.Add(name="block")([ahead, attention(ahead, ahead)])
    output = keras.layers.Dense(3, activation="softmax", name=OUTPUT_LAYER)
    head = keras.Sequential([keras.Input((6,)), output], name="head")
    model = keras.Model(inputs, head(TokenPooling("avg", 1, name="pooling")(x)))
    attention._output_dense.kernel.assign(keras.ops.zeros_like(attention._output_dense.kernel))
    pictures = np.random.default_rng(0).integers(0, 256, (3, 8, 8, 3), dtype=np.uint8)
    patches = keras.Model(inputs, tokens)(pictures.astype(np.float32)).numpy().reshape(3, 2, 2, 6)
    expected = tf.image.resize(np.maximum(patches @ output.kernel.numpy()[:, 1:2], 0), (8, 8))[..., 0].numpy()
    expected /= np.maximum(expected.max(axis=(1, 2), keepdims=True), np.finfo(np.float32).tiny)
    assert expected.any()
    np.testing.assert_allclose(grad_cam(model, pictures, np.full(3, 1)), expected, atol=1e-4)


def test_the_head_of_a_loaded_model_is_found(tmp_path):
    classifier, pictures = build("mobilenet", head_units=(4,), pooling="max")
    classifier.model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras", compile=False)
    classes = np.array([0, 1, 2])
    np.testing.assert_array_equal(grad_cam(loaded, pictures, classes), grad_cam(classifier.model, pictures, classes))


def test_with_one_output_the_first_class_is_the_opposite_of_the_second():
    classifier, pictures = build("vgg16", task=BINARY)
    pictures, maps = pictures[:1], maps_of(classifier, pictures[:1])
    kernel = maps[0, 0, 0] - maps[0, 1, 1]  # the first place speaks for the second class, the last against it
    classifier.head.set_weights([kernel[:, None], np.zeros(1)])
    second, first = (grad_cam(classifier.model, pictures, np.full(1, number)) for number in (1, 0))
    assert second.any()
    assert first.any()
    assert not ((second == 1) & (first == 1)).any()


def test_no_pictures_give_no_maps():
    classifier, pictures = build("mobilenet")
    assert grad_cam(classifier.model, pictures[:0], np.zeros(0, int)).shape == (0, *pictures.shape[1:3])


def average_and_largest(name: str = "pooling"):
    """A pooling of two parts, of which Grad-CAM knows nothing."""
    parts = [keras.layers.GlobalAveragePooling2D(), keras.layers.GlobalMaxPooling2D()]
    return lambda maps: keras.layers.Concatenate(name=name)([part(maps) for part in parts])


def test_a_pooling_that_it_does_not_understand_costs_no_run_and_no_answer(tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(POOLING, "avg", average_and_largest)
    run = make_run(tmp_path, ("cat", "dog"))
    assert json.loads((run / "metrics.json").read_text(encoding="utf-8"))["test"]["n"] > 0
    page = text_of((run / "report.html").read_text(encoding="utf-8"))
    assert "Where it looked (Grad-CAM) could not be made: " in page
    assert "warning    Where it looked (Grad-CAM) could not be made: " in capsys.readouterr().out
    ask = load_ask(of_run(read_run(run)))
    shown = [ask((np.zeros((32, 32, 3), np.uint8),)) for _ in range(2)]
    assert [each["looked"] for each in shown] == [None, None]
    assert shown[0]["answer"] in ("cat", "dog")
    assert capsys.readouterr().out.count("could not be made") == 1


def test_a_report_that_fails_costs_no_figures(tmp_path, monkeypatch, capsys):
    """The pages and pictures are drawn by code that people change."""
    for place in ("reports.plots.confusion_matrix", "reports.plots.learning_curves"):
        monkeypatch.setattr(place, None)
    monkeypatch.setattr("reports.classification.reach_verdict", None)
    run = make_run(tmp_path, ("cat", "dog"))
    assert json.loads((run / "metrics.json").read_text(encoding="utf-8"))["test"]["n"] > 0
    printed = capsys.readouterr().out
    error = "could not be made: TypeError: 'NoneType' object is not callable"
    for part in ("The figure of the confusion matrix", "The learning curves", "The report"):
        assert f"warning    {part} {error} (" in printed
    assert "report.html" not in printed


def test_an_overlay_is_grey_where_nothing_matters_and_coloured_where_something_does():
    picture = np.full((8, 8, 3), (200, 40, 90), np.uint8)
    heatmap = np.zeros((8, 8), np.float32)
    heatmap[:4] = 1
    shown = overlay(picture, heatmap)
    assert shown.dtype == np.uint8
    assert (shown[4:] == 110).all()
    assert np.ptp(shown[0, 0].astype(int)) > 40
