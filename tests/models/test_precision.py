"""A precision is of a graph: the model that is trained in one is saved, measured and exported in float32."""

import json

import keras
import numpy as np
import pandas as pd
import pytest
import tensorflow as tf

from app.spectrogram import RATE
from data.images.decode import read_picture
from devices import precision
from devices.precision import choose_precision, computing_in, is_rewritten, learning_precision
from exports.run import export_run
from features.forward_pass import frozen_function
from inference.load import read_run
from inference.run_record import read_metrics, read_sample
from models import backbones
from models.backbones import find
from models.classifier import build_classifier
from models.sound_encoder import LogMel
from models.sound_picture import SoundPicture
from tasks.classification import MULTICLASS
from tests.small_runs import SMALL_RUNS, make_run


@pytest.fixture(scope="module")
def mobilenet() -> keras.Model:
    return _classifier("mobilenet")


@pytest.fixture(scope="module")
def vgg() -> keras.Model:
    return _classifier("vgg16")


def _classifier(name: str) -> keras.Model:
    return build_classifier(find(name), weights="none", image_size=32, task=MULTICLASS, num_classes=3).model


def _types(model: keras.Model, chosen: str) -> dict[str, set[tf.DType]]:
    """The number formats of convolutions and of the softmax in a graph."""
    with computing_in(model, chosen):
        graph = tf.function(model, autograph=False).get_concrete_function(tf.zeros((2, 32, 32, 3))).graph
    found: dict[str, set[tf.DType]] = {}
    for operation in graph.get_operations():
        if operation.type in ("Conv2D", "DepthwiseConv2dNative", "MatMul", "Softmax", "Mul", "Sub"):
            found.setdefault(operation.type, set()).add(operation.outputs[0].dtype)
    return found


@pytest.mark.parametrize(("chosen", "expected"), [("mixed_bfloat16", tf.bfloat16), ("mixed_float16", tf.float16)])
def test_layers_take_a_precision_on_while_a_graph_is_traced(mobilenet, chosen, expected):
    types = _types(mobilenet, chosen)
    assert types["Conv2D"] == types["DepthwiseConv2dNative"] == {expected}
    assert types["Softmax"] == types["MatMul"] == {tf.float32}
    assert set.union(*_types(mobilenet, "float32").values()) == {tf.float32}
    assert all(variable.dtype == "float32" for variable in mobilenet.trainable_variables)


@pytest.mark.parametrize("chosen", ["mixed_bfloat16", "mixed_float16"])
def test_spectrograms_are_computed_in_float32(chosen):
    sounds = keras.Input((RATE,))
    model = keras.Model(sounds, SoundPicture(32)(LogMel()(sounds)))
    noise = np.random.default_rng(0).normal(0, 2_000, (1, RATE)).astype(np.float32)
    expected = tf.function(model)(noise)
    with computing_in(model, chosen):
        np.testing.assert_array_equal(tf.function(model)(noise), expected)


def test_layers_are_float32_again_after_an_error(mobilenet):
    with pytest.raises(ZeroDivisionError), computing_in(mobilenet, "mixed_bfloat16"):
        1 / 0  # noqa: B018
    assert {layer.compute_dtype for layer in mobilenet.layers} == {"float32"}


def test_pixels_are_prepared_in_float32():
    """Of 255 levels, bfloat16 tells 128 and more apart only in steps."""
    backbone = find("efficientnetb0")
    model = backbones.build(backbone, 32).model
    tensor = next(layer for layer in model.layers if isinstance(layer, keras.layers.Normalization)).output
    pixels = np.linspace(0, 255, 32 * 32 * 3, dtype=np.float32).reshape(1, 32, 32, 3)
    prepare = keras.Model(model.inputs[0], tensor)
    exact, mixed = (frozen_function(prepare, chosen)(pixels)[0] for chosen in ("float32", "mixed_bfloat16"))
    np.testing.assert_array_equal(exact, mixed)


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        ("fpu avx512f avx512_bf16 avx512_vnni", "mixed_bfloat16"),
        ("fpu amx_bf16 amx_tile", "mixed_bfloat16"),
        ("fpu avx2 avx512f avx512_vnni", "float32"),
        (None, "float32"),
    ],
)
def test_a_cpu_computes_in_bfloat16_where_it_has_the_instructions(
    vgg, mobilenet, tmp_path, monkeypatch, flags, expected
):
    monkeypatch.setattr(precision, "CPU_INFO", tmp_path / "cpuinfo")
    if flags is not None:
        cores = [f"processor\t: {core}\nmodel name\t: made up\nflags\t\t: {flags}\n" for core in range(2)]
        (tmp_path / "cpuinfo").write_text("\n".join(cores))
    assert choose_precision("auto", vgg) == expected
    assert choose_precision("auto", mobilenet) == "float32"  # slower or as fast, whatever the CPU has
    assert choose_precision("mixed_float16", vgg) == "mixed_float16"


