"""A search finds, records, goes on where it was killed, and says what it found."""

import contextlib
import json
import math
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import psutil
import pytest
from filelock import FileLock

from app.config import TrainConfig
from app.errors import RunError, UsageError
from cluster.pool import open_pool
from models.backbones import find
from models.freezing import set_trainable
from models.weights import build_backbone
from reports.page import SPACE, percent
from tasks.metrics import METRICS
from tests.reports.read_page import text_of
from tests.small_network import small_network
from training.inputs import load_inputs
from training.learner import DivergedError, Learner
from training.run import train
from tuning.inputs import load_candidates, load_search_inputs, search_folder
from tuning.network import Network, last_blocks
from tuning.ranking import rank
from tuning.records import Outcome, TrialFile, checked
from tuning.search import lock_of, search
from tuning.space import TuneConfig
from tuning.winner import rank_finalists

ROOT = Path(__file__).parents[2]
SMALL = {
    "image_size": 32,
    "batch_size": (4, 8),
    "head_epochs": (2, 5),
    "fine_tune_epochs": (1, 2),
    "head_units": (0, 4),
    "optimizer": ("adam", "sgd"),
    "max_trials": 8,
    "test_fraction": 0.2,
    "val_fraction": 0.3,
}


def settings(root: Path, tmp_path: Path, name: str = "search", **changes) -> TuneConfig:
    places = {"data": str(root), "cache_dir": tmp_path / "cache", "output": tmp_path / name}
    return TuneConfig.of(**({"backbone": (small_network(tmp_path),)} | SMALL | places | changes))


def run(config: TuneConfig) -> Path:
    with open_pool(config.fixed.run) as pool:
        folder, inputs = load_search_inputs(config, pool)
        return search(config, inputs, folder, time.perf_counter())


def trials(folder: Path) -> pd.DataFrame:
    return pd.read_csv(folder / "trials.csv").drop(columns="seconds")


def test_a_search_leaves_what_it_promises(make_folder, tmp_path):
    folder = run(settings(make_folder(count=15), tmp_path))
    table, record = trials(folder), json.loads((folder / "search.json").read_text())
    assert list(table["trial"]) == list(range(1, 9))
    assert set(table["trainable_layers"]) > {0}
    assert record["trials"] == {"done": 8, "failed": 0}
    best = table[table["trial"] == record["best"]["trial"]].iloc[0]
    assert best["val_accuracy"] == table["val_accuracy"].max() == record["best"]["val_accuracy"]
    figures = {path.name for path in (folder / "figures").iterdir()}
    assert figures == {"progress.png", "effects.png"}
    metrics = json.loads((folder / "best" / "metrics.json").read_text())
    assert metrics["val"]["accuracy"] == pytest.approx(record["best"]["val_accuracy"], abs=1e-6)
    assert record["retrained"]["test"] == metrics["test"]["accuracy"]
    assert record["best"]["score"] >= table["val_accuracy"][0]
    assert json.loads((folder / "best" / "config.json").read_text())["positive"] == "dog"


def train_by(config: TrainConfig, **places: Path) -> dict:
    folder = train(load_inputs(TrainConfig.of(**config.flat() | places)))
    return json.loads((folder / "metrics.json").read_text())


def test_the_first_trial_is_what_train_does_by_itself(make_folder, tmp_path):
    root = make_folder(count=15)
    shared = {"data": str(root), "image_size": 32, "test_fraction": 0.2, "val_fraction": 0.3}
    shared["backbone"] = small_network(tmp_path)
    for name, given in (("open", {}), ("fixed", {"trainable_layers": 8, "fine_tune_epochs": 1})):
        space = {"fine_tune_epochs": (1, 2)} | {each: (value,) for each, value in given.items()}
        folder = run(settings(root, tmp_path, name, **space, max_trials=1))
        record = json.loads((folder / "search.json").read_text())
        assert record["trials"] == {"done": 1, "failed": 0}
        metrics = train_by(TrainConfig.of(**shared | given), cache_dir=tmp_path / "cache", output=tmp_path / f"r{name}")
        best = record["best"]
        assert metrics["val"]["accuracy"] == pytest.approx(best["val_accuracy"], abs=1e-6)
        assert metrics["calibration"]["val"]["log_loss_before"] == pytest.approx(best["val_loss"], rel=1e-3)
        assert trials(folder)["trainable_layers"].to_list() == [given.get("trainable_layers", 0)]
        assert (folder / "best" / "predictions.csv").read_bytes() == (
            tmp_path / f"r{name}" / "predictions.csv"
        ).read_bytes()


