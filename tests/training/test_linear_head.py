"""A solved head is the regression that scikit-learn finds, and the strength of its penalty is chosen on val."""

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from data.batches import Examples, View
from tasks.classification import BINARY, MULTICLASS, MULTILABEL
from tasks.table import Task
from training import linear_head
from training.linear_head import STRENGTH, STRENGTHS, cross_validate, nested_parts, solve, solve_on_parts

FEATURES = 12


def examples(task: Task, count: int, seed: int, views: int = 1, num_classes: int = 3) -> Examples:
    """Noisy classes by a few directions of features whose mean and spread are far from 0 and 1."""
    rng = np.random.default_rng(seed)
    directions = np.random.default_rng(99).normal(size=(FEATURES, num_classes))
    features = rng.normal(size=(count, FEATURES))
    scores = features @ directions + rng.normal(size=(count, num_classes)) * 2
    if task.multi_label:
        targets = (scores > 0).astype(np.float32)
    else:
        targets = np.eye(num_classes, dtype=np.float32)[scores.argmax(1)][:, task.two_classes :]
    views_of = [
        View(((7 + 3 * features + 0.1 * number).astype(np.float32),), np.arange(count)) for number in range(views)
    ]
    return Examples(views_of, targets, np.ones(count, np.float32))


def probabilities(task: Task, solution: linear_head.Solution, features: np.ndarray) -> np.ndarray:
    logits = features @ np.array(solution.kernel) + np.array(solution.bias)
    if task.activation == "sigmoid":
        return 1 / (1 + np.exp(-logits))
    powers = np.exp(logits - logits.max(1, keepdims=True))
    return powers / powers.sum(1, keepdims=True)


@pytest.mark.parametrize(("task", "num_classes"), [(MULTICLASS, 3), (BINARY, 2), (MULTILABEL, 3)])
def test_the_solution_is_that_of_scikit_learn(task, num_classes):
    train = examples(task, 300, 0, num_classes=num_classes)
    train = train._replace(sample_weights=np.random.default_rng(5).uniform(0.5, 2, 300).astype(np.float32))
    solution = solve(train, None, task)
    features = train.views[0].inputs[0].astype(np.float64)
    deviations = features.std(0)
    scaled = (features - features.mean(0)) / (deviations + linear_head.LEAST_SPREAD * deviations.mean())
    total = train.sample_weights.sum()
    if task is MULTICLASS:
        regression = LogisticRegression(C=1 / (STRENGTH * total), tol=1e-8, max_iter=1_000)
        expected = regression.fit(scaled, train.targets.argmax(1), train.sample_weights).predict_proba(scaled)
    else:  # the loss is the mean over the outputs
        regression = LogisticRegression(C=1 / (STRENGTH * total * train.targets.shape[1]), tol=1e-8, max_iter=1_000)
        expected = np.stack(
            [
                regression.fit(scaled, label, train.sample_weights).predict_proba(scaled)[:, 1]
                for label in train.targets.T
            ],
            axis=1,
        )
    np.testing.assert_allclose(probabilities(task, solution, features), expected, atol=3e-3)
    right = task.predicted(task.probabilities(expected)) == task.truth(train.targets)
    assert solution.train.accuracy == pytest.approx(right.all(1).mean(), abs=0.01)


def test_the_strength_has_the_lowest_loss_on_val():
    train, val = examples(MULTICLASS, 40, 0), examples(MULTICLASS, 500, 1)
    solution = solve(train, val, MULTICLASS)
    losses = {}
    for strength in STRENGTHS:
        add, read = linear_head._make_add(MULTICLASS), linear_head._reader(train)
        (found,) = linear_head._path(read, add, 3, (strength,))
        losses[strength] = linear_head._measure(linear_head._reader(val), add, found).loss
        if strength == solution.strength:
            assert found.kernel == pytest.approx(np.array(solution.kernel), abs=0.01)
    assert solution.strength == min(losses, key=losses.get)
    assert STRENGTHS[0] > solution.strength > STRENGTHS[-1]
    assert solution.val.loss == pytest.approx(min(losses.values()), rel=0.01)


