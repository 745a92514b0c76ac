"""Encoders of texts like BERT (Devlin et al., 2019): MiniLM, the default for texts, similar networks, and GPT-2.

A block is one layer: the network can be cut between any two, and `--trainable-layers 2` trains the last two blocks.
"""

from pathlib import Path

import keras
import numpy as np
from keras import layers, ops

from app.errors import UsageError
from models.families import Backbone
from models.own_layers import own_part
from models.parts import Parts
from models.text_weights import MINILM, Architecture, Weights, read_folder, read_minilm
from models.weight_file import RefusedFileError, check_finite, most_bytes

MASKED = -3e4
"""Attention score of masked places; float16 has numbers up to 65,504."""


@own_part
def exact_gelu(x):
    """GELU (Hendrycks and Gimpel, 2016) by Erf, which every export format supports; Keras' own uses Erfc."""
    return 0.5 * x * (1 + ops.erf(x * 0.7071067811865476))


def _tanh_gelu(x):
    return keras.activations.gelu(x, approximate=True)


ACTIVATIONS = {"gelu": exact_gelu, "gelu_new": _tanh_gelu, "relu": keras.activations.relu}
"""Activations by Hugging Face's names; 'gelu_new' is the approximation by tanh."""


@own_part
class Positions(layers.Layer):
    """Adds position vectors to the vectors of tokens, (n, length, width)."""

    def __init__(self, most: int, **about):
        super().__init__(**about)
        self.most = most

    def build(self, shape):
        self.table = self.add_weight(shape=(self.most, shape[-1]), name="table")

    def call(self, vectors):
        return vectors + ops.convert_to_tensor(self.table)[: ops.shape(vectors)[1]]

    def get_config(self):
        return {**super().get_config(), "most": self.most}


@own_part
class EncoderBlock(layers.Layer):
    """Self-attention and two dense layers, each with a residual and a norm, from vectors (n, length, width) and their
    mask, bool (n, length), to vectors. In a causal block (GPT-2), each place sees only earlier ones, and norms come
    first. A relative block (DeBERTa, He et al., 2021) attends by distances as well; see `Architecture`.
    """

    def __init__(self, heads, hidden, epsilon, activation, causal=False, relative=None, **about):
        super().__init__(**about)
        self.heads, self.hidden, self.epsilon, self.activation, self.causal = heads, hidden, epsilon, activation, causal
        self.relative = relative and tuple(relative)

    def build(self, shapes):
        width = shapes[0][-1]
        parts = {"attend": 3 * width, "project": width, "widen": self.hidden, "narrow": width}
        for name, units in parts.items():
            layer = layers.Dense(units, name=name, dtype=self.dtype_policy)
            layer.build((None, None, self.hidden if name == "narrow" else width))
            setattr(self, name, layer)
        for name in ("attention_norm", "norm"):
            layer = layers.LayerNormalization(epsilon=self.epsilon, name=name, dtype=self.dtype_policy)
            layer.build((None, None, width))
            setattr(self, name, layer)
        if self.relative:
            self.distances = self.add_weight(shape=(2 * self.relative[0], width), name="distances")

    def call(self, inputs):
        vectors, mask = inputs
        if self.causal:
            vectors = vectors + self.attended(self.attention_norm(vectors), mask)
            return vectors + self.transformed(self.norm(vectors))
        vectors = self.attention_norm(vectors + self.attended(vectors, mask))
        return self.norm(vectors + self.transformed(vectors))

    def transformed(self, vectors):
        """Computes the two dense layers."""
        return self.narrow(ACTIVATIONS[self.activation](self.widen(vectors)))

    def attended(self, vectors, mask=None):
        """Computes the attention of each place to all places, or to those in the mask."""
        length, width = ops.shape(vectors)[1], vectors.shape[-1]
        size = width // self.heads
        together = ops.reshape(self.attend(vectors), (-1, length, 3, self.heads, size))
        query, key, value = ops.unstack(ops.transpose(together, (2, 0, 3, 1, 4)), axis=0)
        scale = (size * (3 if self.relative else 1)) ** -0.5
        scores = ops.matmul(query * scale, ops.swapaxes(key, -1, -2))
        if self.relative:
            scores = scores + self.by_distance(query * scale, key * scale, length)
        if mask is not None:
            seen = ops.expand_dims(ops.expand_dims(mask, 1), 1)
            if self.causal:
                places = ops.arange(length)
                seen = ops.logical_and(seen, ops.expand_dims(places, -1) >= places)
            scores = ops.where(seen, scores, ops.cast(MASKED, scores.dtype))
        attended = ops.swapaxes(ops.matmul(ops.softmax(scores), value), 1, 2)
        return self.project(ops.reshape(attended, (-1, length, width)))

    def by_distance(self, query, key, length):
        """Computes attention scores by the distance between places: (n, heads, length, length)."""
        buckets, furthest = self.relative
        rows = ops.convert_to_tensor(distance_rows(buckets, furthest))[furthest - length : furthest + length - 1]
        vectors = self.attend(ops.take(self.distances, rows, axis=0))
        together = ops.reshape(vectors, (-1, 3, self.heads, query.shape[-1]))
        queries, keys, _ = ops.unstack(ops.transpose(together, (1, 2, 3, 0)), axis=0)
        to_key = _diagonals(ops.matmul(query, keys), length)
        to_query = _diagonals(ops.matmul(key, ops.flip(queries, axis=-1)), length)
        return to_key + ops.swapaxes(to_query, -1, -2)

    def compute_output_shape(self, shapes):
        return shapes[0]

    def get_config(self):
        settings = ("heads", "hidden", "epsilon", "activation", "causal", "relative")
        return {**super().get_config(), **{name: getattr(self, name) for name in settings}}


