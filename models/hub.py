"""Networks of KerasHub: vision transformers and others that `keras.applications` lacks.

In most of them, KerasHub hides all blocks in one layer. Here the network is unrolled: blocks are called one by one, so
that it can be cut between any two. The saved network is the one that KerasHub built, which it can load again.
"""

import functools
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import keras
import keras_hub
import numpy as np

from app.errors import UsageError
from models.applications import POOLING, split_into_blocks
from models.backbones import Backbone
from models.hub_positions import resized
from models.hub_table import HUB_FAMILIES, Scaling
from models.hub_weights import KEPT, arguments_of, load, scaling_of, settings_of
from models.own_layers import TokenPooling
from models.parts import Parts
from models.preset_folder import read_preset
from models.weight_file import check_finite, first_line, most_bytes

LARGEST_SIDE = 1024
"""Largest input, pixels; for more, the positions of a preset would take gigabytes."""


def build(backbone: Backbone, image_size: int, weights: str | None, include_top: bool) -> Parts:
    """Builds a network of KerasHub; see `models.backbones.build`. Weights are None, or the folder of a preset.

    Raises:
        UsageError: the folder holds another network.
    """
    if weights is None:
        network, scaling = _network(backbone, image_size), HUB_FAMILIES[backbone.module].scaling
    else:
        network, scaling = _pretrained(backbone, image_size, Path(weights))
    pictures = keras.Input((image_size, image_size, 3), name="pictures")
    mean, stddev = map(np.array, scaling)
    scaled = keras.layers.Rescaling((1 / 255 / stddev).tolist(), (-mean / stddev).tolist(), name="preprocessing")(
        pictures
    )
    model = keras.Model(pictures, _last(_run(network, scaled)))
    whole = keras.Model(pictures, _last(network(keras.tree.pack_sequence_as(network.input, [scaled]))))
    blocks = split_into_blocks(model.layers, backbone.family.block)
    if not any(len(weight.shape) > 1 for layer in blocks[-1] for weight in layer.weights):
        blocks[-2:] = [blocks[-2] + blocks[-1]]  # a normalization alone is not a block
    return Parts(model, blocks, _pooling(network, model.output), whole)


def unrolled(model: keras.Model) -> keras.Model:
    """Unrolls the networks of KerasHub within a loaded model, so that their layers are the model's own."""
    inputs = [keras.Input(each.shape[1:], name=each.name, dtype=each.dtype) for each in model.inputs]
    return keras.Model(inputs[0] if len(inputs) == 1 else inputs, _run(model, inputs), name=model.name)


def _run(network: keras.Model, inputs: Any) -> Any:
    """Calls the layers of a network on other inputs; layers that hide blocks are called block by block."""
    for operation in network.operations:
        # A layer describes only its first call, which must not be the one within the network.
        operation._inbound_nodes.clear()

    def call(operation: Any, *args: Any, **kwargs: Any) -> Any:
        if isinstance(operation, keras_hub.models.Backbone):
            return _run(operation, args)
        expand = HIDDEN.get(type(operation).__name__)
        return expand(operation, *args, **kwargs) if expand else operation(*args, **kwargs)

    outputs = network._run_through_graph(inputs, call_fn=call)
    if isinstance(network, keras_hub.models.Backbone):
        for number, operation in enumerate(keras.Function(inputs, outputs).operations):
            _describe(operation, number, network)
    return outputs


def _describe(layer: Any, number: int, network: keras.Model) -> None:
    """Names a layer by its place and describes it by its network: KerasHub names some layers by a global counter, and
    they cannot describe themselves."""
    kind = re.sub("(?<!^)(?=[A-Z])", "_", type(layer).__name__).lower()
    if re.fullmatch(rf"{kind}(_\d+)?", layer.name):
        layer.name = f"{kind}_{number}"
    layer.get_config = functools.partial(dict, name=layer.name, number=number, network=network.get_config())


class Wrapped(keras.layers.Layer):
    """Corrects a layer that reports a wrong number or shape of outputs, or none."""

    def __init__(self, layer: Any, shape: Sequence[int], arguments: Mapping[str, Any], **settings: Any):
        """Args:

        layer: the layer, which is shared.
        shape: shape of the first output, without the number of rows.
        arguments: arguments of the layer, besides the first.
        """
        super().__init__(**settings)
        self.layer, self._shape, self._arguments = layer, shape, arguments

    def call(self, x: Any) -> Any:
        outputs = self.layer(x, **self._arguments)
        return outputs[0] if isinstance(outputs, tuple) else outputs

    def compute_output_shape(self, input_shape: Any) -> tuple[int | None, ...]:
        return (input_shape[0], *self._shape)


def _wrapped(layer: Any, x: Any, shape: Sequence[int] | None = None, **arguments: Any) -> Any:
    return Wrapped(layer, shape or x.shape[1:], arguments, name=layer.name)(x)


def _siglip_embedding(layer: Any, x: Any) -> Any:
    return _wrapped(layer, x, (layer.num_positions, layer.hidden_dim))


