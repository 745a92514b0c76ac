"""Folders of presets are refused before a library makes anything of them, if they are not what they should be."""

import json
import os
import shutil
from pathlib import Path

import h5py
import numpy as np
import pytest

pytest.importorskip("safetensors")

from safetensors.numpy import save_file

from app.errors import UsageError
from models.preset_folder import CONFIG, KERAS_WEIGHTS, SAFETENSORS, SHARDS, Arrays, read_preset

MOST = 10**6


@pytest.fixture
def folder(tmp_path) -> Path:
    """A folder as Hugging Face has them, with a file that nobody needs."""
    save_file({"vit.a.weight": np.arange(6, dtype=np.float16).reshape(2, 3)}, tmp_path / SAFETENSORS)
    (tmp_path / CONFIG).write_text(json.dumps({"model_type": "vit", "hidden_size": 3}))
    (tmp_path / "pytorch_model.bin").write_bytes(b"\x80\x04cos\nsystem\n")
    return tmp_path


def test_a_folder_of_hugging_face_is_read(folder):
    preset = read_preset(folder, MOST)
    assert (preset.form, preset.config["hidden_size"]) == ("transformers", 3)


def test_arrays_are_found_with_and_without_the_first_part_of_their_name(folder):
    arrays = Arrays(folder / SAFETENSORS)
    for name in ("vit.a.weight", "a.weight"):
        assert arrays.get_tensor(name).dtype == np.float32
        np.testing.assert_array_equal(arrays.get_tensor(name), [[0, 1, 2], [3, 4, 5]])
    save_file({"a.weight": np.ones(2, np.float32)}, folder / SAFETENSORS)
    np.testing.assert_array_equal(Arrays(folder / SAFETENSORS).get_tensor("vit.a.weight"), [1, 1])
    with pytest.raises(KeyError):
        arrays.get_tensor("b.weight")


def test_the_form_follows_from_the_file_of_settings(folder):
    (folder / CONFIG).write_text(json.dumps({"registered_name": "keras_hub>ViTBackbone"}))
    with h5py.File(folder / KERAS_WEIGHTS, "w") as file:
        file["a"] = np.ones(2)
    assert read_preset(folder, MOST).form == "keras"


def cut_short(folder: Path) -> None:
    content = (folder / SAFETENSORS).read_bytes()
    (folder / SAFETENSORS).write_bytes(content[:-3])


def more_than_there_is(folder: Path) -> None:
    header = json.dumps({"a": {"dtype": "F32", "shape": [10**9], "data_offsets": [0, 4 * 10**9]}}).encode()
    (folder / SAFETENSORS).write_bytes(len(header).to_bytes(8, "little") + header)


def linked(name: str):
    def link(folder: Path) -> None:
        shutil.move(folder / name, folder / "elsewhere")
        (folder / name).symlink_to(folder / "elsewhere")

    return link


def sharded(folder: Path) -> None:
    shutil.move(folder / SAFETENSORS, folder / "model-00001-of-00001.safetensors")
    (folder / SHARDS).write_text("{}")


def piped(folder: Path) -> None:
    (folder / CONFIG).unlink()
    os.mkfifo(folder / CONFIG)


def with_keras_weights(content: bytes):
    def write(folder: Path) -> None:
        (folder / CONFIG).write_text(json.dumps({"registered_name": "keras_hub>ViTBackbone"}))
        (folder / KERAS_WEIGHTS).write_bytes(content)

    return write


def configured(text: str):
    return lambda folder: (folder / CONFIG).write_text(text)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (shutil.rmtree, "it is not a folder"),
        (lambda folder: (folder / CONFIG).unlink(), "its config.json cannot be read: No such file"),
        (lambda folder: (folder / SAFETENSORS).unlink(), "its model.safetensors cannot be read: No such file"),
        (linked(CONFIG), "its config.json cannot be read"),
        (linked(SAFETENSORS), "its model.safetensors cannot be read"),
        (piped, "its config.json cannot be read"),
        (configured("{"), "its config.json is damaged"),
        (configured("[" * 10**5), "its config.json is damaged"),
        (configured("[1]"), "has none of registered_name, model_type, architecture"),
        (sharded, "its weights are in several files; join them into one model.safetensors"),
        (configured("{}" + " " * 2**20), "has more than 1,048,576 bytes"),
        (configured('{"model_type": "vit", "hidden_size": 100000000000}'), "has the number 100000000000"),
        (configured('{"model_type": "vit", "hidden_size": NaN}'), "is damaged"),
        (configured('{"model_type": "vit", "model_type": "bert"}'), "is damaged"),
        (cut_short, "its model.safetensors is damaged"),
        (more_than_there_is, "its model.safetensors is damaged"),
        (
            lambda folder: save_file({"a": np.zeros(MOST, np.float32)}, folder / SAFETENSORS),
            "has 4,000,.* more than 1,000,000, the most",
        ),
        (
            lambda folder: save_file({"a": np.zeros(3, bool)}, folder / SAFETENSORS),
            "holds BOOL, which are no types of weights",
        ),
        (with_keras_weights(b"\x80\x04cos\nsystem\n"), "its model.weights.h5 is damaged"),
    ],
)
def test_what_is_damaged_too_large_or_elsewhere_is_refused(folder, change, reason):
    change(folder)
    with pytest.raises(UsageError, match=f"--weights must be the folder of a preset .*{reason}"):
        read_preset(folder, MOST)
