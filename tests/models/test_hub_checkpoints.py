"""Checkpoints of Hugging Face and of timm give the network that `transformers` and timm make of them.

`hub_checkpoints.json` has, of tiny checkpoints, `config.json`, the shapes of the arrays in `model.safetensors`, and the
first and last token that `transformers` 5.24 computes of a picture. `timm_checkpoints.json` has the same of timm, 16
values of each token; its convolutional networks are whole, and have places of a feature map instead of tokens. All
libraries get the same random arrays.
"""

import json
from pathlib import Path

import keras
import numpy as np
import pytest

pytest.importorskip("keras_hub")

from safetensors.numpy import save_file

from app.errors import UsageError
from models.backbones import build, find
from models.hub_table import HUB_FAMILIES, NETWORKS
from models.weights import check_available

CHECKPOINTS, OF_TIMM = (
    json.loads((Path(__file__).parent / f"{library}_checkpoints.json").read_text()) for library in ("hub", "timm")
)
TINY = {"num_layers": 1, "num_heads": 2, "hidden_dim": 16, "patch_size": 8}
ROWS = {
    "vit": ("vit_tiny_patch16_224", TINY | {"mlp_dim": 32}),
    "deit": ("deit_tiny_distilled_patch16_224_imagenet", TINY | {"intermediate_dim": 32}),
    "dinov2": ("dinov2_small", TINY | {"intermediate_dim": 32}),
    "dinov2_with_registers": ("dinov2_with_registers_small", TINY | {"intermediate_dim": 32}),
    "dinov3_vit": ("dinov3_vit_small_lvd1689m", TINY | {"intermediate_dim": 32}),
    "swin": ("swin_tiny_patch4_window7_224", {"embed_dim": 8, "depths": (2, 1), "num_heads": (2, 4), "window_size": 4}),
}
"""Rows and their networks, by `model_type`."""
TIMM_ROWS = {
    "vit_tiny_patch16_224": "vit_tiny_patch16_224",
    "deit_tiny_distilled_patch16_224": "deit_tiny_distilled_patch16_224_imagenet",
    "cspdarknet53": "csp_darknet_53_ra_imagenet",
    "cspresnet50": "csp_resnet_50_ra_imagenet",
    "cspresnext50": "csp_resnext_50_ra_imagenet",
    "darknet53": "darknet_53_imagenet",
    "hgnetv2_b4": "hgnetv2_b4_ssld_stage2_ft_in1k",
    "hgnetv2_b5": "hgnetv2_b5_ssld_stage2_ft_in1k",
    "hgnetv2_b6": "hgnetv2_b6_ssld_stage2_ft_in1k",
}
"""Rows by architecture of timm."""
QUICK = {"vit_tiny_patch16_224", "deit_tiny_distilled_patch16_224", "cspresnet50", "hgnetv2_b4"}


@pytest.mark.parametrize("name", CHECKPOINTS)
def test_a_checkpoint_with_or_without_a_head_gives_the_tokens_of_transformers(name, tmp_path, monkeypatch):
    checkpoint = CHECKPOINTS[name]
    row, network = ROWS[checkpoint["config"]["model_type"]]
    monkeypatch.setitem(NETWORKS, row, dict(NETWORKS[row]) | network)
    backbone = find(row)._replace(step=8)
    arrays = {
        each: (0.3 * np.random.default_rng(number).normal(size=shape)).astype(np.float32)
        for number, (each, shape) in enumerate(checkpoint["arrays"].items())
    }
    (tmp_path / "config.json").write_text(json.dumps(checkpoint["config"]))
    save_file(arrays, tmp_path / "model.safetensors")
    check_available(backbone, str(tmp_path))
    parts = build(backbone, 32, str(tmp_path))
    picture = np.random.default_rng(99).normal(size=(1, 3, 32, 32)).transpose(0, 2, 3, 1)
    mean, stddev = HUB_FAMILIES[backbone.module].scaling
    tokens = parts.model((255 * (picture * stddev + mean)).astype(np.float32))[0]
    np.testing.assert_allclose([tokens[0], tokens[-1]], checkpoint["tokens"], atol=1e-5)
    keras.backend.clear_session()


