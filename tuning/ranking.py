"""Ranks backbones without training them: by the accuracy of a simple classifier on the features of each.

A ridge regression is solved in one step, so only the forward pass of each backbone takes time, and its features stay in
the store for later training.
"""

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
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from app.config import TrainConfig
from app.errors import RunError, UsageError
from app.fields import flag_of
from app.terminal import console, make_table, progress_bar, share_text, show_stage
from cluster.pool import Pool
from data.store import open_store
from devices.precision import choose_precision
from devices.strategy import make_strategy
from features.frozen_part import FrozenPart
from models.backbones import find
from reports.search_plots import backbone_ranking
from reports.writer import write_figure, write_table
from tasks.classification import Classification
from tasks.metrics import accuracy_interval, difference_interval, effective_count
from tasks.table import classes_of
from training.cuts import cuts_at
from training.frozen import build_frozen, kept_examples, load_or_compute, pass_title
from training.inputs import RunInputs, load_inputs
from tuning.inputs import check_val_split, pass_over
from tuning.space import TuneConfig

PENALTIES = np.logspace(-1, 5, 13)
"""Strengths of the L2 penalty to choose from, for features of standard deviation 1."""
SHOWN = {
    "ridge_accuracy": ("ridge", ".2%"),
    "may_be_best": ("close", ""),
    "parameters": ("M params", ".1f"),
    "pictures_per_second": ("pictures/s", ",.0f"),
    "image_size": ("pixels", ".0f"),
    "imagenet_accuracy": ("ImageNet", ".1%"),
}
"""Columns of the shown table, and their formats."""


class Ranked(NamedTuple):
    """A row of `ranking.csv`."""

    backbone: str
    ridge_accuracy: float
    """Accuracy on the val split, fraction; with several labels, an example is right if all its labels are."""
    ridge_low: float
    """Lower end of the 95 % interval of the accuracy."""
    ridge_high: float
    parameters: float
    """Millions, without top."""
    pictures_per_second: float
    """Speed of the forward pass, or of the earlier one that computed the stored features."""
    image_size: int
    """Height and width of the pictures, pixels."""
    imagenet_accuracy: float | None
    """Published accuracy, fraction; None if there is none."""
    may_be_best: bool | None = None
    """True if the 95 % interval of its difference to the best, on the same val examples, includes 0; None if its val
    examples are others."""


class Scored(NamedTuple):
    """A scored backbone, with its answers on the val split."""

    row: Ranked
    right: np.ndarray
    """Whether the answer to each example is right, bool (n,)."""
    digests: Sequence[str]
    """SHA-256 of each example."""
    num_independent: float
    """Effective number of independent examples."""


def rank(
    config: TuneConfig, candidates: Sequence[TrainConfig], folder: Path, started: float, pool: Pool | None = None
) -> Path:
    """Scores backbones on the val split, and writes a table and a figure, the best first.

    Args:
        config: settings of the command.
        candidates: settings of each backbone, ordered by image size.
        folder: folder for `ranking.csv`; it is returned.
        started: value of `time.perf_counter` when the command began.
        pool: workers that share the work; None if there are none.

    Raises:
        UsageError: the examples cannot be used.
        RunError: no backbone can be scored.
    """
    strategy = make_strategy(config.fixed.run.strategy, config.fixed.run.devices)
    found: list[Scored] = []
    inputs: RunInputs | None = None
    for candidate in candidates:
        if inputs is None or inputs.config.data.chosen_size != candidate.data.chosen_size:
            inputs = None  # frees the memory before other examples are decoded
            inputs = load_inputs(candidate, pool)
            check_val_split(inputs.data)
        try:
            found.append(_score(inputs._replace(config=candidate, backbone=find(candidate.model.backbone)), strategy))
        except (UsageError, RunError, tf.errors.ResourceExhaustedError, MemoryError) as error:
            pass_over(candidate.model.backbone, error, len(candidates))
        keras.utils.clear_session()
    if not found or inputs is None:
        raise RunError("None of the backbones could be scored, for the reasons above.")
    ranking = make_ranking(found)
    num_val = len(inputs.data.splits["val"])
    folder.mkdir(parents=True, exist_ok=True)
    write_table(folder / "ranking.csv", ranking)
    write_figure(folder / "figures" / "ranking.png", backbone_ranking(ranking, num_val))
    console.print(ranking_table(ranking))
    for line in ranking_lines(ranking, num_val):
        show_stage("ranking", line)
    show_stage("go on", train_command(config, ranking["backbone"].iloc[0]))
    show_stage("done", f"{time.perf_counter() - started:.0f} seconds; ranking folder: {folder}")
    return folder


def make_ranking(found: Sequence[Scored]) -> pd.DataFrame:
    """Makes the table of `ranking.csv`, the best first.

    The same examples measure all backbones, so differences between two are known better than either accuracy.
    """
    ranking = pd.DataFrame([each.row for each in found], columns=Ranked._fields)
    ranking = ranking.sort_values(["ridge_accuracy", "parameters"], ascending=[False, True], kind="stable")
    best = found[ranking.index[0]]
    may_be_best = [_may_be_as_good(best, found[row]) for row in ranking.index]
    return ranking.assign(may_be_best=pd.Series(may_be_best, ranking.index, dtype=object))


