"""Finds the user's own network by name, FILE.keras or a function of `custom.py`, and its size. Needs no Keras."""

import inspect
import json
import zipfile
import zlib
from pathlib import Path
from typing import Any, NamedTuple

from app.custom_parts import custom_file
from app.errors import UsageError
from app.files import open_regular, parse_json
from models.weight_file import first_line

FILE_ENDING = ".keras"
CONFIG_BYTES = 2**24
"""Most bytes of the `config.json` in such a file."""
PIXELS = ("raw", "unit", "tf", "torch", "caffe")
"""Scalings of pixels: 0 to 255, 0 to 1, or a mode of Keras' `imagenet_utils.preprocess_input`."""
MOST_PIXELS = 8192
"""Largest height and width of a network's pictures."""
DEFAULT_SIZE = 224
"""Size, pixels, for networks that take pictures of any size."""
SCALING = ("Rescaling", "Normalization")
"""Layers that show that a network takes unscaled pixels."""


class NetworkFile(NamedTuple):
    """A file that `--backbone` names."""

    pixels: str | None
    """Scaling of its pixels, one of `PIXELS`; None if the name has none."""
    path: Path


def parse_name(name: str) -> NetworkFile:
    """Reads 'torch:FILE.keras' or 'FILE.keras'."""
    before, colon, rest = name.partition(":")
    return NetworkFile(before, Path(rest)) if colon and before in PIXELS else NetworkFile(None, Path(name))


def file_size(name: str) -> int:
    """Returns the height and width, pixels, that a network in a file takes; 224 if it takes any.

    Raises:
        UsageError: the file cannot be read, its only input is not pictures, or the scaling of pixels is unknown.
    """
    pixels, path = parse_name(name)
    try:
        with open_regular(path) as file, zipfile.ZipFile(file) as archive:
            if archive.getinfo("config.json").file_size > CONFIG_BYTES:
                raise ValueError("its config.json is too large")
            layers = _parts(parse_json(archive.read("config.json")))
    except OSError as error:
        raise UsageError(
            f"--backbone must be a network or its file; '{path}' cannot be read: {error.strerror}."
        ) from None
    except (zipfile.BadZipFile, zlib.error, EOFError, KeyError, RuntimeError, ValueError) as error:
        raise UsageError(f"--backbone must be a file of Keras; '{path}' is damaged ({first_line(error)}).") from None
    shapes = [layer["config"].get("batch_shape") for layer in layers if layer["class_name"] == "InputLayer"]
    shape: Any = shapes[0] if shapes else None
    if not _is_square(shape):
        raise UsageError(f"--backbone must take square RGB pictures; the input of '{path}' is {json.dumps(shape)}.")
    if pixels is None and not any(layer["class_name"] in SCALING for layer in layers):
        raise UsageError(
            f"'{path}' has no layer that scales pixels, so say what it was trained on: --backbone unit:{path} for 0 to "
            f"1, tf: for -1 to 1, torch: or caffe: for ImageNet as those scale it, raw: for 0 to 255."
        )
    return shape[1] or DEFAULT_SIZE


def _is_square(shape: Any) -> bool:
    """Returns whether the shape of an input is that of square RGB pictures."""
    if not isinstance(shape, list) or len(shape) != 4 or shape[3] != 3 or shape[1] != shape[2]:
        return False
    return shape[1] is None or (isinstance(shape[1], int) and 1 < shape[1] <= MOST_PIXELS)


def function_size(name: str) -> int:
    """Returns the image size, pixels, of a function of `custom.py`: the default of its argument, or 224."""
    parameters = list(inspect.signature(custom_file().table("BACKBONES")[name]).parameters.values())
    return parameters[0].default if parameters and isinstance(parameters[0].default, int) else DEFAULT_SIZE


def _parts(config: Any) -> list[dict[str, Any]]:
    """Returns the parts of a model's configuration that have a class, in order."""
    if isinstance(config, list):
        return [part for each in config for part in _parts(each)]
    if not isinstance(config, dict):
        return []
    own = [config] if isinstance(config.get("class_name"), str) and isinstance(config.get("config"), dict) else []
    return own + [part for each in config.values() for part in _parts(each)]
