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


class HubFamily(NamedTuple):
    """Networks that one class of KerasHub builds."""

    builder: str
    """Name of the class."""
    scaling: Scaling
    checkpoints: tuple[str, ...] = ()
    """`model_type` of the checkpoints of Hugging Face that KerasHub converts."""
    timm: bool = False
    """True if checkpoints of timm can be read as well."""
    tower: str = ""
    """Name of its layer in the presets of networks for pictures and texts, of which it is a part."""


HUB_FAMILIES: dict[str, HubFamily] = {
    "vit": HubFamily("ViTBackbone", _HALF, ("vit",), timm=True),
    "deit": HubFamily("DeiTBackbone", _IMAGENET, ("deit",), timm=True),
    "dinov2": HubFamily("DINOV2Backbone", _IMAGENET, ("dinov2", "dinov2_with_registers")),
    "dinov3": HubFamily("DINOV3Backbone", _IMAGENET, ("dinov3_vit",)),
    "clip": HubFamily("CLIPVisionEncoder", _CLIP, tower="clip_vision_encoder"),
    "siglip": HubFamily("SigLIPVisionEncoder", _HALF, tower="siglip_vision_encoder"),
    "swin_transformer": HubFamily("SwinTransformerBackbone", _IMAGENET, ("swin",)),
    "hgnetv2": HubFamily("HGNetV2Backbone", _IMAGENET, timm=True),
    "cspnet": HubFamily("CSPNetBackbone", _IMAGENET, timm=True),
    "mobilenetv5": HubFamily("MobileNetV5Backbone", Scaling((0.0, 0.0, 0.0), (1.0, 1.0, 1.0))),
}

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
    return {"architecture": architecture, "pretrained_cfg": {"tag": "ssld"}}  # without learnable affine blocks


def _row(
    name: str,
    module: str,
    image_size: int,
    parameters: float,
    settings: Settings,
    accuracy: float | None = None,
    step: int = 16,
    published: bool = True,
) -> tuple[Backbone, Settings]:
    """Returns a row of the table, and the arguments of the class that builds its network."""
    row = Backbone(
        name, HUB_FAMILIES[module].builder, module, image_size, parameters, accuracy, step=step, published=published
    )
    return row, settings


