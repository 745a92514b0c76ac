"""Tables for your own parts of a network and of its training: functions that a flag chooses by name.

train.py, tune.py, predict.py, evaluate.py, the report and the exports use them. CONTRIBUTING.md has an example of each.
To resume a run that uses a part of this file, other than a metric, the file must be the same as when the run started.
"""

from collections.abc import Callable
from typing import Any

HEADS: dict[str, Callable[..., Any]] = {}
"""`--head NAME`: takes (units, dropout, seed), the values of --head-units, --dropout and --seed, and returns a list of
Keras layers. The output layer is added automatically."""

POOLINGS: dict[str, Callable[..., Any]] = {}
"""`--pooling NAME`: returns a Keras layer that turns the last feature map (n, height, width, channels) into a vector.
The layer may have weights."""

AUGMENTATIONS: dict[str, Callable[..., Any]] = {}
"""`--vary NAME`: takes pictures, float32 (n, height, width, 3) in [0, 255], and random numbers, float32 (n, 16) in
[0, 1), and returns the augmented pictures. Use no other random numbers, so that the same seed gives the same run."""

LOSSES: dict[str, Callable[..., Any]] = {}
"""`--loss NAME`: takes targets and probabilities, float32 (..., outputs), and returns the loss of each example (...).
Two classes have one output, the probability of the second."""

METRICS: dict[str, Callable[..., Any]] = {}
"""Metrics of every run, without a flag: take answers (`tasks/answers.py`) and return a number, or None if undefined."""

BACKBONES: dict[str, Callable[..., Any]] = {}
"""`--backbone NAME`: takes the image size (pixels; its default is that of the network) and returns a Keras model with
its weights, which turns pictures in [0, 255] into a feature map."""
