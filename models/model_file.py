"""Checks a run's `model.keras` before Keras opens it: it must hold the three files that Keras writes, and only layers
of Keras and of this project. Needs no TensorFlow."""

import json
import zipfile
from pathlib import Path
from typing import Any

from app.files import open_regular, parse_json
from models.hub_table import HUB_FAMILIES
from models.network_name import CONFIG_BYTES
from models.weight_file import RefusedFileError, check_weights, first_line

WEIGHTS_MEMBER = "model.weights.h5"
MEMBER_BYTES = {"metadata.json": 2**16, "config.json": CONFIG_BYTES, WEIGHTS_MEMBER: None}
"""Files of the archive and the most bytes of each; the network limits those of the weights."""
ARCHIVE_BYTES = 2**25
"""Most bytes of an archive without its weights."""
MODULES = {
    "keras",
    "keras.activations",
    "keras.constraints",
    "keras.dtype_policies",
    "keras.initializers",
    "keras.layers",
    "keras.regularizers",
    "keras.src.models.functional",
    "keras.src.models.sequential",
}
"""Modules of Keras that hold parts of models. Other modules write files, download and load."""
MODULE_FOLDERS = ("keras.src.applications.", "keras.src.ops.")
VALUES = {"__keras_tensor__", "__tensor__", "__numpy__", "__ellipsis__", "__slice__"}
"""Names that Keras writes, without a module, for plain values."""
REFUSED_CLASSES = {
    "Lambda",
    "TFSMLayer",
    "TorchModuleWrapper",
    "JaxLayer",
    "FlaxLayer",
    "StringLookup",
    "IntegerLookup",
    "IndexLookup",
    "TextVectorization",
    "FeatureSpace",
}
"""Layers that run code of the file, or read other files."""
HUB_NETWORKS = {f"keras_hub>{family.builder}" for family in HUB_FAMILIES.values()}


def check_model_file(path: Path, most_weights: int) -> None:
    """Checks a model file, whose weights may take `most_weights` bytes.

    Raises:
        RefusedFileError: the file is damaged, or names anything but layers of Keras and of this project.
    """
    try:
        size = path.stat().st_size
        if size > most_weights + ARCHIVE_BYTES:
            raise RefusedFileError(f"has {size:,} bytes, more than its network takes")
        with open_regular(path) as file, zipfile.ZipFile(file) as archive:
            _check_members(archive)
            check_config(archive.read("config.json"))
            check_weights(archive.read(WEIGHTS_MEMBER), most_weights)
    except RefusedFileError:
        raise
    except (OSError, zipfile.BadZipFile, EOFError, ValueError, RuntimeError) as error:
        raise RefusedFileError(f"is damaged ({first_line(error)})") from error


def check_config(content: bytes) -> None:
    """Checks that a model's `config.json` names only parts of Keras and `OWN_PARTS`, by their own names.

    Raises:
        RefusedFileError: it names other parts.
        ValueError: it is not JSON.
    """
    config = parse_json(content)
    if isinstance(config, dict):
        config.pop("compile_config", None)  # never read: models are loaded uncompiled
    waiting = [config]
    while waiting:
        part = waiting.pop()
        if isinstance(part, dict):
            if "class_name" in part or "module" in part or "registered_name" in part:
                _check_class(part)
            waiting.extend(part.values())
        elif isinstance(part, list):
            waiting.extend(part)


def _check_members(archive: zipfile.ZipFile) -> None:
    names = sorted(member.filename for member in archive.infolist())
    if names != sorted(MEMBER_BYTES):
        raise RefusedFileError(f"must hold {', '.join(MEMBER_BYTES)} and nothing else; {len(names)} files are in it")
    for member in archive.infolist():
        if member.compress_type != zipfile.ZIP_STORED or member.file_size != member.compress_size:
            raise RefusedFileError(f"has its {member.filename} compressed, which Keras does not do")
        most = MEMBER_BYTES[member.filename]
        if most is not None and member.file_size > most:
            raise RefusedFileError(f"has a {member.filename} of {member.file_size:,} bytes, more than {most:,}")


def _check_class(part: dict[str, Any]) -> None:
    name, module, registered = part.get("class_name"), part.get("module"), part.get("registered_name")
    if isinstance(name, str) and name in VALUES and module is None:
        return
    if name == "function":
        name, is_offered = part.get("config"), module == "keras.activations"
    else:
        is_class = isinstance(name, str) and name[:1].isupper() and name not in REFUSED_CLASSES
        is_offered = is_class and isinstance(module, str) and (module in MODULES or module.startswith(MODULE_FOLDERS))
    # No names with a dot: Keras would find 'utils.get_file' in the module 'keras'.
    is_plain = isinstance(name, str) and name.isidentifier() and registered in (None, name)
    if not (is_offered and is_plain) and not _is_own(part) and not _is_of_hub(part):
        raise RefusedFileError(f"asks for {_shown(name)} of {_shown(module)}, which is no part of a model of Keras")


def _is_own(part: dict[str, Any]) -> bool:
    """Returns True if Keras finds a part among those of this project, whatever the file says about it."""
    from models.own_layers import OWN_PARTS  # imports Keras, which most models do not need here

    name = part.get("config" if part.get("class_name") == "function" else "registered_name")
    return isinstance(name, str) and name in OWN_PARTS


def _is_of_hub(part: dict[str, Any]) -> bool:
    """Returns True if a part is a network of `HUB_NETWORKS`, which Keras finds in its register."""
    if part.get("registered_name") not in HUB_NETWORKS:
        return False
    try:
        import keras_hub  # noqa: F401 - registers them
    except ImportError:
        raise RefusedFileError("has a network of KerasHub: pip install -r requirements-hub.txt") from None
    return True


def _shown(value: Any) -> str:
    """Quotes a value from a file, which may be anything, for a message."""
    return json.dumps(value)[:80]
