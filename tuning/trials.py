"""A trial: its settings, and how it went. Nothing here needs TensorFlow."""

import math
from collections.abc import Sequence
from typing import NamedTuple

from app.config import CompleteConfig

Numbered = tuple[int, CompleteConfig]
"""A trial: its number, from 1, and its settings."""
Job = Sequence[Numbered]
"""Trials that run together."""


class Outcome(NamedTuple):
    """How a trial went."""

    status: str
    """'done' or 'failed'."""
    val_accuracy: float
    """Fraction; NaN where it failed."""
    val_loss: float
    seconds: float
    """Its own; of heads that were trained together, an equal share."""
    message: str = ""
    """Why it failed."""


def failed(message: str) -> Outcome:
    """The outcome of a trial that has none."""
    return Outcome("failed", math.nan, math.nan, 0.0, message)