def test_trials_that_fine_tune_start_from_the_head_that_train_solves(make_folder, tmp_path):
    config = settings(make_folder(count=15), tmp_path)
    network = Network(load_search_inputs(config)[1][0], config)
    tuned = {"trainable_layers": 8, "batch_size": 8, "fine_tune_epochs": 1}
    solved, trained, deep = (
        network.complete(TrainConfig.of(**tuned | change))
        for change in ({}, {"head_units": (4,)}, {"fine_tune_learning_rate": 1e-3})
    )
    assert (solved.head_solver, trained.head_solver, deep.head_solver) == ("lbfgs", "optimizer", "lbfgs")
    first, again = network._solve([solved]), network._solve([deep, solved])
    assert first[0] is again[0] is again[1]
    assert len(first[0].curve) == 1
    outcomes = dict(network.run([(1, solved), (2, deep)]))
    assert all(outcome.val_loss <= first[0].curve[0].loss for outcome in outcomes.values())


def test_a_trial_that_diverges_is_passed_over_and_changes_no_other(make_folder, tmp_path, monkeypatch):
    """It diverges by hand: the loss of a trained network stays finite at every rate."""
    train_phase = Learner.train

    def diverging(learner, *args, learning_rate, **rest):
        result = train_phase(learner, *args, learning_rate=learning_rate, **rest)
        if learning_rate == 10:
            for variable in learner._model.trainable_variables:
                variable.assign(variable + 1.0)
            raise DivergedError("the loss is nan", result)
        return result

    monkeypatch.setattr(Learner, "train", diverging)
    config = settings(make_folder(count=15), tmp_path)
    (given,) = load_search_inputs(config)[1]
    tuned = {"trainable_layers": 8, "batch_size": 8, "fine_tune_epochs": 1}
    outcomes = []
    for before in (True, False):
        network = Network(given, config)
        good = network.complete(TrainConfig.of(**tuned))
        wild = network.complete(TrainConfig.of(**tuned, optimizer="sgd", fine_tune_learning_rate=10.0))
        outcomes.append(dict(network.run([(1, wild), (2, good)] if before else [(2, good)])))
    assert outcomes[0][1].status == "failed"
    assert outcomes[0][2]._replace(seconds=0.0) == outcomes[1][2]._replace(seconds=0.0)


def test_what_the_search_gained_is_measured_on_test(make_folder, tmp_path, capsys):
    config = settings(make_folder(count=15), tmp_path, trainable_layers=(0,), max_trials=3)
    folder = run(config)
    table = pd.read_csv(folder / "trials.csv")
    table.loc[0, ["score", "val_accuracy"]] = 0.25  # so that another is the best
    table.to_csv(folder / "trials.csv", index=False)
    (folder / "report.html").unlink()
    capsys.readouterr()
    run(config)
    printed = " ".join(capsys.readouterr().out.split())
    record = json.loads((folder / "search.json").read_text())
    assert record["best"]["trial"] != 1
    assert record["default"]["score"] == 0.25
    assert "of train.py by itself 25.00 %: the lead is optimistic" in printed
    metrics = {name: json.loads((folder / name / "metrics.json").read_text()) for name in ("best", "default")}
    gain = record["gain"]
    assert gain["accuracy"] == {name: found["test"]["accuracy"] for name, found in metrics.items()}
    best, default = (pd.read_csv(folder / name / "predictions.csv") for name in metrics)
    right = [(each["label"] == each["predicted"])[each["split"] == "test"] for each in (best, default)]
    only = gain["only_best_right"], gain["only_default_right"]
    assert only == ((right[0] & ~right[1]).sum(), (right[1] & ~right[0]).sum())
    assert gain["difference"] == pytest.approx((only[0] - only[1]) / len(right[0]))
    low, high = gain["difference_ci95"]
    assert low <= gain["difference"] <= high
    assert "a difference of " in printed
    own = TrainConfig.from_file(folder / "default" / "config.json")
    assert (own.training.head_solver, own.model.head_units, own.training.batch_size) == ("lbfgs", (), 32)