def distance_rows(buckets: int, furthest: int) -> np.ndarray:
    """Returns the rows of the distance vectors, from the largest distance before a place to the largest behind it.

    The first half of the buckets is for one distance each; larger distances share the rest, by their logarithm.

    Args:
        buckets: number of distinct distances in each direction.
        furthest: length of a text; the result is int32 (2 * furthest - 1,).
    """
    distances, middle = np.arange(furthest - 1, -furthest, -1), buckets // 2
    far = np.log(np.maximum(np.abs(distances), middle) / middle) / np.log((furthest - 1) / middle)
    shared = np.sign(distances) * (np.ceil(far * (middle - 1)) + middle)
    found = np.where(np.abs(distances) <= middle, distances, shared)
    return np.clip(found + buckets, 0, 2 * buckets - 1).astype(np.int32)


def _diagonals(scores, length):
    """Shifts the rows of (n, heads, length, 2 * length - 1) to the left, the first by length - 1 and each following row
    by one less: (n, heads, length, length)."""
    heads, wide = scores.shape[1], 2 * length - 1
    flat = ops.reshape(ops.pad(scores, [[0, 0], [0, 0], [0, 0], [0, 1]]), (-1, heads, 2 * length * length))
    moved = ops.reshape(flat[:, :, length - 1 : length - 1 + length * wide], (-1, heads, length, wide))
    return moved[..., :length]


@own_part
class MeanOfTokens(layers.Layer):
    """Averages the vectors in the mask: (n, length, width) and bool (n, length) to (n, width)."""

    def call(self, inputs):
        vectors, mask = inputs
        weights = ops.expand_dims(ops.cast(mask, vectors.dtype), -1)
        return ops.sum(vectors * weights, axis=1) / ops.maximum(ops.sum(weights, axis=1), 1)

    def compute_output_shape(self, shapes):
        return (shapes[0][0], shapes[0][-1])


@own_part
class MaxOfTokens(MeanOfTokens):
    """Takes the maximum of each value over the vectors in the mask."""

    def call(self, inputs):
        vectors, mask = inputs
        return ops.max(ops.where(ops.expand_dims(mask, -1), vectors, ops.cast(MASKED, vectors.dtype)), axis=1)


@own_part
class FirstToken(MeanOfTokens):
    """Takes the vector of the first token, from which BERT was trained to classify."""

    def call(self, inputs):
        return inputs[0][:, 0]


