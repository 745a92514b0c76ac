"""Maps that a detector computes: their targets for the true boxes of a picture, and the loss.

For every cell of a grid over the picture, a detector gives a logit for each class, the heatmap, and how far it is from
the middle of the cell to the four sides of a box, each as a distribution over distances (Generalized Focal Loss, Li et
al., NeurIPS 2020). The targets are those of TTFNet (Liu et al., AAAI 2020): Gaussians around the middles of boxes, as
in CenterNet (Zhou et al., 2019), in which the sides are learnt as well, as in FCOS (Tian et al., 2019).
"""

from typing import Any

import keras
import numpy as np
import tensorflow as tf
from keras import ops

DISTANCES = np.linspace(-2, 4.6, 23, dtype=np.float32)
"""Logarithms of distances in cells: from an eighth of a cell to a hundred cells, each a third longer than the last."""
SIDES = 4 * len(DISTANCES)
"""Channels after those of the classes: logits of `DISTANCES` to the left, top, right and bottom side."""
SPREAD = 0.8
"""Share of a box in which its Gaussian is above 0, three deviations to each side: more than the 0.54 of TTFNet, as all
cells there learn the sides of the box."""
SIDES_WEIGHT = 5.0
"""Weight of the loss of boxes relative to that of the heatmap (TTFNet)."""
LENGTHS_WEIGHT, LOGITS_WEIGHT = 2.0, 0.25
"""Weights, beside that of the overlap, of the distances from side to side and of the distributions. On blood cells,
distributions raise AP from 51 to 53 or 54, and the distances to 55 if there are several blocks of a stride."""
FOUND = 0.3
"""In training, a box counts as found from this probability in its middle on."""


def losses(targets: tf.Tensor, maps: tf.Tensor) -> tf.Tensor:
    """Computes the loss of each picture, divided by the mean number of boxes in a picture of the batch.

    Args:
        targets: float32 (n, most boxes, 6), see `tasks.detection.Detection`.
        maps: float32 (n, rows, columns, classes + SIDES).

    Returns:
        float32 (n,).
    """
    boxes, real, ignored = _read(targets, maps)
    gaussians = _gaussians(boxes, maps) * real[..., None, None]
    heat = _heatmap(gaussians, targets[..., 4], maps.shape[-1] - SIDES)
    logits = maps[..., :-SIDES]
    probability = ops.sigmoid(logits)
    # The penalty-reduced focal loss of CenterNet: a wrong answer near a middle costs less.
    at_middle = -((1 - probability) ** 2) * ops.log_sigmoid(logits)
    elsewhere = -((1 - heat) ** 4) * probability**2 * ops.log_sigmoid(-logits)
    counted = 1 - ops.max(_inside(boxes, maps) * ignored[..., None, None], axis=1)
    of_heatmap = ops.sum(ops.where(heat == 1, at_middle, elsewhere) * counted[..., None], axis=(1, 2, 3))
    best = ops.max(gaussians, axis=1)
    is_of = ops.cast(ops.arange(boxes.shape[1])[:, None, None] == ops.argmax(gaussians, axis=1)[:, None], "float32")
    shares = gaussians * is_of  # only cells that belong to one box
    shares = shares / ops.maximum(ops.sum(shares, axis=(2, 3), keepdims=True), 1e-6)
    wanted = ops.einsum("nbrc,nbs->nrcs", is_of, boxes)
    of_sides = ops.sum(ops.where(best > 0, _apart(maps, wanted), 0) * ops.sum(shares, axis=1), axis=(1, 2))
    return (of_heatmap + SIDES_WEIGHT * of_sides) / ops.maximum(ops.mean(ops.sum(real, axis=1)), 1)


def found(targets: tf.Tensor, maps: tf.Tensor) -> tf.Tensor:
    """Computes the share of each picture's boxes that are found: the class is the likeliest in the middle of the box,
    and the box there overlaps by half.

    Returns:
        float32 (n,); 1 for a picture without boxes.
    """
    boxes, real, _ = _read(targets, maps)
    rows, columns = maps.shape[1:3]
    column, row = _middle_cells(boxes, rows, columns)
    places = ops.cast(row * columns + column, "int32")

    def there(values: Any) -> Any:
        return tf.gather(ops.reshape(values, (-1, rows * columns, values.shape[-1])), places, batch_dims=1)

    logits = there(maps[..., :-SIDES])
    overlap = paired_overlap(there(cell_boxes(maps)), boxes)
    is_class = ops.cast(ops.argmax(logits, axis=-1), "float32") == targets[..., 4]
    right = is_class & (ops.sigmoid(ops.max(logits, axis=-1)) >= FOUND) & (overlap >= 0.5)
    count = ops.sum(real, axis=1)
    return ops.where(count > 0, ops.sum(ops.cast(right, "float32") * real, axis=1) / ops.maximum(count, 1), 1.0)


def cell_boxes(maps: tf.Tensor) -> tf.Tensor:
    """Returns the box that each cell predicts, in cells: float32 (n, rows, columns, 4), x1, y1, x2, y2."""
    distances = ops.exp(ops.sum(ops.softmax(_logits(maps)) * DISTANCES, axis=-1))
    middles = _middles(maps)
    return ops.concatenate([middles - distances[..., :2], middles + distances[..., 2:]], axis=-1)


