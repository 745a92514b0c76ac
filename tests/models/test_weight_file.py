"""A weight file is opened only if it is a tree of plain arrays; a damaged one ends in a sentence."""

import contextlib
import itertools
import os
from collections.abc import Callable
from pathlib import Path

import h5py
import keras
import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings

from app.errors import UsageError
from models import weight_file
from models.backbones import find
from models.weight_file import RefusedFileError, check_weights, most_bytes, read_weights
from models.weights import check_available, load_weight_file
from tests.bounded import open_all
from tests.hostile_files import mutations

ROW = find("mobilenet")
MOST = 10**6


def a_loop(file: h5py.File) -> None:
    file.create_group("a")["b"] = file["/"]


def a_virtual_array(file: h5py.File) -> None:
    layout = h5py.VirtualLayout(shape=(4,), dtype="f4")
    layout[:] = h5py.VirtualSource("/etc/passwd", "x", shape=(4,))
    file.create_virtual_dataset("x", layout)


def a_bomb(file: h5py.File) -> None:
    file.create_dataset("x", (10**6, 10**6), "f4", compression="gzip", chunks=(1000, 1000))


def an_array_of(dtype: object) -> Callable[[h5py.File], object]:
    return lambda file: file.create_dataset("x", (3,), dtype)


def twice(file: h5py.File) -> None:
    file["x"] = np.zeros(3)
    file["y"] = file["x"]


HOSTILE: dict[str, tuple[Callable[[h5py.File], object], str]] = {
    "link to another file": (
        lambda file: file.update({"x": h5py.ExternalLink("/etc/passwd", "/y")}),
        "has a link to another file at '/x'",
    ),
    "soft link": (lambda file: file.update({"x": h5py.SoftLink("/y")}), "has a soft link at '/x'"),
    "soft link to itself": (lambda file: file.update({"x": h5py.SoftLink("/x")}), "has a soft link at '/x'"),
    "loop": (a_loop, "has one object under two names, of which one is '/a/b'"),
    "one array twice": (twice, "has one object under two names"),
    "values in another file": (
        lambda file: file.create_dataset("x", (9,), "u1", external=[("/etc/passwd", 0, 9)]),
        "takes the values of '/x' from other files",
    ),
    "virtual": (a_virtual_array, "takes the values of '/x' from other files"),
    "compressed": (lambda file: file.create_dataset("x", (9,), "f4", compression="gzip"), "has compressed arrays"),
    "bomb": (a_bomb, "has compressed arrays"),
    "more than it holds": (
        lambda file: file.create_dataset("x", (10**6, 10**6), "f4"),
        "declares more values at '/x' than it holds",
    ),
    "too much": (lambda file: file.update({"x": np.zeros(MOST)}), "holds more than 1,000,000 bytes of arrays"),
    "texts": (lambda file: file.update({"x": ["a"]}), "has something other than numbers at '/x'"),
    "bytes": (lambda file: file.update({"x": np.array([b"a"])}), "has something other than numbers"),
    "objects": (an_array_of(h5py.vlen_dtype("f4")), "has something other than numbers"),
    "references": (an_array_of(h5py.ref_dtype), "has something other than numbers"),
    "records": (an_array_of([("a", "f4")]), "has something other than numbers"),
    "complex": (an_array_of("c8"), "has something other than numbers"),
    "no value": (lambda file: file.update({"x": h5py.Empty("f4")}), "has something other than numbers"),
    "type": (lambda file: file.update({"x": np.dtype("f4")}), "is neither a group nor an array"),
    "reference": (lambda file: file.attrs.update({"x": file.ref}), "an attribute at '/' that is neither numbers nor"),
}


@pytest.mark.parametrize(("write", "reason"), HOSTILE.values(), ids=HOSTILE)
def test_what_no_weights_need_is_refused(tmp_path, write, reason):
    path = tmp_path / "x.weights.h5"
    with h5py.File(path, "w") as file:
        file["an array"] = np.zeros(3, np.float32)
        write(file)
    with pytest.raises(RefusedFileError) as error:
        read_weights(path, MOST)
    assert reason in str(error.value)