def _encoder(encoder: Any, x: Any) -> Any:
    for block in encoder.encoder_layers:
        x = block(x)
    return encoder.layer_norm(x)


def _deit_encoder(encoder: Any, x: Any) -> Any:
    for block in encoder.encoder_layers:
        x = _wrapped(block, x)
    x = encoder.layer_norm(x)
    return x, x, x


def _dino_encoder(encoder: Any, x: Any, **kwargs: Any) -> Any:
    for block in encoder.layers:
        x = block(x, **kwargs)
    return x, dict.fromkeys((f"stage{number}" for number in range(1, len(encoder.layers) + 1)), x)


def _constant(layer: Any, pictures: Any) -> Any:
    """Computes positions that depend only on the size of the pictures."""
    return layer(np.zeros((1, *pictures.shape[1:]), np.float32))


def _swin_stage(stage: Any, x: Any) -> Any:
    for number, block in enumerate(stage.blocks):
        block.name = f"{stage.name}_block_{number}"  # they have the same names in every stage
        x = _wrapped(block, x)
    if stage.downsample is None:
        return x
    stage.downsample.name = f"{stage.name}_downsample"
    (height, width), channels = stage.input_resolution, x.shape[-1]
    return _wrapped(stage.downsample, x, (height * width // 4, 2 * channels), H=height, W=width)


def _hgnet_encoder(encoder: Any, x: Any) -> Any:
    outputs = [x]
    for stage in encoder.stages_list:
        x = stage.downsample_layer(x)
        for block in stage.blocks_list:
            x = block(x)
        outputs.append(x)
    return tuple(outputs)


HIDDEN: dict[str, Callable[..., Any]] = {
    "ViTEncoder": _encoder,
    "DeiTEncoder": _deit_encoder,
    "DINOV2Encoder": _dino_encoder,
    "DINOV3Encoder": _dino_encoder,
    "DINOV3RopePositionEmbedding": _constant,
    "SigLIPVisionEmbedding": _siglip_embedding,
    "SwinTransformerStage": _swin_stage,
    "HGNetV2Encoder": _hgnet_encoder,
}
"""Classes of KerasHub that hide blocks, and functions that call the blocks one by one, with the same outputs."""


def _last(outputs: Any) -> Any:
    """Returns the last of a network's outputs."""
    return keras.tree.flatten(list(outputs.values()) if isinstance(outputs, dict) else outputs)[-1]


def _pooling(network: Any, features: keras.KerasTensor) -> Mapping[str, Callable[..., Any]]:
    if len(features.shape) == 4:
        return POOLING
    if len(features.shape) == 2:
        return {"own": keras.layers.Identity}
    ahead = {"ViTBackbone": 1, "DeiTBackbone": 2, "DINOV2Backbone": 1, "DINOV3Backbone": 1, "CLIPVisionEncoder": 1}
    first = ahead.get(type(network).__name__, 0) + getattr(network, "num_register_tokens", 0)
    ways = ("first", "avg", "both") if first else ("avg",)
    return {way: lambda way=way, **settings: TokenPooling(way, first, **settings) for way in ways}


def _network(backbone: Backbone, image_size: int, settings: Mapping[str, Any] | None = None) -> Any:
    """Builds a network as KerasHub does, with random weights."""
    arguments = arguments_of(backbone) | dict(settings or {}) | {"image_shape": (image_size, image_size, 3)}
    if backbone.module == "dinov2":
        arguments["position_embedding_shape"] = (image_size, image_size)
    network = getattr(keras_hub.models, backbone.builder)(name="network", **arguments)  # begins some layers' names
    for variable in network.weights:
        if variable.path.endswith("position_ids"):  # CLIP leaves them 0
            variable.assign(np.arange(variable.shape[1])[None])
    return network


def _pretrained(backbone: Backbone, image_size: int, folder: Path) -> tuple[Any, Scaling]:
    """Builds a network with the weights of a folder, and returns how to scale pixels for it."""
    preset = read_preset(folder, most_bytes(backbone.parameters))
    try:
        scaling = scaling_of(preset, backbone)
        settings = settings_of(preset, backbone)
        side = (settings.get("position_embedding_shape") or settings.get("image_shape") or [None])[0] or image_size
        if not isinstance(side, int) or not 0 < side <= LARGEST_SIDE or side % backbone.step:
            raise ValueError(f"it is for {side} px")
        kept = {key: settings[key] for key in KEPT & settings.keys()}
        network = _network(backbone, side, kept)
        load(network, preset, backbone)
        check_finite(network)
    except Exception as error:  # KerasHub may raise any exception if weights do not fit
        raise UsageError(
            f"--weights must be weights of {backbone.name}; those of '{folder}' do not fit it ({_reason(error)})."
        ) from error
    if side != image_size:
        network = resized(network, _network(backbone, image_size, kept), side)
    return network, scaling


def _reason(error: Exception) -> str:
    return f"they have no {error}" if isinstance(error, KeyError) else first_line(error)
