"""A detector as one Keras model: pictures -> backbone -> feature pyramid -> maps -> boxes.

The pyramid is a light FPN (Lin et al., 2017): the last tensors of the backbone at strides of 8, 16 and 32 pixels, those
of each stride brought to the same width and added from the coarsest to the finest. Boxes are peaks of a heatmap, as in
CenterNet.
"""

import functools
import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import keras
import tensorflow as tf
from keras import ops

from devices.precision import OUTPUT_LAYER
from models.backbones import Backbone
from models.classifier import Classifier
from models.own_layers import own_part, split_tokens
from models.parts import Parts
from models.weights import build_backbone
from tasks.detection_maps import SIDES, cell_boxes, paired_overlap

STRIDES: tuple[int, ...] = (8, 16, 32)
"""Strides, pixels of the input, at which tensors of a backbone are taken; if it has none, its last tensor is."""
BLOCKS, CHANNELS = 3, 64
"""Limits per stride: the number of last blocks whose outputs are taken, and their channels together, per pixel of the
stride. Several are taken, because one narrow block, as in EfficientNet, has lost much of what those before it found."""
WIDTH = 64
"""Channels of pyramid and head, unless `head_units` is set."""
RARE = 0.01
"""Probability everywhere in an untrained heatmap: a low one, so that the many empty cells do not dominate the loss
(Lin et al., 2017)."""
MOST_BOXES = 100
"""Boxes per picture, as many as COCO counts."""
CANDIDATES = 300
"""Number of pairs of cell and class, the likeliest, that become boxes."""
OVERLAP = 0.6
"""Overlap (IoU) above which boxes of a class count as one object; their weighted mean replaces them."""
ROUNDS = 10
"""Rounds of Cluster-NMS; it equals greedy NMS once the rounds reach the longest chain of suppressions."""


@own_part
class DecodeBoxes(keras.layers.Layer):
    """Turns maps into boxes, the likeliest first, by plain operations.

    Cluster-NMS (Zheng et al., 2021) keeps one of the likeliest cells for each thing. Its box is the mean of the boxes
    that it replaces, weighted by their probabilities (box voting, Gidaris and Komodakis, 2015).

    Returns:
        boxes: float32 (n, MOST_BOXES, 4), x1, y1, x2, y2 as fractions of the network's input.
        scores: float32 (n, MOST_BOXES), probabilities; 0 where there is no box.
        classes: float32 (n, MOST_BOXES), numbers of classes.
    """

    def call(self, maps: Any) -> tuple[Any, Any, Any]:
        rows, columns, num_classes = maps.shape[1], maps.shape[2], maps.shape[3] - SIDES
        heat = ops.reshape(ops.sigmoid(maps[..., :num_classes]), (-1, rows * columns * num_classes))
        scores, places = ops.top_k(heat, min(CANDIDATES, rows * columns * num_classes))
        size = ops.convert_to_tensor([columns, rows, columns, rows], "float32")
        boxes = ops.clip(cell_boxes(maps) / size, 0, 1)
        cells = ops.floor_divide(places, num_classes)
        boxes = tf.gather(ops.reshape(boxes, (-1, rows * columns, 4)), cells, batch_dims=1)
        classes = ops.cast(places - cells * num_classes, "float32")
        same = classes[:, :, None] == classes[:, None]
        agree = same & (paired_overlap(boxes[:, :, None], boxes[:, None]) > OVERLAP)
        agree, count = ops.cast(agree, "float32"), scores.shape[1]
        rivals = agree * ops.cast(ops.arange(count)[:, None] < ops.arange(count), "float32")
        kept = ops.ones_like(scores)
        for _ in range(ROUNDS):
            kept = 1 - ops.max(rivals * kept[..., None], axis=1)
        votes = agree * scores[:, None]
        boxes = ops.clip(votes @ boxes / ops.maximum(ops.sum(votes, axis=2, keepdims=True), 1e-9), 0, 1)  # rounding
        scores, order = ops.top_k(scores * kept, min(MOST_BOXES, count))
        return tf.gather(boxes, order, batch_dims=1), scores, tf.gather(classes, order, batch_dims=1)


@own_part
class MeanOfMirroredMaps(keras.layers.Layer):
    """Averages the maps of pictures and the maps, flipped back, of their mirror images: (2 n, ...) -> (n, ...).

    On blood cells, this adds two points of AP and three to four of AP75.
    """

    def call(self, maps: Any) -> Any:
        pictures, mirrored = ops.split(maps, 2, axis=0)
        turned = ops.flip(mirrored, axis=2)
        left, top, right, bottom = ops.split(turned[..., -SIDES:], 4, axis=-1)
        turned = ops.concatenate([turned[..., :-SIDES], right, top, left, bottom], axis=-1)
        return (pictures + turned) / 2


def build_detector(
    backbone: Backbone,
    *,
    weights: str,
    image_size: int,
    num_classes: int,
    head_units: Sequence[int] = (),
    seed: int = 0,
) -> Classifier:
    """Builds a detector; the arguments are settings, explained in `app/config.py`.

    Raises:
        UsageError: the weights are not available, or do not fit the backbone.
    """
    parts = build_backbone(backbone, image_size, weights)
    inputs = parts.model.inputs
    levels = take_pyramid(parts, image_size)
    maps = add_head(levels, num_classes, head_units, seed)
    name = f"{Path(backbone.name).stem}_detector"
    model = keras.Model(inputs[0] if len(inputs) == 1 else inputs, maps, name=name)
    pyramid, head = keras.Model(inputs, levels, name=parts.model.name), keras.Model(levels, maps, name="head")
    whole = None
    if parts.whole is not None:
        whole = keras.Model(parts.whole.inputs, head(as_map(parts.whole.output)), name=name)
    make_head = functools.partial(build_maps, [level.shape[1:] for level in levels], num_classes)
    ends = DecodeBoxes(name="boxes"), MeanOfMirroredMaps(name="mean")
    return Classifier(model, pyramid, head, parts.blocks, whole, *ends, make_head)