def test_the_winner_goes_as_deep_as_train_does_by_itself(make_folder, tmp_path, monkeypatch):
    """Which it does from 1,000 examples on; here from one."""
    monkeypatch.setattr("training.recipe.FINE_TUNE_LEAST_EXAMPLES", 1)
    config = settings(make_folder(count=15), tmp_path, max_trials=3, fine_tune_epochs=(1, 2))
    folder, inputs = load_search_inputs(config)
    network = Network(inputs[0], config)
    recipe = network.default
    run(config)
    assert (recipe.deeper_layers, recipe.deeper_epochs) == ("all", 4)
    assert trials(folder)["trainable_layers"][0] == recipe.trainable_layers
    assert recipe.trainable_layers not in network.depths
    best = TrainConfig.from_file(folder / "best" / "config.json")
    assert (best.training.deeper_layers, best.training.deeper_epochs) == ("all", 4)
    if best.model.trainable_layers == 0:
        assert best.training.fine_tune_learning_rate == recipe.fine_tune_learning_rate


def test_every_trial_is_what_train_makes_of_its_settings(make_folder, tmp_path):
    """Here for the best of searches that only freeze, and only fine-tune."""
    root = make_folder(count=15)
    for depth in (0, 8):
        folder = run(settings(root, tmp_path, f"search{depth}", trainable_layers=(depth,), max_trials=3))
        metrics = json.loads((folder / "best" / "metrics.json").read_text())  # trained as train.py does it
        best = json.loads((folder / "search.json").read_text())["best"]
        assert metrics["val"]["accuracy"] == pytest.approx(best["val_accuracy"], abs=1e-6)
        assert metrics["calibration"]["val"]["log_loss_before"] == pytest.approx(best["val_loss"], rel=1e-3)


def test_a_search_of_the_whole_network_says_how_it_varies_pictures_and_keeps_it(make_folder, tmp_path, capsys):
    one = {"trainable_layers": ("all",), "fine_tune_epochs": (1,), "head_units": (0,), "max_trials": 1, "cache_gb": 0.0}
    folder = run(settings(make_folder(count=15), tmp_path, **one))
    said = "fine-tuning of all layers runs the whole network: examples are varied anew in every epoch"
    assert said in " ".join(capsys.readouterr().out.split())
    for name in ("best_config.json", "best/config.json"):
        assert json.loads((folder / name).read_text())["fine_tune_augment"] == "fresh"
    before = json.loads((folder / "best" / "metrics.json").read_text())["calibration"]["val"]["log_loss_before"]
    assert json.loads((folder / "search.json").read_text())["best"]["val_loss"] == pytest.approx(before, rel=1e-3)


def test_a_search_whose_cache_is_too_small_stops_before_it_computes(make_folder, tmp_path, monkeypatch):
    root = make_folder(count=15)
    with monkeypatch.context() as patch:
        patch.setattr("tuning.network.frozen_inputs", lambda *_, **__: pytest.fail("computed"))
        with pytest.raises(UsageError, match=r"--cache-gb must be at least .* or --fine-tune-augment fresh"):
            run(settings(root, tmp_path, cache_gb=0.0))
    config = settings(root, tmp_path, cache_gb=0.0, fine_tune_augment="fresh")
    _, inputs = load_search_inputs(config)
    network = Network(inputs[0], config)
    trained = [TrainConfig.of(trainable_layers=depth, head_solver="optimizer") for depth in network.depths]
    assert {network.complete(each).views for each in trained} == {2}
    trial = TrainConfig.of(trainable_layers=3, fine_tune_augment="fresh")
    assert network.complete(trial).fine_tune_augment == "fresh"


@pytest.mark.parametrize(
    "objective",
    [
        "val_macro_f1",
        *(pytest.param(name, marks=pytest.mark.slow) for name in ("val_balanced_accuracy", "val_roc_auc")),
    ],
)
def test_a_search_optimises_what_a_run_of_the_winner_measures(make_folder, tmp_path, objective):
    root = make_folder(count=20)
    for index in range(8, 20):
        (root / "dog" / f"{index}.png").unlink()
    for index in range(5):  # so that not every trial is right everywhere
        (root / "cat" / f"{index}.png").rename(root / "dog" / f"cat{index}.png")
    some = {"max_trials": 4, "trainable_layers": (0, 8), "fine_tune_epochs": (1,), "objective": objective}
    folder = run(settings(root, tmp_path, **some))
    table, best = trials(folder), json.loads((folder / "search.json").read_text())["best"]
    assert best["score"] == table["score"].max()
    assert table["score"].nunique() > 1
    metrics = json.loads((folder / "best" / "metrics.json").read_text())
    assert metrics["val"][objective.removeprefix("val_")] == pytest.approx(best["score"], abs=1e-6)
    assert min(metrics["seconds"].values()) >= 0


