"""Run folders that no run of ours has written: each is a valid one, in which one thing is changed."""

import io
import json
import os
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import keras
import numpy as np

from app.config import TrainConfig

Change = Callable[[Path], object]
"""Of a run folder."""
JSON_FILES = ("config.json", "model.json", "metrics.json")
FILES = (*JSON_FILES, "model.keras", "predictions.csv")


def write_run(folder: Path) -> None:
    """Writes a run folder of a tiny network, complete but for what only a training knows."""
    pictures = keras.Input((8, 8, 3))
    x = keras.layers.Conv2D(2, 3, name="conv", activation="relu")(pictures / 255)
    x = keras.layers.Dropout(0.2, seed=1, name="dropout")(keras.layers.GlobalMaxPooling2D(name="pooling")(x))
    outputs = keras.layers.Dense(3, activation="softmax", name="probabilities")(x)
    keras.Model(pictures, outputs).save(folder / "model.keras")
    figures = {"n": 5, "accuracy": 1.0, "accuracy_ci95": [0.5, 1.0], "macro_f1": 1.0, "log_loss": 0.1, "ece": 0.1}
    record = {"classes": ["a", "b", "c"], "task": "multiclass", "temperature": 1.5, "cut": "pooling"}
    metrics = {"data": {"train": 9, "val": 0, "test": 5}, "val": None, "test": figures}
    config = TrainConfig.of(backbone="mobilenet", image_size=8).to_json()
    for name, content in (("config", config), ("model", record), ("metrics", metrics)):
        (folder / f"{name}.json").write_text(json.dumps(content))
    (folder / "predictions.csv").write_text("path,split,label,predicted\na/0.png,test,a,b\n")


