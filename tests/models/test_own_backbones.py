"""A person's own network, a file of Keras or a function of custom.py, is a backbone like any other."""

import json
import time
import zipfile
from pathlib import Path

import keras
import numpy as np
import pandas as pd
import pytest

import custom
from app.config import TrainConfig
from app.errors import UsageError
from exports.run import export_run
from features.cuts import find_cuts
from inference.load import load_model, read_run
from inference.predictor import Predictor
from inference.run_record import read_metrics, read_sample
from models.backbones import find
from models.network_name import parse_name
from models.weights import build_backbone, check_available
from reports.evaluation import evaluate
from reports.evaluation_inputs import load_evaluation
from tests.small_runs import make_run
from training.folder import backbone_names
from training.inputs import inputs_digest, load_inputs
from tuning.inputs import load_search_inputs
from tuning.search import search
from tuning.space import TuneConfig

SIZE = 32


def blocks(pictures: keras.KerasTensor) -> keras.KerasTensor:
    x = keras.layers.Conv2D(8, 3, strides=2, padding="same", name="first")(pictures)
    x = keras.layers.ReLU()(keras.layers.BatchNormalization()(x))
    x = keras.layers.Add()([x, keras.layers.Conv2D(8, 3, padding="same", name="second")(x)])
    return keras.layers.Conv2D(12, 3, strides=2, padding="same", activation="relu", name="pooling")(x)


def write_classifier(path: Path, scaling: bool = True) -> keras.Model:
    """Saves what people save: augmentation, scaling and a base of its own within, a head behind, compiled."""
    keras.utils.set_random_seed(1)
    inner = keras.Input((SIZE, SIZE, 3))
    base = keras.Model(inner, blocks(inner), name="base")
    pictures = keras.Input((SIZE, SIZE, 3))
    x = keras.Sequential([keras.layers.RandomFlip(), keras.layers.RandomRotation(0.1)])(pictures)
    x = keras.layers.Rescaling(1 / 255)(x) if scaling else x
    x = keras.layers.Dropout(0.5)(keras.layers.GlobalAveragePooling2D()(base(x)))
    model = keras.Model(pictures, keras.layers.Dense(5, activation="softmax")(x))
    model.compile("adam", "categorical_crossentropy")
    model.save(path)
    return model


@pytest.fixture
def pictures() -> np.ndarray:
    return np.random.default_rng(0).uniform(0, 255, (3, SIZE, SIZE, 3)).astype(np.float32)


def test_a_file_is_taken_apart_up_to_its_last_feature_map(tmp_path, pictures):
    original = write_classifier(tmp_path / "mine.keras")
    backbone = find(str(tmp_path / "mine.keras"))
    assert (backbone.image_size, backbone_names(backbone.name)) == (SIZE, ["mine"])
    check_available(backbone, "imagenet")
    parts = build_backbone(backbone, SIZE, "imagenet")
    expected = original.get_layer("base")(pictures / 255, training=False)
    np.testing.assert_allclose(parts.model(pictures), expected, atol=1e-5)
    assert not any(type(layer).__name__.startswith("Random") for layer in parts.model.layers)
    cuts = [cut.layer for cut in find_cuts(parts.model)]
    assert "add" in " ".join(cuts)
    assert "second" not in cuts
    assert [block[0].name for block in parts.blocks][1:] == ["second", "pooling_"]
    random = build_backbone(backbone, SIZE, "none").model
    assert not np.allclose(random(pictures), expected)
    assert build_backbone(backbone, 48, "imagenet").model.output_shape == (None, 12, 12, 12)