def test_a_search_with_a_promise_optimises_what_is_left_and_measures_it_on_test(make_folder, tmp_path, capsys):
    root = make_folder(count=20)
    config = settings(root, tmp_path, max_trials=3, trainable_layers=(0,), sensitivity=0.9)
    folder = run(config)
    table = pd.read_csv(folder / "trials.csv")
    table.loc[0, "score"] = 0.0  # so that another is the best
    table.to_csv(folder / "trials.csv", index=False)
    (folder / "report.html").unlink()
    run(config)
    record = json.loads((folder / "search.json").read_text())
    assert record["config"]["objective"] == "val_specificity_at_sensitivity_90"
    best = json.loads((folder / "best" / "metrics.json").read_text())
    (point,) = best["decision"]["classes"].values()
    assert record["best"]["score"] == pytest.approx(point["val"]["specificity"])
    assert "validation specificity at sensitivity 90 %" in " ".join(capsys.readouterr().out.split())
    for name in ("best", "default"):
        table, (positive,) = pd.read_csv(folder / name / "predictions.csv"), best["decision"]["classes"]
        table = table[table["split"] == "test"]
        found = table["label"] == positive
        lowest = table.loc[found, f"probability_{positive}"].min()  # fewer than ten: all are to be found
        left = (table.loc[~found, f"probability_{positive}"] < lowest).mean()
        assert record["gain"]["specificity_at_sensitivity_90"][name] == pytest.approx(left)


def test_an_objective_of_one_class_is_refused_where_there_are_several(make_folder, tmp_path):
    config = settings(make_folder(classes=("a", "b", "c")), tmp_path, objective="val_sensitivity_at_specificity_95")
    with pytest.raises(UsageError, match=r"^--objective val_sensitivity\S+ needs two classes, or several"):
        load_search_inputs(config)


def test_a_score_is_that_of_the_weights_that_are_kept(make_folder, tmp_path):
    """A head that learns, one that is solved, and layers behind it: the accuracy is known otherwise as well."""
    config = settings(make_folder(count=15), tmp_path, objective="val_balanced_accuracy")
    network = Network(load_search_inputs(config)[1][0], config)
    network._metric = METRICS["accuracy"]
    for trial in (
        {"trainable_layers": 0, "head_units": (4,), "batch_size": 8, "head_epochs": 3, "learning_rate": 0.01},
        {"trainable_layers": 0},
        {"trainable_layers": 8, "fine_tune_epochs": 2},
    ):
        ((_, outcome),) = network.run([(1, network.complete(TrainConfig.of(**trial)))])
        assert outcome.score == pytest.approx(outcome.val_accuracy, abs=1e-6)


def test_a_split_that_does_not_define_the_objective_fails_every_trial(make_folder, tmp_path, monkeypatch):
    monkeypatch.setitem(METRICS, "roc_auc", METRICS["roc_auc"]._replace(compute=lambda _: None))
    some = {"objective": "val_roc_auc", "trainable_layers": (0,), "max_trials": 1}
    with pytest.raises(RunError, match="None of 1 trial succeeded: the val split does not define --objective val_roc"):
        run(settings(make_folder(count=15), tmp_path, **some))


def test_no_trial_depends_on_those_before_it(make_folder, tmp_path):
    root, outcomes = make_folder(count=15), {}
    search_config = settings(root, tmp_path)
    for order in ((3, 8), (8, 3)):
        _, inputs = load_search_inputs(search_config)
        network = Network(inputs[0], search_config)
        for depth in order:
            config = TrainConfig.of(trainable_layers=depth, batch_size=4, fine_tune_epochs=2, head_epochs=2, views=2)
            ((_, outcome),) = network.run([(1, network.complete(config))])
            outcomes.setdefault(depth, []).append(outcome.val_loss)
    for first, second in outcomes.values():
        assert first == second


