"""Varies a run's examples, and the targets that move with them."""

import numpy as np

from app.config import TrainConfig
from data.kinds import Vary
from data.pipeline import variation
from data.prepare import Data


def vary_of(data: Data, config: TrainConfig) -> Vary | None:
    """Returns the variation of examples; None for a kind without variation."""
    if data.frames is not None:
        from data.boxes.vary import policy

        return policy(config.training.vary)
    return data.kind.vary and data.kind.vary(config.training.vary)


def moved_targets(data: Data, config: TrainConfig, number: int, varied: np.ndarray) -> np.ndarray | None:
    """Returns the targets of a view whose boxes have moved; None if targets do not change.

    Args:
        data: the examples.
        config: settings, for the seed and the variation.
        number: number of the view.
        varied: positions of the examples, in the order in which they were varied.
    """
    vary = vary_of(data, config)
    if vary is None or vary.move is None:
        return None
    draws = variation(vary, config.training.seed, number, len(varied)).draws
    return vary.move(data.targets[varied], draws).numpy()
