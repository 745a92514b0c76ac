"""Tries the user's own parts on made-up examples, so that a mistake in one shows before anything is computed."""

import numpy as np
import tensorflow as tf

from app.config import TrainConfig
from app.custom_parts import blamed, custom_metrics, find_custom
from data.prepare import Data
from tasks.classification import Classification
from training.variation import vary_of

MOST_TARGETS = 1_000
"""Most targets of training examples that metrics are tried on."""


def try_own_parts(config: TrainConfig, data: Data, shape: tuple[int, ...]) -> None:
    """Calls the augmentation, the loss and the metrics of `custom.py` on grey pictures and undecided answers.

    Heads, poolings and backbones are called when the network is built.

    Args:
        config: settings, which name the parts.
        data: examples, whose targets are used.
        shape: shape of one example in the network, such as (height, width, 3).

    Raises:
        UsageError: the augmentation or the loss raises an exception or returns another shape.
        RunError: a metric raises an exception or returns no number.
    """
    vary, loss = config.training.vary, config.training.loss
    policy = vary_of(data, config)
    if policy is not None and find_custom("vary", vary) is not None:
        with blamed("vary", vary):
            _check_shape(policy.apply(tf.fill((2, *shape), 128.0), tf.fill((2, policy.draws), 0.5)), (2, *shape))
    if not isinstance(data.task, Classification):
        return
    rows = data.splits["train"]
    targets = data.targets[rows[:: 1 + len(rows) // MOST_TARGETS]]
    outputs = np.full(targets.shape, 1 / max(2, targets.shape[1]), np.float32)
    if find_custom("loss", loss) is not None:
        with blamed("loss", loss):
            _check_shape(data.task.losses(tf.constant(targets), tf.constant(outputs)), targets.shape[:1])
    answers = data.task.answers(targets, outputs)
    for compute in custom_metrics().values():
        compute(answers)


def _check_shape(values: tf.Tensor, expected: tuple[int, ...]) -> None:
    if tuple(values.shape) != expected:
        raise ValueError(f"returns the shape {tuple(values.shape)} in place of {expected}")