def members_of(path: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(path) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def write_members(path: Path, members: dict[str, bytes], compression: int = zipfile.ZIP_STORED) -> None:
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, content in members.items():
            archive.writestr(name, content)


def layer(class_name: Any, module: Any = "keras.layers", **settings: Any) -> dict[str, Any]:
    return {"module": module, "class_name": class_name, "config": {"name": "conv"}, "registered_name": None, **settings}


FOREIGN_PARTS: dict[str, dict[str, Any]] = {
    "lambda": layer("Lambda"),
    "lambda as a value": {"class_name": "__lambda__", "config": {"value": "4wEAAAA="}},
    "saved model": layer("TFSMLayer", config={"filepath": "photos"}),
    "vocabulary file": layer("StringLookup", config={"vocabulary": "photos"}),
    "another package": layer("system", "os"),
    "builtins": layer("function", "builtins", config="exec"),
    "no module": layer("Dense", None),
    "download": layer("get_file", "keras.utils"),
    "download by a dotted name": layer("utils.get_file", "keras"),
    "function in place of a layer": layer("deserialize"),
    "function of no activation": layer("function", "keras.saving", config="load_model"),
    "like Keras": layer("Dense", "keras_evil.layers"),
    "below Keras": layer("Dense", "keras.layers.evil"),
    "registered": layer("Dense", registered_name="evil>Dense"),
    "only registered": {"registered_name": "evil>Dense", "config": {}},
    "type": layer("__typespec__", "tensorflow"),
    "number": layer(7),
    "list": layer(["Dense"], ["keras"]),
}
"""What a model's config may ask for, and is refused."""


def with_part(part: dict[str, Any]) -> Change:
    def change(folder: Path) -> None:
        members = members_of(folder / "model.keras")
        config = json.loads(members["config.json"])
        config["config"]["layers"][2]["config"]["deep"] = [{"inside": part}]
        write_members(folder / "model.keras", members | {"config.json": json.dumps(config).encode()})

    return change


def with_members(changed: dict[str, bytes], compression: int = zipfile.ZIP_STORED) -> Change:
    return lambda folder: write_members(
        folder / "model.keras", members_of(folder / "model.keras") | changed, compression
    )


def with_weights(change_file: Callable[[h5py.File], object]) -> Change:
    def change(folder: Path) -> None:
        members = members_of(folder / "model.keras")
        weights = io.BytesIO(members["model.weights.h5"])
        with h5py.File(weights, "r+") as file:
            change_file(file)
        write_members(folder / "model.keras", members | {"model.weights.h5": weights.getvalue()})

    return change


def spoil_a_weight(file: h5py.File) -> None:
    file["layers/conv2d/vars/0"][0] = np.nan


def with_settings(name: str, settings: dict[str, Any]) -> Change:
    def change(folder: Path) -> None:
        path = folder / name
        path.write_text(json.dumps(json.loads(path.read_text()) | settings))

    return change


def with_file(name: str, make: Callable[[Path], object]) -> Change:
    """Puts something else in the place of a file."""

    def change(folder: Path) -> None:
        (folder / name).unlink()
        make(folder / name)

    return change


def sparse(path: Path) -> None:
    with open(path, "wb") as file:
        file.truncate(3_000_000_000)  # a hole, which takes no room


NO_FILE: dict[str, Callable[[Path], object]] = {
    "missing": lambda path: None,
    "a folder": Path.mkdir,
    "a pipe": os.mkfifo,
    "a loop": lambda path: path.symlink_to(path.name),
    "a device": lambda path: path.symlink_to("/dev/zero"),
    "empty": Path.touch,
    "noise": lambda path: path.write_bytes(np.random.default_rng(0).bytes(5_000)),
}
NO_JSON: dict[str, Callable[[Path], object]] = {
    "not a number": lambda path: path.write_text('{"data": NaN}'),
    "a name twice": lambda path: path.write_text('{"data": 1, "data": 2}'),
    "nested": lambda path: path.write_text('{"a":' * 10**5),
    "a list": lambda path: path.write_text("[[1]]"),
    "UTF-16": lambda path: path.write_text("{}", encoding="utf-16"),
    "endless": sparse,
    "a long number": lambda path: path.write_text('{"data": ' + "9" * 10_000 + "}"),
}
CONFIGS: dict[str, Any] = {
    "no such backbone": {"backbone": "../../resnet50"},
    "no size": {"image_size": None},
    "a size of text": {"image_size": "8"},
    "a size below 1": {"image_size": -8},
    "a fraction above 1": {"val_fraction": 7.5},
    "a list for a name": {"backbone": ["mobilenet"]},
    "an unknown setting": {"command": "rm"},
}
RECORDS: dict[str, Any] = {
    "classes as text": {"classes": "abc"},
    "a class twice": {"classes": ["a", "a", "b"]},
    "a class of a number": {"classes": ["a", 1]},
    "one class": {"classes": ["a"]},
    "another task": {"task": "binary"},
    "a list of tasks": {"task": ["binary"]},
    "no temperature": {"temperature": 0},
    "a true temperature": {"temperature": True},
    "a large temperature": {"temperature": 10**400},
    "a cut of a number": {"cut": 3},
    "a cut elsewhere": {"cut": "elsewhere"},
    "too many classes": {"classes": [str(number) for number in range(1_000)]},
}
METRICS: dict[str, Any] = {
    "few figures": {"test": {"n": 5}},
    "a list of figures": {"test": [1]},
    "counts of text": {"data": {"train": "9"}},
    "no counts": {"data": 3},
    "a large figure": {"test": {"n": 10**400}},
}
MODELS: dict[str, Change] = {
    **{f"asks for {name}": with_part(part) for name, part in FOREIGN_PARTS.items()},
    **{
        f"with {name}": with_members({name: b"x"})
        for name in ("../outside.txt", "/outside.txt", "assets/vocabulary.txt", "model.weights.npz")
    },
    "a bomb": with_members({"config.json": bytes(10**8)}, zipfile.ZIP_DEFLATED),
    "a large member": with_members({"metadata.json": bytes(2**17)}),
    "a config nested too deeply": with_members({"config.json": b'{"a":' * 10**5}),
    "a config of no model": with_members({"config.json": b"{}"}),
    "weights that are no HDF5": with_members({"model.weights.h5": b"no weights"}),
    "half": lambda folder: os.truncate(folder / "model.keras", (folder / "model.keras").stat().st_size // 2),
    "endless": with_file("model.keras", sparse),
    "weights in another file": with_weights(lambda file: file.update({"y": h5py.ExternalLink("/etc/passwd", "/y")})),
    "weights by a link": with_weights(lambda file: file.update({"y": h5py.SoftLink("/layers")})),
    "compressed weights": with_weights(lambda file: file.create_dataset("y", (9,), "f4", compression="gzip")),
    "weights that are declared": with_weights(lambda file: file.create_dataset("y", (10**6, 10**6), "f4")),
    "weights of no number": with_weights(spoil_a_weight),
    "weights that lack a layer": with_weights(lambda file: file["layers"].__delitem__("conv2d")),
}
HOSTILE_RUNS: dict[str, Change] = {
    **{f"{name} is {kind}": with_file(name, make) for name in FILES for kind, make in NO_FILE.items()},
    **{f"{name} is {kind}": with_file(name, make) for name in JSON_FILES for kind, make in NO_JSON.items()},
    **{f"config.json has {kind}": with_settings("config.json", settings) for kind, settings in CONFIGS.items()},
    **{f"model.json has {kind}": with_settings("model.json", settings) for kind, settings in RECORDS.items()},
    **{f"metrics.json has {kind}": with_settings("metrics.json", settings) for kind, settings in METRICS.items()},
    **{f"model.keras: {kind}".replace("/", "|"): change for kind, change in MODELS.items()},
}
"""By kind, which is the name of the folder."""


def write_hostile_runs(root: Path, valid: Path) -> None:
    """Writes a folder for each kind, and a valid one."""
    shutil.copytree(valid, root / "valid")
    for name, change in HOSTILE_RUNS.items():
        shutil.copytree(valid, root / name)
        change(root / name)
