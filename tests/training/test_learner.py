"""A phase learns, keeps the best, and steps as it is told."""

import math

import keras
import numpy as np
import pytest
import tensorflow as tf

from app.config import Optimizer, TrainConfig
from data.batches import Examples, View
from models.heads import build_head
from tasks.classification import BINARY, MULTICLASS, MULTILABEL
from training.learner import BatchTooLargeError, DivergedError, Learner, PhaseResult, PhaseState
from training.optimizers import OPTIMIZERS, Rates, is_decayed, layer_decay_factors, make_optimizer
from training.plan import Plan

PLAN = Plan.of(TrainConfig.of(batch_size=8, patience=3))


def examples(count: int = 32, seed: int = 0) -> Examples:
    features = np.random.default_rng(seed).normal(size=(count, 6)).astype(np.float32)
    targets = (features[:, :1] > 0).astype(np.float32)
    return Examples([View((features,), np.arange(count))], targets, np.ones(count, np.float32))


def run(plan=PLAN, train=None, val=None, epochs=4, learning_rate=0.01):
    head = build_head(6, BINARY, 2, head_units=(8,), dropout=0.2, seed=plan.config.training.seed)
    learner = Learner(head, BINARY, plan.config.training.optimizer)
    train = train or examples()
    result = learner.train("head", train, val, plan, epochs=epochs, learning_rate=learning_rate)
    return head, result


def test_the_optimizers_are_those_that_the_config_offers():
    from typing import get_args

    assert set(OPTIMIZERS) == set(get_args(Optimizer))


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("weight_decay", [None, 0.01])
def test_every_optimizer_lowers_the_loss(optimizer, weight_decay):
    plan = PLAN.replace(patience=10, optimizer=optimizer, weight_decay=weight_decay)
    _, (results, _) = run(plan, epochs=16, learning_rate=0.5 if optimizer in ("sgd", "adagrad") else 0.02)
    assert results[-1].loss < 0.8 * results[0].loss


def test_weight_decay_makes_weights_smaller():
    sizes = []
    for weight_decay in (0.0, 5.0):
        head, _ = run(PLAN.replace(weight_decay=weight_decay))
        sizes.append(sum(np.abs(weights).sum() for weights in head.get_weights()))
    assert sizes[1] < 0.9 * sizes[0]


def test_the_same_seed_gives_the_same_weights():
    for first, second in zip(run()[0].get_weights(), run()[0].get_weights(), strict=True):
        np.testing.assert_array_equal(first, second)


@pytest.mark.parametrize("precision", ["float32", "mixed_float16"])
def test_the_history_has_the_rate_of_each_epochs_last_step(precision):
    _, learner = new_learner(PLAN.replace(precision=precision))
    settings = {"epochs": 4, "learning_rate": 0.01}
    results, best_epoch = learner.train("head", examples(), None, PLAN, **settings)
    assert best_epoch == 4
    # Of 16 steps, the first 2 warm up.
    falling = [0.01 * (1 + math.cos(math.pi * (4 * epoch - 1 - 2) / 14)) / 2 for epoch in range(1, 5)]
    assert [result.learning_rate for result in results] == pytest.approx(falling, rel=1e-4)
    assert results[-1].learning_rate > 0


def test_a_constant_learning_rate_stays_and_answers_for_fewer_epochs():
    plan = PLAN.replace(schedule="constant")
    _, (long, _) = run(plan, val=examples(seed=1), epochs=6)
    _, (short, _) = run(plan, val=examples(seed=1), epochs=3)
    assert [result.learning_rate for result in long] == pytest.approx([0.01] * 6)
    assert long[:3] == short


def test_the_last_epoch_may_be_a_part_of_one():
    _, (results, _) = run(epochs=1.5)
    assert [result.learning_rate for result in results] == pytest.approx(
        [0.01 * (1 + math.cos(math.pi * (step - 2) / 4)) / 2 for step in (3, 5)], rel=1e-4
    )
    seen, *_ = states({"train": examples(), "val": None, "epochs": 0.5, "learning_rate": 0.01}, PLAN)
    assert [(len(state.epochs), state.step) for state in seen] == [(0, 2), (1, 0)]


