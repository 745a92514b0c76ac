"""Heads that are trained together come out as they do alone."""

import functools

import keras
import numpy as np
import pytest

from app.config import TrainConfig
from data.batches import Examples, View
from models.heads import build_head
from tasks.classification import BINARY, MULTICLASS, MULTILABEL
from training.learner import Learner
from training.optimizers import OPTIMIZERS, UPDATE_RULES
from training.plan import Plan
from tuning.heads import HEADS_AT_ONCE, HeadShape, StackedHeads, is_adjustable

PLAN = Plan.of(TrainConfig.of(batch_size=8, patience=3, dropout=0.3, learning_rate=0.02, head_epochs=6, views=1))


def examples(task: str, seed: int, count: int = 44) -> Examples:
    random = np.random.default_rng(seed)
    features = random.normal(size=(count, 6)).astype(np.float32)
    outputs = task.num_outputs(3 if task != BINARY else 2)
    targets = np.eye(outputs, dtype=np.float32)[np.argmax(features[:, :outputs], 1)]
    if task.two_classes:
        targets = (features[:, :1] > 0).astype(np.float32)
    views = [View((features + 0.1 * view,), np.arange(count)) for view in range(2)]
    return Examples(views, targets, random.uniform(0.5, 1.5, count).astype(np.float32))


def builder(task: str, head_units: tuple[int, ...] = ()):
    return functools.partial(build_head, 6, task, 2 if task.two_classes else 3, head_units)


def alone(plan: Plan, task: str, train: Examples, val: Examples, build=None):
    model, training = plan.config.model, plan.config.training
    head = (build or builder(task, model.head_units))(dropout=model.dropout, seed=training.seed)
    settings = {"epochs": plan.head_epochs, "learning_rate": plan.learning_rate}
    return head, Learner(head, task, training.optimizer).train("head", train, val, plan, **settings)


@pytest.mark.parametrize(
    ("optimizer", "task", "head_units"),
    [*((name, MULTICLASS, (5,)) for name in OPTIMIZERS), ("adam", BINARY, ()), ("sgd", MULTILABEL, ())],
)
def test_every_optimizer_trains_each_as_if_alone(optimizer, task, head_units):
    train, val = examples(task, 0), examples(task, 1)
    start = PLAN.replace(optimizer=optimizer, head_units=head_units, seed=3)
    changes = (
        {"learning_rate": 0.2},
        {"dropout": 0.0, "head_epochs": 4},
        {"weight_decay": 0.5, "learning_rate": 0.05},
        {"schedule": "constant", "patience": 1},
    )
    plans = [start.replace(**change) for change in changes]
    stacked = StackedHeads(HeadShape(builder(task, head_units)), task, {UPDATE_RULES[optimizer]: 4})
    for _ in range(2):  # a second group finds the graphs as the first did
        solved = stacked.train(train, val, plans)
    for plan, head in zip(plans, solved, strict=True):
        model, result = alone(plan, task, train, val)
        expected = [(epoch.val_loss, epoch.val_accuracy) for epoch in result.epochs]
        np.testing.assert_allclose([tuple(judged) for judged in head.curve[1:]], expected, rtol=2e-4, atol=2e-5)
        assert head.best_epoch == result.best_epoch
        for mine, weights in zip(head.weights, model.get_weights(), strict=True):
            np.testing.assert_allclose(mine, weights, rtol=2e-3, atol=2e-4)


def test_a_head_that_diverges_leaves_the_others_alone():
    train, val = examples(MULTICLASS, 0), examples(MULTICLASS, 1)
    wild = {"learning_rate": 10.0, "weight_decay": 10.0, "schedule": "constant", "patience": 30}
    calm = PLAN.replace(optimizer="sgd")
    plans = [calm, calm.replace(**wild, head_epochs=20)]
    stacked = StackedHeads(HeadShape(builder(MULTICLASS)), MULTICLASS, {"sgd": 2})
    together = stacked.train(train, val, plans)
    single = stacked.train(train, val, plans[:1])
    assert not np.isfinite(together[1].curve[-1].loss)
    np.testing.assert_allclose(together[0].curve, single[0].curve, rtol=1e-5)