def test_no_trial_depends_on_the_room_beside_it(make_folder, tmp_path, monkeypatch):
    """Heads have as many places as there are trials, or places of which some are spare."""
    root = make_folder(count=15)
    one = {"trainable_layers": (0,), "batch_size": (7,), "head_units": (4,), "max_trials": 6}
    changes = {"optimizer": ("adam", "adamw", "sgd"), **one}
    usual = trials(run(settings(root, tmp_path, "usual", **changes)))
    monkeypatch.setattr("tuning.network.STEPS_WORTH_A_GRAPH", 0)
    exact = trials(run(settings(root, tmp_path, "exact", **changes)))
    pd.testing.assert_frame_equal(exact, usual)


@pytest.mark.parametrize(
    "oracle", ["random", *(pytest.param(name, marks=pytest.mark.slow) for name in ("bayesian", "hyperband", "grid"))]
)
def test_the_same_seed_gives_the_same_trials(make_folder, tmp_path, oracle):
    root = make_folder(count=15)
    changes = {"oracle": oracle, "trainable_layers": (0,), "max_trials": 10, "optimizer": ("adam",)}
    first, again = (trials(run(settings(root, tmp_path, name, **changes))) for name in ("first", "again"))
    pd.testing.assert_frame_equal(first, again)
    assert not first[["learning_rate", "batch_size", "dropout"]].duplicated().all()


def test_a_stopped_search_goes_on_and_ends_as_if_it_had_not(make_folder, tmp_path):
    root = make_folder(count=15)
    whole = trials(run(settings(root, tmp_path, "whole", oracle="bayesian", max_trials=10, head_units=(0,))))
    config = settings(root, tmp_path, "parts", oracle="bayesian", max_trials=10, head_units=(0,))
    folder = run(config)
    lines = (folder / "trials.csv").read_text().splitlines(keepends=True)
    (folder / "trials.csv").write_text("".join(lines[:4]))
    before = (folder / "best" / "metrics.json").stat().st_mtime_ns
    run(config)
    pd.testing.assert_frame_equal(trials(folder), whole)
    assert (folder / "trials.csv").read_text().splitlines(keepends=True)[:4] == lines[:4]
    assert (folder / "best" / "metrics.json").stat().st_mtime_ns == before  # the same best needs no second training


def test_more_trials_can_be_asked_for_later(make_folder, tmp_path):
    root = make_folder(count=15)
    few = trials(run(settings(root, tmp_path, trainable_layers=(0,), max_trials=4)))
    more = trials(run(settings(root, tmp_path, trainable_layers=(0,), max_trials=7)))
    pd.testing.assert_frame_equal(more.head(4), few)
    assert len(more) == 7


def test_another_search_does_not_go_into_the_same_folder(make_folder, tmp_path):
    root = make_folder(count=15)
    run(settings(root, tmp_path, trainable_layers=(0,), max_trials=1))
    with pytest.raises(UsageError, match="holds a search with another --dropout"):
        run(settings(root, tmp_path, trainable_layers=(0,), max_trials=1, dropout=(0.1,)))


def test_a_search_does_not_go_on_with_other_pictures(make_folder, tmp_path):
    root = make_folder(count=15)
    config = settings(root, tmp_path, trainable_layers=(0,), max_trials=1)
    run(config)
    (root / "cat" / "0.png").rename(root / "dog" / "moved.png")
    with pytest.raises(UsageError, match="holds a search on other examples"):
        run(config)


def test_every_default_depth_has_something_to_learn():
    """ResNet50V2 ends in a BatchNorm that belongs to no block, and learns nothing."""
    backbone = find("resnet50v2")
    parts = build_backbone(backbone, 32, "none")
    layers, counts = parts.model.layers, last_blocks(parts.blocks)
    assert len(counts) == 3
    for count in counts[1:]:
        set_trainable(layers, count)
        assert any(layer.trainable_variables for layer in layers)


def test_two_processes_do_not_work_on_one_search(make_folder, tmp_path):
    config = settings(make_folder(count=15), tmp_path, trainable_layers=(0,), max_trials=1)
    with FileLock(lock_of(config.fixed.run.output)), pytest.raises(UsageError, match="Another process is at work"):
        run(config)


