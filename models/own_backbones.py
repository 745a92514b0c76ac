"""The user's own network as a backbone: a file of Keras, or a function of `custom.py`.

The network is rebuilt operation by operation, each used once, so that it can be cut wherever a few tensors carry all
that the rest needs. Layers behind the last feature map, or the last tokens, are removed. Keras is imported only
inside functions, because files are checked without it.
"""

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from app.custom_parts import custom_file
from app.errors import UsageError
from models.backbones import Backbone
from models.model_file import check_model_file
from models.network_name import parse_name
from models.weight_file import RefusedFileError, check_finite, first_line, most_bytes

if TYPE_CHECKING:
    import keras

    from models.parts import Parts

TAKEN = {"pictures", "pooling", "head"}
"""Names of the layers that a classifier adds to a backbone; layers of the user with these names are renamed."""


def check_file(backbone: Backbone) -> None:
    """Checks a file before Keras opens it.

    Raises:
        UsageError: the file is damaged, or names anything but layers of Keras, of this project and of `custom.py`.
    """
    path = backbone.file
    if path is None:
        return
    custom_file()  # the file may have its layers
    try:
        check_model_file(path, most_bytes(backbone.parameters))
    except RefusedFileError as error:
        raise UsageError(f"--backbone must be a file of layers of Keras; '{path}' {error}.") from None


def build(backbone: Backbone, image_size: int, weights: str | None, include_top: bool) -> "Parts":
    """Builds the user's own network; see `models.backbones.build`. Weights of None leave it random."""
    import keras

    from models.applications import POOLING
    from models.parts import Parts

    network = _load(backbone, image_size)
    pictures = keras.Input((image_size, image_size, 3), name="pictures")
    pixels = parse_name(backbone.name).pixels if backbone.file else None
    try:
        features = _last_maps(pictures, _rebuilt(network, _scaled(pictures, pixels), with_weights=weights is not None))
    except UsageError:
        raise
    except Exception as error:  # Keras may raise any exception
        raise UsageError(
            f"--backbone {backbone.name} cannot be built for {image_size} px ({first_line(error)}). Leave out "
            f"--image-size, or take a network of Keras' functional API."
        ) from error
    model = keras.Model(pictures, features)
    return Parts(model, split_by_kernels(model.layers), POOLING if len(features.shape) == 4 else _pooling(features))


def split_by_kernels(layers: "list[keras.Layer]") -> "list[list[keras.Layer]]":
    """Groups layers into blocks: each layer with a kernel begins one, with all layers up to the next."""
    blocks: list[list[Any]] = [[]]
    has_kernel = False
    for layer in layers:
        is_kernel = any(len(weight.shape) > 1 for weight in layer.weights)
        if is_kernel and has_kernel:
            blocks.append([])
        has_kernel |= is_kernel
        blocks[-1].append(layer)
    return blocks


def _pooling(tokens: "keras.KerasTensor") -> "dict[str, Callable[..., Any]]":
    """Returns poolings, by name, of the tokens of a square of patches, which other tokens may precede."""
    import keras

    from models.own_layers import TokenPooling, split_tokens

    ahead, _ = split_tokens(tokens.shape[1])
    return {
        "avg": lambda **settings: TokenPooling("avg", ahead, **settings),
        "max": keras.layers.GlobalMaxPooling1D,
    }


def _load(backbone: Backbone, image_size: int) -> "keras.Model":
    import keras

    if backbone.file is None:
        network = custom_file().table("BACKBONES")[backbone.name](image_size)
    else:
        check_file(backbone)  # again, as it may have changed since `check_available`
        try:
            network = keras.saving.load_model(backbone.file, compile=False, safe_mode=True)
        except Exception as error:  # Keras may raise any exception on a damaged file
            raise UsageError(f"--backbone must be a file of Keras; '{backbone.file}': {first_line(error)}.") from error
    try:
        check_finite(network)
    except RefusedFileError as error:
        raise UsageError(f"--backbone must be a network of finite weights; '{backbone.name}' {error}.") from None
    return network


def _scaled(pictures: "keras.KerasTensor", pixels: str | None) -> "keras.KerasTensor":
    """Scales pixels in [0, 255] to the range of a network."""
    import keras

    if pixels in (None, "raw"):
        return pictures
    if pixels == "unit":
        return keras.layers.Rescaling(1 / 255, name="preprocessing")(pictures)
    return keras.applications.imagenet_utils.preprocess_input(pictures, mode=pixels)


def _rebuilt(network: "keras.Model", inputs: "keras.KerasTensor", with_weights: bool) -> Any:
    """Calls copies of a network's operations on new inputs; those of nested models are called one by one."""
    import keras

    names = set(TAKEN)
    copies: list[tuple[Any, Any]] = []

    def copy(operation: Any) -> Any:
        if isinstance(operation, keras.Sequential | keras.Model):
            return operation
        config = operation.get_config()
        while config.get("name") in names:
            config["name"] += "_"
        names.add(config.get("name"))
        made = type(operation).from_config(config)
        if any(operation is each for each, _ in copies):
            raise ValueError(f"it uses its layer '{operation.name}' twice")
        copies.append((operation, made))
        return made

    def call(operation: Any, *args: Any, **kwargs: Any) -> Any:
        if isinstance(operation, keras.Sequential | keras.Model):
            functional = operation._functional if isinstance(operation, keras.Sequential) else operation
            return functional._run_through_graph(args[0], operation_fn=copy, call_fn=call)
        if type(operation).__name__.startswith("Random"):  # augmentation happens in the pipeline
            return args[0]
        return operation(*args, **kwargs)

    outputs = call(network, inputs)
    for original, made in copies:
        if with_weights and isinstance(made, keras.Layer) and original.weights:
            made.set_weights(original.get_weights())
            if isinstance(made, keras.layers.Normalization):
                made.finalize_state()  # it computes with copies of its weights
    return outputs


def _last_maps(pictures: "keras.KerasTensor", outputs: Any) -> "keras.KerasTensor":
    """Returns the last tensor before the outputs that is a feature map, or tokens, with more than one place."""
    import keras

    tensors = [operation.output for operation in keras.Model(pictures, outputs).operations[1:]]
    maps = [each for each in tensors if isinstance(each, keras.KerasTensor) and len(each.shape) in (3, 4)]
    wide = [each for each in maps if math.prod(each.shape[1:-1]) != 1] or maps
    if not wide:
        raise UsageError(
            "--backbone must be a network that makes feature maps (n, height, width, channels) of pictures, or tokens "
            "(n, tokens, width)."
        )
    return wide[-1]
