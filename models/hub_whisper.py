"""Reads weights of Whisper from a preset of KerasHub, by Hugging Face's names."""

from collections.abc import Mapping
from typing import Any

import keras_hub
import numpy as np

from models.preset_folder import Preset

SIZES = {
    "num_layers": ("encoder_layers", "decoder_layers"),
    "num_heads": ("encoder_attention_heads",),
    "num_mels": ("num_mel_bins",),
}
"""Hugging Face's names for numbers of a preset, by KerasHub's names."""
OTHER_SIZES = (
    *("vocabulary_size", "hidden_dim", "intermediate_dim"),
    *("max_encoder_sequence_length", "max_decoder_sequence_length"),
)
ATTENTION = {"q_proj": "_query_dense", "k_proj": "_key_dense", "v_proj": "_value_dense", "out_proj": "_output_dense"}


def read_whisper_preset(preset: Preset) -> tuple[Mapping[str, Any], Mapping[str, np.ndarray]]:
    """Reads a checked preset: the numbers of its architecture, and its arrays.

    Raises:
        KeyError, TypeError, ValueError: the preset does not match its configuration.
    """
    config = {"num_mels": 80, **preset.config["config"]}
    network = keras_hub.models.WhisperBackbone(**{name: int(config[name]) for name in (*SIZES, *OTHER_SIZES)})
    network.load_weights(preset.weights)
    return {name: config[ours] for ours, names in SIZES.items() for name in names}, named_arrays(network)


def named_arrays(network: Any) -> dict[str, np.ndarray]:
    """Returns the weights of a network of KerasHub."""
    found: dict[str, np.ndarray] = {
        "encoder.embed_positions.weight": np.asarray(network.encoder_position_embedding.position_embeddings),
        "decoder.embed_positions.weight": np.asarray(network.decoder_embeddings.position_embedding.position_embeddings),
        "decoder.embed_tokens.weight": np.asarray(network.token_embedding.embeddings),
    }

    def add(name: str, layer: Any) -> None:
        weight, *bias = (np.asarray(each) for each in layer.weights)
        if weight.ndim == 3 and "attn" in name:  # heads have an axis of their own
            weight = weight.reshape(-1, network.hidden_dim) if "out_proj" in name else weight.reshape(len(weight), -1)
        found[f"{name}.weight"] = weight.T
        found.update({f"{name}.bias": each.ravel() for each in bias})

    add("encoder.conv1", network.encoder_conv_layer_1)
    add("encoder.conv2", network.encoder_conv_layer_2)
    for side in ("encoder", "decoder"):
        add(f"{side}.layer_norm", getattr(network, f"{side}_layer_norm"))
        for number, block in enumerate(getattr(network, f"{side}_transformer_layers")):
            name, attentions = f"{side}.layers.{number}", {"self_attn": block._self_attention_layer}
            norms = {"self_attn_layer_norm": block._self_attention_layer_norm}
            if side == "decoder":
                attentions["encoder_attn"] = block._cross_attention_layer
                norms["encoder_attn_layer_norm"] = block._cross_attention_layer_norm
            dense = {"fc1": block._feedforward_intermediate_dense, "fc2": block._feedforward_output_dense}
            for part, layer in {**norms, **dense, "final_layer_norm": block._feedforward_layer_norm}.items():
                add(f"{name}.{part}", layer)
            for part, layer in attentions.items():
                for projection, attribute in ATTENTION.items():
                    add(f"{name}.{part}.{projection}", getattr(layer, attribute))
    return found