def test_without_output_the_folder_follows_from_the_settings(tmp_path):
    one = TuneConfig.of(data="photos", max_trials=3)
    assert search_folder(one) == search_folder(TuneConfig.of(data="photos", max_trials=9, workers=2))
    assert search_folder(one) != search_folder(TuneConfig.of(data="photos", seed=1))
    assert search_folder(one).parts[0] == "runs"


def test_trials_that_fail_are_passed_over(make_folder, tmp_path, monkeypatch):
    """Out of memory is raised by hand: it cannot be had safely."""
    import tensorflow as tf

    from training.learner import bounded_by_memory
    from tuning.network import Tail

    def fail(*_, **__):
        with bounded_by_memory():
            raise tf.errors.ResourceExhaustedError(None, None, "OOM when allocating tensor")

    root = make_folder(count=15)
    with monkeypatch.context() as patch:
        patch.setattr(Tail, "train", fail)
        table = trials(run(settings(root, tmp_path)))
        failed = table["trainable_layers"] != 0
        assert set(table.loc[failed, "status"]) == {"failed"}
        assert table.loc[failed, "message"].str.contains("the memory is too small").all()
        assert set(table.loc[~failed, "status"]) == {"done"}
        with pytest.raises(RunError, match=r"None of 2 trials succeeded: BatchTooLargeError: the memory"):
            run(settings(root, tmp_path, "all", trainable_layers=(8,), max_trials=2))


def test_finalists_are_repeated_with_other_seeds_and_no_repeat_is_run_twice(make_folder, tmp_path, monkeypatch, capsys):
    config = settings(make_folder(count=15), tmp_path, trainable_layers=(0,), finalists=2, repeats=2)
    folder = run(config)
    repeats = pd.read_csv(folder / "finalists.csv")
    assert repeats.groupby("trial")["seed"].nunique().tolist() == [2, 2]
    table = pd.concat([repeats, trials(folder).loc[lambda table: table["trial"].isin(repeats["trial"])]])
    means = table.groupby("trial")["val_accuracy"].mean()
    record = json.loads((folder / "search.json").read_text())
    best = record["best"]["trial"]
    assert means[best] == means.max()
    assert [each["trial"] for each in record["finalists"]] == [best, *means.index.drop(best)]
    assert [each["score"] for each in record["finalists"]] == pytest.approx(sorted(means, reverse=True))
    mean, page = percent(means.max(), 2).replace(SPACE, " "), text_of((folder / "report.html").read_text())
    assert f"Best mean over 3 seeds: {mean} in trial {best}" in page
    printed = " ".join(capsys.readouterr().out.split())
    assert f"{mean} (mean over 3 seeds), the best of 2 finalists of 8 trials" in printed
    assert "looked at 12 times" in page

    before = pd.read_csv(folder / "finalists.csv", dtype=str)
    before[:-1].to_csv(folder / "finalists.csv", index=False)  # as if it had been killed before the last
    added, add = [], TrialFile.add

    def watch(self, number, plan, outcome):
        added.append((number, plan.config.training.seed))
        add(self, number, plan, outcome)

    monkeypatch.setattr(TrialFile, "add", watch)
    run(config)
    assert added == [tuple(repeats[["trial", "seed"]].iloc[-1])]
    after = pd.read_csv(folder / "finalists.csv", dtype=str)
    pd.testing.assert_frame_equal(after.drop(columns="seconds"), before.drop(columns="seconds"))

    run(config.replace(finalists=1))  # resumed without repeats
    assert json.loads((folder / "search.json").read_text())["finalists"] == []
    assert "Best mean over" not in (folder / "report.html").read_text()


def test_a_finalist_with_a_failed_repeat_cannot_win():
    seeds = [{"trial": trial, "status": "done", "val_accuracy": 0.5, "val_loss": 0.1} for trial in (1, 1, 2, 2, 3, 3)]
    outcomes = pd.DataFrame(seeds).assign(score=[0.9, 0.5, 0.8, 0.8, 0.9, np.nan])
    outcomes.loc[5, "status"] = "failed"
    ranking = rank_finalists(outcomes, "val_accuracy")
    assert [(each["trial"], each["seeds"], each["score"]) for each in ranking] == [(2, 2, 0.8), (1, 2, 0.7)]
    assert rank_finalists(outcomes[4:], "val_accuracy") == []


