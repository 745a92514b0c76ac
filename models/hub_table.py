"""The networks of KerasHub that this project offers: rows of the table, and the arguments to build them; no Keras.

A row has the name of KerasHub's own preset, which `--weights imagenet` downloads. `tests/models/test_hub.py` checks the
rows against the installed KerasHub.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

from models.families import Backbone

Settings = Mapping[str, Any]


class Scaling(NamedTuple):
    """Pixels as a network was trained on them: (pixel / 255 - mean) / stddev, by channel."""

    mean: tuple[float, float, float]
    stddev: tuple[float, float, float]


_IMAGENET = Scaling((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
_HALF = Scaling((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
_CLIP = Scaling((0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711))

SCALING: dict[str, Scaling] = {
    "vit": _HALF,
    "deit": _IMAGENET,
    "dinov2": _IMAGENET,
    "dinov3": _IMAGENET,
    "clip": _CLIP,
    "siglip": _HALF,
    "swin_transformer": _IMAGENET,
    "hgnetv2": _IMAGENET,
    "cspnet": _IMAGENET,
    "mobilenetv5": Scaling((0.0, 0.0, 0.0), (1.0, 1.0, 1.0)),
}
"""Scaling of pixels, by family."""

CHECKPOINTS: dict[str, tuple[str, ...]] = {
    "vit": ("vit",),
    "deit": ("deit",),
    "dinov2": ("dinov2", "dinov2_with_registers"),
    "dinov3": ("dinov3_vit",),
    "swin_transformer": ("swin",),
}
"""`model_type` of the checkpoints of Hugging Face that KerasHub converts, by family."""
TIMM = ("vit", "deit", "hgnetv2", "cspnet")
"""Families whose checkpoints of timm can be read as well."""

# Accuracies, as published: of the whole network for DeiT (README_deit.md of facebookresearch/deit) and Swin (MODELHUB
# of microsoft/Swin-Transformer; Swin-L from ImageNet-22k) and CSPNet (results/results-imagenet.csv of
# huggingface/pytorch-image-models; DarkNet at 288 px); by a linear layer for DINOv2 (README.md of
# facebookresearch/dinov2) and CLIP (README.md of lavinal712/linear-probing). Left out where no source was found.
HUB: tuple[Backbone, ...] = (
    Backbone("vit_tiny_patch16_224", "ViTBackbone", "vit", 224, 5.5, step=16, published=False),
    Backbone("vit_small_patch16_224", "ViTBackbone", "vit", 224, 21.7, step=16, published=False),
    Backbone("vit_base_patch16_224_imagenet", "ViTBackbone", "vit", 224, 85.8, step=16),
    Backbone("vit_base_patch16_224_imagenet21k", "ViTBackbone", "vit", 224, 85.8, step=16),
    Backbone("vit_base_patch16_384_imagenet", "ViTBackbone", "vit", 384, 86.1, step=16),
    Backbone("vit_base_patch32_384_imagenet", "ViTBackbone", "vit", 384, 87.5, step=32),
    Backbone("vit_large_patch16_224_imagenet", "ViTBackbone", "vit", 224, 303.3, step=16),
    Backbone("vit_large_patch16_384_imagenet", "ViTBackbone", "vit", 384, 303.7, step=16),
    Backbone("deit_tiny_distilled_patch16_224_imagenet", "DeiTBackbone", "deit", 224, 5.5, 0.745, step=16),
    Backbone("deit_small_distilled_patch16_224_imagenet", "DeiTBackbone", "deit", 224, 21.7, 0.812, step=16),
    Backbone("deit_base_distilled_patch16_224_imagenet", "DeiTBackbone", "deit", 224, 85.8, 0.834, step=16),
    Backbone("deit_base_distilled_patch16_384_imagenet", "DeiTBackbone", "deit", 384, 86.1, 0.852, step=16),
    Backbone("dinov2_small", "DINOV2Backbone", "dinov2", 224, 21.7, 0.811, step=14),
    Backbone("dinov2_base", "DINOV2Backbone", "dinov2", 224, 85.9, 0.845, step=14),
    Backbone("dinov2_large", "DINOV2Backbone", "dinov2", 224, 303.5, 0.863, step=14),
    Backbone("dinov2_with_registers_small", "DINOV2Backbone", "dinov2", 224, 21.7, 0.809, step=14),
    Backbone("dinov2_with_registers_base", "DINOV2Backbone", "dinov2", 224, 85.9, 0.846, step=14),
    Backbone("dinov2_with_registers_large", "DINOV2Backbone", "dinov2", 224, 303.5, 0.867, step=14),
    Backbone("dinov3_vit_small_lvd1689m", "DINOV3Backbone", "dinov3", 224, 21.6, step=16),
    Backbone("dinov3_vit_base_lvd1689m", "DINOV3Backbone", "dinov3", 224, 85.7, step=16),
    Backbone("dinov3_vit_large_lvd1689m", "DINOV3Backbone", "dinov3", 224, 303.1, step=16),
    Backbone("clip_vit_base_patch32", "CLIPVisionEncoder", "clip", 224, 87.5, step=32),
    Backbone("clip_vit_base_patch16", "CLIPVisionEncoder", "clip", 224, 85.8, step=16),
    Backbone("clip_vit_large_patch14", "CLIPVisionEncoder", "clip", 224, 303.2, 0.839, step=14),
    Backbone("siglip_base_patch16_224", "SigLIPVisionEncoder", "siglip", 224, 92.9, step=16),
    Backbone("siglip_large_patch16_256", "SigLIPVisionEncoder", "siglip", 256, 315.9, step=16),
    Backbone("siglip2_base_patch16_224", "SigLIPVisionEncoder", "siglip", 224, 92.9, step=16),
    Backbone("swin_tiny_patch4_window7_224", "SwinTransformerBackbone", "swin_transformer", 224, 27.5, 0.812, step=224),
    Backbone(
        "swin_small_patch4_window7_224", "SwinTransformerBackbone", "swin_transformer", 224, 48.8, 0.832, step=224
    ),
    Backbone("swin_base_patch4_window7_224", "SwinTransformerBackbone", "swin_transformer", 224, 86.7, 0.835, step=224),
    Backbone(
        "swin_large_patch4_window7_224", "SwinTransformerBackbone", "swin_transformer", 224, 195.0, 0.863, step=224
    ),
    Backbone("hgnetv2_b4_ssld_stage2_ft_in1k", "HGNetV2Backbone", "hgnetv2", 224, 13.6, step=32),
    Backbone("hgnetv2_b5_ssld_stage2_ft_in1k", "HGNetV2Backbone", "hgnetv2", 224, 33.4, step=32),
    Backbone("hgnetv2_b6_ssld_stage2_ft_in1k", "HGNetV2Backbone", "hgnetv2", 224, 69.2, step=32),
    Backbone("csp_darknet_53_ra_imagenet", "CSPNetBackbone", "cspnet", 256, 26.6, 0.801, step=32),
    Backbone("csp_resnet_50_ra_imagenet", "CSPNetBackbone", "cspnet", 256, 20.6, 0.796, step=32),
    Backbone("csp_resnext_50_ra_imagenet", "CSPNetBackbone", "cspnet", 256, 18.6, 0.806, step=32),
    Backbone("darknet_53_imagenet", "CSPNetBackbone", "cspnet", 256, 40.6, 0.805, step=32),
    Backbone("mobilenetv5_300m_enc_gemma3n", "MobileNetV5Backbone", "mobilenetv5", 256, 294.3, step=64),
)

_TINY, _SMALL, _BASE, _LARGE = (12, 3, 192), (12, 6, 384), (12, 12, 768), (24, 16, 1024)
"""Layers, heads and width of vision transformers."""


def _encoder(patch: int, size: tuple[int, int, int], inner: str = "intermediate_dim") -> dict[str, Any]:
    layers, heads, width = size
    return {
        "patch_size": patch,
        "num_layers": layers,
        "num_heads": heads,
        "hidden_dim": width,
        inner: 4 * width,
    }


def _vit(patch: int, size: tuple[int, int, int]) -> Settings:
    return _encoder(patch, size, "mlp_dim") | {"patch_size": (patch, patch)}


def _dinov2(size: tuple[int, int, int], registers: int) -> Settings:
    return _encoder(14, size) | {"num_register_tokens": registers, "use_swiglu_ffn": False}


def _dinov3(size: tuple[int, int, int]) -> Settings:
    return _encoder(16, size) | {"num_register_tokens": 4, "use_gated_mlp": False, "use_key_bias": False}


def _swin(width: int, depth: int, heads: int) -> Settings:
    return {
        "embed_dim": width,
        "depths": (2, 2, depth, 2),
        "num_heads": (heads, 2 * heads, 4 * heads, 8 * heads),
        "window_size": 7,
    }


def _hgnet(architecture: str) -> Settings:
    return {"architecture": architecture, "pretrained_cfg": {"tag": "ssld"}}  # which has no learnable affine blocks


NETWORKS: dict[str, Settings] = {
    "vit_tiny_patch16_224": _vit(16, _TINY),
    "vit_small_patch16_224": _vit(16, _SMALL),
    "vit_base_patch16_224_imagenet": _vit(16, _BASE),
    "vit_base_patch16_224_imagenet21k": _vit(16, _BASE),
    "vit_base_patch16_384_imagenet": _vit(16, _BASE),
    "vit_base_patch32_384_imagenet": _vit(32, _BASE),
    "vit_large_patch16_224_imagenet": _vit(16, _LARGE),
    "vit_large_patch16_384_imagenet": _vit(16, _LARGE),
    "deit_tiny_distilled_patch16_224_imagenet": _encoder(16, _TINY),
    "deit_small_distilled_patch16_224_imagenet": _encoder(16, _SMALL),
    "deit_base_distilled_patch16_224_imagenet": _encoder(16, _BASE),
    "deit_base_distilled_patch16_384_imagenet": _encoder(16, _BASE),
    "dinov2_small": _dinov2(_SMALL, 0),
    "dinov2_base": _dinov2(_BASE, 0),
    "dinov2_large": _dinov2(_LARGE, 0),
    "dinov2_with_registers_small": _dinov2(_SMALL, 4),
    "dinov2_with_registers_base": _dinov2(_BASE, 4),
    "dinov2_with_registers_large": _dinov2(_LARGE, 4),
    "dinov3_vit_small_lvd1689m": _dinov3(_SMALL),
    "dinov3_vit_base_lvd1689m": _dinov3(_BASE),
    "dinov3_vit_large_lvd1689m": _dinov3(_LARGE),
    "clip_vit_base_patch32": _encoder(32, _BASE),
    "clip_vit_base_patch16": _encoder(16, _BASE),
    "clip_vit_large_patch14": _encoder(14, _LARGE),
    "siglip_base_patch16_224": _encoder(16, _BASE),
    "siglip_large_patch16_256": _encoder(16, _LARGE),
    "siglip2_base_patch16_224": _encoder(16, _BASE),
    "swin_tiny_patch4_window7_224": _swin(96, 6, 3),
    "swin_small_patch4_window7_224": _swin(96, 18, 3),
    "swin_base_patch4_window7_224": _swin(128, 18, 4),
    "swin_large_patch4_window7_224": _swin(192, 18, 6),
    "hgnetv2_b4_ssld_stage2_ft_in1k": _hgnet("hgnetv2_b4"),
    "hgnetv2_b5_ssld_stage2_ft_in1k": _hgnet("hgnetv2_b5"),
    "hgnetv2_b6_ssld_stage2_ft_in1k": _hgnet("hgnetv2_b6"),
    "csp_darknet_53_ra_imagenet": {"architecture": "cspdarknet53"},
    "csp_resnet_50_ra_imagenet": {"architecture": "cspresnet50"},
    "csp_resnext_50_ra_imagenet": {"architecture": "cspresnext50"},
    "darknet_53_imagenet": {"architecture": "darknet53"},
    "mobilenetv5_300m_enc_gemma3n": {"architecture": "mobilenetv5_300m"},
}
"""Arguments of the class that builds a network, or the name by which timm knows it: the converter of KerasHub then has
its arguments."""
