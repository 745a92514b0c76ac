"""A run folder may come from anyone: what is in it is opened only if it is what a run writes."""

import contextlib
import io
import itertools
import json
import shutil
import zipfile
from pathlib import Path

import h5py
import keras
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.errors import UsageError
from inference.load import TrainedRun, load_model, read_run
from inference.run_record import read_metrics, read_predictions
from models import model_file, weight_file
from models.backbones import TABLE, find
from models.classifier import build_classifier
from models.model_file import MEMBER_BYTES, check_config, check_model_file
from models.weight_file import RefusedFileError, most_bytes
from tasks.classification import MULTICLASS
from tests.bounded import READ, open_all
from tests.hostile_files import mutations
from tests.inference.hostile_runs import (
    FOREIGN_PARTS,
    HOSTILE_RUNS,
    members_of,
    with_part,
    write_hostile_runs,
    write_members,
    write_run,
)

FUZZ = settings(max_examples=40, derandomize=True, database=None)
FUZZ_MODEL = settings(FUZZ, max_examples=15)
VALUES = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5)
JSON = st.recursive(VALUES, lambda parts: st.lists(parts, max_size=3) | st.dictionaries(st.text(max_size=5), parts))


@pytest.fixture
def run(tmp_path) -> TrainedRun:
    """A run folder of a tiny network, complete but for what only a training knows."""
    write_run(tmp_path)
    return read_run(tmp_path)


def test_a_run_as_it_was_written_is_read(run):
    pictures = np.random.default_rng(0).uniform(0, 255, (2, 8, 8, 3)).astype(np.float32)
    model = keras.saving.load_model(run.folder / "model.keras")
    np.testing.assert_array_equal(load_model(run)(pictures), model(pictures))
    assert read_metrics(run)["test"]["n"] == 5


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory) -> dict[str, str]:
    """What became of each hostile folder."""
    root = tmp_path_factory.mktemp("runs")
    (root / "valid").mkdir()
    write_run(root / "valid")
    (root / "all").mkdir()
    write_hostile_runs(root / "all", root / "valid")
    return open_all("runs", root / "all")


def test_every_hostile_folder_is_refused_in_a_sentence_in_time_and_memory(outcomes):
    assert len(HOSTILE_RUNS) >= 70
    assert [name for name, outcome in outcomes.items() if outcome == READ] == ["valid"]
    assert set(outcomes) == {*HOSTILE_RUNS, "valid"}


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("../outside.txt", "must hold metadata.json, config.json, model.weights.h5 and nothing else; 4 files"),
        ("/outside.txt", "and nothing else; 4 files are in it"),
        ("assets/vocabulary.txt", "and nothing else; 4 files are in it"),
        ("model.weights.npz", "and nothing else; 4 files are in it"),
    ],
)
def test_an_archive_holds_what_keras_writes_and_nothing_else(run, name, message):
    path = run.folder / "model.keras"
    write_members(path, members_of(path) | {name: b"x"})
    with pytest.raises(UsageError) as error:
        load_model(run)
    assert str(error.value).startswith(f"'{path}' cannot be loaded, it ")
    assert message in str(error.value)


def test_a_member_twice_is_refused(run):
    path = run.folder / "model.keras"
    with pytest.warns(UserWarning, match="Duplicate"), zipfile.ZipFile(path, "a") as archive:
        archive.writestr("config.json", b"{}")
    with pytest.raises(UsageError, match="and nothing else; 4 files"):
        load_model(run)


def test_a_bomb_is_refused_before_it_is_unpacked(run):
    path = run.folder / "model.keras"
    write_members(path, members_of(path) | {"config.json": bytes(10**8)}, zipfile.ZIP_DEFLATED)
    with pytest.raises(UsageError, match=r"compressed, which Keras does not do"):
        load_model(run)
    write_members(path, members_of(path) | {"metadata.json": bytes(2 * MEMBER_BYTES["metadata.json"])})
    with pytest.raises(UsageError, match=r"has a metadata\.json of 131,072 bytes, more than 65,536"):
        load_model(run)


def test_a_file_of_more_than_its_network_takes_is_refused(run, monkeypatch):
    monkeypatch.setattr(model_file, "ARCHIVE_BYTES", 0)
    with pytest.raises(RefusedFileError, match="more than its network takes"):
        check_model_file(run.folder / "model.keras", 1000)


def test_the_weights_in_it_are_checked_as_any(run):
    path = run.folder / "model.keras"
    members = members_of(path)
    weights = io.BytesIO(members["model.weights.h5"])
    with h5py.File(weights, "r+") as file:
        file["layers/conv/vars/2"] = h5py.ExternalLink("/etc/passwd", "/y")
    write_members(path, members | {"model.weights.h5": weights.getvalue()})
    with pytest.raises(UsageError, match="has a link to another file at '/layers/conv/vars/2'"):
        load_model(run)


@pytest.mark.parametrize("hostile", FOREIGN_PARTS.values(), ids=FOREIGN_PARTS)
def test_a_model_asks_for_nothing_but_parts_of_keras(run, hostile):
    with_part(hostile)(run.folder)
    with pytest.raises(UsageError, match="which is no part of a model of Keras"):
        load_model(run)


