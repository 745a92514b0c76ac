"""A trial: its settings, and how it went. Nothing here needs TensorFlow."""

import math
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from training.recipe import Plan

Numbered = tuple[int, Plan]
"""A trial: its number, from 1, and what it does."""
Job = Sequence[Numbered]
"""Trials that run together."""


class Outcome(NamedTuple):
    """Outcome of a trial."""

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


def checked(outcomes: Sequence[tuple[int, Outcome]], numbers: Sequence[int]) -> Iterator[tuple[int, Outcome]]:
    """Outcomes that another process reports, one for each of the numbers; fails those that cannot be.

    Args:
        outcomes: number and outcome of each trial.
        numbers: of the trials that it was given.
    """
    reported = dict(outcomes)
    for number in numbers:
        outcome = reported.get(number)
        yield number, outcome if outcome and _is_possible(outcome) else failed(f"impossible result: {outcome}")


def _is_possible(outcome: Outcome) -> bool:
    measured: Sequence[object] = outcome.val_accuracy, outcome.val_loss, outcome.seconds
    if outcome.status != "done" or not all(isinstance(value, float) and 0 <= value < math.inf for value in measured):
        return outcome.status == "failed"
    return outcome.val_accuracy <= 1