def test_as_many_heads_as_there_is_room_for():
    plans = [PLAN.replace(learning_rate=0.01 * (number + 1), head_epochs=2) for number in range(HEADS_AT_ONCE)]
    stacked = StackedHeads(HeadShape(builder(BINARY)), BINARY, {"adam": HEADS_AT_ONCE})
    solved = stacked.train(examples(BINARY, 0), examples(BINARY, 1), plans)
    assert len({head.curve[-1].loss for head in solved}) == HEADS_AT_ONCE


def test_optimizers_are_trained_side_by_side():
    train, val = examples(MULTICLASS, 0), examples(MULTICLASS, 1)
    plans = [PLAN.replace(optimizer=name) for name in ("sgd", "lion", "sgd", "adam")]
    plans[2] = plans[2].replace(dropout=0.0)
    solved = StackedHeads(HeadShape(builder(MULTICLASS)), MULTICLASS, {"adam": 2, "lion": 1, "sgd": 4}).train(
        train, val, plans
    )
    for plan, head in zip(plans, solved, strict=True):
        _, result = alone(plan, MULTICLASS, train, val)
        assert [judged.loss for judged in head.curve[1:]] == pytest.approx(
            [e.val_loss for e in result.epochs], rel=2e-4
        )


@keras.saving.register_keras_serializable("tests")
class AttentionPooling(keras.layers.Layer):
    """Means of tokens (n, tokens, size), weighted by how much they resemble what is learnt."""

    def build(self, input_shape):
        self.query = self.add_weight(shape=(input_shape[-1],), initializer=keras.initializers.RandomNormal(seed=5))

    def call(self, tokens):
        scores = keras.ops.softmax(keras.ops.matmul(tokens, self.query), axis=1)
        return keras.ops.sum(tokens * scores[..., None], axis=1)


def build_other_head(dropout: float = 0.0, seed: int = 0, share: float = 1.0) -> keras.Model:
    """A head of layers that no search has heard of; `share` of the dropout is in its first Dropout layer."""
    start = keras.initializers.GlorotUniform(seed=seed + 1)
    return keras.Sequential(
        [
            keras.Input((6,)),
            keras.layers.BatchNormalization(momentum=0.5),
            keras.layers.Dropout(share * dropout, seed=seed + 1),
            keras.layers.Dense(8, activation="gelu", kernel_initializer=start),
            keras.layers.LayerNormalization(),
            keras.layers.Reshape((4, 2)),
            AttentionPooling(),
            keras.layers.Dropout(dropout, seed=seed),
            keras.layers.Dense(3, activation="softmax", kernel_initializer="zeros"),
        ]
    )


@pytest.mark.parametrize("optimizer", ["adam", "sgd"])
def test_a_head_of_other_layers_learns_as_if_alone(optimizer):
    train, val = examples(MULTICLASS, 0), examples(MULTICLASS, 1)
    start = PLAN.replace(optimizer=optimizer)
    plans = [start, start.replace(dropout=0.1, weight_decay=0.1, learning_rate=0.05)]
    assert is_adjustable(build_other_head)
    solved = StackedHeads(HeadShape(build_other_head), MULTICLASS, {optimizer: 2}).train(train, val, plans)
    for plan, head in zip(plans, solved, strict=True):
        model, result = alone(plan, MULTICLASS, train, val, build_other_head)
        expected = [(epoch.val_loss, epoch.val_accuracy) for epoch in result.epochs]
        np.testing.assert_allclose([tuple(judged) for judged in head.curve[1:]], expected, rtol=2e-4, atol=2e-5)
        for mine, weights in zip(head.weights, model.get_weights(), strict=True):
            np.testing.assert_allclose(mine, weights, rtol=2e-3, atol=2e-4)


def test_a_head_that_uses_dropout_otherwise_is_trained_for_that_dropout():
    train, val = examples(MULTICLASS, 0), examples(MULTICLASS, 1)
    build = functools.partial(build_other_head, share=0.5)
    assert not is_adjustable(build)
    (solved,) = StackedHeads(HeadShape(build, PLAN.config.model.dropout), MULTICLASS, {"adam": 1}).train(
        train, val, [PLAN]
    )
    _, result = alone(PLAN, MULTICLASS, train, val, build)
    losses = [epoch.val_loss for epoch in result.epochs]
    assert [judged.loss for judged in solved.curve[1:]] == pytest.approx(losses, rel=2e-4)