def paired_overlap(boxes: Any, others: Any) -> Any:
    """Returns intersection over union of pairs of boxes, both (..., 4), with any shapes that broadcast."""
    first, last = ops.maximum(boxes[..., :2], others[..., :2]), ops.minimum(boxes[..., 2:], others[..., 2:])
    common = ops.prod(ops.maximum(last - first, 0), axis=-1)
    area = ops.prod(boxes[..., 2:] - boxes[..., :2], axis=-1) + ops.prod(others[..., 2:] - others[..., :2], axis=-1)
    return common / ops.maximum(area - common, 1e-9)


def _logits(maps: Any) -> Any:
    """Returns the logits of `DISTANCES` to each side, float32 (n, rows, columns, 4, distances)."""
    return ops.reshape(maps[..., -SIDES:], (-1, *maps.shape[1:3], 4, len(DISTANCES)))


def _middles(maps: Any) -> Any:
    """Returns x and y of the middle of each cell, float32 (rows, columns, 2)."""
    rows, columns = maps.shape[1:3]
    x, y = ops.arange(columns, dtype="float32") + 0.5, ops.arange(rows, dtype="float32") + 0.5
    return ops.stack([ops.broadcast_to(x, (rows, columns)), ops.broadcast_to(y[:, None], (rows, columns))], axis=-1)


def _apart(maps: Any, wanted: Any) -> Any:
    """Returns how far the box of each cell is from the wanted one, float32 (n, rows, columns).

    That is the loss of CIoU, of the distances between sides as a share of width or height, and of the logits of the two
    distances between which the right one is.
    """
    boxes, middles = cell_boxes(maps), _middles(maps)
    size = wanted[..., 2:] - wanted[..., :2]
    lengths = ops.abs(boxes - wanted) / ops.maximum(ops.concatenate([size, size], axis=-1), 1)
    distances = ops.concatenate([middles - wanted[..., :2], wanted[..., 2:] - middles], axis=-1)
    step = DISTANCES[1] - DISTANCES[0]
    place = (ops.log(ops.maximum(distances, np.exp(DISTANCES[0]))) - DISTANCES[0]) / step
    away = ops.abs(ops.minimum(place, len(DISTANCES) - 1)[..., None] - ops.arange(len(DISTANCES), dtype="float32"))
    of_logits = -ops.sum(ops.maximum(1 - away, 0) * ops.log_softmax(_logits(maps)), axis=-1)
    overlap = keras.utils.bounding_boxes.compute_ciou(boxes, wanted, "xyxy")
    return 1 - overlap + LENGTHS_WEIGHT * ops.mean(lengths, axis=-1) + LOGITS_WEIGHT * ops.mean(of_logits, axis=-1)


def _read(targets: Any, maps: Any) -> tuple[Any, Any, Any]:
    """Returns boxes in cells, and marks for real and for ignored boxes, 1 or 0."""
    rows, columns = maps.shape[1:3]
    boxes = targets[..., :4] * ops.convert_to_tensor([columns, rows, columns, rows], "float32")
    known, ignored = ops.cast(targets[..., 4] >= 0, "float32"), targets[..., 5]
    return boxes, known * (1 - ignored), known * ignored


def _middle_cells(boxes: Any, rows: int, columns: int) -> tuple[Any, Any]:
    """Returns column and row of the cell in which the middle of each box is."""
    middle = ops.floor((boxes[..., :2] + boxes[..., 2:]) / 2)
    return ops.clip(middle[..., 0], 0, columns - 1), ops.clip(middle[..., 1], 0, rows - 1)


def _gaussians(boxes: Any, maps: Any) -> Any:
    """Returns a Gaussian for each box, float32 (n, boxes, rows, columns): 1 in its middle cell, 0 far from it."""
    rows, columns = maps.shape[1:3]
    column, row = _middle_cells(boxes, rows, columns)

    def along(count: int, middle: Any, size: Any) -> Any:
        away = ops.arange(count, dtype="float32") - middle[..., None]
        reach = ops.maximum(SPREAD / 2 * size, 1e-3)[..., None]
        return ops.where(ops.abs(away) <= reach, ops.exp(-((3 * away / reach) ** 2) / 2), 0)

    x = along(columns, column, boxes[..., 2] - boxes[..., 0])
    y = along(rows, row, boxes[..., 3] - boxes[..., 1])
    return y[..., :, None] * x[..., None, :]


def _heatmap(gaussians: Any, classes: Any, num_classes: int) -> Any:
    """Returns the largest Gaussian of each class, float32 (n, rows, columns, classes)."""
    of_class = [ops.cast(classes == number, "float32")[..., None, None] for number in range(num_classes)]
    return ops.stack([ops.max(gaussians * chosen, axis=1) for chosen in of_class], axis=-1)


def _inside(boxes: Any, maps: Any) -> Any:
    """Marks the cells whose middle is in each box, 1 or 0 (n, boxes, rows, columns)."""
    rows, columns = maps.shape[1:3]
    x, y = ops.arange(columns, dtype="float32") + 0.5, ops.arange(rows, dtype="float32") + 0.5
    in_x = (x > boxes[..., :1]) & (x < boxes[..., 2:3])
    in_y = (y > boxes[..., 1:2]) & (y < boxes[..., 3:4])
    return ops.cast(in_y[..., :, None] & in_x[..., None, :], "float32")