def test_a_transformer_is_taken_up_to_its_last_tokens(tmp_path, pictures):
    keras.utils.set_random_seed(1)
    inputs = keras.Input((SIZE, SIZE, 3))
    x = keras.layers.Conv2D(8, 8, strides=8)(keras.layers.Rescaling(1 / 255)(inputs))
    x = keras.layers.Reshape((16, 8))(x)
    first = keras.layers.Dense(8)(keras.layers.GlobalAveragePooling1D(keepdims=True)(x))
    x = keras.layers.Concatenate(axis=1)([first, x])
    for _ in range(2):
        x = keras.layers.Add()([x, keras.layers.MultiHeadAttention(2, 4)(x, x)])
    tokens = keras.layers.LayerNormalization()(x)
    original = keras.Model(inputs, keras.layers.Dense(5)(tokens[:, 0]))
    original.save(tmp_path / "mine.keras")
    parts = build_backbone(find(str(tmp_path / "mine.keras")), SIZE, "imagenet")
    expected = keras.Model(inputs, tokens)(pictures)
    np.testing.assert_allclose(parts.model(pictures), expected, atol=1e-6)
    pooled = {name: make(name="pooling")(expected) for name, make in parts.pooling.items()}
    np.testing.assert_allclose(pooled["avg"], np.mean(expected[:, 1:], axis=1), atol=1e-6)
    np.testing.assert_allclose(pooled["max"], np.max(expected, axis=1), atol=1e-6)
    assert len(parts.blocks) == 4


def test_a_layer_that_normalizes_goes_on_with_what_it_has_learnt(tmp_path, pictures):
    normalization = keras.layers.Normalization()
    normalization.adapt(pictures)
    original = keras.Sequential([keras.Input((SIZE, SIZE, 3)), normalization, keras.layers.Conv2D(4, 3)])
    original.save(tmp_path / "mine.keras")
    model = build_backbone(find(str(tmp_path / "mine.keras")), SIZE, "imagenet").model
    np.testing.assert_allclose(model(pictures), original(pictures), atol=1e-5)


