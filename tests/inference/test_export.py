"""An export is kept only if it answers, in its own runtime, as the model does; nothing is left of any other."""

import base64
import json
import os
import re
import resource
import shutil
import signal
import subprocess
import sys
import typing
from collections.abc import Sequence
from pathlib import Path

import keras
import numpy as np
import pandas as pd
import pytest
import tensorflow as tf

import export as command
from app.config import TrainConfig
from app.errors import RunError, UsageError
from data.images.decode import read_picture
from data.images.kind import KIND
from exports.class_function import class_function
from exports.folder import check_folders, complete_folder
from exports.litert import open_litert
from exports.onnx import open_onnx
from exports.run import FORMATS, SAME_LABELS, export_format, export_run, make_reference
from exports.saved_model import open_signature
from inference.load import TrainedRun, load_model, read_run
from inference.run_record import Sample, check_accuracy, read_metrics, read_sample
from models import backbones
from models.classifier import build_classifier
from reports.model_card import weights_licence
from tasks.classification import BINARY, MULTICLASS, MULTILABEL
from tasks.table import Task
from tests.conftest import COLOURS, make_picture
from tests.untrained import normalize
from training.inputs import load_inputs
from training.run import train

SIZE = 32
PICTURES = 12
QUANTIZED = {"model_float16.tflite": 0.6, "model_quantized.tflite": 0.4, "model_int8.tflite": 0.4}
"""Quantised files, and the most that each may have of the size of the whole one."""
NAMES = {BINARY: ("no", "yes"), MULTICLASS: ("a", "b", "c"), MULTILABEL: ("x", "y", "z")}


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> TrainedRun:
    """A finished run on photos of two colours: JPEGs, some of them turned, and PNGs."""
    root = tmp_path_factory.mktemp("exported")
    for number, name in enumerate(("blue", "red")):
        (root / "photos" / name).mkdir(parents=True)
        for index in range(16):
            picture = make_picture(100 * number + index, COLOURS[1 - number], size=(60, 44))
            exif = picture.getexif()
            exif[0x0112] = 1 + index % 8
            picture.save(root / "photos" / name / f"{index}.{'png' if index % 3 else 'jpg'}", exif=exif)
    config = TrainConfig.of(
        data=str(root / "photos"),
        output=root / "run",
        cache_dir=root / "cache",
        image_size=SIZE,
        head_epochs=4,
        fine_tune_epochs=0,
        val_fraction=0.3,
        test_fraction=0.3,
    )
    return read_run(train(load_inputs(config)))


def sample_of(run: TrainedRun, most: int = PICTURES, given: Sequence[str] = ()) -> Sample:
    return read_sample(run, given, most, run.folder.parent / "cache")


def untrained(
    folder: Path, backbone: str, task: Task, image_size: int = SIZE
) -> tuple[TrainedRun, keras.Model, Sample]:
    """A network that no one trained, whose answers differ all the same, and noise to ask it about."""
    model = build_classifier(
        backbones.find(backbone), weights="none", image_size=image_size, task=task, num_classes=len(NAMES[task])
    ).model
    generator = np.random.default_rng(0)
    pixels = generator.integers(0, 256, (PICTURES, image_size, image_size, 3), dtype=np.uint8)
    pictures = pixels * np.linspace(0.2, 1, PICTURES, dtype=np.float32)[:, None, None, None]
    pixels = pictures.astype(np.uint8)
    normalize(model, pictures)
    output = model.layers[-1].layers[-1]
    features = keras.Model(model.input, model.layers[-2].output)(pictures, training=False).numpy()
    kernel = generator.normal(size=output.kernel.shape) / np.linalg.norm(features.std(axis=0))
    output.set_weights([kernel, -features.mean(axis=0) @ kernel])
    config = TrainConfig.of(backbone=backbone, weights="none", image_size=image_size, pooling="avg")
    run = TrainedRun(folder, config, NAMES[task], task, KIND, None, 1.0)
    folder.mkdir(exist_ok=True)
    paths = []
    for number, picture in enumerate(pixels):
        paths.append(folder / f"{number}.png")
        keras.utils.save_img(paths[-1], picture, scale=False)
    return run, model, Sample(paths, (pixels,))


@pytest.fixture(scope="module")
def exported(finished) -> Path:
    """The run in every format."""
    folders = {name: finished.folder / "export" / name for name in FORMATS}
    export_run(finished, read_metrics(finished), sample_of(finished), folders)
    return finished.folder / "export"


