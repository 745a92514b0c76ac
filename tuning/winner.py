"""Trains the winner of a search as `train.py` would, and measures the gain over the defaults of `train.py`.

Both are measured once on the test split, at the end. On val, the winner is the best of all trials, so its lead there is
optimistic: among equally good trials, one is ahead by luck.
"""

import shutil
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import tensorflow as tf

from app.config import TrainConfig
from app.files import as_read, read_json, write_json
from app.run_folder import CONFIG_FILE, is_finished
from app.terminal import share_text, show_stage
from data.csv_cells import read_table
from inference.answer_table import PROBABILITY
from inference.run_record import PREDICTIONS_FILE
from reports.search_plots import figure_of, metric_of, objective_title, ranked
from reports.search_report import chosen_from, gain_text, val_texts
from tasks.classification import Classification
from tasks.decision import find_metric
from tasks.metrics import difference_interval
from tasks.table import Task, classes_of
from training.inputs import RunInputs
from training.plan import Plan
from training.run import train

BEST, DEFAULT = "best", "default"
"""Run folders of the winner and of `train.py` by default."""


def as_trained(plan: Plan, default: Plan) -> TrainConfig:
    """Returns the settings of a trial with those of the last phase of `train.py`, which trials leave out.

    Args:
        plan: plan of the trial.
        default: plan of `train.py` by default, on the same backbone.
    """
    if not default.deeper_layers:
        return plan.config
    deeper: dict[str, Any] = {"deeper_layers": default.deeper_layers, "deeper_epochs": default.deeper_epochs}
    if not plan.fine_tunes:
        deeper["fine_tune_learning_rate"] = default.fine_tune_learning_rate
    return plan.config.replace(**deeper)


def rank_finalists(outcomes: pd.DataFrame, objective: str) -> list[dict[str, Any]]:
    """Returns number, number of seeds and mean outcomes of each finalist, the best first, for `search.json`.

    Args:
        outcomes: outcome of each finalist with each seed; a finalist with a failed repeat is left out.
        objective: objective of the search.
    """
    failed = outcomes.loc[outcomes["status"] != "done", "trial"]
    of_finalist = outcomes[~outcomes["trial"].isin(failed)].groupby("trial")
    means = of_finalist[["score", "val_accuracy", "val_loss"]].mean().assign(seeds=of_finalist.size()).reset_index()
    return ranked(means.assign(status="done"), objective).drop(columns="status").to_dict("records")


def train_best(inputs: RunInputs, config: TrainConfig, folder: Path, strategy: tf.distribute.Strategy) -> None:
    """Writes `best_config.json`, and the run folder `best/` unless it exists; replaces a run with other settings."""
    file, settings = folder / "best_config.json", as_read(config.to_json())
    if not file.exists() or read_json(file) != settings:
        shutil.rmtree(folder / BEST, ignore_errors=True)
        write_json(file, settings)
    train_again(inputs, config, folder / BEST, strategy)


def train_again(inputs: RunInputs, config: TrainConfig, output: Path, strategy: tf.distribute.Strategy) -> None:
    """Trains and measures a configuration, unless that is done; resumes an unfinished run."""
    begun = output / CONFIG_FILE
    if is_finished(output):
        return
    show_stage(output.name, "trained again, as train.py would, and measured on the test split")
    if begun.exists():  # perhaps with half the batch
        places = {"cache_dir": config.run.cache_dir, "cache_gb": config.run.cache_gb}
        config = TrainConfig.from_file(begun).replace(**places)
    train(inputs._replace(config=config.replace(output=output), started=time.perf_counter()), strategy)


def measure_gain(folder: Path, objective: str, task: Task) -> dict[str, Any] | None:
    """Compares the two runs of a search folder on the test split.

    Args:
        folder: folder of the search.
        objective: objective of the search.
        task: task of both runs.

    Returns:
        The record of the gain in `search.json`; None without a test split.
    """
    metric = metric_of(objective)
    measured = {name: read_json(folder / name / "metrics.json")["test"] for name in (BEST, DEFAULT)}
    if measured[BEST] is None:
        return None
    if task.has_boxes:
        return {
            figure: {name: each[figure] for name, each in measured.items()} for figure in ("ap50", "ap50_ci95", "ap")
        }
    right, reached = {}, {}
    for name, figures in measured.items():
        table = read_table(folder / name / PREDICTIONS_FILE)
        table = table[table["split"] == "test"].set_index("path").sort_index()
        right[name] = (table["label"] == table["predicted"]).to_numpy(bool)
        reached[name] = figures[metric] if metric in figures else _measure_again(metric, classes_of(task), table)
    independent = measured[BEST].get("effective_n", len(right[BEST]))
    return {
        "accuracy": {name: measured[name]["accuracy"] for name in measured},
        metric: reached,
        "difference": measured[BEST]["accuracy"] - measured[DEFAULT]["accuracy"],
        "difference_ci95": difference_interval(right[BEST], right[DEFAULT], independent),
        "only_best_right": int(np.sum(right[BEST] & ~right[DEFAULT])),
        "only_default_right": int(np.sum(right[DEFAULT] & ~right[BEST])),
    }


def _measure_again(metric: str, task: Classification, table: pd.DataFrame) -> float | None:
    """Measures a figure that no run has, from rows of `predictions.csv`."""
    probabilities = table.filter(regex=f"^{PROBABILITY}").astype(float)
    names = [column.removeprefix(PROBABILITY) for column in probabilities]
    labels = [list(filter(None, text.split("|"))) if task.multi_label else [text] for text in table["label"]]
    outputs = probabilities.to_numpy(np.float32)[:, -task.num_outputs(len(names)) :]
    return find_metric(metric).compute(task.answers(task.encode(labels, names), outputs))


def show_result(result: dict[str, Any], objective: str, nouns: str, task: Task) -> None:
    """Shows the score of the winner, and its gain.

    Args:
        result: record of the winner in `search.json`.
        objective: objective of the search.
        nouns: word for examples.
        task: task, which decides the leading metric.
    """
    gain, (best, default) = result["gain"], val_texts(result, objective)
    text = f"{objective_title(objective)} {best}, the best of {chosen_from(result)}"
    if default is not None:
        optimistic = "the best of several" if result["finalists"] else "the lead"
        text += f"; of train.py by itself {default}: {optimistic} is optimistic"
    show_stage("", text)
    if result["retrained"]["test"] is not None:
        test = f"{figure_of(task.leading_figure).title} {share_text(result['retrained']['test'], 2)}"
        show_stage("", f"test {test}, on {nouns} that no trial has seen")
    if result["best"]["trial"] == 1:
        show_stage("gain", "none: no trial did better than what train.py does by itself")
    elif gain is not None:
        show_stage("gain", gain_text(gain, objective))