def test_less_than_half_a_step_is_no_epoch_of_its_own():
    _, (results, best_epoch) = run(epochs=1.04)
    assert (len(results), best_epoch) == (1, 1)
    assert math.isfinite(results[0].loss)


def test_a_phase_that_has_to_end_keeps_what_it_has_learnt():
    _, learner = new_learner(PLAN)
    settings = {"epochs": 4, "learning_rate": 0.01, "is_over": lambda: True}
    results, best_epoch = learner.train("head", examples(), examples(seed=1), PLAN, **settings)
    assert (len(results), best_epoch) == (1, 1)


def test_timing_steps_leaves_the_model_as_it_is():
    head, learner = new_learner(PLAN)
    before = [variable.numpy() for variable in head.variables]
    seconds = learner.seconds(examples(), examples(seed=1), PLAN, None)
    assert all(value > 0 for value in seconds)
    for variable, value in zip(head.variables, before, strict=True):
        np.testing.assert_array_equal(variable, value)


def test_a_second_phase_starts_afresh_in_the_same_graph():
    head = build_head(6, BINARY, 2, head_units=(8,))
    start = head.get_weights()
    learner = Learner(head, BINARY, "adam")
    settings = {"epochs": 3, "learning_rate": 0.01}
    first = learner.train("head", examples(), examples(seed=1), PLAN, **settings)
    head.set_weights(start)
    learner.train("head", examples(), None, PLAN, **(settings | {"learning_rate": 0.3}))
    head.set_weights(start)
    again = learner.train("head", examples(), examples(seed=1), PLAN, **settings)
    assert [epoch.val_loss for epoch in again.epochs] == [epoch.val_loss for epoch in first.epochs]


def test_the_best_weights_are_kept_and_waiting_ends():
    val = examples(seed=1)
    upside_down = val._replace(targets=1 - val.targets)
    start = [w.copy() for w in build_head(6, BINARY, 2, head_units=(8,), dropout=0.2).get_weights()]
    head, (results, best_epoch) = run(val=upside_down, epochs=20)
    assert len(results) == PLAN.config.training.patience
    assert best_epoch == 0
    for before, after in zip(start, head.get_weights(), strict=True):
        np.testing.assert_array_equal(before, after)


def test_the_kept_weights_have_the_lowest_validation_loss():
    val = examples(seed=1)
    head, (results, best_epoch) = run(val=val, epochs=10)
    assert best_epoch > 0
    loss = keras.losses.BinaryCrossentropy()(val.targets, head(val.views[0].inputs[0], training=False))
    assert float(loss) == pytest.approx(min(result.val_loss for result in results), rel=1e-5)


def test_without_val_the_last_weights_are_kept():
    head, learner = new_learner(PLAN)
    seen = []
    settings = {"epochs": 3, "learning_rate": 0.01, "on_step": lambda make: seen.append(make())}
    learner.train("head", examples(), None, PLAN, **settings)
    last = seen[-1].arrays["model"]
    for variable, value, first in zip(head.variables, last, seen[0].arrays["model"], strict=True):
        np.testing.assert_array_equal(variable, value)
        assert not variable.trainable or not np.array_equal(value, first)


def test_sample_weights_count_for_the_losses_and_not_for_the_accuracies():
    weights = np.linspace(0.1, 1.9, 32, dtype=np.float32)
    train, val = (examples(seed=seed)._replace(sample_weights=weights) for seed in (0, 1))
    head = build_head(6, BINARY, 2, head_units=(8,))
    settings = {"epochs": 1, "learning_rate": 1e-12}
    head.layers[-1].kernel.assign(keras.random.normal((8, 1), seed=0))
    (epoch,), _ = Learner(head, BINARY, "adam").train("head", train, val, PLAN, **settings)
    for each, loss, accuracy in (
        (train, epoch.loss, epoch.accuracy),
        (val, epoch.val_loss, epoch.val_accuracy),
    ):
        outputs = head(each.views[0].inputs[0], training=False).numpy()
        losses = keras.losses.binary_crossentropy(each.targets, outputs).numpy()
        assert loss == pytest.approx(np.mean(losses * weights), rel=1e-4)
        assert accuracy == np.mean((outputs > 0.5) == each.targets)


