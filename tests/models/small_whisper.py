"""A small Whisper of random weights, by KerasHub, and the folder that Hugging Face would have of it."""

import json
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save_file
from tokenizers import Tokenizer, decoders, models

WORDS, WIDTH, HIDDEN, DEPTH, HEADS, PLACES, MOST = 160, 16, 32, 2, 2, 50, 448
SIZES = {"encoder_layers": DEPTH, "decoder_layers": DEPTH, "encoder_attention_heads": HEADS}
NAMED = ["endoftext", "startoftranscript", "en", "de", "translate", "transcribe", "startoflm", "startofprev"]
NAMED += ["nospeech", "notimestamps"]
LETTERS = WORDS - len(NAMED) - PLACES - 1
"""Tokens that are no names and no times."""


def small_whisper() -> Any:
    """Builds the network; its window is a second."""
    import keras_hub

    about = {"hidden_dim": WIDTH, "intermediate_dim": HIDDEN, "num_layers": DEPTH, "num_heads": HEADS}
    lengths = {"max_encoder_sequence_length": 2 * PLACES, "max_decoder_sequence_length": MOST}
    backbone = keras_hub.models.WhisperBackbone(vocabulary_size=WORDS, **about, **lengths)
    draw = np.random.default_rng(0)
    backbone.set_weights([draw.normal(0, 0.3, each.shape) for each in backbone.get_weights()])
    return backbone


def write_folder(hub: Any, folder: Path, **changes: Any) -> Path:
    """Writes weights, form and tokens of a network."""
    from models.hub_whisper import named_arrays

    arrays = {f"model.{name}": np.ascontiguousarray(values) for name, values in named_arrays(hub).items()}
    save_file(arrays, folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps({"model_type": "whisper", **SIZES, **changes}))
    names = [chr(97 + number % 26) * (1 + number // 26) for number in range(LETTERS)] + [
        f"<|{name}|>" for name in NAMED
    ]
    tokenizer = Tokenizer(models.WordLevel({name: number for number, name in enumerate(names)}, unk_token="a"))
    tokenizer.decoder = decoders.Fuse()
    tokenizer.save(str(folder / "tokenizer.json"))
    return folder