def take_pyramid(parts: Parts, image_size: int) -> list[keras.KerasTensor]:
    """Returns the outputs of the last blocks at about each of `STRIDES`, finest first.

    For a backbone without these strides, and for an unrolled one, it is the last tensor alone.
    """
    found: dict[int, list[keras.KerasTensor]] = {stride: [] for stride in STRIDES}
    for block in reversed(parts.blocks if parts.whole is None else ()):
        tensor = block[-1].output
        if isinstance(tensor, keras.KerasTensor) and len(tensor.shape) == 4:
            rows = tensor.shape[1]
            stride = min(STRIDES, key=lambda each: abs(image_size / rows - each))
            some = [*found[stride], tensor]
            fits = len(some) <= BLOCKS and sum(each.shape[-1] for each in some) <= CHANNELS * stride
            fits = fits and rows == some[0].shape[1]
            if abs(image_size / rows - stride) <= stride / 4 and (fits or len(some) == 1):
                found[stride] = some
    return [tensor for some in found.values() for tensor in some] or [as_map(parts.model.output)]


def as_map(tensor: keras.KerasTensor) -> keras.KerasTensor:
    """Arranges the tokens of a transformer as a map of its patches; returns a map unchanged.

    Args:
        tensor: (n, tokens, channels), where tokens for the whole picture may come first, or (n, rows, columns,
            channels).

    Returns:
        (n, rows, columns, channels).
    """
    if len(tensor.shape) == 4:
        return tensor
    ahead, side = split_tokens(tensor.shape[1])
    patches = keras.layers.Cropping1D((ahead, 0), name="patches")(tensor)
    return keras.layers.Reshape((side, side, tensor.shape[2]), name="map")(patches)


def build_maps(
    shapes: Sequence[tuple[int, ...]],
    num_classes: int,
    head_units: Sequence[int] = (),
    dropout: float = 0.0,
    seed: int = 0,
) -> keras.Model:
    """Builds feature pyramid and head as a model of their own; see `add_head`. They have no dropout."""
    levels = [keras.Input(shape) for shape in shapes]
    return keras.Model(levels, add_head(levels, num_classes, head_units, seed), name="head")


def add_head(
    levels: Sequence[keras.KerasTensor], num_classes: int, head_units: Sequence[int] = (), seed: int = 0
) -> keras.KerasTensor:
    """Adds feature pyramid and head to a backbone, as layers of the same model.

    Args:
        levels: tensors of the backbone, (n, rows, columns, channels), finest first; those of one stride are joined.
        num_classes: at least 1.
        head_units: channels of pyramid and head, one number; empty for `WIDTH`.
        seed: seed of the initial weights.

    Returns:
        Maps of the finest level, float32 (n, rows, columns, num_classes + SIDES); see `tasks.detection_maps`.
    """
    (width,) = head_units or (WIDTH,)
    seeds = iter(range(1000 * seed, 1000 * seed + 100))

    def convolve(x: Any, name: str, size: int = 3) -> Any:
        start = keras.initializers.HeNormal(seed=next(seeds))
        x = keras.layers.Conv2D(
            width, size, padding="same", use_bias=False, kernel_initializer=start, name=f"{name}_conv"
        )(x)
        x = keras.layers.BatchNormalization(momentum=0.9, name=f"{name}_bn")(x)
        return keras.layers.ReLU(name=f"{name}_relu")(x)

    grids = [list(some) for _, some in itertools.groupby(levels, lambda tensor: tensor.shape[1])]
    joined = [
        some[0] if len(some) == 1 else keras.layers.Concatenate(name=f"join_{number}")(some)
        for number, some in enumerate(grids)
    ]
    x: Any = None
    for number, tensor in reversed(list(enumerate(joined))):
        lateral = convolve(tensor, f"lateral_{number}", 1)
        if x is not None:
            grown = keras.layers.UpSampling2D(2, name=f"grow_{number}")(x)
            over = grown.shape[1] - tensor.shape[1]
            fit = keras.layers.Cropping2D if over >= 0 else keras.layers.ZeroPadding2D
            grown = fit(((0, abs(over)), (0, abs(over))), name=f"fit_{number}")(grown)
            lateral = keras.layers.Add(name=f"merge_{number}")([lateral, grown])
        x = convolve(lateral, f"smooth_{number}")
    ends = []
    for name, filters, bias in (("heat", num_classes, keras.ops.log(RARE / (1 - RARE))), ("sides", SIDES, 0.0)):
        y = convolve(convolve(x, f"{name}_1"), f"{name}_2")
        start = keras.initializers.RandomNormal(stddev=0.01, seed=next(seeds))
        ends.append(
            keras.layers.Conv2D(
                filters,
                1,
                kernel_initializer=start,
                bias_initializer=keras.initializers.Constant(float(bias)),
                dtype="float32",
                name=name,
            )(y)
        )
    return keras.layers.Concatenate(dtype="float32", name=OUTPUT_LAYER)(ends)
