"""Boxes as a network learns and predicts them: fractions of its input, which is a picture made square."""

from collections.abc import Sequence

import numpy as np

from app.config import Resize
from data.sources import Example

COLUMNS = ("x1", "y1", "x2", "y2", "class", "ignored")
"""Columns of targets."""
NO_BOX = -1.0
"""Class of the rows that pad targets."""


def frames(sizes: np.ndarray, image_size: int, resize: Resize) -> np.ndarray:
    """Computes where upright pictures lie in the input of a network.

    Args:
        sizes: width and height of each picture, pixels, (n, 2).
        image_size: height and width of the input, pixels.
        resize: how pictures become squares: 'pad' or 'stretch'.

    Returns:
        float64 (n, 6): factors on x and y that turn pixels of a picture into fractions of the input, the offsets
        added to these, and width and height of the picture.
    """
    sizes = np.maximum(np.asarray(sizes, np.float64), 1)
    if resize == "stretch":
        inside = np.full_like(sizes, image_size)
    else:  # rounded as PIL.ImageOps.pad rounds
        inside = np.maximum(np.round(image_size * sizes / sizes.max(axis=1, keepdims=True)), 1)
    start = np.round((image_size - inside) / 2)
    return np.hstack([inside / sizes / image_size, start / image_size, sizes])


def to_pixels(boxes: np.ndarray, frame: np.ndarray) -> np.ndarray:
    """Turns boxes (..., 4), fractions of the input, into pixels of the upright picture, cut at its border.

    The frame, (6,), is a row of `frames`.
    """
    scale, start, size = (np.tile(part, 2) for part in np.split(frame, 3))
    return np.clip((boxes.astype(np.float64) - start) / scale, 0, size)


def encode(examples: Sequence[Example], class_names: Sequence[str], places: np.ndarray) -> np.ndarray:
    """Makes targets of the boxes of examples.

    Args:
        examples: pictures with boxes.
        class_names: names of the classes, in the order of their numbers.
        places: frames of the pictures, see `frames`.

    Returns:
        float32 (n, most boxes, 6), see `COLUMNS`: corners are fractions of the input; padding has the class `NO_BOX`.
    """
    number = {name: index for index, name in enumerate(class_names)}
    most = max((len(example.boxes.labels) for example in examples if example.boxes), default=0)
    targets = np.zeros((len(examples), max(most, 1), len(COLUMNS)), np.float32)
    targets[..., 4] = NO_BOX
    for row, (example, frame) in enumerate(zip(examples, places, strict=True)):
        if example.boxes is None or not example.boxes.labels:
            continue
        scale, start, _ = (np.tile(part, 2) for part in np.split(frame, 3))
        count = len(example.boxes.labels)
        targets[row, :count, :4] = np.array(example.boxes.corners) * scale + start
        targets[row, :count, 4] = [number[label] for label in example.boxes.labels]
        targets[row, :count, 5] = example.boxes.ignored
    return targets
