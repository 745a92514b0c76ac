"""Weights of the networks of KerasHub in folders: checks that they fit the network, and loads them."""

import importlib
import json
import re
import tempfile
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from models.backbones import Backbone
from models.hub_table import HUB_FAMILIES, NETWORKS, Scaling
from models.preset_folder import KERAS_WEIGHTS, Arrays, Preset

CONVERTERS = "keras_hub.src.utils.{}.convert_{}"
"""Modules of KerasHub that convert checkpoints of other libraries."""
KEPT = {"layer_norm_epsilon", "layer_norm_eps", "layer_scale_init_value", "rope_theta", "use_mask_token"}
KEPT |= {"intermediate_activation", "antialias_in_interpolation", "qkv_bias", "use_mha_bias"}
"""Arguments in which a folder may differ from the table: they change no size."""

HEAD = {"num_classes", "global_pool", "in_chans"}
"""Arguments of timm that need no check: they change only the head, or sizes of arrays, which are checked anyway."""
TIMM_NAMES = {
    "attention.output.dense": "attn.proj",
    "intermediate.dense": "mlp.fc1",
    "output.dense": "mlp.fc2",
    "embeddings.patch_embeddings.projection": "patch_embed.proj",
    "embeddings.position_embeddings": "pos_embed",
    "embeddings.distillation_token": "dist_token",
    "embeddings.": "",
    "encoder.layer.": "blocks.",
    "layernorm_before": "norm1",
    "layernorm_after": "norm2",
    "layernorm": "norm",
    "vit.": "",
    "deit.": "",
}
"""Parts of the names of arrays in a ViT or DeiT: those of Hugging Face, and those of timm."""
PROJECTIONS = ("query", "key", "value")
"""Arrays that timm stores as one, in this order."""


class TimmArrays(Arrays):
    """The arrays of a ViT or DeiT of timm, by Hugging Face's names."""

    def get_tensor(self, name: str) -> np.ndarray:
        """Returns an array; raises a KeyError if there is none."""
        for theirs, ours in TIMM_NAMES.items():
            name = name.replace(theirs, ours)
        part = re.search(r"attention\.attention\.(query|key|value)", name)
        if part is None:
            return super().get_tensor(name)
        return np.split(super().get_tensor(name.replace(part[0], "attn.qkv")), 3)[PROJECTIONS.index(part[1])]


def arguments_of(backbone: Backbone) -> dict[str, Any]:
    """Returns the arguments of the class that builds a network of the table."""
    settings = dict(NETWORKS[backbone.name])
    return _converter("timm", backbone).convert_backbone_config(settings) if "architecture" in settings else settings


def settings_of(preset: Preset, backbone: Backbone) -> dict[str, Any]:
    """Returns the arguments of the network in a folder.

    Raises:
        KeyError: an argument is missing.
        ValueError: the folder holds another network.
    """
    config, expected, family = preset.config, arguments_of(backbone), HUB_FAMILIES[backbone.module]
    if preset.form == "timm":
        if not family.timm:
            readable = ", ".join(name for name, each in HUB_FAMILIES.items() if each.timm)
            raise ValueError(f"of timm, only {readable} can be read")
        architecture = NETWORKS[backbone.name].get("architecture", backbone.name.partition("_imagenet")[0])
        changes = {key: value for key, value in config.get("model_args", {}).items() if key not in HEAD}
        if config["architecture"] != architecture or changes:
            raise ValueError(f"they are those of {config['architecture']} {changes or ''}")
        side = config["pretrained_cfg"]["input_size"][-1]
        return expected | {"image_shape": (side, side, 3)}
    if preset.form == "transformers":
        if config["model_type"] not in family.checkpoints or config.get("hidden_act") != "gelu":
            raise ValueError(f"they are those of {config['model_type']} with {config.get('hidden_act')}")
        settings = _converter("transformers", backbone).convert_backbone_config(config)
    else:
        part = config
        if config["registered_name"].endswith("Backbone") and not backbone.builder.endswith("Backbone"):
            part = config["config"]["vision_encoder"]  # of a network for pictures and texts
        if part["registered_name"] != f"keras_hub>{backbone.builder}":
            raise ValueError(f"they are those of {part['registered_name']}")
        settings = part["config"]
    for key in expected.keys() - KEPT:
        if _plain(settings.get(key, expected[key])) != _plain(expected[key]):
            raise ValueError(f"their {key} is {settings[key]}, and not {expected[key]}")
    return settings


def scaling_of(preset: Preset, backbone: Backbone) -> Scaling:
    """Returns how pixels are scaled: as a folder of timm says, else as the family does it.

    Raises:
        ValueError: the folder's numbers cannot scale pixels.
    """
    scaling, told = HUB_FAMILIES[backbone.module].scaling, {}
    if preset.form == "timm":
        told = preset.config["pretrained_cfg"]
    mean, stddev = (np.array(told.get(*each), float) for each in zip(("mean", "std"), scaling, strict=True))
    if mean.shape != (3,) or stddev.shape != (3,) or not (stddev > 0).all():
        raise ValueError(f"they scale pixels by {mean.tolist()} and {stddev.tolist()}")
    return Scaling(tuple(mean.tolist()), tuple(stddev.tolist()))


def load(network: Any, preset: Preset, backbone: Backbone) -> None:
    """Loads the weights of a folder into a network; may raise any exception if they do not fit."""
    if preset.form == "timm" and HUB_FAMILIES[backbone.module].checkpoints:
        _converter("transformers", backbone).convert_weights(network, TimmArrays(preset.weights), preset.config)
    elif preset.form != "keras":
        _converter(preset.form, backbone).convert_weights(network, Arrays(preset.weights), preset.config)
    elif preset.config["registered_name"] == f"keras_hub>{backbone.builder}":
        network.load_weights(preset.weights)
    else:
        tower = f"layers/{HUB_FAMILIES[backbone.module].tower}"
        with tempfile.TemporaryDirectory() as folder:
            copy = Path(folder) / KERAS_WEIGHTS
            with h5py.File(preset.weights) as file, h5py.File(copy, "w") as part:
                for name in file[tower]:
                    file.copy(f"{tower}/{name}", part)
            network.load_weights(copy)


def _converter(form: str, backbone: Backbone) -> Any:
    return importlib.import_module(CONVERTERS.format(form, backbone.module))


def _plain(value: Any) -> Any:
    """Makes arguments comparable: JSON has no tuples, and a square patch may have one side or two."""
    value = json.loads(json.dumps(value))
    return value[0] if isinstance(value, list) and len(value) == 2 and value[0] == value[1] else value