def write_hostile_files(folder: Path) -> None:
    """Writes a file of each kind that is hostile, and whatever else may stand in the place of one."""
    for name, (write, _) in HOSTILE.items():
        with h5py.File(folder / f"{name}.h5", "w") as file:
            write(file)
    valid = (folder / "too much.h5").read_bytes()
    contents = {
        "half": valid[: len(valid) // 2],
        "text": b"weights",
        "a pickle": b"\x80\x04cos\nsystem\n",
        "a signature alone": valid[:8],
        "noise": valid[:8] + np.random.default_rng(0).bytes(5_000),
        "the end of the file": valid[:28] + bytes([255] * 20) + valid[48:],
        "empty": b"",
    }
    for name, content in contents.items():
        (folder / f"{name}.h5").write_bytes(content)
    os.mkfifo(folder / "pipe.h5")
    (folder / "folder.h5").mkdir()
    (folder / "looping link.h5").symlink_to("looping link.h5")
    (folder / "device.h5").symlink_to("/dev/zero")
    with open(folder / "endless.h5", "wb") as file:
        file.write(valid[:8])
        file.truncate(10**10)  # a hole, which takes no room
    (folder / "other.npz").write_bytes(valid)


def test_every_hostile_file_is_refused_in_a_sentence_in_time_and_memory(tmp_path):
    write_hostile_files(tmp_path)
    outcomes = open_all("weights", tmp_path)
    assert len(outcomes) > 30
    assert [name for name, outcome in outcomes.items() if not outcome.startswith("--weights must be ")] == [
        "too much.h5"
    ]


def test_numbers_of_every_kind_are_read(tmp_path):
    path = tmp_path / "x.weights.h5"
    with h5py.File(path, "w") as file:
        for dtype in ("f2", "f4", "f8", "i8", "u4", "bool"):
            file[f"layers/{dtype}"] = np.ones((2, 3), dtype)
        file["half"] = np.ones(3, ml_dtypes.bfloat16)
        file["half"].attrs["dtype"] = "bfloat16"
        file["scalar"], file["none"] = 1.0, np.zeros((0, 3))
        file.create_dataset("chunked", data=np.ones((9, 9)), chunks=(2, 2))
        file.attrs.update({"text": "é", "texts": np.array([b"a", b"bc"]), "empty": h5py.Empty("f4"), "yes": True})
    check_weights(path, MOST)
    check_weights(path.read_bytes(), MOST)


def test_the_command_says_so_before_tensorflow_is_loaded(tmp_path):
    path = tmp_path / "x.weights.h5"
    with h5py.File(path, "w") as file:
        file["x"] = h5py.ExternalLink("/etc/passwd", "/y")
    with pytest.raises(UsageError) as error:
        check_available(ROW, str(path))
    assert str(error.value) == (
        f"--weights must be a file of plain arrays, as Keras writes it; '{path}' has a link to another file at '/x', "
        f"which no weight file needs."
    )


def test_the_largest_top_fits_with_its_optimizer():
    assert most_bytes(find("vgg16").parameters) > 3 * 4 * 138_357_544


def test_a_file_on_which_hdf5_runs_forever_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(weight_file, "SECONDS", 1.0)
    path = tmp_path / "x.h5"
    with h5py.File(path, "w") as file:
        file.attrs["weight_names"] = ["c/bias", "c/kernel"]
    content = path.read_bytes()
    text = content.index(b"c/kernel")
    path.write_bytes(content[: text - 8] + bytes(8) + content[text:])  # the length of the text: 0 in place of 8
    with pytest.raises(RefusedFileError, match="reading it does not end"):
        check_weights(path, MOST)


def test_an_unchanged_file_is_read_once(tmp_path, monkeypatch):
    path = tmp_path / "x.h5"
    with h5py.File(path, "w") as file:
        file["x"] = np.zeros(3)
    check_weights(path, MOST)
    with monkeypatch.context() as patch:
        patch.setattr(weight_file, "SECONDS", 0.0)
        check_weights(path, MOST)
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(RefusedFileError, match="is damaged"):
        check_weights(path, MOST)


def tiny_model() -> keras.Model:
    pictures = keras.Input((8, 8, 3))
    x = keras.layers.BatchNormalization(name="norm")(keras.layers.Conv2D(2, 3, name="conv")(pictures))
    return keras.Model(pictures, keras.layers.Dense(2, name="dense")(keras.layers.Flatten(name="flat")(x)))


@pytest.mark.parametrize(("value", "said"), [(np.nan, "NaN or infinity"), (-3e38, r"values above 1e\+15")])
def test_weights_that_are_no_numbers_or_absurd_are_refused(tmp_path, value, said):
    model = tiny_model()
    values = model.get_weights()
    values[0][0, 0, 0, 0] = value
    model.set_weights(values)
    path = tmp_path / "x.weights.h5"
    model.save_weights(path)
    with pytest.raises(UsageError, match=f"holds {said}, in 'conv/kernel'"):
        load_weight_file(tiny_model(), ROW, str(path))


@pytest.fixture(scope="module")
def model() -> keras.Model:
    return tiny_model()


@pytest.mark.parametrize("suffix", [".weights.h5", ".h5"])
def test_a_damaged_file_is_refused_or_gives_numbers(suffix, model, tmp_path_factory, monkeypatch):
    monkeypatch.setattr(weight_file, "SECONDS", 2.0)
    folder = tmp_path_factory.mktemp("damaged")
    valid = folder / f"valid{suffix}"
    model.save_weights(valid) if suffix == ".weights.h5" else model.save(valid)
    shapes = [variable.shape for variable in model.weights]

    numbers = itertools.count()

    @settings(max_examples=25, derandomize=True, database=None)
    @given(mutations(valid.read_bytes()))
    def check(content):
        path = folder / f"{next(numbers)}{suffix}"  # of a name it knows, HDF5 would give what it remembers
        path.write_bytes(content)
        with contextlib.suppress(UsageError):
            check_available(ROW, str(path))
            load_weight_file(model, ROW, str(path))
            assert all(np.isfinite(values).all() for values in model.get_weights())
        assert [variable.shape for variable in model.weights] == shapes

    check()