def test_all_views_count_and_memory_does_not_grow_with_the_examples(monkeypatch):
    train, val = examples(MULTICLASS, 100, 0, views=2), examples(MULTICLASS, 50, 1)
    whole = solve(train, val, MULTICLASS)
    assert whole.kernel != solve(train._replace(views=train.views[:1]), val, MULTICLASS).kernel
    chunks, read = [], linear_head._chunks
    monkeypatch.setattr(linear_head, "_chunks", lambda *some: chunks.append(1) or read(*some))
    solve(train, val, MULTICLASS)
    in_memory = len(chunks)
    monkeypatch.setattr(linear_head, "CHUNK", 7)
    monkeypatch.setattr(linear_head, "MOST_IN_MEMORY", 1_000)
    by_parts = solve(train, val, MULTICLASS)
    assert len(chunks) - in_memory > 10 * in_memory, "they are read anew in every pass"
    assert by_parts.strength == whole.strength
    np.testing.assert_allclose(by_parts.kernel, whole.kernel, atol=1e-2)


def test_the_same_examples_give_the_same_solution():
    train, val = examples(MULTICLASS, 100, 0), examples(MULTICLASS, 50, 1)
    assert solve(train, val, MULTICLASS) == solve(train, val, MULTICLASS)


def test_features_that_say_nothing_leave_the_shares_of_the_classes():
    train = examples(MULTICLASS, 100, 0)
    same = View((np.zeros((100, FEATURES), np.float32),), np.arange(100))
    solution = solve(train._replace(views=[same]), None, MULTICLASS)
    found = probabilities(MULTICLASS, solution, np.zeros((1, FEATURES)))[0]
    np.testing.assert_allclose(found, train.targets.mean(0), atol=1e-3)


def test_parts_grow_within_each_other_and_more_examples_are_more_right():
    train, val = examples(MULTICLASS, 800, 0), examples(MULTICLASS, 1_000, 1)
    done, parts = [], nested_parts(np.arange(800), seed=0)
    assert set(parts[0]) < set(parts[1]) < set(parts[2])
    points = solve_on_parts(train, val, MULTICLASS, parts, on_step=lambda: done.append(1))
    assert [count for count, _ in points] == [100, 200, 400]
    accuracies = [accuracy for _, accuracy in points]
    assert accuracies[0] < accuracies[-1] <= solve(train, val, MULTICLASS).val.accuracy + 0.01
    assert points == solve_on_parts(train, val, MULTICLASS, nested_parts(np.arange(800), seed=0))
    assert len(done) == 3


def test_parts_of_a_few_examples_are_left_out():
    train, val = examples(MULTICLASS, 80, 0), examples(MULTICLASS, 50, 1)
    assert [count for count, _ in solve_on_parts(train, val, MULTICLASS, nested_parts(np.arange(80), 0))] == [20, 40]


def test_parts_are_of_whole_groups():
    groups = np.random.default_rng(0).integers(40, size=800)
    parts = nested_parts(groups, seed=0)
    assert [100 <= len(parts[0]) < 150, 200 <= len(parts[1]) < 250, 400 <= len(parts[2]) < 450] == [True] * 3
    for part in parts:
        assert not set(groups[part]) & set(np.delete(groups, part))
    assert [len(part) for part in nested_parts(np.arange(90) // 30, seed=0)] == [30, 60]  # three groups
    assert nested_parts(np.zeros(90, int), seed=0) == []


@pytest.mark.parametrize(("task", "num_classes"), [(MULTICLASS, 3), (BINARY, 2), (MULTILABEL, 3)])
def test_a_fold_is_predicted_by_the_regression_of_the_others(task, num_classes):
    all_of_them, folds, done = examples(task, 120, 0, num_classes=num_classes), np.arange(120) % 4, []
    strength, outputs = cross_validate(all_of_them, folds, task, lambda: done.append(1))
    assert len(done) == 4
    features = all_of_them.views[0].inputs[0]
    for fold in range(4):
        rest = np.flatnonzero(folds != fold)
        views = [View((features,), rest)]
        alone = solve(
            Examples(views, all_of_them.targets[rest], np.ones(90, np.float32)), None, task, strength=strength
        )
        found = probabilities(task, alone, features[folds == fold])
        np.testing.assert_allclose(np.array(outputs)[folds == fold], found, atol=2e-2)


def test_folds_know_nothing_of_what_they_predict():
    rng = np.random.default_rng(0)
    features, targets = rng.normal(size=(200, 300)).astype(np.float32), rng.integers(0, 2, (200, 1)).astype(np.float32)
    noise = Examples([View((features,), np.arange(200))], targets, np.ones(200, np.float32))
    _, outputs = cross_validate(noise, np.arange(200) % 5, BINARY)
    assert 0.35 < np.mean((np.array(outputs) > 0.5) == targets) < 0.65
    assert solve(noise, None, BINARY).train.accuracy > 0.95