def timm_arrays(shapes: dict[str, list[int]]) -> dict[str, np.ndarray]:
    """Random arrays with which numbers stay in bounds through fifty layers."""
    arrays = {}
    for number, (name, shape) in enumerate(shapes.items()):
        values = np.random.default_rng(number).normal(size=shape)
        if name.endswith("running_var"):
            values = 1 + np.abs(values) / 2
        elif len(shape) < 2:
            values = values / 10 + name.endswith(".weight")
        else:
            values *= np.sqrt(2 / np.prod(shape[1:]))
        arrays[name] = values.astype(np.float32)
    return arrays


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=() if name in QUICK else pytest.mark.slow) for name in TIMM_ROWS]
)
def test_a_checkpoint_of_timm_gives_its_features(name, tmp_path, monkeypatch):
    checkpoint, row = OF_TIMM[name], TIMM_ROWS[name]
    monkeypatch.setitem(NETWORKS, row, dict(NETWORKS[row]) | dict(ROWS.values()).get(row, {}))
    backbone = find(row)._replace(step=8)
    (tmp_path / "config.json").write_text(json.dumps(checkpoint["config"]))
    save_file(timm_arrays(checkpoint["arrays"]), tmp_path / "model.safetensors")
    check_available(backbone, str(tmp_path))
    side = 32 if backbone.family.pooling[0] == "first" else 64
    model = build(backbone, side, str(tmp_path)).model
    picture = np.random.default_rng(99).normal(size=(1, 3, side, side)).transpose(0, 2, 3, 1)
    mean, stddev = HUB_FAMILIES[backbone.module].scaling
    features = np.array(model((255 * (picture * stddev + mean)).astype(np.float32))).reshape(-1, model.output.shape[-1])
    expected = np.array(checkpoint["features"])
    np.testing.assert_allclose(features[[0, -1], :16], expected, atol=2e-5 * np.abs(expected).max())
    keras.backend.clear_session()


def test_pixels_are_scaled_as_a_checkpoint_of_timm_says(tmp_path, monkeypatch):
    name = "vit_tiny_patch16_224"
    monkeypatch.setitem(NETWORKS, name, dict(NETWORKS[name]) | TINY | {"mlp_dim": 32})
    checkpoint, mean, stddev = OF_TIMM[name], np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
    save_file(timm_arrays(checkpoint["arrays"]), tmp_path / "model.safetensors")
    told = checkpoint["config"]["pretrained_cfg"] | {"mean": mean.tolist(), "std": stddev.tolist()}
    (tmp_path / "config.json").write_text(json.dumps(checkpoint["config"] | {"pretrained_cfg": told}))
    picture = np.random.default_rng(99).normal(size=(1, 3, 32, 32)).transpose(0, 2, 3, 1)
    model = build(find(name)._replace(step=8), 32, str(tmp_path)).model
    features = np.array(model((255 * (picture * stddev + mean)).astype(np.float32)))[0]
    np.testing.assert_allclose(features[[0, -1]], checkpoint["features"], atol=1e-4)


@pytest.mark.parametrize(
    ("row", "change", "reason"),
    [
        ("dinov2_small", {}, "of timm, only vit, deit, hgnetv2, cspnet can be read"),
        ("deit_tiny_distilled_patch16_224_imagenet", {}, "they are those of vit_tiny_patch16_224"),
        ("vit_tiny_patch16_224", {"model_args": {"img_size": 64}}, "{'img_size': 64}"),
        ("vit_tiny_patch16_224", {"pretrained_cfg": {}}, "they have no 'input_size'"),
        ("vit_tiny_patch16_224", {"pretrained_cfg": {"input_size": [3, 10**6, 10**6]}}, "it is for 1000000 px"),
        (
            "vit_tiny_patch16_224",
            {"pretrained_cfg": {"input_size": [3, 32, 32], "std": [0, 1, 1]}},
            r"they scale pixels by \[0.5, 0.5, 0.5\] and \[0.0, 1.0, 1.0\]",
        ),
        ("vit_tiny_patch16_224", {}, "they have no 'blocks.0.attn.qkv.weight'"),
    ],
)
def test_other_checkpoints_of_timm_are_refused(row, change, reason, tmp_path, monkeypatch):
    monkeypatch.setitem(
        NETWORKS, "vit_tiny_patch16_224", dict(NETWORKS["vit_tiny_patch16_224"]) | TINY | {"mlp_dim": 32}
    )
    checkpoint = OF_TIMM["vit_tiny_patch16_224"]
    (tmp_path / "config.json").write_text(json.dumps(checkpoint["config"] | change))
    arrays = timm_arrays(checkpoint["arrays"])
    del arrays["blocks.0.attn.qkv.weight"]
    save_file(arrays, tmp_path / "model.safetensors")
    with pytest.raises(UsageError, match=f"--weights must be weights of {row}; .*{reason}"):
        build(find(row)._replace(step=8), 32, str(tmp_path))
