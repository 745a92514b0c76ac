"""A phase learns, keeps the best, and steps as it is told."""

import dataclasses

import keras
import numpy as np
import pytest

from config import TrainConfig
from data.pipeline import Examples, View
from models.heads import build_head
from training.phases import (
    OPTIMIZERS,
    DivergedError,
    Learner,
    balanced_weights,
    layer_decay_factors,
    scale_learning_rates,
)

CONFIG = TrainConfig(batch_size=8, patience=3)


def examples(count: int = 32, seed: int = 0) -> Examples:
    features = np.random.default_rng(seed).normal(size=(count, 6)).astype(np.float32)
    targets = (features[:, :1] > 0).astype(np.float32)
    return Examples([View(features, np.arange(count))], targets, np.ones(count, np.float32))


def run(config=CONFIG, train=None, val=None, epochs=4, learning_rate=0.01):
    head = build_head(6, "binary", 2, head_units=(8,), dropout=0.2, seed=config.seed)
    learner = Learner(head, "binary", config.optimizer)
    train = train or examples()
    result = learner.train("head", train, val, config, epochs=epochs, learning_rate=learning_rate, augment=False)
    return head, result


def test_the_optimizers_are_those_that_the_config_offers():
    from typing import get_args, get_type_hints

    assert set(OPTIMIZERS) == set(get_args(get_type_hints(TrainConfig)["optimizer"]))


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("weight_decay", [None, 0.01])
def test_every_optimizer_lowers_the_loss(optimizer, weight_decay):
    config = TrainConfig(batch_size=8, optimizer=optimizer, weight_decay=weight_decay)
    _, (results, _) = run(config, epochs=16, learning_rate=0.5 if optimizer in ("sgd", "adagrad") else 0.02)
    assert results[-1].loss < 0.8 * results[0].loss


def test_weight_decay_makes_weights_smaller():
    sizes = []
    for weight_decay in (0.0, 5.0):
        head, _ = run(dataclasses.replace(CONFIG, weight_decay=weight_decay))
        sizes.append(sum(np.abs(weights).sum() for weights in head.get_weights()))
    assert sizes[1] < 0.9 * sizes[0]


def test_the_same_seed_gives_the_same_weights():
    for first, second in zip(run()[0].get_weights(), run()[0].get_weights(), strict=True):
        np.testing.assert_array_equal(first, second)


def test_the_learning_rate_ends_at_zero():
    _, (results, best_epoch) = run(epochs=4)
    assert best_epoch == 4
    assert results[0].learning_rate == pytest.approx(0.01, rel=0.1)
    assert results[-1].learning_rate == pytest.approx(0, abs=1e-9)


def test_a_constant_learning_rate_stays_and_answers_for_fewer_epochs():
    config = dataclasses.replace(CONFIG, schedule="constant")
    _, (long, _) = run(config, val=examples(seed=1), epochs=6)
    _, (short, _) = run(config, val=examples(seed=1), epochs=3)
    assert [result.learning_rate for result in long] == pytest.approx([0.01] * 6)
    assert [result._replace(seconds=0) for result in long[:3]] == [result._replace(seconds=0) for result in short]


def test_a_second_phase_starts_afresh_in_the_same_graph():
    head = build_head(6, "binary", 2, head_units=(8,))
    start = head.get_weights()
    learner = Learner(head, "binary", "adam")
    settings = {"epochs": 3, "learning_rate": 0.01, "augment": False}
    first = learner.train("head", examples(), examples(seed=1), CONFIG, **settings)
    head.set_weights(start)
    learner.train("head", examples(), None, CONFIG, **(settings | {"learning_rate": 0.3}))
    head.set_weights(start)
    again = learner.train("head", examples(), examples(seed=1), CONFIG, **settings)
    assert [epoch.val_loss for epoch in again.epochs] == [epoch.val_loss for epoch in first.epochs]


def test_the_best_weights_are_kept_and_waiting_ends():
    val = examples(seed=1)
    upside_down = val._replace(targets=1 - val.targets)
    start = [w.copy() for w in build_head(6, "binary", 2, head_units=(8,), dropout=0.2).get_weights()]
    head, (results, best_epoch) = run(val=upside_down, epochs=20)
    assert len(results) == CONFIG.patience
    assert best_epoch == 0
    for before, after in zip(start, head.get_weights(), strict=True):
        np.testing.assert_array_equal(before, after)


def test_the_kept_weights_have_the_lowest_validation_loss():
    val = examples(seed=1)
    head, (results, best_epoch) = run(val=val, epochs=10)
    assert best_epoch > 0
    loss = keras.losses.BinaryCrossentropy()(val.targets, head(val.views[0].values, training=False))
    assert float(loss) == pytest.approx(min(result.val_loss for result in results), rel=1e-5)


def test_a_loss_that_is_no_number_stops_and_says_what_to_change():
    broken = examples()._replace(sample_weights=np.full(32, np.nan, np.float32))
    with pytest.raises(DivergedError, match="the loss is nan in epoch 1"):
        run(train=broken)


def test_learning_rates_are_scaled_by_variable_even_under_adam():
    still, moving = (keras.Variable(np.ones(3), name=name) for name in ("still", "moving"))
    optimizer = keras.optimizers.Adam(0.1)
    scale_learning_rates(optimizer, [0.0, 1.0])
    optimizer.apply([np.ones(3), np.ones(3)], [still, moving])
    np.testing.assert_array_equal(still, np.ones(3))
    np.testing.assert_allclose(moving, np.full(3, 0.9), rtol=1e-5)


def test_layer_decay_falls_with_the_distance_from_the_output():
    blocks = [[keras.layers.Dense(2, name=f"block_{number}")] for number in range(3)]
    for block in blocks:
        block[0].build((None, 2))
    factors = layer_decay_factors(blocks, 0.5)
    assert {path.split("/")[0]: factor for path, factor in factors.items()} == {
        "block_0": 0.125,
        "block_1": 0.25,
        "block_2": 0.5,
    }


def test_balanced_weights_make_classes_equal():
    weights = balanced_weights(np.array([[1]] * 3 + [[0]], np.float32), "binary")
    np.testing.assert_allclose(weights, [2 / 3] * 3 + [2])
    weights = balanced_weights(np.eye(3, dtype=np.float32)[[0, 0, 0, 0, 1, 2]], "multiclass")
    np.testing.assert_allclose(weights, [0.5] * 4 + [2, 2])
    weights = balanced_weights(np.array([[1, 0], [1, 1], [0, 0]], np.float32), "multilabel")
    np.testing.assert_allclose(weights, [0.75, 1.125, 1])