@own_part
class LastToken(MeanOfTokens):
    """Takes the vector of the last token in the mask: in a causal network, the only one that has seen all others."""

    def call(self, inputs):
        vectors, mask = inputs
        numbers = ops.cumsum(ops.cast(mask, "int32"), axis=1)  # bfloat16 counts to 256 only
        last = ops.logical_and(mask, ops.equal(numbers, ops.max(numbers, axis=1, keepdims=True)))
        return ops.sum(vectors * ops.expand_dims(ops.cast(last, vectors.dtype), -1), axis=1)


BERT_BASE = Architecture(30522, width=768, depth=12, heads=12, hidden=3072, positions=512, epsilon=1e-12)
"""Architecture for random weights of backbones that are not in `FORMS`."""
FORMS = {
    "minilm": MINILM,
    "gpt2": BERT_BASE._replace(activation="gelu_new", causal=True),
    "deberta_v3": BERT_BASE._replace(relative=(256, 512)),
}
POOLING = {"avg": MeanOfTokens, "max": MaxOfTokens, "first": FirstToken, "last": LastToken}


def build(backbone: Backbone, image_size: int, weights: str | None, include_top: bool) -> Parts:
    """Builds an encoder; see `models.backbones.build`. It has no top.

    Its inputs are the numbers of tokens, int32 (n, length), and their mask, bool (n, length).
    """
    if weights is None:
        architecture, values = FORMS.get(backbone.name, BERT_BASE), None
    elif weights == "imagenet":
        architecture, values = read_minilm()
    else:
        architecture, values = read_folder(Path(weights), most_bytes(backbone.parameters))
    if image_size > architecture.positions:
        name = weights or backbone.name
        raise UsageError(f"--max-tokens must be at most {architecture.positions} for '{name}'; it is {image_size}.")
    if values is None:
        return build_encoder(architecture)
    if architecture.activation not in ACTIVATIONS:
        activations = ", ".join(ACTIVATIONS)
        raise UsageError(f"--weights must have one of {activations}; '{weights}' has {architecture.activation}.")
    parts = build_encoder(architecture)
    try:
        set_weights(parts.model, values)
        check_finite(parts.model)
    except (ValueError, RefusedFileError) as error:
        raise UsageError(f"--weights must fit the config.json beside them; '{weights}': {error}.") from None
    return parts


def build_encoder(architecture: Architecture) -> Parts:
    """Builds an encoder with random weights."""
    tokens = keras.Input((None,), dtype="int32", name="tokens")
    mask = keras.Input((None,), dtype="bool", name="mask")
    words = layers.Embedding(architecture.vocabulary, architecture.embedded or architecture.width, name="words")
    norm = layers.LayerNormalization(
        epsilon=architecture.epsilon, name="last_norm" if architecture.causal else "embedding_norm"
    )
    vectors, blocks = words(tokens), [[words]]
    if architecture.relative is None:
        blocks[0].append(Positions(architecture.positions, name="positions"))
        vectors = blocks[0][-1](vectors)
    if not architecture.causal:
        vectors = norm(vectors)
        blocks[0].append(norm)
    if architecture.embedded is not None:
        blocks[0].append(layers.Dense(architecture.width, name="embedded"))
        vectors = blocks[0][-1](vectors)
    for number in range(architecture.depth):
        about = architecture.heads, architecture.hidden, architecture.epsilon, architecture.activation
        block = EncoderBlock(*about, architecture.causal, architecture.relative, name=f"block_{number + 1}")
        vectors = block([vectors, mask])
        blocks.append([block])
    if architecture.causal:
        vectors = norm(vectors)
        blocks[-1].append(norm)
    return Parts(keras.Model([tokens, mask], vectors), blocks, POOLING)


def set_weights(model: keras.Model, values: Weights) -> None:
    """Sets the weights of an encoder by the names of its layers and variables."""
    for layer in model.layers:
        for variable in layer.weights:
            variable.assign(np.asarray(values[variable.path], np.float32))
