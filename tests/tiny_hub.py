"""Networks of KerasHub as small as they can be: rows of the table whose networks a test makes small."""

from typing import Any

import pytest

from models import backbones, hub_table
from models.backbones import Backbone

ENCODER = {"num_layers": 3, "num_heads": 2, "hidden_dim": 16, "intermediate_dim": 32}
TINY: dict[str, dict[str, Any]] = {
    "vit_tiny_patch16_224": {"num_layers": 3, "num_heads": 2, "hidden_dim": 16, "mlp_dim": 32, "patch_size": (8, 8)},
    "deit_tiny_distilled_patch16_224_imagenet": ENCODER | {"patch_size": 8},
    "dinov2_small": ENCODER | {"patch_size": 8},
    "dinov2_with_registers_small": ENCODER | {"patch_size": 8},
    "dinov3_vit_small_lvd1689m": ENCODER | {"patch_size": 8},
    "clip_vit_base_patch16": ENCODER | {"patch_size": 8},
    "siglip_base_patch16_224": ENCODER | {"patch_size": 8},
    "swin_tiny_patch4_window7_224": {"embed_dim": 8, "depths": (2, 2), "num_heads": (2, 4), "window_size": 4},
    "hgnetv2_b4_ssld_stage2_ft_in1k": {"architecture": "hgnetv2_b0"},
    "csp_resnet_50_ra_imagenet": {
        "stem_filters": 8,
        "stem_kernel_size": 3,
        "stem_strides": 4,
        "stackwise_depth": (2, 2, 2),
        "stackwise_strides": (1, 2, 1),
        "stackwise_num_filters": (16, 16, 16),
        "bottle_ratio": [0.5],
        "expand_ratio": [2.0],
        "block_type": "bottleneck_block",
        "stage_type": "csp",
    },
    "mobilenetv5_300m_enc_gemma3n": {
        "stackwise_block_types": [["er"], ["uir", "mqa"], ["uir", "uir"]],
        "stackwise_num_blocks": [1, 2, 2],
        "stackwise_num_filters": [[16], [24, 24], [32, 32]],
        "stackwise_strides": [[2], [2, 1], [2, 1]],
        "stackwise_act_layers": [["relu"], ["relu", "relu"], ["relu", "relu"]],
        "stackwise_exp_ratios": [[4.0], [6.0, 6.0], [6.0, 6.0]],
        "stackwise_se_ratios": [[0.0], [0.0, 0.0], [0.0, 0.0]],
        "stackwise_dw_kernel_sizes": [[0], [5, 0], [5, 5]],
        "stackwise_dw_start_kernel_sizes": [[0], [0, 0], [0, 0]],
        "stackwise_dw_end_kernel_sizes": [[0], [0, 0], [0, 0]],
        "stackwise_exp_kernel_sizes": [[3], [0, 0], [0, 0]],
        "stackwise_pw_kernel_sizes": [[1], [0, 0], [0, 0]],
        "stackwise_num_heads": [[0], [0, 2], [0, 0]],
        "stackwise_key_dims": [[0], [0, 8], [0, 0]],
        "stackwise_value_dims": [[0], [0, 8], [0, 0]],
        "stackwise_kv_strides": [[0], [0, 1], [0, 0]],
        "stackwise_use_cpe": [[False], [False, False], [False, False]],
        "num_features": 32,
        "msfa_output_resolution": 4,
        "use_msfa": True,
        "layer_scale_init_value": 1e-5,
    },
}
"""Arguments by row; most of them take 8 pixels for a patch."""
SIZE = 32
"""Pixels of a picture for them."""


def shrink(name: str, monkeypatch: pytest.MonkeyPatch) -> Backbone:
    """Makes the network of a row small for a test, and returns the row."""
    whole, change = dict(hub_table.NETWORKS[name]), TINY[name]
    if "architecture" not in change:
        whole.pop("architecture", None)
    monkeypatch.setitem(hub_table.NETWORKS, name, whole | change)
    rows = {row.name: row._replace(step=min(row.step, 8)) for row in backbones.HUB}
    monkeypatch.setattr(backbones, "HUB", tuple(rows.values()))
    return rows[name]
