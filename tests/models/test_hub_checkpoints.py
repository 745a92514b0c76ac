"""Checkpoints of Hugging Face give the network that `transformers` makes of them.

`hub_checkpoints.json` has, of tiny checkpoints, `config.json`, the shapes of the arrays in `model.safetensors`, and the
first and last token that `transformers` 5.24 computes of a picture. Both libraries get the same random arrays.
"""

import json
from pathlib import Path

import keras
import numpy as np
import pytest

pytest.importorskip("keras_hub")

from safetensors.numpy import save_file

from models.backbones import build, find
from models.hub_table import NETWORKS, SCALING
from models.weights import check_available

CHECKPOINTS = json.loads((Path(__file__).parent / "hub_checkpoints.json").read_text())
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
    mean, stddev = SCALING[backbone.module]
    tokens = parts.model((255 * (picture * stddev + mean)).astype(np.float32))[0]
    np.testing.assert_allclose([tokens[0], tokens[-1]], checkpoint["tokens"], atol=1e-5)
    keras.backend.clear_session()