def test_no_more_trials_are_begun_when_the_time_is_up(make_folder, tmp_path):
    with pytest.raises(RunError, match="the time was up before the first ended"):
        run(settings(make_folder(count=15), tmp_path, max_minutes=1e-6))


def test_a_trial_that_takes_too_long_on_a_worker_has_failed(make_folder, tmp_path, monkeypatch):
    monkeypatch.setattr("cluster.pool.POLL", 0.01)  # seconds between looks at the clock
    one = {"max_trials": 1, "workers": 2, "trial_minutes": 1e-5}
    with pytest.raises(RunError, match=r"None of 1 trial succeeded: took longer than 1e-05 minutes\."):
        run(settings(make_folder(count=15), tmp_path, **one))


@pytest.mark.slow
def test_killed_at_any_moment_every_trial_counts_once(make_folder, tmp_path):
    root, moments = make_folder(count=15), random.Random(0)
    flags = ["--data", str(root), "--image-size", "32", "--batch-size", "4", "8", "--head-epochs", "2", "5"]
    flags += ["--fine-tune-epochs", "1", "--max-trials", "12", "--val-fraction", "0.3", "--test-fraction", "0.2"]
    flags += ["--cache-dir", str(tmp_path / "cache")]

    def command(name: str) -> list[str]:
        return [sys.executable, str(ROOT / "tune.py"), *flags, "--output", str(tmp_path / name)]

    started = time.monotonic()
    subprocess.run(command("whole"), check=True, cwd=tmp_path, capture_output=True)
    longest = time.monotonic() - started
    for _ in range(10):
        process = subprocess.Popen(
            command("killed"), cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        time.sleep(moments.uniform(0.3, 1) * longest)
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
    subprocess.run(command("killed"), check=True, cwd=tmp_path, capture_output=True)
    whole, killed = trials(tmp_path / "whole"), trials(tmp_path / "killed")
    pd.testing.assert_frame_equal(whole, killed)
    records = [json.loads((tmp_path / name / "best" / "metrics.json").read_text()) for name in ("whole", "killed")]
    assert records[0]["val"] == records[1]["val"]
    assert np.isfinite(killed["val_loss"]).all()


def test_workers_find_what_one_process_finds(make_folder, tmp_path, capsys):
    root = make_folder(count=15)
    alone, together = (
        trials(run(settings(root, tmp_path, name, max_trials=4, workers=workers)))
        for name, workers in (("alone", None), ("together", 2))
    )
    assert "2 workers" in capsys.readouterr().out
    pd.testing.assert_frame_equal(together, alone)


def test_impossible_results_of_a_worker_are_failed_trials():
    possible = Outcome("done", 0.4, 0.5, 0.1, 1.0)
    reported = [
        (1, possible),
        (2, possible._replace(val_accuracy=2.0)),
        (3, possible._replace(val_loss=math.nan)),
        (4, possible._replace(val_accuracy="1.0")),
        (5, possible._replace(status="won")),
        (6, possible._replace(score=math.nan)),
        (7, possible),
        (9, possible._replace(score=-4.0, val_loss=-1.0)),  # of custom.py
    ]
    found = dict(checked(reported, [1, 2, 3, 4, 5, 6, 8, 9]))
    assert found.pop(1) == possible
    assert found.pop(9).score == -4
    assert sorted(found) == [2, 3, 4, 5, 6, 8]
    assert {outcome.status for outcome in found.values()} == {"failed"}


def children(process: subprocess.Popen) -> list[psutil.Process]:
    try:
        return psutil.Process(process.pid).children(recursive=True)
    except psutil.NoSuchProcess:
        return []


@pytest.mark.slow
def test_a_killed_worker_loses_no_trial(make_folder, tmp_path):
    root = make_folder(count=15)
    alone = trials(run(settings(root, tmp_path, "alone", max_trials=12)))
    flags = ["--data", str(root), "--image-size", "32", "--batch-size", "4", "8", "--head-epochs", "2", "5"]
    flags += ["--fine-tune-epochs", "1", "2", "--max-trials", "12", "--val-fraction", "0.3", "--test-fraction", "0.2"]
    flags += ["--head-units", "0", "4", "--optimizer", "adam", "sgd", "--workers", "3"]
    flags += ["--backbone", small_network(tmp_path)]
    flags += ["--cache-dir", str(tmp_path / "cache"), "--output", str(tmp_path / "three")]
    process = subprocess.Popen(
        [sys.executable, str(ROOT / "tune.py"), *flags], cwd=tmp_path, stdout=subprocess.PIPE, text=True
    )
    worker = None
    while worker is None and process.poll() is None:
        time.sleep(0.5)
        worker = next((each for each in children(process) if each.name().startswith("ray::Worker.run")), None)
    worker.kill()
    output, _ = process.communicate()
    assert process.returncode == 0, output
    assert "a worker died" in output
    pd.testing.assert_frame_equal(trials(tmp_path / "three"), alone)


@pytest.mark.slow
def test_memory_is_flat_over_200_trials(make_folder, tmp_path, monkeypatch):
    pages = []
    add = TrialFile.add

    def watch(self, *arguments):
        pages.append(int(Path("/proc/self/statm").read_text().split()[1]))
        add(self, *arguments)

    monkeypatch.setattr(TrialFile, "add", watch)
    one = {"head_units": (0,), "optimizer": ("adam",), "batch_size": (4,), "fine_tune_epochs": (1,)}
    folder = run(settings(make_folder(count=15), tmp_path, max_trials=200, trainable_layers=(0, 3), **one))
    assert set(trials(folder)["trainable_layers"][1:10]) == {0, 3}  # all graphs are there by then, the default's too
    assert len(trials(folder)) == 200
    assert pages[-1] <= 1.05 * pages[9]
    assert sum(file.stat().st_size for file in folder.rglob("*") if file.is_file()) < 50 * 2**20


def test_a_finished_search_is_left_as_it_is(make_folder, tmp_path, capsys):
    config = settings(make_folder(count=15), tmp_path, trainable_layers=(0,), max_trials=2)
    folder = run(config)
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    assert run(config) == folder
    assert "this search is finished" in capsys.readouterr().out
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before


@pytest.mark.parametrize("command", ["train", "tune", "rank"])
def test_weights_of_a_broken_network_are_named_at_once_by_every_command(make_folder, tmp_path, command):
    """Each is a sound number; what the network computes with them is none."""
    backbone = build_backbone(find("vgg16"), 32, "none").model
    backbone.set_weights([np.full(variable.shape, 1e14, np.float32) for variable in backbone.weights])
    weights = str(tmp_path / "x.weights.h5")
    backbone.save_weights(weights)
    config = settings(make_folder(count=8), tmp_path, backbone=("vgg16",), weights=weights)
    places = {
        "data": config.fixed.data.data,
        "cache_dir": config.fixed.run.cache_dir,
        "image_size": 32,
        "output": config.fixed.run.output,
    }
    commands = {
        "train": lambda: train(load_inputs(TrainConfig.of(**places, backbone="vgg16", weights=weights))),
        "tune": lambda: run(config),
        "rank": lambda: rank(config, load_candidates(config)[1], config.fixed.run.output, time.perf_counter()),
    }
    with pytest.raises(UsageError, match=r"--weights must be .* its layer '.*' computes inf"):
        commands[command]()


def test_a_search_whose_oracle_has_no_more_trials_says_so(make_folder, tmp_path, capsys):
    few = {"trainable_layers": (0,), "head_epochs": (2,), "head_units": (0,), "batch_size": (4,), "dropout": (0.0,)}
    few |= {"weight_decay": (0.0,), "learning_rate": (1e-3,), "optimizer": ("adam", "sgd"), "oracle": "grid"}
    run(settings(make_folder(count=15), tmp_path, max_trials=8, **few))
    assert "3 trials, not 8: --oracle grid proposes no others" in capsys.readouterr().out


def test_progress_counts_the_trials_of_this_search_alone(make_folder, tmp_path, monkeypatch):
    config, counts = settings(make_folder(count=15), tmp_path, trainable_layers=(0,), max_trials=4), []
    folder = run(config)
    lines = (folder / "trials.csv").read_text().splitlines(keepends=True)
    (folder / "trials.csv").write_text("".join([lines[0], *lines[2:]]))  # of four, the first is gone

    @contextlib.contextmanager
    def bar(stage, total):
        yield lambda steps=1: counts.append((steps, total))

    monkeypatch.setattr("tuning.search.progress_bar", bar)
    run(config.replace(max_trials=2))
    assert counts == [(1, 2), (1, 2)]  # the one on record, and the other
