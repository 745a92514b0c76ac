"""Encoders of Hugging Face folders compute what KerasHub makes of the same folders, which reads them by itself."""

import json
import re
from pathlib import Path

import keras
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from app.errors import UsageError
from features.cuts import find_cuts
from models.backbones import TEXT_TABLE, build, find
from models.text_weights import FAMILIES, read_folder
from models.weights import build_backbone, check_available

WORDS, PLACES, WIDTH, HIDDEN, DEPTH, HEADS = 60, 24, 16, 32, 2, 2
CONFIG = {
    "vocab_size": WORDS,
    "max_position_embeddings": PLACES,
    "hidden_size": WIDTH,
    "num_hidden_layers": DEPTH,
    "num_attention_heads": HEADS,
    "intermediate_size": HIDDEN,
    "hidden_act": "gelu_new",  # as KerasHub computes BERT and ALBERT, whatever is asked for
    "layer_norm_eps": 1e-12,
    "type_vocab_size": 2,
    "pad_token_id": 0,
    "hidden_dropout_prob": 0.1,
    "attention_probs_dropout_prob": 0.1,
}
DISTILLED = {
    "dim": WIDTH,
    "n_layers": DEPTH,
    "n_heads": HEADS,
    "hidden_dim": HIDDEN,
    "activation": "gelu",
    "vocab_size": WORDS,
    "max_position_embeddings": PLACES,
    "dropout": 0.1,
    "attention_dropout": 0.1,
    "sinusoidal_pos_embds": False,
}
ROBERTA = {
    **CONFIG,
    "hidden_act": "gelu",
    "layer_norm_eps": 1e-5,  # the only one that KerasHub has
    "max_position_embeddings": PLACES + 2,
    "pad_token_id": 1,
    "type_vocab_size": 1,
}
CONFIGS = {
    "bert": CONFIG,
    "roberta": ROBERTA,
    "xlm-roberta": ROBERTA,
    "distilbert": DISTILLED,
    "electra": {**CONFIG, "embedding_size": 8},
    "albert": {**CONFIG, "embedding_size": 8, "num_hidden_groups": 1, "inner_group_num": 1},
    "deberta-v2": {
        **CONFIG,
        "hidden_act": "gelu",
        "layer_norm_eps": 1e-7,
        "type_vocab_size": 0,
        "relative_attention": True,
        "position_buckets": 8,
        "max_relative_positions": -1,
        "pos_att_type": "p2c|c2p",
        "share_att_key": True,
        "norm_rel_ebd": "layer_norm",
        "position_biased_input": False,
    },
    "gpt2": {
        "vocab_size": WORDS,
        "n_positions": PLACES,
        "n_embd": WIDTH,
        "n_layer": DEPTH,
        "n_head": HEADS,
        "activation_function": "gelu_new",
        "layer_norm_epsilon": 1e-5,
        "resid_pdrop": 0.1,
    },
}
CLASSES = {"bert": "BertBackbone", "roberta": "RobertaBackbone", "distilbert": "DistilBertBackbone"}
CLASSES |= {"xlm-roberta": "XLMRobertaBackbone", "albert": "AlbertBackbone", "gpt2": "GPT2Backbone"}
PREFIXES = {"roberta": "roberta.", "xlm-roberta": "roberta.", "distilbert": "distilbert.", "albert": "albert."}