def test_a_loss_that_is_no_number_stops_and_says_what_to_change():
    broken = examples()._replace(sample_weights=np.full(32, np.nan, np.float32))
    with pytest.raises(DivergedError, match="the loss is nan in epoch 1"):
        run(train=broken)


def updated(gradient: float, factors: dict[str, float], **settings) -> list[np.ndarray]:
    """A kernel near the input, one near the output, a bias and a scale: all ones, after two steps of Adam."""
    shapes = {"early": (3, 2), "late": (3, 2), "bias": (2,), "gamma": (1,)}
    variables = [keras.Variable(np.ones(shape, np.float32), name=name) for name, shape in shapes.items()]
    rates = Rates()
    rates.assign(TrainConfig.of(schedule="constant", **settings), 0.1, steps=2, epochs=1)
    optimizer = make_optimizer("adam", rates, variables, factors=factors)
    for _ in range(2):  # the first step warms up
        optimizer.apply([np.full(shape, gradient, np.float32) for shape in shapes.values()], variables)
    return [variable.numpy() for variable in variables]


def test_learning_rates_are_scaled_by_variable_even_under_adam():
    early, late, *_ = updated(1.0, {"early": 0.0})
    np.testing.assert_array_equal(early, np.ones((3, 2)))
    np.testing.assert_allclose(late, np.full((3, 2), 0.9), rtol=1e-5)


def test_weight_decay_follows_the_factors_and_leaves_biases_and_scales():
    early, late, *others = updated(0.0, {"early": 0.01}, weight_decay=0.5)
    np.testing.assert_allclose(early, np.full((3, 2), 1 - 0.5 * 0.1 * 0.01), rtol=1e-6)
    np.testing.assert_allclose(late, np.full((3, 2), 1 - 0.5 * 0.1), rtol=1e-6)
    without_factors = updated(0.0, {}, weight_decay=0.5)
    np.testing.assert_array_equal(without_factors[1], late)
    for values in (*others, *without_factors[2:]):
        np.testing.assert_array_equal(values, np.ones_like(values))


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
    weights = BINARY.balanced_weights(np.array([[1]] * 3 + [[0]], np.float32))
    np.testing.assert_allclose(weights, [2 / 3] * 3 + [2])
    weights = MULTICLASS.balanced_weights(np.eye(3, dtype=np.float32)[[0, 0, 0, 0, 1, 2]])
    np.testing.assert_allclose(weights, [0.5] * 4 + [2, 2])
    weights = MULTILABEL.balanced_weights(np.array([[1, 0], [1, 1], [0, 0]], np.float32))
    np.testing.assert_allclose(weights, [0.75, 1.125, 1])


def states(phase_settings: dict, plan: Plan) -> tuple[list[PhaseState], list[np.ndarray], PhaseResult]:
    """Trains a phase; returns its state after every step, its weights and its result."""
    head, learner = new_learner(plan)
    seen = []
    result = learner.train("head", plan=plan, on_step=lambda make: seen.append(make()), **phase_settings)
    return seen, [variable.numpy() for variable in head.variables], result


def new_learner(plan: Plan) -> tuple[keras.Model, Learner]:
    head = build_head(6, BINARY, 2, head_units=(8,), dropout=0.5, seed=plan.config.training.seed)
    return head, Learner(head, BINARY, plan.config.training.optimizer, precision=plan.config.training.precision)


