"""OpenVINO computes what TensorFlow does, each time the same, or TensorFlow takes its place."""

import importlib.util
import subprocess
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf

from app.config import TrainConfig
from app.errors import UsageError
from data.batches import View
from data.store import Store
from devices.precision import choose_precision
from features import runtimes
from features.frozen_part import FrozenPart
from features.runtimes import LARGEST_DIFFERENCE, LEAST_WORK, OpenVino, choose_runtime
from tests.faults.kills import REPOSITORY
from tests.features.test_frozen_part import COUNT, SIZE, build, cuts_of

pytestmark = pytest.mark.skipif(importlib.util.find_spec("openvino") is None, reason="needs requirements-fast.txt")


@pytest.fixture(scope="module")
def view() -> View:
    pixels = np.random.default_rng(0).integers(0, 256, (COUNT + 5, SIZE, SIZE, 3), np.uint8)
    return View((pixels,), np.arange(COUNT)[::-1])


@pytest.fixture(scope="module")
def lite():
    return build("efficientnet_lite0")


def part(classifier, folder, runtime: str = "openvino", precision: str = "float32") -> FrozenPart:
    return FrozenPart(classifier.model, cuts_of(classifier), Store(folder, 10**9), precision, "title", runtime=runtime)


@pytest.mark.parametrize("precision", ["float32", "mixed_bfloat16"])
def test_openvino_agrees_with_tensorflow_and_has_entries_of_its_own(lite, view, tmp_path, precision):
    exact, _ = part(lite, tmp_path, "tensorflow").load_or_compute(view, None, {})
    fast, saved = part(lite, tmp_path, precision=precision).load_or_compute(view, None, {})
    assert saved == 0
    for one, other in zip(fast, exact, strict=True):
        assert 0 < np.linalg.norm(one - other) < LARGEST_DIFFERENCE[precision] * np.linalg.norm(other)
    again, saved = part(lite, tmp_path, precision=precision).load_or_compute(view, None, {})
    assert saved > 0
    for one, other in zip(fast, again, strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("precision", ["float32", "mixed_bfloat16"])
def test_an_example_is_the_same_in_any_batch_on_any_number_of_threads(lite, view, monkeypatch, precision):
    model = keras.Model(lite.model.inputs[0], cuts_of(lite)[0].tensors[0])
    pictures = view.inputs[0][:40].astype(np.float32)
    monkeypatch.setenv("TF_NUM_INTRAOP_THREADS", "1")
    (whole,) = OpenVino(model, precision)(tf.constant(pictures))
    monkeypatch.setenv("TF_NUM_INTRAOP_THREADS", "3")
    compute = OpenVino(model, precision)
    parts = [compute(tf.constant(pictures[::-1][first : first + 7]))[0] for first in range(0, 40, 7)]
    np.testing.assert_array_equal(whole, np.concatenate(parts)[::-1])


def test_later_changes_of_the_weights_change_nothing(view, tmp_path):
    classifier = build("efficientnet_lite0")
    before, _ = part(classifier, tmp_path / "a").load_or_compute(view, None, {})
    prepared = part(classifier, tmp_path / "b")
    kernel = classifier.backbone.layers[2].weights[0]
    kernel.assign(kernel + 1)
    for one, other in zip(before, prepared.load_or_compute(view, None, {})[0], strict=True):
        np.testing.assert_array_equal(one, other)


def test_what_openvino_cannot_convert_tensorflow_computes(lite, view, tmp_path, monkeypatch, capsys):
    expected, _ = part(lite, tmp_path, "tensorflow").load_or_compute(view, None, {})
    monkeypatch.setitem(runtimes.PRECISIONS, "float32", "no such precision")
    found, saved = part(lite, tmp_path).load_or_compute(view, None, {})
    assert "TensorFlow computes the frozen layers, as OpenVINO cannot take this network" in capsys.readouterr().out
    assert saved > 0, "TensorFlow's own entries"
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_array_equal(one, other)


def test_what_openvino_computes_otherwise_tensorflow_computes(lite, view, tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(runtimes.LARGEST_DIFFERENCE, "float32", 1e-9)
    part(lite, tmp_path).load_or_compute(view, None, {})
    assert "as OpenVINO differs from it in layer 'pooling'" in " ".join(capsys.readouterr().out.split())
    assert part(lite, tmp_path, "tensorflow").load_or_compute(view, None, {})[1] > 0


def test_activations_bring_no_outputs_of_their_gradients():
    """With them, EfficientNet would be three times as slow."""
    inputs = keras.Input((32, 32, 3))
    network = keras.Model(inputs, keras.layers.Conv2D(4, 3, activation="silu")(inputs))
    queue, _ = OpenVino(network, "float32")._converted
    assert len(queue[0].model_outputs) == 1


def test_nothing_is_reported_to_the_makers_of_openvino():
    code = """
import sys
import keras
from features.runtimes import OpenVino

layers = [keras.Input((8, 8, 3)), keras.layers.Conv2D(4, 3)]
OpenVino(keras.Sequential(layers), "float32")._converted
assert sys.modules["openvino_telemetry"] is None
"""
    subprocess.run([sys.executable, "-c", code], cwd=REPOSITORY, check=True)


def test_the_smallest_floats_stay_what_they_are(lite, view):
    OpenVino(keras.Model(lite.model.inputs[0], cuts_of(lite)[1].tensors[0]), "float32").check(view, None, ["first"])
    assert np.float32(1e-40) > 0
    assert (np.full(64, 1e-40, np.float32) * np.float32(0.5) > 0).all()


def test_openvino_is_chosen_for_much_work_on_a_cpu(lite, monkeypatch):
    one, many = tf.distribute.get_strategy(), int(LEAST_WORK)
    assert choose_runtime(TrainConfig.of(), lite.model, many, one) == "openvino"
    assert choose_runtime(TrainConfig.of(), lite.model, 10, one) == "tensorflow"
    assert choose_runtime(TrainConfig.of(backbone="inceptionv3"), lite.model, many, one) == "tensorflow"
    assert choose_runtime(TrainConfig.of(backbone="minilm"), lite.model, many, one) == "tensorflow"
    assert choose_runtime(TrainConfig.of(cluster="auto"), lite.model, many, one) == "tensorflow"
    assert choose_runtime(TrainConfig.of(runtime="tensorflow"), lite.model, many, one) == "tensorflow"
    assert choose_runtime(TrainConfig.of(precision="mixed_float16"), lite.model, many, one) == "tensorflow"
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert choose_runtime(TrainConfig.of(), lite.model, many, one) == "tensorflow"
    with pytest.raises(UsageError, match=r"^--runtime openvino needs OpenVINO: pip install -r requirements-fast.txt$"):
        choose_runtime(TrainConfig.of(runtime="openvino"), lite.model, many, one)


def test_bfloat16_is_chosen_for_every_network_that_openvino_computes(lite, monkeypatch):
    monkeypatch.setattr("devices.precision._cpu_has_bfloat16", lambda: True)
    assert choose_precision("auto", lite.model) == "float32"
    assert choose_precision("auto", lite.model, openvino=True) == "mixed_bfloat16"