@pytest.mark.parametrize(
    ("capabilities", "expected"),
    [
        ([(9, 0)], "mixed_bfloat16"),
        ([(8, 0), (7, 5)], "mixed_float16"),
        ([(7, 0)], "mixed_float16"),
        ([(6, 1)], "float32"),
        ([None], "float32"),
    ],
)
def test_gpus_compute_in_what_the_oldest_of_them_is_fast_in(mobilenet, monkeypatch, capabilities, expected):
    monkeypatch.setattr(tf.config, "get_visible_devices", lambda kind: capabilities if kind == "GPU" else [])
    details = {"compute_capability": None}
    monkeypatch.setattr(
        tf.config.experimental,
        "get_device_details",
        lambda gpu: details | {"compute_capability": gpu} if gpu else {},
    )
    assert choose_precision("auto", mobilenet) == expected


def test_a_tpu_computes_in_bfloat16(mobilenet, monkeypatch):
    monkeypatch.setattr(tf.config, "list_logical_devices", lambda kind: ["TPU 0"] if kind == "TPU" else [])
    assert choose_precision("auto", mobilenet) == "mixed_bfloat16"
    assert learning_precision(mobilenet, "mixed_bfloat16") == "mixed_bfloat16"
    assert not is_rewritten("mixed_bfloat16")


def test_what_learns_on_a_cpu_stays_in_float32_where_bfloat16_is_slower(vgg, mobilenet):
    assert learning_precision(mobilenet, "mixed_bfloat16") == "float32"
    assert learning_precision(mobilenet, "mixed_float16") == "mixed_float16"
    assert learning_precision(vgg, "mixed_bfloat16") == "mixed_bfloat16"
    assert learning_precision(vgg.get_layer("head"), "mixed_bfloat16") == "float32"


@pytest.mark.parametrize(
    "chosen", ["mixed_bfloat16", *(pytest.param(name, marks=pytest.mark.slow) for name in ("auto", "mixed_float16"))]
)
@pytest.mark.parametrize("kind", ["fine_tuned", pytest.param("uncut", marks=pytest.mark.slow)])
def test_every_precision_trains_saves_reloads_and_exports(tmp_path, chosen, kind):
    folder = make_run(tmp_path, **SMALL_RUNS[kind], precision=chosen)
    settings = json.loads((folder / "config.json").read_text())
    assert settings["precision"] == ("float32" if chosen == "auto" else chosen)  # the network is small
    table = pd.read_csv(folder / "predictions.csv")
    expected = table[[name for name in table if name.startswith("probability_")]].to_numpy()
    pixels = np.stack(
        [read_picture(tmp_path / "photos" / path, 32, settings["resize"]) for path in table["path"]]
    ).astype(np.float32)
    for policy in ("float32", "mixed_bfloat16", "mixed_float16"):
        keras.config.set_dtype_policy(policy)
        try:
            model = keras.saving.load_model(folder / "model.keras", compile=False, safe_mode=True)
        finally:
            keras.config.set_dtype_policy("float32")
        assert {layer.compute_dtype for layer in model.layers if layer.weights and layer.name != "head"} == {"float32"}
        # Under another policy, Keras rounds the pixels that it hands to a model.
        np.testing.assert_allclose(model(pixels, training=False), expected, atol=1e-5 if policy == "float32" else 0.05)
    run = read_run(folder)
    export_run(
        run, read_metrics(run), read_sample(run, [], 8, tmp_path), {"litert": tmp_path / "litert"}, quantize=False
    )
    assert list((tmp_path / "litert").glob("*.tflite"))