# Accuracies, as published: of the whole network for DeiT (README_deit.md of facebookresearch/deit) and Swin (MODELHUB
# of microsoft/Swin-Transformer; Swin-L from ImageNet-22k) and CSPNet (results/results-imagenet.csv of
# huggingface/pytorch-image-models; DarkNet at 288 px); by a linear layer for DINOv2 (README.md of
# facebookresearch/dinov2) and CLIP (README.md of lavinal712/linear-probing). Left out where no source was found.
_ROWS = (
    _row("vit_tiny_patch16_224", "vit", 224, 5.5, _vit(16, _TINY), published=False),
    _row("vit_small_patch16_224", "vit", 224, 21.7, _vit(16, _SMALL), published=False),
    _row("vit_base_patch16_224_imagenet", "vit", 224, 85.8, _vit(16, _BASE)),
    _row("vit_base_patch16_224_imagenet21k", "vit", 224, 85.8, _vit(16, _BASE)),
    _row("vit_base_patch16_384_imagenet", "vit", 384, 86.1, _vit(16, _BASE)),
    _row("vit_base_patch32_384_imagenet", "vit", 384, 87.5, _vit(32, _BASE), step=32),
    _row("vit_large_patch16_224_imagenet", "vit", 224, 303.3, _vit(16, _LARGE)),
    _row("vit_large_patch16_384_imagenet", "vit", 384, 303.7, _vit(16, _LARGE)),
    _row("deit_tiny_distilled_patch16_224_imagenet", "deit", 224, 5.5, _encoder(16, _TINY), 0.745),
    _row("deit_small_distilled_patch16_224_imagenet", "deit", 224, 21.7, _encoder(16, _SMALL), 0.812),
    _row("deit_base_distilled_patch16_224_imagenet", "deit", 224, 85.8, _encoder(16, _BASE), 0.834),
    _row("deit_base_distilled_patch16_384_imagenet", "deit", 384, 86.1, _encoder(16, _BASE), 0.852),
    _row("dinov2_small", "dinov2", 224, 21.7, _dinov2(_SMALL, 0), 0.811, step=14),
    _row("dinov2_base", "dinov2", 224, 85.9, _dinov2(_BASE, 0), 0.845, step=14),
    _row("dinov2_large", "dinov2", 224, 303.5, _dinov2(_LARGE, 0), 0.863, step=14),
    _row("dinov2_with_registers_small", "dinov2", 224, 21.7, _dinov2(_SMALL, 4), 0.809, step=14),
    _row("dinov2_with_registers_base", "dinov2", 224, 85.9, _dinov2(_BASE, 4), 0.846, step=14),
    _row("dinov2_with_registers_large", "dinov2", 224, 303.5, _dinov2(_LARGE, 4), 0.867, step=14),
    _row("dinov3_vit_small_lvd1689m", "dinov3", 224, 21.6, _dinov3(_SMALL)),
    _row("dinov3_vit_base_lvd1689m", "dinov3", 224, 85.7, _dinov3(_BASE)),
    _row("dinov3_vit_large_lvd1689m", "dinov3", 224, 303.1, _dinov3(_LARGE)),
    _row("clip_vit_base_patch32", "clip", 224, 87.5, _encoder(32, _BASE), step=32),
    _row("clip_vit_base_patch16", "clip", 224, 85.8, _encoder(16, _BASE)),
    _row("clip_vit_large_patch14", "clip", 224, 303.2, _encoder(14, _LARGE), 0.839, step=14),
    _row("siglip_base_patch16_224", "siglip", 224, 92.9, _encoder(16, _BASE)),
    _row("siglip_large_patch16_256", "siglip", 256, 315.9, _encoder(16, _LARGE)),
    _row("siglip2_base_patch16_224", "siglip", 224, 92.9, _encoder(16, _BASE)),
    _row("swin_tiny_patch4_window7_224", "swin_transformer", 224, 27.5, _swin(96, 6, 3), 0.812, step=224),
    _row("swin_small_patch4_window7_224", "swin_transformer", 224, 48.8, _swin(96, 18, 3), 0.832, step=224),
    _row("swin_base_patch4_window7_224", "swin_transformer", 224, 86.7, _swin(128, 18, 4), 0.835, step=224),
    _row("swin_large_patch4_window7_224", "swin_transformer", 224, 195.0, _swin(192, 18, 6), 0.863, step=224),
    _row("hgnetv2_b4_ssld_stage2_ft_in1k", "hgnetv2", 224, 13.6, _hgnet("hgnetv2_b4"), step=32),
    _row("hgnetv2_b5_ssld_stage2_ft_in1k", "hgnetv2", 224, 33.4, _hgnet("hgnetv2_b5"), step=32),
    _row("hgnetv2_b6_ssld_stage2_ft_in1k", "hgnetv2", 224, 69.2, _hgnet("hgnetv2_b6"), step=32),
    _row("csp_darknet_53_ra_imagenet", "cspnet", 256, 26.6, {"architecture": "cspdarknet53"}, 0.801, step=32),
    _row("csp_resnet_50_ra_imagenet", "cspnet", 256, 20.6, {"architecture": "cspresnet50"}, 0.796, step=32),
    _row("csp_resnext_50_ra_imagenet", "cspnet", 256, 18.6, {"architecture": "cspresnext50"}, 0.806, step=32),
    _row("darknet_53_imagenet", "cspnet", 256, 40.6, {"architecture": "darknet53"}, 0.805, step=32),
    _row("mobilenetv5_300m_enc_gemma3n", "mobilenetv5", 256, 294.3, {"architecture": "mobilenetv5_300m"}, step=64),
)
HUB: tuple[Backbone, ...] = tuple(row for row, _ in _ROWS)
NETWORKS: dict[str, Settings] = {row.name: settings for row, settings in _ROWS}
"""Arguments of the class that builds a network, or timm's name of it, from which KerasHub's converter derives them."""