def test_every_format_of_the_table_can_be_asked_for():
    assert typing.get_args(command.Format) == tuple(FORMATS) == command.ExportFlags(Path("x")).format


def test_every_format_leaves_its_files_and_what_has_to_be_known_of_them(exported):
    beside = {"MODEL_CARD.md", "labels.txt", "parity.json"}
    files = {name: {path.name for path in (exported / name).iterdir()} for name in FORMATS}
    assert files["onnx"] == {"model.onnx"} | beside
    assert files["litert"] == {"model.tflite", *QUANTIZED} | beside
    assert files["saved_model"] >= {"saved_model.pb", "variables"} | beside
    assert {path.name for path in exported.iterdir()} == set(FORMATS)
    for name in FORMATS:
        assert (exported / name / "labels.txt").read_text() == "blue\nred\n"
        assert (exported / name).stat().st_mode & 0o777 == 0o777 & ~_umask()


def _umask() -> int:
    current = os.umask(0)
    os.umask(current)
    return current


def test_exports_answer_what_the_table_of_predictions_says(exported, finished):
    table = pd.read_csv(finished.folder / "predictions.csv")
    paths = [Path(finished.config.data.data) / name for name in table["path"]]
    expected = table[["probability_blue", "probability_red"]].to_numpy(np.float32)
    pictures = np.stack([read_picture(path, SIZE) for path in paths]).astype(np.float32)
    encoded = open_signature(exported / "saved_model")(encoded=[path.read_bytes() for path in paths])
    np.testing.assert_allclose(encoded["probabilities"], expected, atol=0.02)
    assert encoded["labels"].tolist() == table["predicted"].tolist()
    from_pictures = open_signature(exported / "saved_model", "pictures")(pictures=pictures)
    np.testing.assert_allclose(from_pictures["probabilities"], expected, atol=1e-3)
    assert from_pictures["labels"].tolist() == table["predicted"].tolist()
    for opened in (open_litert(exported / "litert/model.tflite"), open_onnx(exported / "onnx/model.onnx")):
        for number in (len(pictures), 1, 3):
            np.testing.assert_allclose(
                opened(pictures=pictures[:number])["probabilities"], expected[:number], atol=1e-3
            )


def test_a_saved_model_has_two_signatures_and_serves_files_by_default(exported):
    signatures = tf.saved_model.load(str(exported / "saved_model")).signatures
    inputs = {name: list(function.structured_input_signature[1].values()) for name, function in signatures.items()}
    assert inputs["serving_default"] == [tf.TensorSpec((None,), tf.string, "encoded")]
    assert inputs["pictures"] == [tf.TensorSpec((None, SIZE, SIZE, 3), tf.float32, "pictures")]
    assert len(inputs) == 2


def test_a_saved_model_answers_files_of_any_size_in_one_batch(exported, tmp_path):
    answer = open_signature(exported / "saved_model")
    contents = []
    for number, size in enumerate([(20, 90), (300, 200)]):
        make_picture(number, COLOURS[number], size).save(tmp_path / f"{number}.png")
        contents.append((tmp_path / f"{number}.png").read_bytes())
    assert answer(encoded=contents)["labels"].tolist() == ["red", "blue"]


def test_the_agreement_is_kept_beside_the_export(exported):
    record = json.loads((exported / "litert" / "parity.json").read_text())
    assert record["format"] == "litert"
    assert record["routes"]["model.tflite"]["n"] == PICTURES
    assert record["routes"]["model.tflite"]["largest_difference"] <= 1e-3
    assert record["routes"]["model_quantized.tflite"]["same_labels"] >= SAME_LABELS
    encoded = json.loads((exported / "saved_model" / "parity.json").read_text())["routes"]["serving_default"]
    assert encoded["largest_difference"] <= 0.02
    assert encoded["refused"] == 0


def test_a_quantised_file_is_much_smaller_and_its_size_and_time_are_told(exported):
    whole = (exported / "litert" / "model.tflite").stat().st_size
    routes = json.loads((exported / "litert" / "parity.json").read_text())["routes"]
    card = (exported / "litert" / "MODEL_CARD.md").read_text()
    for name, most in QUANTIZED.items():
        size = (exported / "litert" / name).stat().st_size
        assert routes[name]["bytes"] == size < most * whole
        assert routes[name]["milliseconds"] > 0
        assert re.search(rf"`{name}`: largest difference .*; {size / 2**20:.1f} MiB, [\d.]+ ms each", card)
    assert routes["model_float16.tflite"]["largest_difference"] <= 0.02