@pytest.mark.parametrize("name", ["efficientnet_lite0", "vgg16", "mobilenetv3small"])
def test_what_a_network_here_consists_of_may_be_loaded(name, tmp_path):
    _check_backbone(name, tmp_path)


@pytest.mark.slow
def test_what_any_family_consists_of_may_be_loaded(tmp_path):
    smallest = {backbone.module: backbone.name for backbone in sorted(TABLE, key=lambda backbone: -backbone.parameters)}
    for name in smallest.values():
        _check_backbone(name, tmp_path)


def _check_backbone(name: str, folder: Path) -> None:
    backbone = find(name)
    size = max(32, backbone.family.smallest_size)
    options = {"task": MULTICLASS, "num_classes": 3, "head_units": (4,), "dropout": 0.1, "pooling": "max"}
    build_classifier(backbone, weights="none", image_size=size, **options).model.save(folder / "model.keras")
    check_model_file(folder / "model.keras", most_bytes(backbone.parameters))


@pytest.mark.parametrize("damage", [lambda content: content[:999], lambda content: b"", lambda content: b"no zip"])
def test_a_damaged_model_is_called_damaged(run, damage):
    path = run.folder / "model.keras"
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(UsageError) as error:
        load_model(run)
    assert "cannot be loaded, it is damaged (" in str(error.value)
    assert "not found" not in str(error.value)


def test_a_config_nested_too_deeply_is_damaged():
    with pytest.raises(ValueError, match="nested too deeply"):
        check_config(b'{"a":' * 10**5)


@pytest.mark.parametrize("member", [None, "config.json", "model.weights.h5"])
def test_a_damaged_model_is_refused_or_answers(run, member, monkeypatch):
    monkeypatch.setattr(weight_file, "SECONDS", 2.0)
    path = run.folder / "model.keras"
    members, numbers = members_of(path), itertools.count()
    pictures = np.zeros((1, 8, 8, 3), np.float32)

    @FUZZ_MODEL
    @given(mutations(path.read_bytes() if member is None else members[member]))
    def check(content):
        folder = run.folder / str(next(numbers))
        folder.mkdir()
        if member is None:
            (folder / "model.keras").write_bytes(content)
        else:
            write_members(folder / "model.keras", members | {member: content})
        with contextlib.suppress(UsageError):
            assert load_model(run._replace(folder=folder))(pictures).shape == (1, 3)
        shutil.rmtree(folder)

    check()


@pytest.mark.parametrize("name", ["model.json", "config.json", "metrics.json"])
def test_a_damaged_record_is_refused_or_of_the_right_kind(run, name):
    path = run.folder / name
    valid = path.read_bytes()
    settings_of = json.loads(valid)
    changed = st.tuples(st.sampled_from(sorted(settings_of)), JSON).map(
        lambda item: json.dumps(settings_of | dict([item])).encode()
    )

    @settings(FUZZ, max_examples=150)
    @given(mutations(valid) | st.binary(max_size=40) | JSON.map(json.dumps).map(str.encode) | changed)
    def check(content):
        path.write_bytes(content)
        with contextlib.suppress(UsageError):
            found = read_run(run.folder)
            assert len(found.class_names) == len(set(found.class_names)) >= 2
            assert all(isinstance(name, str) for name in found.class_names)
            assert 0 < found.temperature < np.inf
            metrics = read_metrics(found)
            assert metrics.get("test") is None or 0 <= abs(metrics["test"]["accuracy"]) < np.inf

    check()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"classes": "abc"}, "classes are no list of names"),
        ({"classes": ["a", "a", "b"]}, "a class is there twice"),
        ({"classes": ["a", 1]}, "classes are no list of names"),
        ({"classes": ["a"]}, "no such task or classes"),
        ({"task": "binary"}, "no such task or classes"),
        ({"task": ["binary"]}, "no such task or classes"),
        ({"temperature": 0}, "temperature is no number above 0"),
        ({"temperature": True}, "temperature is no number above 0"),
        ({"temperature": 10**400}, "temperature is no number above 0"),
        ({"cut": 3}, "cut is no name"),
    ],
)
def test_a_record_of_the_wrong_kind_is_explained(run, change, message):
    path = run.folder / "model.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(UsageError) as error:
        read_run(run.folder)
    assert str(error.value) == f"'{path}' is damaged ({message})."


def test_a_cut_that_the_model_does_not_have_is_refused(run):
    with pytest.raises(UsageError, match="is not the model that"):
        load_model(run._replace(cut="elsewhere"))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"test": {"n": 5}}, "test has no n, accuracy, macro_f1, log_loss, ece"),
        ({"test": [1]}, "test has no n, accuracy"),
        ({"data": {"train": "9"}}, "data has no numbers of examples"),
        ({"data": 3}, "data has no numbers of examples"),
    ],
)
def test_figures_of_the_wrong_kind_are_explained(run, change, message):
    path = run.folder / "metrics.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(UsageError, match=message):
        read_metrics(run)


@pytest.mark.parametrize("content", [b"", b"path\nx\n", b"\xff\xfe", b'a,b\n"'])
def test_damaged_predictions_are_explained(tmp_path, content):
    (tmp_path / "predictions.csv").write_bytes(content)
    with pytest.raises(UsageError, match=r"predictions\.csv' is missing or damaged"):
        read_predictions(tmp_path)
