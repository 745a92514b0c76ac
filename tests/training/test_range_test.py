"""The range test finds a rate that learns, and leaves no trace but that rate."""

import json

import keras
import numpy as np
import pandas as pd
import pytest

from app.config import TrainConfig
from app.errors import RunError
from data.batches import Examples, View
from models.heads import build_head
from tasks.classification import MULTICLASS
from training.inputs import load_inputs
from training.plan import Plan
from training.range_test import DIVERGED, HIGHEST, LOWEST, STEPS, STEPS_PER_TENFOLD, choose_rate, range_test
from training.run import train

PLAN = Plan.of(TrainConfig.of(batch_size=32))


def examples(count: int = 256, scale: float = 1.0) -> Examples:
    rng = np.random.default_rng(0)
    features = rng.normal(scale=scale, size=(count, 16)).astype(np.float32)
    targets = np.eye(4, dtype=np.float32)[np.argmax(features @ rng.normal(size=(16, 4)), axis=1)]
    return Examples([View((features,), np.arange(count))], targets, np.ones(count, np.float32))


def make_head() -> keras.Sequential:
    return build_head(16, MULTICLASS, 4, head_units=(8,), dropout=0.2)


def curve_of(head: keras.Sequential | None = None, train: Examples | None = None, plan=PLAN, **settings):
    return range_test(head or make_head(), MULTICLASS, train or examples(), plan, **settings)


def made_curve(losses) -> pd.DataFrame:
    rates = LOWEST * 10 ** (np.arange(len(losses)) / STEPS_PER_TENFOLD)
    return pd.DataFrame({"learning_rate": rates, "loss": losses, "smoothed_loss": losses}, dtype=float)


def test_everything_of_the_model_is_as_it_was():
    head = make_head()
    before = [variable.numpy() for variable in head.variables]
    assert len(before) > len(head.weights), "the state of dropout is among them"
    curve_of(head)
    for variable, value in zip(head.variables, before, strict=True):
        np.testing.assert_array_equal(variable, value, err_msg=variable.path)
    assert getattr(head, "optimizer", None) is None


def test_the_rate_rises_exponentially_from_the_lowest_to_the_highest(monkeypatch):
    monkeypatch.setattr("training.range_test.DIVERGED", np.inf)
    steps = []
    curve = curve_of(on_step=lambda: steps.append(1))
    assert len(curve) == len(steps) == STEPS
    np.testing.assert_allclose(curve["learning_rate"], np.geomspace(LOWEST, HIGHEST, STEPS), rtol=1e-5)


def test_the_first_loss_is_that_of_the_weights_it_starts_from():
    head = build_head(16, MULTICLASS, 4)
    train = examples(count=8)
    loss = keras.losses.CategoricalCrossentropy()(train.targets, head(train.views[0].inputs[0]))
    weighted = train._replace(sample_weights=np.full(8, 3, np.float32))
    assert curve_of(head, train)["loss"][0] == pytest.approx(float(loss), rel=1e-5)
    assert curve_of(head, weighted)["loss"][0] == pytest.approx(3 * float(loss), rel=1e-5)


def test_the_same_seed_gives_the_same_curve_and_another_one_another():
    first = curve_of()
    pd.testing.assert_frame_equal(curve_of(), first)
    assert not curve_of(plan=PLAN.replace(seed=1)).equals(first)


def test_it_ends_where_the_loss_diverges():
    curve = curve_of(train=examples(scale=30))
    smoothed = curve["smoothed_loss"]
    assert len(curve) < STEPS
    assert smoothed.iloc[-1] > DIVERGED * smoothed.min()
    assert (smoothed.iloc[:-1] <= DIVERGED * smoothed.cummin().iloc[:-1]).all()


@pytest.mark.parametrize("optimizer", ["adam", "sgd", "lion"])
def test_the_loss_falls_around_the_rate_and_wider_features_get_a_lower_one(optimizer):
    plan = PLAN.replace(optimizer=optimizer)
    rates = []
    for scale in (1, 10):
        curve = curve_of(train=examples(scale=scale), plan=plan)
        rates.append(choose_rate(curve))
        position = int(np.searchsorted(curve["learning_rate"], rates[-1]))
        assert curve["smoothed_loss"][position] < curve["smoothed_loss"][: position // 2].min()
        assert curve["smoothed_loss"].min() < curve["smoothed_loss"][position]
    assert rates[1] < rates[0]


def test_the_rate_is_the_middle_of_the_steepest_tenfold_rise():
    losses = np.interp(np.arange(6 * STEPS_PER_TENFOLD), np.array([2, 3, 5, 6]) * STEPS_PER_TENFOLD, [2, 1, 0.5, 0.4])
    assert choose_rate(made_curve(losses)) == pytest.approx(LOWEST * 10**2.5, rel=0.05)


def test_to_recover_from_a_step_too_wide_is_no_fall():
    losses = np.interp(np.arange(6 * STEPS_PER_TENFOLD), np.array([1, 2, 4, 5]) * STEPS_PER_TENFOLD, [2, 1, 3.5, 1])
    assert choose_rate(made_curve(losses)) == pytest.approx(LOWEST * 10**1.5, rel=0.05)


@pytest.mark.parametrize("losses", [[], [1.0], np.linspace(1, 2, 100)])
def test_a_loss_that_falls_nowhere_gives_no_rate(losses):
    with pytest.raises(RunError, match="the loss falls at none of the rates tried"):
        choose_rate(made_curve(losses))


def test_a_loss_that_is_no_number_ends_the_test():
    broken = examples()._replace(sample_weights=np.full(256, np.nan, np.float32))
    assert curve_of(train=broken).empty


@pytest.mark.parametrize("augment", ["views", pytest.param("fresh", marks=pytest.mark.slow)])
def test_a_run_that_finds_its_rate_is_the_run_with_that_rate(make_folder, tmp_path, augment, capsys):
    settings = {
        "data": str(make_folder(count=8)),
        "cache_dir": tmp_path / "cache",
        "image_size": 32,
        "head_epochs": 3,
        "fine_tune_epochs": 0,
        "dropout": 0.3,
        "augment": augment,
    }
    found = train(load_inputs(TrainConfig.of(**settings, learning_rate="find", output=tmp_path / "found")))
    rate = json.loads((found / "config.json").read_text())["learning_rate"]
    assert LOWEST < rate < HIGHEST
    assert f"find       learning rate {rate:g}, " in capsys.readouterr().out
    assert (found / "figures" / "learning_rate.png").exists()
    assert list(pd.read_csv(found / "learning_rate.csv")) == ["learning_rate", "loss", "smoothed_loss"]

    given = train(load_inputs(TrainConfig.of(**settings, learning_rate=rate, output=tmp_path / "given")))
    for name in ("config.json", "predictions.csv"):
        assert (given / name).read_bytes() == (found / name).read_bytes()
    histories = [pd.read_csv(folder / "history.csv") for folder in (given, found)]
    pd.testing.assert_frame_equal(*histories)
    assert not (given / "learning_rate.csv").exists()
