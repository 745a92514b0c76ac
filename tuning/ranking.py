"""A ranking of backbones without training any: how well simple classifiers do on what each makes of the pictures.

A ridge regression has its solution in one step, and nearest neighbours have nothing to solve; so what takes time is the
pass through each network, and that stays in the store for the training that follows.
"""

import dataclasses
import itertools
import shlex
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import keras
import numpy as np
import pandas as pd
import tensorflow as tf
from rich.table import Column, Table
from sklearn.linear_model import RidgeCV
from sklearn.neighbors import KNeighborsRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from app.config import DataConfig, SizedConfig
from app.errors import RunError, UsageError
from app.terminal import console, make_table, progress_bar, show_stage
from data.store import open_store
from devices.precision import choose_precision
from devices.strategy import make_strategy
from models.backbones import find
from reports.search_plots import backbone_ranking
from reports.writer import write_figure, write_table
from tasks.metrics import accuracy_interval
from tasks.table import Task
from training.frozen import build_frozen, cuts_at, frozen_part, kept_pictures, load_or_compute
from training.inputs import RunInputs, load_inputs
from tuning.candidates import pass_over
from tuning.inputs import check_val_split
from tuning.space import TuneConfig

PENALTIES = np.logspace(-1, 5, 13)
"""Strengths of the L2 penalty to choose from, for features of standard deviation 1."""
NEIGHBOURS = 5


class Ranked(NamedTuple):
    """A row of `ranking.csv`."""

    backbone: str
    ridge_accuracy: float
    """On the val split, fraction; in a multi-label task a picture counts as right if all its labels are."""
    ridge_low: float
    """Its 95 % interval."""
    ridge_high: float
    neighbours_accuracy: float
    """As of the ridge regression."""
    parameters: float
    """Millions, without top."""
    pictures_per_second: float
    """Of the pass, whenever it was."""
    image_size: int
    """Height and width of the pictures, pixels."""
    imagenet_accuracy: float
    """Published, fraction."""


def rank(config: TuneConfig, candidates: Sequence[SizedConfig], folder: Path, started: float) -> Path:
    """Scores backbones on the val split, and writes a table and a figure, the best first.

    Args:
        config: of the command.
        candidates: settings of each backbone, those of one image size together.
        folder: of the ranking.
        started: value of `time.perf_counter` when it began.

    Returns:
        The folder.

    Raises:
        UsageError: the pictures cannot be used.
        RunError: no backbone can be scored.
    """
    strategy = make_strategy(config.strategy, config.devices)
    rows: list[Ranked] = []
    num_val = 0
    for _, group in itertools.groupby(candidates, key=lambda candidate: candidate.image_size):
        scored, num_val = _score_group(list(group), len(candidates), strategy)
        rows += scored
    if not rows:
        raise RunError("None of the backbones could be scored, for the reasons above.")
    ranking = pd.DataFrame(rows, columns=Ranked._fields).sort_values(
        ["ridge_accuracy", "neighbours_accuracy", "parameters"], ascending=[False, False, True], kind="stable"
    )
    folder.mkdir(parents=True, exist_ok=True)
    write_table(folder / "ranking.csv", ranking)
    write_figure(folder / "figures" / "ranking.png", backbone_ranking(ranking, num_val))
    console.print(ranking_table(ranking))
    best = ranking.iloc[0]
    interval = f"{best['ridge_low']:.1%} and {best['ridge_high']:.1%}"
    text = f"{num_val:,} val pictures put the best between {interval} (95 % interval): smaller differences mean little"
    show_stage("ranking", text)
    show_stage("go on", train_command(config, best["backbone"]))
    show_stage("done", f"{time.perf_counter() - started:.0f} seconds; ranking folder: {folder}")
    return folder


def score_features(train: np.ndarray, train_targets: np.ndarray, val: np.ndarray, task: Task) -> list[np.ndarray]:
    """Predicts by a ridge regression and by the nearest neighbours.

    Args:
        train: features to learn from, float32 (n, num_features).
        train_targets: float32 (n, num_outputs), 0 or 1.
        val: features of the pictures to predict, float32 (m, num_features).
        task: decides what is said to be there.

    Returns:
        Of each of the two, the classes said to be there, bool (m, num_classes). The strength of the ridge's penalty
        is the best for leaving out one training picture at a time; neighbours are those of the smallest angle.
    """
    neighbours = KNeighborsRegressor(min(NEIGHBOURS, len(train)), metric="cosine")
    said = []
    for regression in (make_pipeline(StandardScaler(), RidgeCV(PENALTIES)), neighbours):
        outputs = regression.fit(train, train_targets).predict(val).reshape(len(val), train_targets.shape[1])
        said.append(task.predicted(task.probabilities(outputs)))
    return said


