"""Fingerprints of networks, for the keys of stored values."""

import hashlib
import json
from typing import Any

import keras

from app.wheels import installed_versions
from data.code_digest import code_digest
from models.own_layers import OWN_PARTS

VERSIONS = installed_versions("tensorflow", "keras")
"""Versions of the computing libraries, part of every key."""


def fingerprint(network: keras.Model) -> str:
    """Returns the SHA-256 of all that a network's results depend on: layers, custom code, weights."""
    text = structure(network)
    digest = hashlib.sha256(text.encode())
    own = {part for layer in network._flatten_layers() for part in type(layer).__mro__ if _is_own(part)}
    own |= {part for name, part in OWN_PARTS.items() if f'"{name}"' in text}  # functions that layers use
    digest.update(code_digest(*own).encode())
    for variable in network.variables:
        digest.update(variable.numpy().tobytes())
    return digest.hexdigest()


def structure(network: keras.Model) -> str:
    """Returns a description of a network, without its weights and the names of its layers, as text."""
    numbers: dict[str, str] = {}

    def without_names(part: Any) -> Any:
        if isinstance(part, dict):
            if isinstance(part.get("name"), str):
                numbers.setdefault(part["name"], str(len(numbers)))
            return {key: without_names(value) for key, value in part.items()}
        if isinstance(part, list | tuple):
            return [without_names(value) for value in part]
        return numbers.get(part, part) if isinstance(part, str) else part

    return json.dumps(without_names(network.get_config()), sort_keys=True)


def _is_own(part: type) -> bool:
    """Returns True if a class is neither from Python nor from a library whose version is in every key."""
    return part.__module__.split(".")[0] not in ("builtins", *VERSIONS)