@pytest.mark.parametrize(("pixels", "expected"), [("raw", lambda x: x), ("unit", lambda x: x / 255)])
def test_pixels_are_scaled_as_the_name_says(pixels, expected, tmp_path, pictures):
    original = write_classifier(tmp_path / "mine.keras", scaling=False)
    name = f"{pixels}:{tmp_path / 'mine.keras'}"
    assert parse_name(name) == (pixels, tmp_path / "mine.keras")
    model = build_backbone(find(name), SIZE, "imagenet").model
    np.testing.assert_allclose(model(pictures), original.get_layer("base")(expected(pictures)), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("mode", ["tf", "torch", "caffe"])
def test_pixels_are_scaled_as_keras_does_it(mode, tmp_path, pictures):
    original = write_classifier(tmp_path / "mine.keras", scaling=False)
    model = build_backbone(find(f"{mode}:{tmp_path / 'mine.keras'}"), SIZE, "imagenet").model
    scaled = keras.applications.imagenet_utils.preprocess_input(pictures.copy(), mode=mode)
    np.testing.assert_allclose(model(pictures), original.get_layer("base")(scaled), rtol=1e-4, atol=1e-3)


def refused(name: object) -> str:
    with pytest.raises(UsageError) as error:
        check_available(find(str(name)), "imagenet")
    return str(error.value)


def test_what_is_no_backbone_is_refused_with_the_reason(tmp_path):
    path = tmp_path / "mine.keras"
    assert "cannot be read: No such file or directory" in refused(path)
    path.write_bytes(b"nothing")
    assert "is damaged" in refused(path)
    write_classifier(path, scaling=False)
    assert f"--backbone unit:{path} for 0 to 1" in refused(path)
    keras.Sequential([keras.Input((8,)), keras.layers.Dense(2)]).save(path)
    assert "must take square RGB pictures; the input of" in refused(path)
    inputs = keras.Input((8, 8, 3))
    keras.Model(inputs, keras.layers.Lambda(lambda x: x)(keras.layers.Rescaling(2.0)(inputs))).save(path)
    assert 'asks for "Lambda"' in refused(path)
    keras.Model(inputs, keras.layers.Dense(2)(keras.layers.Flatten()(keras.layers.Rescaling(2.0)(inputs)))).save(path)
    layer = keras.layers.Conv2D(3, 3, padding="same")
    keras.Model(inputs, layer(layer(keras.layers.Rescaling(2.0)(inputs)))).save(path)
    with pytest.raises(UsageError, match=r"it uses its layer 'conv2d.*' twice"):
        build_backbone(find(str(path)), 8, "imagenet")
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("config.json", "[")
    assert "is damaged" in refused(path)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("config.json", json.dumps({"class_name": "Functional", "config": list(range(500))}))
    content = path.read_bytes()
    path.write_bytes(content[:60] + b"\xff" * 40 + content[100:])
    assert "is damaged" in refused(path)
    for side in ("x", -5, 10**9, True):
        layer = {"class_name": "InputLayer", "config": {"batch_shape": [None, side, side, 3]}}
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("config.json", json.dumps({"layers": [layer]}))
        assert "must take square RGB pictures" in refused(path)


def test_a_run_on_a_file_needs_it_no_more_once_it_is_trained(tmp_path, capsys):
    path = tmp_path / "mine.keras"
    write_classifier(path)
    settings = {"trainable_layers": 2, "fine_tune_epochs": 1, "head_epochs": 1}
    folder = make_run(tmp_path, ("cat", "dog"), backbone=str(path), **settings)
    path.unlink()
    run = read_run(folder)
    sample = read_sample(run, (), 8, tmp_path / "cache")
    outputs = Predictor(load_model(run), run.cut)(sample.inputs)
    table = pd.read_csv(folder / "predictions.csv")
    np.testing.assert_allclose(
        run.task.probabilities(outputs)[:, 0], table["probability_cat"][: len(outputs)], atol=1e-6
    )
    evaluate(load_evaluation(run, None, (), tmp_path / "cache"))
    assert "identical to metrics.json" in capsys.readouterr().out
    export_run(run, read_metrics(run), sample, {"onnx": tmp_path / "onnx"})
    assert "Your own: the network" in (tmp_path / "onnx" / "MODEL_CARD.md").read_text()


def test_a_search_takes_a_file_among_others(tmp_path, make_folder):
    path = tmp_path / "mine.keras"
    write_classifier(path)
    places = {"data": str(make_folder(count=12)), "cache_dir": tmp_path / "cache", "output": tmp_path / "search"}
    quick = {"image_size": SIZE, "head_epochs": (1,), "fine_tune_epochs": (1,), "max_trials": 4, "val_fraction": 0.3}
    config = TuneConfig.of(backbone=(str(path), "efficientnet_lite0"), **places, **quick)
    folder, inputs = load_search_inputs(config)
    search(config, inputs, folder, time.perf_counter())
    trials = pd.read_csv(folder / "trials.csv")
    assert set(trials["backbone"]) == {str(path), "efficientnet_lite0"}
    assert set(trials.loc[trials["backbone"] == str(path), "trainable_layers"]) > {0}


def test_a_run_goes_on_only_with_the_file_that_it_was_begun_with(tmp_path, make_folder):
    path = tmp_path / "mine.keras"
    write_classifier(path)
    config = TrainConfig.of(data=str(make_folder()), backbone=str(path), cache_dir=tmp_path / "cache")
    before = load_inputs(config)
    assert before.config.data.image_size == SIZE
    digest = inputs_digest(before)
    write_classifier(path)
    assert inputs_digest(load_inputs(config)) != digest


def test_a_function_of_custom_py_is_a_backbone(monkeypatch, tmp_path, pictures):
    def tiny(image_size: int = SIZE) -> keras.Model:
        inputs = keras.Input((image_size, image_size, 3))
        return keras.Model(inputs, blocks(inputs))

    monkeypatch.setitem(custom.BACKBONES, "tiny", tiny)
    assert find("tiny").image_size == SIZE
    run = read_run(make_run(tmp_path, ("cat", "dog"), backbone="tiny"))
    assert load_model(run).get_layer("second").filters == 8
    with pytest.raises(UsageError, match=r"must be one of \d+ names; received 'tinny'\. Did you mean 'tiny'"):
        find("tinny")
