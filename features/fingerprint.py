"""The part of a stored value's key that says which network made it."""

import hashlib
import json
from importlib import metadata
from typing import Any

import keras

from data.code_digest import code_digest
from models.own_layers import OWN_PARTS

VERSIONS = {name: metadata.version(name) for name in ("tensorflow", "keras")}
"""Versions of the libraries that compute; part of every key."""


def fingerprint(network: keras.Model) -> str:
    """Returns the SHA-256 of all that decides what a network computes: layers, their own code, weights."""
    text = structure(network)
    digest = hashlib.sha256(text.encode())
    own = {part for layer in network._flatten_layers() for part in type(layer).__mro__ if _is_own(part)}
    own |= {part for name, part in OWN_PARTS.items() if f'"{name}"' in text}  # functions, which layers have within them
    digest.update(code_digest(*own).encode())
    for variable in network.variables:
        digest.update(variable.numpy().tobytes())
    return digest.hexdigest()


def structure(network: keras.Model) -> str:
    """Returns what a network computes, but for its weights, as text; whatever its layers are named."""
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
    """Returns True if a class is neither of Python nor of a library whose version is in every key."""
    return part.__module__.split(".")[0] not in ("builtins", *VERSIONS)
