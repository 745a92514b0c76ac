"""Your own parts of a network and of its training: a function in one of these tables, named by a flag, is used by
train.py, tune.py, predict.py, evaluate.py, the report and the exports. CONTRIBUTING.md has an example of each.

What you write here decides results: a run goes on (--resume) only with this file as it was when the run began.
"""

from collections.abc import Callable
from typing import Any

HEADS: dict[str, Callable[..., Any]] = {}
"""`--head NAME`: from (units, dropout, seed), the values of --head-units, --dropout and --seed, to a list of Keras
layers. The output layer follows by itself."""

POOLINGS: dict[str, Callable[..., Any]] = {}
"""`--pooling NAME`: a Keras layer, from the last feature map (n, height, width, channels) to a vector. It may learn."""

AUGMENTATIONS: dict[str, Callable[..., Any]] = {}
"""`--vary NAME`: from pictures, float32 (n, height, width, 3) in [0, 255], and random numbers, float32 (n, 16) in
[0, 1), to pictures as they are learnt from. All chance comes from those numbers, so that it repeats."""

LOSSES: dict[str, Callable[..., Any]] = {}
"""`--loss NAME`: from targets and probabilities, float32 (..., outputs), to the loss of each example (...). For two
classes there is one output, the probability of the second."""

METRICS: dict[str, Callable[..., Any]] = {}
"""Measured in every run, without a flag: from answers (`tasks/answers.py`) to a number, or None where there is none."""

BACKBONES: dict[str, Callable[..., Any]] = {}
"""`--backbone NAME`: from the height and width of pictures, whose default is that of the network, to a Keras model from
pictures in [0, 255] to a feature map, with its weights."""
