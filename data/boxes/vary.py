"""Random augmentation that moves pictures and their boxes, by the names of `--vary`."""

from typing import Any

import tensorflow as tf

from app.errors import unknown_choice
from data.boxes.targets import NO_BOX
from data.images.policies import move, recolour
from data.kinds import Vary

NUM_DRAWS = 8
SCALES = (0.75, 1.3)
"""Range of the factor by which pictures are scaled."""
SHIFT = 0.1
"""Largest shift, as a fraction of the input."""
LEAST_LEFT = 0.3
"""Share of a box that must stay in the picture; with less, its object cannot be recognised, and it is left out."""


def policy(name: str) -> Vary:
    """Returns the augmentation that `--vary` names.

    Raises:
        UsageError: the augmentation cannot move boxes.
    """
    if name not in POLICIES:
        raise unknown_choice("--vary for pictures with boxes", name, POLICIES)
    return POLICIES[name]


def _amounts(draws: tf.Tensor, mirrors: bool, turns: bool, scales: bool) -> dict[str, Any]:
    """Turns draws, float32 (n, NUM_DRAWS), into the amounts of `data.images.policies.move`, float32 (n,) each."""
    mirror, upside_down, scale, down, right, *_ = tf.unstack(draws, axis=1)
    one = tf.ones_like(mirror)
    low, high = SCALES
    return {
        "mirror": tf.where(mirror < 0.5, one, -one) if mirrors else one,
        "upside_down": tf.where(upside_down < 0.5, one, -one) if turns else one,
        "scale": low * (high / low) ** scale if scales else one,
        "down": SHIFT * (2 * down - 1) if scales else 0 * one,
        "right": SHIFT * (2 * right - 1) if scales else 0 * one,
    }


def _move(targets: tf.Tensor, draws: tf.Tensor, **which: bool) -> tf.Tensor:
    """Moves targets, see `data.boxes.targets.encode`; boxes that mostly leave the picture become padding."""
    amounts = {name: value[:, None] for name, value in _amounts(draws, **which).items()}
    x1, y1, x2, y2, classes, ignored = tf.unstack(targets, axis=-1)
    wide, high = amounts["scale"] * amounts["mirror"], amounts["scale"] * amounts["upside_down"]
    xs = [0.5 + wide * (x - 0.5) + amounts["right"] for x in (x1, x2)]
    ys = [0.5 + high * (y - 0.5) + amounts["down"] for y in (y1, y2)]
    whole = tf.stack([tf.minimum(*xs), tf.minimum(*ys), tf.maximum(*xs), tf.maximum(*ys)], axis=-1)
    cut = tf.clip_by_value(whole, 0.0, 1.0)

    def area(boxes: tf.Tensor) -> tf.Tensor:
        return (boxes[..., 2] - boxes[..., 0]) * (boxes[..., 3] - boxes[..., 1])

    is_left = area(cut) > LEAST_LEFT * area(whole)
    kept = tf.where(is_left, classes, NO_BOX)
    return tf.concat([cut, tf.stack([kept, ignored], axis=-1)], axis=-1)


def _policy(colours: bool, **which: bool) -> Vary:
    def apply(pictures: tf.Tensor, draws: tf.Tensor) -> tf.Tensor:
        moved = move(pictures, **_amounts(draws, **which), fill="CONSTANT")
        if not colours:
            return moved
        return recolour(moved, contrast=0.85 + 0.3 * draws[:, 5], brightness=0.2 * draws[:, 6] - 0.1)

    def move_boxes(targets: tf.Tensor, draws: tf.Tensor) -> tf.Tensor:
        return _move(targets, draws, **which)

    return Vary(NUM_DRAWS, apply, move_boxes, uses=(move, recolour))


POLICIES: dict[str, Vary] = {
    "mild": _policy(colours=True, mirrors=True, turns=False, scales=True),
    "flip": _policy(colours=False, mirrors=True, turns=False, scales=False),
    "vertical": _policy(colours=True, mirrors=True, turns=True, scales=True),
}