def ranking_lines(ranking: pd.DataFrame, num_val: int) -> list[str]:
    """Says how far to trust a ranking.

    Args:
        ranking: the table of `ranking.csv`, the best first.
        num_val: examples of the val split.
    """
    low, high = (share_text(ranking[end].iloc[0]) for end in ("ridge_low", "ridge_high"))
    between = f"{num_val:,} val examples put the best between {low} and {high} (95 % interval)"
    if len(ranking) == 1:
        return [between]
    return [
        f"{between}: smaller differences mean little",
        f"the best of {len(ranking)} is partly the best by luck: its accuracy and its interval are optimistic",
        "close: may be as good as the first, as the 95 % interval of the difference, on the same examples, includes 0",
    ]


def ranking_table(ranking: pd.DataFrame) -> Table:
    """Makes the table for the terminal."""
    columns = [Column(name, justify="right") for name, _ in SHOWN.values()]
    table = make_table(Column("backbone", no_wrap=True), *columns, title="backbones, the best first")
    for row in ranking.to_dict("records"):
        row["may_be_best"] = {True: "yes", False: "no"}.get(row["may_be_best"])
        cells = ("–" if pd.isna(row[name]) else format(row[name], spec) for name, (_, spec) in SHOWN.items())
        table.add_row(row["backbone"], *cells)
    return table


def predict_by_ridge(train: np.ndarray, train_targets: np.ndarray, val: np.ndarray, task: Classification) -> np.ndarray:
    """Predicts by a ridge regression with a penalty chosen by leave-one-out cross-validation.

    Args:
        train: features to learn from, float32 (n, num_features).
        train_targets: float32 (n, num_outputs), 0 or 1.
        val: features to predict from, float32 (m, num_features).
        task: turns outputs into classes.

    Returns:
        The predicted classes, bool (m, num_classes).
    """
    regression = make_pipeline(StandardScaler(), RidgeCV(PENALTIES)).fit(train, train_targets)
    outputs = regression.predict(val).reshape(len(val), train_targets.shape[1])
    return task.predicted(task.probabilities(outputs))


def train_command(config: TuneConfig, backbone: str) -> str:
    """Returns the command that trains a backbone on the same data in the same way."""
    flags = ["--data", config.fixed.data.data, "--backbone", backbone]
    settings = config.fixed.flat()
    for _, name, field in config.fixed.fields():
        value = settings[name]
        if value != field.default and name not in ("data", "output"):
            flags += [flag_of(name)] if value is True else [flag_of(name), str(value)]
    return shlex.join(["python", "train.py", *flags])


def _score(inputs: RunInputs, strategy: tf.distribute.Strategy) -> Scored:
    """Scores a backbone by its features, computed or from the store."""
    data, backbone = inputs.data, inputs.backbone
    of_train, of_val, pictures_per_second, parameters = _pooled_features(inputs, strategy)
    train, val = data.splits["train"], data.splits["val"]
    predicted = predict_by_ridge(of_train, data.targets[train], of_val, classes_of(data.task))
    right = (predicted == classes_of(data.task).truth(data.targets[val])).all(axis=1)
    low, high = accuracy_interval(right, data.groups[val])
    text = f"ridge {share_text(right.mean())} of {len(val):,} val {data.kind.nouns}"
    show_stage("scored", f"{backbone.name}: {text}; {pictures_per_second:,.0f} {data.kind.nouns} per second")
    row = Ranked(
        backbone.name,
        float(right.mean()),
        low,
        high,
        parameters,
        round(pictures_per_second, 2),
        inputs.config.data.chosen_size,
        backbone.imagenet_accuracy,
    )
    return Scored(row, right, [data.digests[position] for position in val], effective_count(data.groups[val]))


def _may_be_as_good(best: Scored, other: Scored) -> bool | None:
    """Returns True if the examples do not show that the best is better; None if the two were measured on others."""
    if other.digests != best.digests:  # look-alikes are found in decoded pictures, so another size may split otherwise
        return None
    return difference_interval(best.right, other.right, best.num_independent)[0] <= 0


def _pooled_features(
    inputs: RunInputs, strategy: tf.distribute.Strategy
) -> tuple[np.ndarray, np.ndarray, float, float]:
    """Returns the features that a head would learn from, float32 (n, num_features) of train and of val, examples per
    second, and the backbone's parameters, millions.

    They are the same entry of the store that `train.py` uses.
    """
    config, data = inputs.config, inputs.data
    with strategy.scope():
        classifier = build_frozen(inputs)
    store = open_store(config.run.cache_dir, config.run.cache_gb)
    precision = choose_precision(config.training.precision, classifier.model)
    (cut,) = cuts_at(classifier, {0: 0}).values()
    part = FrozenPart(classifier.model, [cut], store, precision, pass_title(config, data), strategy, inputs.pool)
    kept = kept_examples(data)
    started = time.perf_counter()
    with progress_bar(config.model.backbone, len(kept)) as advance:
        computed = load_or_compute(part, 0, kept, config, data, advance)
    seconds = computed.seconds or time.perf_counter() - started

    ((features,),) = computed.tensors.values()
    values = np.asarray(features)
    pooled = values.mean(axis=tuple(range(1, values.ndim - 1)))  # a feature map, if the pooling has weights
    of_train, of_val = (pooled[computed.view(cut, data.splits[split]).rows] for split in ("train", "val"))
    return of_train, of_val, len(kept) / seconds, round(classifier.backbone.count_params() / 1e6, 3)
