"""Weights of encoders of recordings: files of CTranslate2, read as tables of names and plain numbers."""

import struct
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

DTYPES = {0: "<f4", 1: "<i1", 2: "<i2", 3: "<i4", 4: "<f2"}
VERSION = 6


class Architecture(NamedTuple):
    """Size and form of an encoder."""

    width: int
    depth: int
    heads: int
    hidden: int
    """Width of the first of the two dense layers of a block."""
    positions: int
    epsilon: float = 1e-5


def read_ctranslate2(content: bytes) -> dict[str, np.ndarray]:
    """Reads the `model.bin` of CTranslate2: of each array its name, shape, type and bytes.

    Raises:
        ValueError: it is damaged, or of another version.
    """
    place = 0

    def take(form: str) -> int:
        nonlocal place
        (value,) = struct.unpack_from(f"<{form}", content, place)
        place += struct.calcsize(f"<{form}")
        return value

    def take_bytes(count: int) -> bytes:
        nonlocal place
        if count > len(content) - place:
            raise ValueError("it ends too early")
        place += count
        return content[place - count : place]

    try:
        if take("I") != VERSION:
            raise ValueError(f"it is not of version {VERSION}")
        take_bytes(take("H"))  # name of the kind of network
        take("I")
        found = {}
        for _ in range(take("I")):
            name = take_bytes(take("H")).rstrip(b"\0").decode()
            shape = [take("I") for _ in range(take("B"))]
            dtype = DTYPES[take("B")]
            found[name] = np.frombuffer(take_bytes(take("I")), dtype).reshape(shape)
    except (struct.error, KeyError, UnicodeDecodeError) as error:
        raise ValueError(f"it is damaged ({error})") from None
    return found


def whisper_weights(state: Mapping[str, np.ndarray], depth: int) -> dict[str, np.ndarray]:
    """Names the weights of Whisper's encoder as `models.sound_encoder` does; its kernels are (out, in, time)."""
    values = {
        "places/table": state["encoder/position_encodings/encodings"],
        "last_norm/gamma": state["encoder/layer_norm/gamma"],
        "last_norm/beta": state["encoder/layer_norm/beta"],
    }
    for number in (1, 2):
        values[f"conv_{number}/kernel"] = state[f"encoder/conv{number}/weight"].T
        values[f"conv_{number}/bias"] = state[f"encoder/conv{number}/bias"]
    dense = {
        "attend": "self_attention/linear_0",
        "project": "self_attention/linear_1",
        "widen": "ffn/linear_0",
        "narrow": "ffn/linear_1",
    }
    for number in range(depth):
        layer, block = f"encoder/layer_{number}", f"block_{number + 1}"
        for name, part in dense.items():
            values[f"{block}/{name}/kernel"] = state[f"{layer}/{part}/weight"].T
            values[f"{block}/{name}/bias"] = state[f"{layer}/{part}/bias"]
        for name, part in {"attention_norm": "self_attention", "norm": "ffn"}.items():
            for value in ("gamma", "beta"):
                values[f"{block}/{name}/{value}"] = state[f"{layer}/{part}/layer_norm/{value}"]
    return {name: value.astype(np.float32) for name, value in values.items()}
