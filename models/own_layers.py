"""Layers and functions of this project that a saved model may name; to add one, see CONTRIBUTING.md.

A model file names its layers. Only Keras' own layers and those decorated here are created from a file: Keras finds them
in its register by name, and imports nothing that the file asks for.
"""

import math
from typing import Any, TypeVar

import keras

Part = TypeVar("Part", bound=Any)
PACKAGE = "headstart"
OWN_PARTS: dict[str, Any] = {}
"""Classes and functions by their names in model files."""


def own_part(part: Part) -> Part:
    """Decorates a class of layers, or a function such as an activation, that this project defines."""
    OWN_PARTS[f"{PACKAGE}>{part.__name__}"] = part
    return keras.saving.register_keras_serializable(PACKAGE)(part)


@own_part
class WithMirrored(keras.layers.Layer):
    """Appends the mirror images of all pictures: (n, height, width, channels) -> (2 n, ...)."""

    def call(self, pictures: Any) -> Any:
        return keras.ops.concatenate([pictures, keras.ops.flip(pictures, axis=2)], axis=0)


@own_part
class MeanOfMirrored(keras.layers.Layer):
    """Averages the outputs for pictures and for their mirror images: (2 n, values) -> (n, values)."""

    def call(self, vectors: Any) -> Any:
        pictures, mirrored = keras.ops.split(vectors, 2, axis=0)
        return (pictures + mirrored) / 2


@own_part
class TokenPooling(keras.layers.Layer):
    """Turns the tokens of a transformer (n, tokens, width) into one vector."""

    def __init__(self, way: str, ahead: int, **settings: Any):
        """Args:

        way: 'first' for the first token, the class token; 'avg' for the mean of the patches; 'both' to concatenate
            them.
        ahead: number of tokens ahead of the patches.
        """
        super().__init__(**settings)
        self.way, self.ahead = way, ahead

    def call(self, tokens: Any) -> Any:
        first, mean = tokens[:, 0], keras.ops.mean(tokens[:, self.ahead :], axis=1)
        return {"first": first, "avg": mean, "both": keras.ops.concatenate([first, mean], axis=-1)}[self.way]

    def get_config(self) -> dict[str, Any]:
        return super().get_config() | {"way": self.way, "ahead": self.ahead}


def split_tokens(count: int) -> tuple[int, int]:
    """Splits the tokens of a picture into those ahead of the patches, taken to be as few as can be, and a square.

    Returns:
        The number of tokens ahead, and the side of the square of patches.
    """
    side = math.isqrt(count)
    return count - side**2, side