def write_folder(folder: Path, family: str, **changes) -> Path:
    """Writes a small checkpoint of random weights, with the names that Hugging Face has for them."""
    draw, names = np.random.default_rng(0), FAMILIES[family]
    hidden = 4 * WIDTH if family == "gpt2" else HIDDEN
    embedded = CONFIGS[family].get("embedding_size", WIDTH)
    places = CONFIGS[family][names.positions]
    shapes = {
        f"{names.words}.weight": (WORDS, embedded),
        f"{names.outer_norm}.weight": (embedded,),
        f"{names.outer_norm}.bias": (embedded,),
    }
    if names.places:
        shapes[f"{names.places}.weight"] = (places, embedded)
    if names.distances:
        shapes[f"{names.distances}.weight"] = (2 * CONFIGS[family]["position_buckets"], WIDTH)
        shapes |= {f"{names.distance_norm}.weight": (WIDTH,), f"{names.distance_norm}.bias": (WIDTH,)}
    if names.types:
        shapes["embeddings.token_type_embeddings.weight"] = (CONFIGS[family]["type_vocab_size"], embedded)
    dense = {} if names.embedded is None else {names.embedded: (WIDTH, embedded)}
    for number in range(1 if family == "albert" else DEPTH):
        layer = names.layer.format(number)
        dense |= {layer + part: (3 * WIDTH // len(names.attend), WIDTH) for part in names.attend}
        dense |= {layer + names.project: (WIDTH, WIDTH)}
        dense |= {layer + names.widen: (hidden, WIDTH), layer + names.narrow: (WIDTH, hidden)}
        for norm in (names.attention_norm, names.norm):
            shapes |= {f"{layer}{norm}.weight": (WIDTH,), f"{layer}{norm}.bias": (WIDTH,)}
    shapes |= {f"{part}.weight": shape[:: -1 if names.causal else 1] for part, shape in dense.items()}
    shapes |= {f"{part}.bias": shape[:1] for part, shape in dense.items()}
    prefix = PREFIXES.get(family, "")
    state = {prefix + name: draw.normal(0, 0.2, shape).astype(np.float32) for name, shape in shapes.items()}
    if family == "roberta":  # which KerasHub leaves out
        state[f"{prefix}embeddings.token_type_embeddings.weight"][:] = 0
    pooler = {"albert": ("pooler.weight", "pooler.bias")}.get(family, ("pooler.dense.weight", "pooler.dense.bias"))
    state |= {prefix + pooler[0]: np.eye(WIDTH, dtype=np.float32), prefix + pooler[1]: np.zeros(WIDTH, np.float32)}
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps({"model_type": family, **CONFIGS[family], **changes}))
    save_file(state, folder / "model.safetensors")
    return folder


def batch() -> tuple[np.ndarray, np.ndarray]:
    tokens = np.random.default_rng(1).integers(2, WORDS, (3, 12)).astype(np.int32)
    mask = np.arange(12) < np.array([12, 5, 9])[:, None]
    return np.where(mask, tokens, 0).astype(np.int32), mask


@pytest.mark.parametrize("family", CLASSES)
def test_an_encoder_of_a_folder_is_that_of_keras_hub(family, tmp_path):
    hub = pytest.importorskip("keras_hub")
    folder, (tokens, mask) = write_folder(tmp_path / "folder", family), batch()
    name = family.replace("-", "_")
    check_available(find(name), str(folder))
    found = build_backbone(find(name), 16, str(folder)).model([tokens, mask]).numpy()
    inputs = {"token_ids": tokens, "padding_mask": mask.astype(np.int32), "segment_ids": np.zeros_like(tokens)}
    backbone = getattr(hub.models, CLASSES[family]).from_preset(str(folder))
    expected = backbone({name: values for name, values in inputs.items() if name in backbone.input})
    expected = expected["sequence_output"] if isinstance(expected, dict) else expected
    np.testing.assert_allclose(found[mask], np.asarray(expected)[mask], atol=1e-5)


def test_electra_is_an_albert_of_one_block_with_other_names(tmp_path):
    """KerasHub reads no ELECTRA of Hugging Face."""
    albert = write_folder(tmp_path / "albert", "albert", num_hidden_layers=1)
    arrays = {name.removeprefix("albert."): values for name, values in load_file(albert / "model.safetensors").items()}
    layer, names = (
        "encoder.albert_layer_groups.0.albert_layers.0.",
        {"encoder.embedding_hidden_mapping_in": "embeddings_project"},
    )
    names |= {
        f"{layer}attention.{part}.": f"encoder.layer.0.attention.self.{part}." for part in ("query", "key", "value")
    }
    names |= {
        f"{layer}attention.": "encoder.layer.0.attention.output.",
        f"{layer}ffn.": "encoder.layer.0.intermediate.dense.",
    }
    names |= {f"{layer}ffn_output.": "encoder.layer.0.output.dense."}
    names |= {f"{layer}full_layer_layer_norm.": "encoder.layer.0.output.LayerNorm."}
    renamed = {}
    for name, values in arrays.items():
        start = next((each for each in names if name.startswith(each)), "")
        renamed[f"electra.{names.get(start, '')}{name.removeprefix(start)}"] = values
    electra = write_folder(tmp_path / "electra", "electra", num_hidden_layers=1)
    save_file(renamed, electra / "model.safetensors")
    first, second = (
        build_backbone(find(folder.name), 16, str(folder)).model(list(batch())) for folder in (albert, electra)
    )
    np.testing.assert_allclose(first, second, atol=1e-6)


def test_deberta_is_that_of_keras_hub(tmp_path):
    """KerasHub reads no DeBERTa of Hugging Face, so its network gets the arrays one by one."""
    hub = pytest.importorskip("keras_hub")
    folder, (tokens, mask) = write_folder(tmp_path / "folder", "deberta-v2"), batch()
    arrays = load_file(folder / "model.safetensors")
    expected = hub.models.DebertaV3Backbone(
        vocabulary_size=WORDS,
        num_layers=DEPTH,
        num_heads=HEADS,
        hidden_dim=WIDTH,
        intermediate_dim=HIDDEN,
        max_sequence_length=PLACES,
        bucket_size=8,
    )

    def give(layer, name):
        kernel, bias = layer.weights
        values = arrays[f"{name}.weight"]
        kernel.assign((values.T if values.ndim == 2 else values).reshape(kernel.shape))
        bias.assign(arrays[f"{name}.bias"].reshape(bias.shape))

    expected.token_embedding.embeddings.assign(arrays["embeddings.word_embeddings.weight"])
    expected.relative_embeddings.rel_embeddings.assign(arrays["encoder.rel_embeddings.weight"])
    give(expected.embeddings_layer_norm, "embeddings.LayerNorm")
    give(expected.relative_embeddings.layer_norm, "encoder.LayerNorm")
    for number, layer in enumerate(expected.transformer_layers):
        names, attention = f"encoder.layer.{number}", layer._self_attention_layer
        for part in ("query", "key", "value"):
            give(getattr(attention, f"_{part}_dense"), f"{names}.attention.self.{part}_proj")
        give(attention._output_dense, f"{names}.attention.output.dense")
        give(layer._self_attention_layer_norm, f"{names}.attention.output.LayerNorm")
        give(layer._feedforward_intermediate_dense, f"{names}.intermediate.dense")
        give(layer._feedforward_output_dense, f"{names}.output.dense")
        give(layer._feedforward_layer_norm, f"{names}.output.LayerNorm")
    inputs = {"token_ids": tokens, "padding_mask": mask.astype(np.int32)}
    found = build_backbone(find("deberta_v3"), 16, str(folder)).model([tokens, mask]).numpy()
    np.testing.assert_allclose(found[mask], np.asarray(expected(inputs))[mask], atol=1e-5)


def test_every_family_has_a_row_and_can_be_saved(tmp_path):
    rows = {backbone.name for backbone in TEXT_TABLE if backbone.family.library}
    families = {"deberta_v3" if family == "deberta-v2" else family.replace("-", "_") for family in FAMILIES}
    assert rows == families
    assert FAMILIES.keys() == CONFIGS.keys()
    for family in ("electra", "gpt2", "deberta-v2"):
        folder, (tokens, mask) = write_folder(tmp_path / family, family), batch()
        model = build_backbone(find(family.replace("-v2", "_v3")), 16, str(folder)).model
        assert {"block_1", "block_2"} <= {cut.layer for cut in find_cuts(model)}
        model.save(tmp_path / "saved.keras")
        again = keras.saving.load_model(tmp_path / "saved.keras", safe_mode=True)
        np.testing.assert_array_equal(again([tokens, mask]), model([tokens, mask]))
    assert build(find("minilm"), 16).model.count_params() > 20_000_000


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model_type": "t5"}, "must be a Hugging Face folder of bert, .*is not"),
        ({"hidden_size": 12}, "must fit the config.json beside them"),
        ({"num_hidden_layers": 9}, "lacks what its config.json says it has"),
        ({"position_embedding_type": "relative_key"}, "must be of a network with absolute positions"),
        ({"scale_attn_by_inverse_layer_idx": True}, "must be of a network with the usual values of scale_attn"),
        ({"hidden_act": "selu"}, "must have one of gelu, gelu_new, relu; .*has selu"),
    ],
)
def test_a_folder_that_is_not_what_it_says_is_refused(changes, message, tmp_path):
    folder = write_folder(tmp_path / "folder", "bert", **changes)
    with pytest.raises(UsageError, match=message):
        build_backbone(find("bert"), 16, str(folder))