def train_command(config: TuneConfig, backbone: str) -> str:
    """The command that trains a backbone on the same pictures in the same way."""
    flags = ["--data", config.data, "--backbone", backbone]
    for field in dataclasses.fields(DataConfig):
        value = getattr(config, field.name)
        if value != field.default and field.name not in ("data", "output"):
            flag = f"--{field.name.replace('_', '-')}"
            flags += [flag] if value is True else [flag, str(value)]
    return shlex.join(["python", "train.py", *flags])


def _score_group(
    candidates: Sequence[SizedConfig], num_backbones: int, strategy: tf.distribute.Strategy
) -> tuple[list[Ranked], int]:
    """Scores backbones that take pictures of one size; also returns how many the val split has.

    The pictures are let go of when this returns.
    """
    inputs, rows = load_inputs(candidates[0]), []
    check_val_split(inputs.data)
    for config in candidates:
        try:
            rows.append(_score(inputs._replace(config=config, row=find(config.backbone)), strategy))
        except (UsageError, RunError, tf.errors.ResourceExhaustedError, MemoryError) as error:
            pass_over(config.backbone, error, num_backbones)
        keras.utils.clear_session()
    return rows, len(inputs.data.splits["val"])


def _score(inputs: RunInputs, strategy: tf.distribute.Strategy) -> Ranked:
    """Runs a backbone, or takes its features from the store, and scores it."""
    data, row = inputs.data, inputs.row
    features, pictures_per_second = _pooled_features(inputs, strategy)
    kept, train, val = kept_pictures(data), data.splits["train"], data.splits["val"]
    truth = data.task.truth(data.targets[val])
    said = score_features(
        features[np.searchsorted(kept, train)], data.targets[train], features[np.searchsorted(kept, val)], data.task
    )
    right = [(predicted == truth).all(axis=1) for predicted in said]
    ridge, neighbours = [float(each.mean()) for each in right]
    low, high = accuracy_interval(right[0], data.groups[val])
    text = f"ridge {ridge:.1%}, neighbours {neighbours:.1%} of {len(val):,} val pictures"
    show_stage("scored", f"{row.name}: {text}; {pictures_per_second:,.0f} pictures per second")
    return Ranked(
        row.name,
        ridge,
        low,
        high,
        neighbours,
        row.parameters,
        round(pictures_per_second, 2),
        inputs.config.image_size,
        row.imagenet_accuracy,
    )


def _pooled_features(inputs: RunInputs, strategy: tf.distribute.Strategy) -> tuple[np.ndarray, float]:
    """What a head would learn from, float32 (num_kept, num_features), and the pictures per second of the pass.

    It is the entry of the store that `train.py` makes, or takes.
    """
    config, data = inputs.config, inputs.data
    with strategy.scope():
        classifier = build_frozen(inputs)
    store = open_store(config.cache_dir, config.cache_gb)
    precision = choose_precision(config.precision, classifier.model)
    part = frozen_part(classifier, cuts_at(classifier, {0: 0}), config, data, store, strategy, precision=precision)
    kept = kept_pictures(data)
    started = time.perf_counter()
    with progress_bar(config.backbone, len(kept)) as advance:
        arrays, saved = load_or_compute(part, 0, kept, config, data, advance)
    (features,) = arrays.values()
    return features, len(kept) / (saved or time.perf_counter() - started)


def ranking_table(ranking: pd.DataFrame) -> Table:
    names = ("ridge", "k-NN", "M params", "pictures/s", "pixels", "ImageNet")
    columns = [Column("backbone", no_wrap=True), *(Column(name, justify="right") for name in names)]
    table = make_table(*columns, title="backbones, the best first")
    for row in ranking.itertuples():
        table.add_row(
            row.backbone,
            f"{row.ridge_accuracy:.2%}",
            f"{row.neighbours_accuracy:.2%}",
            f"{row.parameters:.1f}",
            f"{row.pictures_per_second:,.0f}",
            str(row.image_size),
            f"{row.imagenet_accuracy:.1%}",
        )
    return table
