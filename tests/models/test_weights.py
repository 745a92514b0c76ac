"""Weights from files of both formats, and every way in which they cannot be had."""

import os
from pathlib import Path

import keras
import numpy as np
import pytest

from app.errors import UsageError
from models import backbones, weights
from models.backbones import find
from models.weights import build_backbone, check_available
from tests.untrained import normalize

SIZE = 32


@pytest.fixture
def pictures() -> np.ndarray:
    return np.random.default_rng(0).uniform(0, 255, (2, SIZE, SIZE, 3)).astype(np.float32)


@pytest.mark.parametrize("name", ["mobilenet.h5", "mobilenet.weights.h5"])
def test_both_formats_of_keras_are_read(tmp_path, pictures, name):
    published = keras.applications.MobileNet(include_top=False, weights=None, input_shape=(SIZE, SIZE, 3))
    normalize(published, keras.applications.mobilenet.preprocess_input(pictures.copy()))
    path = tmp_path / name
    published.save_weights(path) if name.endswith(".weights.h5") else published.save(path)
    if not name.endswith(".weights.h5"):
        _strip_to_legacy_weights(path)
    ours = build_backbone(find("mobilenet"), SIZE, str(path)).model
    expected = published(keras.applications.mobilenet.preprocess_input(pictures.copy()), training=False)
    assert np.ptp(expected, axis=0).max() > 1e-2
    np.testing.assert_allclose(ours(pictures, training=False), expected, rtol=1e-4, atol=1e-4)


def _strip_to_legacy_weights(path):
    """Turns a legacy model file into a weights-only file as Keras publishes them: `model_weights` becomes the root."""
    import h5py

    with h5py.File(path, "r+") as file:
        group = file["model_weights"]
        for key in list(group):
            file.move(f"model_weights/{key}", key)
        for key, value in group.attrs.items():
            file.attrs[key] = value
        del file["model_weights"]


def test_efficientnet_computes_the_same_from_a_file_as_from_a_download(tmp_path, monkeypatch, pictures):
    backbone = find("efficientnetb0")
    published = keras.applications.EfficientNetB0(include_top=False, weights=None, input_shape=(SIZE, SIZE, 3))
    normalization = next(layer for layer in published.layers if isinstance(layer, keras.layers.Normalization))
    mean, variance, count = normalization.get_weights()
    normalization.set_weights(
        [mean + np.array([0.485, 0.456, 0.406]), weights.IMAGENET_STDDEV_RGB.reshape(variance.shape), count]
    )
    path = tmp_path / "efficientnetb0_notop.weights.h5"
    published.save_weights(path)

    monkeypatch.setattr("keras.src.applications.efficientnet.file_utils.get_file", lambda *_, **__: str(path))
    downloaded = build_backbone(backbone, SIZE, "imagenet").model
    local = build_backbone(backbone, SIZE, str(path)).model
    expected = downloaded(pictures, training=False).numpy()
    np.testing.assert_allclose(local(pictures, training=False), expected, rtol=1e-3, atol=1e-4 * np.abs(expected).max())


def test_stochastic_depth_is_off():
    model = build_backbone(find("efficientnetb0"), SIZE, "none").model
    dropouts = [layer for layer in model.layers if isinstance(layer, keras.layers.Dropout)]
    assert dropouts
    assert all(layer.rate == 0 for layer in dropouts)


def test_a_file_of_another_network_is_refused(tmp_path):
    path = tmp_path / "vgg16.weights.h5"
    keras.applications.MobileNet(include_top=False, weights=None, input_shape=(SIZE, SIZE, 3)).save_weights(path)
    with pytest.raises(UsageError, match="must be weights of vgg16 without its top layer"):
        build_backbone(find("vgg16"), SIZE, str(path))
    with pytest.raises(UsageError, match=r"efficientnet_lite0 .* Name its network with --backbone\.$"):
        build_backbone(find("efficientnet_lite0"), SIZE, str(path))