def test_positions_of_roberta_begin_behind_the_token_that_pads(tmp_path):
    usual, _ = read_folder(write_folder(tmp_path / "usual", "roberta"), 10**9)
    other, weights = read_folder(write_folder(tmp_path / "other", "roberta", pad_token_id=3), 10**9)
    assert other.positions == usual.positions - 2
    assert len(weights["positions/table"]) == other.positions


def test_arrays_may_have_the_names_of_the_first_checkpoints(tmp_path):
    _, expected = read_folder(write_folder(tmp_path / "folder", "bert"), 10**9)
    path = tmp_path / "folder" / "model.safetensors"
    old = {"LayerNorm.weight": "LayerNorm.gamma", "LayerNorm.bias": "LayerNorm.beta"}
    renamed = {
        re.sub("|".join(old), lambda found: old[found[0]], name): array for name, array in load_file(path).items()
    }
    assert any(name.endswith("LayerNorm.gamma") for name in renamed)
    save_file(renamed, path)
    _, found = read_folder(tmp_path / "folder", 10**9)
    assert found.keys() == expected.keys()
    assert all(np.array_equal(found[name], expected[name]) for name in expected)


def test_more_tokens_than_places_are_refused_and_weights_have_to_be_given(tmp_path):
    folder = write_folder(tmp_path / "folder", "bert")
    with pytest.raises(UsageError, match="--max-tokens must be at most 512 for 'bert'; it is 513"):
        build_backbone(find("bert"), 513, "none")
    with pytest.raises(UsageError, match="--max-tokens must be at most 24"):
        build_backbone(find("bert"), 25, str(folder))
    with pytest.raises(UsageError, match="must be 'none' or a folder of weights: Keras publishes none for bert"):
        check_available(find("bert"), "imagenet")