@pytest.mark.parametrize(
    ("optimizer", "precision"),
    [
        ("adam", "float32"),
        ("sgd", "float32"),
        ("adam", "mixed_float16"),
        *(pytest.param(name, "float32", marks=pytest.mark.slow) for name in OPTIMIZERS if name not in ("adam", "sgd")),
    ],
)
def test_a_phase_goes_on_from_any_step_as_if_it_had_not_stopped(optimizer, precision, monkeypatch):
    monkeypatch.setattr("training.learner.STEPS_PER_CALL", 3)
    plan = PLAN.replace(optimizer=optimizer, precision=precision)
    settings = {"train": examples(60), "val": examples(seed=1), "epochs": 4, "learning_rate": 0.05}
    seen, weights, result = states(settings, plan)
    assert {state.step for state in seen} == {0, 3, 6, 8}
    assert sum(state.step == 8 for state in seen) == 2 * 4, "before and while validating"
    for state in seen[::2]:
        head, learner = new_learner(plan)
        again = learner.train("head", plan=plan, state=state, **settings)
        assert again == result
        for variable, value in zip(head.variables, weights, strict=True):
            np.testing.assert_array_equal(variable.numpy(), value)


def test_a_phase_that_had_waited_long_enough_ends_at_once():
    val = examples(seed=1)
    settings = {"train": examples(), "val": val._replace(targets=1 - val.targets), "epochs": 20}
    settings |= {"learning_rate": 0.01}
    seen, _, result = states(settings, PLAN)
    head, learner = new_learner(PLAN)
    again = learner.train("head", plan=PLAN, state=seen[-1], on_step=pytest.fail, **settings)
    assert again == result
    for weights, start in zip(head.get_weights(), new_learner(PLAN)[0].get_weights(), strict=True):
        np.testing.assert_array_equal(weights, start)


def test_what_diverges_keeps_the_best_weights_before():
    settings = {"val": examples(seed=1), "learning_rate": 0.01}
    plan = PLAN.replace(schedule="constant")
    good, learner = new_learner(plan)
    assert learner.train("head", examples(), plan=plan, epochs=1, **settings).best_epoch == 1
    head, learner = new_learner(plan)
    weights = head.trainable_variables[-2]
    with pytest.raises(DivergedError, match="the loss is nan in epoch 2") as error:
        learner.train(
            "head", examples(), plan=plan, epochs=6, on_epoch=lambda _: weights.assign(weights * np.nan), **settings
        )
    assert [math.isfinite(epoch.loss) for epoch in error.value.result.epochs] == [True, False]
    assert error.value.result.best_epoch == 1
    for kept, expected in zip(head.get_weights(), good.get_weights(), strict=True):
        np.testing.assert_array_equal(kept, expected)


def test_a_step_that_needs_too_much_memory_is_told_from_everything_else():
    _, learner = new_learner(PLAN)

    def fail(*_):
        raise tf.errors.ResourceExhaustedError(None, None, "OOM when allocating tensor")

    settings = {"val": examples(seed=1), "plan": PLAN, "epochs": 1, "learning_rate": 0.1}
    graphs = learner._graphs
    learner._graphs = graphs._replace(train_steps=fail)
    with pytest.raises(BatchTooLargeError):
        learner.train("head", examples(), **settings)
    with pytest.raises(BatchTooLargeError):
        learner.seconds(examples(), None, PLAN, None)
    learner._graphs = graphs._replace(evaluate_step=fail)
    with pytest.raises(tf.errors.ResourceExhaustedError):
        learner.train("head", examples(), **settings)


def test_biases_of_attention_have_no_weight_decay_though_they_are_matrices():
    attention = keras.layers.MultiHeadAttention(2, 4, name="attention")
    attention.build((None, 3, 8), (None, 3, 8))
    decayed = {variable.path for variable in attention.variables if is_decayed(variable)}
    assert decayed == {f"attention/{part}/kernel" for part in ("query", "key", "value", "attention_output")}
    assert len([variable for variable in attention.variables if len(variable.shape) == 2]) == 3
