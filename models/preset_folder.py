"""Reads folders of pretrained weights, as KerasHub and Hugging Face publish them, as plain data.

Only two files of a folder are opened: `config.json` and one file of weights, HDF5 or safetensors. Neither can hold
code, and both are checked before any library builds a network from them.
"""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np

from app.errors import UsageError
from app.files import open_regular, parse_json, weights_path
from models.weight_file import LONGEST_NAME, RefusedFileError, check_weights, first_line

CONFIG, KERAS_WEIGHTS, SAFETENSORS = "config.json", "model.weights.h5", "model.safetensors"
SHARDS = f"{SAFETENSORS}.index.json"
"""File that maps arrays to files, if there are several files of weights."""
CONFIG_BYTES = 2**20
LARGEST_NUMBER = 2**20
"""Largest number allowed in a `config.json`: vocabularies have fewer words."""
OLD_NAMES = r"(?<=LayerNorm\.)(gamma|beta)$", lambda found: {"gamma": "weight", "beta": "bias"}[found[0]]
"""Names of the first checkpoints, such as that of bert-base-uncased, and what they became."""
DTYPES = {"F64", "F32", "F16", "BF16", "I64", "I32"}

Form = Literal["keras", "transformers", "timm"]
FORMS: dict[str, tuple[Form, str]] = {
    "registered_name": ("keras", KERAS_WEIGHTS),
    "model_type": ("transformers", SAFETENSORS),
    "architecture": ("timm", SAFETENSORS),
}
"""Publisher of a folder, and its file of weights, by the key of `config.json` that shows it."""


class Preset(NamedTuple):
    """A folder whose files were checked."""

    form: Form
    config: dict[str, Any]
    """Content of its `config.json`: plain values, no large ones."""
    weights: Path


def read_preset(folder: Path, most: int) -> Preset:
    """Checks a folder with weights of at most `most` bytes, and reads its `config.json`. Needs no TensorFlow.

    Raises:
        UsageError: it is not such a folder, or its files are damaged, too large, or of another format than their name.
    """
    try:
        return _read(folder, most)
    except OSError as error:
        name = Path(error.filename or "").name
        reason = f"its {name} cannot be read: {error.strerror}" if name != folder.name else str(error.strerror)
    except RefusedFileError as error:
        reason = str(error)
    except (ValueError, RecursionError) as error:
        reason = f"its {CONFIG} is damaged ({first_line(error)})"
    raise UsageError(
        f"--weights must be the folder of a preset (KerasHub, Hugging Face, timm) with {CONFIG} and {KERAS_WEIGHTS} "
        f"or {SAFETENSORS}; '{folder}': {reason}."
    )


def weight_files(weights: str) -> list[Path]:
    """Returns the files that `--weights` reads: those of a folder, or the file itself; none for a word."""
    path = weights_path(weights)
    if path is None:
        return []
    return [path / name for name in (CONFIG, KERAS_WEIGHTS, SAFETENSORS)] if path.is_dir() else [path]


class Arrays:
    """The arrays of a checkpoint, by name, with the interface that KerasHub's converters expect."""

    def __init__(self, path: Path):
        """Args:

        path: a safetensors file.
        """
        from safetensors.numpy import load_file

        arrays = load_file(path)
        self._arrays = {re.sub(*OLD_NAMES, name): array for name, array in arrays.items()}

    def get_tensor(self, name: str) -> np.ndarray:
        """Returns an array by name, with or without the prefix that checkpoints with a head give to the backbone.

        Raises:
            KeyError: there is no such array.
        """
        without = name.partition(".")[2]
        for found in (name, without, *(each for each in self._arrays if each.partition(".")[2] == name)):
            if found in self._arrays:
                array = self._arrays[found]
                return array if array.dtype.kind in "iu" else array.astype(np.float32)
        raise KeyError(name)

    def port_weight(
        self, keras_variable: Any, hf_weight_key: str, hook_fn: Callable[..., np.ndarray] | None = None
    ) -> None:
        """Sets a variable to an array; `hook_fn`, given the array and the variable's shape, arranges the axes."""
        array = self.get_tensor(hf_weight_key)
        keras_variable.assign(hook_fn(array, list(keras_variable.shape)) if hook_fn else array)


def _read(folder: Path, most: int) -> Preset:
    if not folder.is_dir():
        raise RefusedFileError("it is not a folder")
    with open_regular(folder / CONFIG, follow_links=False) as file:
        content = file.read(CONFIG_BYTES + 1)
    if len(content) > CONFIG_BYTES:
        raise RefusedFileError(f"its {CONFIG} has more than {CONFIG_BYTES:,} bytes")
    config = parse_json(content)
    _check_values(config)
    for key, (form, name) in FORMS.items():
        if isinstance(config, dict) and isinstance(config.get(key), str):
            weights = folder / name
            if name == SAFETENSORS and not weights.exists() and (folder / SHARDS).exists():
                raise RefusedFileError(f"its weights are in several files; join them into one {SAFETENSORS}")
            with open_regular(weights, follow_links=False) as file:
                size = file.seek(0, 2)
            try:
                _check_weights(weights, size, most)
            except RefusedFileError as error:
                raise RefusedFileError(f"its {name} {error}") from None
            return Preset(form, config, weights)
    raise RefusedFileError(f"its {CONFIG} has none of {', '.join(FORMS)}, which say what it is")


def _check_weights(path: Path, size: int, most: int) -> None:
    if path.name == KERAS_WEIGHTS:
        check_weights(path, most)
        return
    from safetensors import SafetensorError, safe_open

    if size > most:
        raise RefusedFileError(f"has {size:,} bytes, more than {most:,}, the most that the network takes")
    try:
        with safe_open(path, framework="np") as file:  # checks that arrays fill the file without overlap
            kinds = {file.get_slice(name).get_dtype() for name in file.keys()}  # noqa: SIM118 - no mapping
    except SafetensorError as error:
        raise RefusedFileError(f"is damaged ({first_line(error)})") from None
    if kinds - DTYPES:
        raise RefusedFileError(f"holds {', '.join(sorted(kinds - DTYPES))}, which are no types of weights")


def _check_values(value: Any) -> None:
    """Refuses numbers so large that a network would take all memory."""
    if isinstance(value, dict | list):
        for each in value.values() if isinstance(value, dict) else value:
            _check_values(each)
    elif isinstance(value, int) and abs(value) > LARGEST_NUMBER:
        raise RefusedFileError(f"its {CONFIG} has the number {json.dumps(value)[:LONGEST_NAME]}, which is too large")