def test_a_legacy_file_with_top_is_refused(tmp_path):
    path = tmp_path / "mobilenet_full.h5"
    keras.applications.MobileNet(weights=None, classes=5, input_shape=(SIZE, SIZE, 3)).save(path)
    _strip_to_legacy_weights(path)
    with pytest.raises(UsageError, match="must be weights of mobilenet without its top layer"):
        build_backbone(find("mobilenet"), SIZE, str(path))


def test_of_a_new_file_with_top_the_backbone_is_taken(tmp_path, pictures):
    path = tmp_path / "mobilenet_full.weights.h5"
    full = keras.applications.MobileNet(weights=None, classes=5, input_shape=(SIZE, SIZE, 3))
    full.save_weights(path)
    ours = build_backbone(find("mobilenet"), SIZE, str(path)).model
    up_to_top = keras.Model(full.input, full.get_layer("conv_pw_13_relu").output)
    expected = up_to_top(keras.applications.mobilenet.preprocess_input(pictures.copy()), training=False)
    np.testing.assert_allclose(ours(pictures, training=False), expected, rtol=1e-5)


def test_a_truncated_file_is_refused(tmp_path):
    path = tmp_path / "mobilenet.weights.h5"
    keras.applications.MobileNet(include_top=False, weights=None, input_shape=(SIZE, SIZE, 3)).save_weights(path)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(UsageError, match=r"must be a file of plain arrays.* is damaged"):
        build_backbone(find("mobilenet"), SIZE, str(path))


@pytest.mark.parametrize("make", [os.mkfifo, Path.mkdir], ids=["pipe", "folder"])
def test_what_is_no_file_is_refused_at_once(tmp_path, make):
    make(tmp_path / "x.weights.h5")
    with pytest.raises(UsageError, match=r"'.*x\.weights\.h5' cannot be read: not a file\."):
        check_available(find("mobilenet"), str(tmp_path / "x.weights.h5"))


def test_without_a_network_the_error_names_what_else_can_be_done(monkeypatch, tmp_path):
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    monkeypatch.setattr(weights, "DOWNLOAD_HOST", "localhost.invalid")
    with pytest.raises(UsageError) as error:
        check_available(find("resnet50"), "imagenet")
    for advice in ("resnet50_weights_tf_dim_ordering_tf_kernels_notop.h5", "--weights FILE", "efficientnet_lite0"):
        assert advice in str(error.value)


def test_a_network_without_published_weights_has_none_at_hand_and_asks_for_no_download(monkeypatch):
    monkeypatch.setitem(backbones.FAMILIES, "vgg16", backbones.FAMILIES["vgg16"]._replace(weights_file=""))
    check_available(find("vgg16"), "none")
    assert not weights.at_hand(find("vgg16"))
    with pytest.raises(UsageError, match="must be 'none' or a weight file: Keras publishes none for vgg16"):
        check_available(find("vgg16"), "imagenet")


def test_a_download_that_breaks_off_is_explained(monkeypatch):
    def get_file(*_, **__):
        raise Exception("URL fetch failure on https://example.invalid: None -- timed out")

    monkeypatch.setattr("keras.src.applications.mobilenet.file_utils.get_file", get_file)
    with pytest.raises(UsageError, match="cannot be downloaded"):
        build_backbone(find("mobilenet"), SIZE, "imagenet")


def test_weights_in_the_folder_of_keras_need_no_network(monkeypatch, tmp_path):
    backbone = find("resnet50")
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    monkeypatch.setattr(weights, "DOWNLOAD_HOST", "localhost.invalid")
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / backbone.weights_file).touch()
    check_available(backbone, "imagenet")


@pytest.mark.network
def test_a_download_by_keras_works():
    model = build_backbone(find("mobilenetv3small"), SIZE, "imagenet").model
    assert model.count_params() == 939_120
