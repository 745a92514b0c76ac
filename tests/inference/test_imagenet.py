"""A pretrained network as it is: its classes by name, and weights with top."""

from pathlib import Path

import keras
import numpy as np
import pandas as pd
import pytest

from app.errors import UsageError
from inference.answering import imagenet_classes, of_backbone
from inference.files import find_files
from inference.predict_files import predict_files
from models import weights
from models.backbones import TABLE, Backbone, find
from tests.untrained import normalize
from tests.weight_files import files_asked_for

QUICK = {"mobilenet", "mobilenetv3small", "efficientnetb0", "nasnetmobile"}
ROWS = [
    pytest.param(backbone, id=backbone.name, marks=() if backbone.name in QUICK else pytest.mark.slow)
    for backbone in TABLE
    if backbone.weights_file_with_top and backbone.family.builder == "models.applications"
]


@pytest.fixture(autouse=True)
def _forget_models():
    yield
    keras.backend.clear_session()


def photo(name: str) -> str:
    import matplotlib

    return str(Path(matplotlib.get_data_path()) / "sample_data" / name)


def test_the_thousand_classes_are_in_the_order_of_the_outputs():
    names = imagenet_classes()
    assert len(names) == len(set(names)) == 1000
    known = {
        0: "tench",
        285: "Egyptian cat",
        309: "bee",
        310: "ant",
        657: "missile",
        967: "espresso",
        652: "military uniform",
    }
    assert {number: names[number] for number in known} == known
    assert [names[number] for number in (134, 517, 638, 639)] == [
        "crane (bird)",
        "crane (machine)",
        "maillot",
        "maillot, tank suit",
    ]


def test_a_uniform_is_recognised(tmp_path):
    network = of_backbone("efficientnet_lite0", "imagenet", "stretch")
    predict_files(network, find_files([photo("grace_hopper.jpg")]), csv=tmp_path / "answers.csv")
    answer = pd.read_csv(tmp_path / "answers.csv").iloc[0]
    assert answer["predicted"] == "military uniform"
    assert answer["probability"] == answer["probability_military uniform"] == pytest.approx(0.46, abs=0.02)
    assert answer.filter(regex="^probability_").sum() == pytest.approx(1, abs=1e-5)


def test_weights_with_top_are_read_from_a_file(tmp_path):
    full = keras.applications.MobileNet(weights=None)
    pictures = np.random.default_rng(0).integers(0, 256, (2, 224, 224, 3)).astype(np.uint8)
    preprocessed = keras.applications.mobilenet.preprocess_input(pictures.astype(np.float32))
    normalize(full, preprocessed)
    full.save_weights(tmp_path / "mobilenet.weights.h5")
    network = of_backbone("mobilenet", str(tmp_path / "mobilenet.weights.h5"))
    expected = full(preprocessed, training=False)
    assert np.ptp(expected, axis=0).max() > 1e-5
    np.testing.assert_allclose(network.load()(pictures), expected, rtol=1e-3, atol=1e-6)


def test_weights_without_top_are_refused(tmp_path):
    keras.applications.MobileNet(include_top=False, weights=None).save_weights(tmp_path / "no_top.weights.h5")
    with pytest.raises(UsageError, match="must be weights of mobilenet with its top layer"):
        of_backbone("mobilenet", str(tmp_path / "no_top.weights.h5")).load()


def test_without_a_network_the_error_names_the_file_with_top(monkeypatch, tmp_path):
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    monkeypatch.setattr(weights, "DOWNLOAD_HOST", "localhost.invalid")
    with pytest.raises(UsageError) as error:
        of_backbone("resnet50", "imagenet")
    assert "put resnet50_weights_tf_dim_ordering_tf_kernels.h5 into" in str(error.value)
    assert "--weights none" not in str(error.value)
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / find("resnet50").weights_file).touch()
    with pytest.raises(UsageError, match="cannot be downloaded"):
        of_backbone("resnet50", "imagenet")


@pytest.mark.parametrize("backbone", ROWS)
def test_the_weights_file_with_top_is_the_one_keras_asks_for(backbone: Backbone, monkeypatch):
    assert files_asked_for(backbone, backbone.image_size, True, monkeypatch) == [backbone.weights_file_with_top]