@pytest.mark.filterwarnings("ignore:.*Interpreter is deprecated")
def test_int8_computes_in_8_bits_in_ranges_of_examples_that_it_is_not_compared_on(exported):
    interpreter = tf.lite.Interpreter(str(exported / "litert" / "model_int8.tflite"))
    types = [tensor["dtype"] for tensor in interpreter.get_tensor_details()]
    assert types.count(np.int8) > 0.5 * len(types)
    assert {tensor["dtype"] for tensor in interpreter.get_input_details()} == {np.float32}
    routes = json.loads((exported / "litert" / "parity.json").read_text())["routes"]
    assert [routes[name]["n"] for name in ("model.tflite", "model_int8.tflite")] == [PICTURES, PICTURES // 2]


def test_a_quantised_file_that_gives_other_labels_is_left_out_unless_it_shall_be_kept(finished, tmp_path, monkeypatch):
    model = load_model(finished)
    broken = keras.Model(model.get_layer("preprocessing").output, model.output)
    other = class_function(broken, finished)
    whole, wrong, *_ = FORMATS["litert"]

    def write_other(compute, run, path):
        return wrong.write(other, run, path)

    monkeypatch.setitem(FORMATS, "litert", (whole, wrong._replace(write=write_other)))
    reference = make_reference(model, finished, sample_of(finished))
    arguments = "litert", class_function(model, finished), finished, read_metrics(finished), reference
    export_format(*arguments, tmp_path / "left out")
    assert not (tmp_path / "left out" / wrong.name).exists()
    export_format(*arguments, tmp_path / "kept", keep_quantized=True)
    assert (tmp_path / "kept" / wrong.name).exists()
    card = (tmp_path / "kept" / "MODEL_CARD.md").read_text()
    assert f"`{wrong.name}`: **does not answer as the model does**: largest difference" in card
    assert "`model.tflite`: largest difference" in card


def test_the_card_leads_into_tensorflow_serving(exported, tmp_path):
    """All but the server: its folder of versions, the request that the card makes, and the answer it would give."""
    card = (exported / "saved_model" / "MODEL_CARD.md").read_text()
    command = re.search(r"^echo (.*)\|\n", card, re.MULTILINE)[0].removesuffix("|\n")
    (base,) = re.findall(r'-v "\$PWD:(/models/classifier/1):ro" -e MODEL_NAME=classifier ', card)
    version = tmp_path / base.lstrip("/")
    version.parent.mkdir(parents=True)
    version.symlink_to(exported / "saved_model")
    assert version.name.isdecimal()  # the server reads no other folder
    assert (version / "saved_model.pb").is_file()
    make_picture(0, COLOURS[0], (300, 200)).save(tmp_path / "photo.jpg")
    request = json.loads(subprocess.run(["bash", "-c", command], cwd=tmp_path, capture_output=True).stdout)
    answer = tf.saved_model.load(str(version)).signatures["serving_default"]
    (name,) = answer.structured_input_signature[1]  # a list of values that are no objects is for the only input
    found = answer(**{name: tf.constant([base64.b64decode(each["b64"]) for each in request["instances"]])})
    assert found["labels"].numpy().tolist() == [b"red"]
    assert found["probabilities"].shape == (1, 2)
    assert '`{"predictions": [{"labels": ..., "probabilities": [...]}]}`' in card


def test_the_card_says_what_the_model_needs_and_how_good_it_is(exported, finished):
    accuracy = read_metrics(finished)["test"]["accuracy"]
    for name in FORMATS:
        card = (exported / name / "MODEL_CARD.md").read_text()
        for text in ("`blue`", "32 x 32", "in [0, 255]", "7/8", f"accuracy {100 * accuracy:.1f} %", "Apache-2.0"):
            assert text in card, (name, text)
        for artifact in FORMATS[name]:
            assert artifact.name in card
    assert "TIFF, AVIF" in (exported / "saved_model" / "MODEL_CARD.md").read_text()


@pytest.mark.parametrize("name", FORMATS)
def test_the_snippets_of_a_card_answer_for_a_photo_as_they_are_written(name, exported, finished, tmp_path):
    folder = tmp_path / name
    shutil.copytree(exported / name, folder)
    photo = make_picture(0, COLOURS[0], (60, 44))
    exif = photo.getexif()
    exif[0x0112] = 6
    photo.save(folder / "photo.jpg", exif=exif)
    expected = load_model(finished)(read_picture(folder / "photo.jpg", SIZE)[None].astype(np.float32)).numpy()
    snippets = re.findall(r"```python\n(.*?)```", (folder / "MODEL_CARD.md").read_text(), re.DOTALL)
    assert len(snippets) == 1
    ended = subprocess.run([sys.executable, "-c", snippets[0]], cwd=folder, capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr
    names, shown = re.search(r"(\[.*\]) \[\[(0\.\d+ +0\.\d+) *\]\]", ended.stdout).groups()
    assert names == ("[b'red']" if name == "saved_model" else "['blue', 'red']")
    np.testing.assert_allclose([float(each) for each in shown.split()], finished.task.exported(expected)[0], atol=0.02)


@pytest.mark.parametrize("name", FORMATS)
def test_an_export_without_preprocessing_is_refused_and_nothing_of_it_is_left(name, finished, tmp_path):
    model = load_model(finished)
    preprocessed = model.get_layer("preprocessing").output
    broken = keras.Model(preprocessed, model.output)
    reference = make_reference(model, finished, sample_of(finished))
    with pytest.raises(RunError, match=rf"The export to {name} .* does not answer as the model does: largest diff"):
        export_format(name, class_function(broken, finished), finished, {}, reference, tmp_path / "export" / name)
    assert list(tmp_path.iterdir()) == []


def test_an_earlier_export_outlives_a_failed_one_and_not_a_good_one(finished, tmp_path):
    model = load_model(finished)
    reference = make_reference(model, finished, sample_of(finished))
    compute, metrics, folder = class_function(model, finished), read_metrics(finished), tmp_path / "litert"
    export_format("litert", compute, finished, metrics, reference, folder, quantize=False)
    (folder / "mark").touch()
    wrong = reference._replace(answers=1 - reference.answers)
    with pytest.raises(RunError, match="largest difference"):
        export_format("litert", compute, finished, metrics, wrong, folder, quantize=False)
    assert (folder / "mark").exists()
    check_folders([folder])
    export_format("litert", compute, finished, metrics, reference, folder, quantize=False)
    assert not (folder / "mark").exists()
    assert [path.name for path in tmp_path.iterdir()] == ["litert"]


def test_numbers_that_are_none_are_refused(finished, tmp_path):
    model = load_model(finished)
    reference = make_reference(model, finished, sample_of(finished))
    head = model.layers[-1].layers[-1]
    head.bias.assign(np.full(head.bias.shape, np.nan))
    with pytest.raises(RunError, match="largest difference nan"):
        export_format("litert", class_function(model, finished), finished, {}, reference, tmp_path / "litert")


def test_files_that_tensorflow_cannot_decode_are_counted_and_too_many_are_an_error(finished, tmp_path):
    model = load_model(finished)
    compute, metrics = class_function(model, finished), read_metrics(finished)
    for number, kind in enumerate(("png", "png", "tiff", "tiff", "tiff")):
        make_picture(number, COLOURS[0]).save(tmp_path / f"{number}.{kind}")
    few, many = sample_of(finished, given=[str(tmp_path / "[0-3].*")]), sample_of(finished, given=[str(tmp_path)])
    export_format("saved_model", compute, finished, metrics, make_reference(model, finished, few), tmp_path / "few")
    routes = json.loads((tmp_path / "few" / "parity.json").read_text())["routes"]
    assert (routes["serving_default"]["n"], routes["serving_default"]["refused"]) == (2, 2)
    assert routes["pictures"]["n"] == 4
    with pytest.raises(RunError, match=r"3 not decoded.*TensorFlow decodes JPEG, PNG, GIF, BMP, WebP: name such"):
        export_format(
            "saved_model", compute, finished, metrics, make_reference(model, finished, many), tmp_path / "many"
        )


def test_a_multi_label_model_is_exported(tmp_path):
    run, model, sample = untrained(tmp_path / "run", "mobilenet", MULTILABEL)
    reference = make_reference(model, run, sample)
    assert len(set(reference.labels)) > 1
    compute = class_function(model, run)
    for name in FORMATS:
        export_format(name, compute, run, {}, reference, tmp_path / name, quantize=False)
    found = open_signature(tmp_path / "saved_model")(encoded=[path.read_bytes() for path in sample.paths])
    assert found["labels"].tolist() == reference.labels.tolist()
    assert found["probabilities"].shape == (PICTURES, 3)


@pytest.mark.parametrize(
    "backbone",
    [
        "mobilenet",
        *(
            pytest.param(name, marks=pytest.mark.slow)
            for name in (
                "efficientnet_lite0",
                "resnet50",
                "convnexttiny",
                "efficientnetb0",
                "resnet50v2",
                "vgg16",
            )
        ),
    ],
)
def test_families_of_networks_are_exported_for_batches_of_any_size(backbone, tmp_path):
    run, model, sample = untrained(tmp_path / "run", backbone, MULTICLASS, image_size=64)
    reference = make_reference(model, run, sample)
    assert np.ptp(reference.answers, axis=0).max() > 1e-3
    compute = class_function(model, run)
    for name in FORMATS:
        export_format(name, compute, run, {}, reference, tmp_path / name, quantize=False)
    pictures = sample.inputs[0].astype(np.float32)
    for opened in (open_litert(tmp_path / "litert/model.tflite"), open_onnx(tmp_path / "onnx/model.onnx")):
        for number in (1, 5):
            found = opened(pictures=pictures[:number])["probabilities"]
            np.testing.assert_allclose(found, reference.answers[:number], atol=1e-3)


def test_every_family_has_a_licence_of_its_weights():
    assert all(family.licence for family in backbones.FAMILIES.values())
    assert weights_licence("vgg16", "imagenet").startswith("CC BY 4.0")
    assert weights_licence("vgg16", "downloads/mine.h5").startswith("Your own: they came from the file `mine.h5`")
    assert "random weights" in weights_licence("vgg16", "none")


def test_pictures_that_are_gone_have_to_be_named(finished, tmp_path, make_folder):
    gone = finished._replace(config=finished.config.replace(data=str(tmp_path / "gone")))
    with pytest.raises(UsageError, match=r"are not there\. Name some: --sample PATHS"):
        sample_of(gone)
    folder = make_folder(count=3)
    sample = sample_of(gone, given=[str(folder)])
    assert sample.inputs[0].shape == (6, SIZE, SIZE, 3)
    np.testing.assert_array_equal(sample.inputs[0][0], read_picture(sample.paths[0], SIZE))


def test_a_sample_is_spread_over_what_the_run_measured(finished):
    table = pd.read_csv(finished.folder / "predictions.csv")
    names = [path.relative_to(finished.config.data.data).as_posix() for path in sample_of(finished, most=3).paths]
    assert names == table["path"].iloc[[0, (len(table) - 1) // 2, len(table) - 1]].tolist()
    assert len(sample_of(finished, most=1000).paths) == len(table)


def test_unreadable_files_are_left_out_of_the_sample(finished, tmp_path):
    (tmp_path / "broken.jpg").write_bytes(b"\xff\xd8\xff")
    with pytest.raises(UsageError, match="None of the 1 files to compare on is a readable picture; not a picture"):
        sample_of(finished, given=[str(tmp_path)])
    make_picture(0).save(tmp_path / "good.png")
    assert [path.name for path in sample_of(finished, given=[str(tmp_path)]).paths] == ["good.png"]


@pytest.mark.parametrize(
    ("metrics", "required", "message"),
    [
        ({"test": {"accuracy": 0.8}, "val": {"accuracy": 1.0}}, 0.9, r"accuracy on test is 0\.8000, less than .* 0\.9"),
        ({"test": None, "val": {"accuracy": 0.8}}, 0.9, "accuracy on val is 0.8000"),
        ({"test": None, "val": None}, 0.9, "this run measured no test or val split"),
    ],
)
def test_a_model_that_is_not_good_enough_is_not_exported(metrics, required, message):
    with pytest.raises(UsageError, match=message):
        check_accuracy(metrics, required)


def test_a_model_that_is_good_enough_is_exported():
    check_accuracy({"test": {"accuracy": 0.9}}, 0.9)
    check_accuracy({"test": None}, None)


def test_a_file_that_the_converter_left_incomplete_is_no_traceback(tmp_path):
    """On a full disk for temporary files, the signature is missing."""
    add = tf.function(lambda x: x + 1, input_signature=[tf.TensorSpec([1], tf.float32)]).get_concrete_function()
    (tmp_path / "a.tflite").write_bytes(tf.lite.TFLiteConverter.from_concrete_functions([add]).convert())
    with pytest.raises(RunError, match=r"lost a part of 'a\.tflite'.* Make room"):
        open_litert(tmp_path / "a.tflite")


@pytest.mark.parametrize("name", FORMATS)
def test_a_full_disk_is_a_sentence_and_nothing_is_left(name, finished, tmp_path):
    """Files cannot grow beyond a limit, which is what a full disk looks like to those who write."""
    model = load_model(finished)
    compute, reference = class_function(model, finished), make_reference(model, finished, sample_of(finished))
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2**20, before[1]))
    try:
        with pytest.raises(RunError, match=rf"^The disk of '.*/{name}' is full\. Make room, or choose"):
            export_format(name, compute, finished, {}, reference, tmp_path / name)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert list(tmp_path.iterdir()) == []


KILLED = """
import os, signal, sys
from pathlib import Path
from exports.folder import complete_folder

folder, is_moving = Path(sys.argv[1]), sys.argv[2] == "moving"
replace = os.replace

def replace_and_die(source, target):
    replace(source, target)
    os.kill(os.getpid(), signal.SIGKILL)

with complete_folder(folder) as new:
    (new / "model.onnx").write_text("new")
    if not is_moving:
        os.kill(os.getpid(), signal.SIGKILL)
    os.replace = replace_and_die
"""
"""An export that is killed while it writes, or when it has just moved the earlier export away."""


@pytest.mark.parametrize("moment", ["writing", "moving"])
def test_the_next_export_clears_up_after_one_that_was_killed(tmp_path, moment):
    folder = tmp_path / "onnx"
    folder.mkdir()
    (folder / "model.onnx").write_text("earlier")
    ended = subprocess.run([sys.executable, "-c", KILLED, folder, moment], cwd=Path(__file__).parents[2], check=False)
    assert ended.returncode == -signal.SIGKILL
    assert folder.exists() == (moment == "writing")
    assert len(list(tmp_path.glob(".onnx-*"))) == 1
    with pytest.raises(RunError), complete_folder(folder):
        raise RunError("It does not answer as the model does.")
    assert [path.name for path in tmp_path.iterdir()] == ["onnx"]
    assert (folder / "model.onnx").read_text() == "earlier"


def test_an_export_leaves_those_alone_that_are_at_work_or_of_others(tmp_path):
    (tmp_path / ".onnx-mine").mkdir()
    with complete_folder(tmp_path / "onnx") as first:
        with complete_folder(tmp_path / "onnx") as second:
            (second / "model.onnx").write_text("second")
        assert first.is_dir()
        (first / "model.onnx").write_text("first")
    assert sorted(path.name for path in tmp_path.iterdir()) == [".onnx-mine", "onnx"]
    assert (tmp_path / "onnx" / "model.onnx").read_text() == "first"


def test_a_folder_of_something_else_is_not_overwritten(tmp_path):
    (tmp_path / "onnx").mkdir()
    with pytest.raises(UsageError, match="is not an earlier export, and is kept"):
        check_folders([tmp_path / "onnx"])


def test_the_command_says_in_one_line_why_it_exports_nothing(finished, tmp_path):
    for arguments, message in (
        ([str(tmp_path)], "RUN must be the folder of a finished run"),
        ([str(finished.folder), "--format", "pt"], "--format"),
        (
            [str(finished.folder), "--output", f"{finished.config.data.data}/export"],
            "--output must be outside the folder",
        ),
        ([str(finished.folder), "--sample-size", "0"], "--sample-size must be a whole number of at least 1"),
    ):
        result = subprocess.run([sys.executable, "export.py", *arguments], capture_output=True, text=True)
        assert result.returncode == 2
        assert message in result.stderr
        assert result.stderr.count("\n") == 1


def test_the_command_exports(finished, tmp_path):
    arguments = [str(finished.folder), "--format", "onnx", "--output", str(tmp_path)]
    arguments += ["--require-accuracy", "0", "--sample-size", "5", "--cache-dir", str(finished.folder.parent / "cache")]
    result = subprocess.run([sys.executable, "export.py", *arguments], capture_output=True, text=True)
    assert (result.returncode, result.stderr) == (0, "")
    assert "same label for 100.0% of 5" in result.stdout
    assert (tmp_path / "onnx" / "model.onnx").is_file()
