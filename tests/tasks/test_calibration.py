"""Temperature scaling makes a model as sure as it is right, and changes no answer."""

import numpy as np
import pytest

from models.heads import build_head, calibrate_head
from tasks.classification import BINARY, MULTICLASS, MULTILABEL, Classification


def overconfident(task: Classification, factor: float, count: int = 4_000):
    """Probabilities of a model whose logits are `factor` times what they should be, and the truth."""
    draws = np.random.default_rng(0)
    if task == MULTICLASS:
        logits = draws.normal(0, 1.5, (count, 4))
        right = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
        answers = np.array([draws.choice(4, p=row) for row in right])
        said = np.exp(factor * logits)
        return (said / said.sum(axis=1, keepdims=True)).astype(np.float32), np.eye(4, dtype=np.float32)[answers]
    logits = draws.normal(0, 1.5, (count, 1 if task.two_classes else 3))
    truth = draws.random(logits.shape) < 1 / (1 + np.exp(-logits))
    return (1 / (1 + np.exp(-factor * logits))).astype(np.float32), truth.astype(np.float32)


@pytest.mark.parametrize("task", [BINARY, MULTICLASS, MULTILABEL])
@pytest.mark.parametrize("factor", [0.5, 3.0])
def test_the_temperature_is_what_the_logits_are_too_large_by(task, factor):
    outputs, targets = overconfident(task, factor)
    assert task.fit_temperature(outputs, targets) == pytest.approx(factor, rel=0.1)


@pytest.mark.parametrize("task", [BINARY, MULTICLASS, MULTILABEL])
def test_one_over_a_temperature_undoes_it(task):
    outputs, _ = overconfident(task, 1.0, count=50)
    there = task.apply_temperature(outputs, 2.5)
    assert np.abs(there - outputs).max() > 0.1
    np.testing.assert_allclose(task.apply_temperature(there, 1 / 2.5), outputs, atol=1e-6)


def test_a_few_pictures_that_are_all_right_do_not_make_it_boundlessly_sure():
    outputs = np.float32([[0.9, 0.1], [0.2, 0.8], [0.7, 0.3]])
    assert 0.6 < MULTICLASS.fit_temperature(outputs, np.eye(2, dtype=np.float32)[[0, 1, 0]]) < 1


def test_a_model_that_is_calibrated_and_mostly_right_stays_as_it_is():
    outputs, _ = overconfident(MULTICLASS, 1.0)
    sure = MULTICLASS.apply_temperature(outputs, 0.2)
    answers = np.array([np.random.default_rng(number).choice(4, p=row) for number, row in enumerate(sure)])
    assert MULTICLASS.fit_temperature(sure, np.eye(4, dtype=np.float32)[answers]) == pytest.approx(1, rel=0.1)


@pytest.mark.parametrize("task", [BINARY, MULTICLASS, MULTILABEL])
def test_weighted_pictures_count_as_if_they_came_again(task):
    outputs, targets = overconfident(task, 2.0, count=60)
    times = np.arange(60) % 3
    repeated = task.fit_temperature(np.repeat(outputs, times, axis=0), np.repeat(targets, times, axis=0))
    assert task.fit_temperature(outputs, targets, times.astype(np.float32)) == pytest.approx(repeated, rel=1e-6)
    assert task.fit_temperature(outputs, targets) != pytest.approx(repeated, rel=1e-3)


def test_without_pictures_nothing_changes():
    assert MULTICLASS.fit_temperature(np.zeros((0, 3), np.float32), np.zeros((0, 3), np.float32)) == 1.0


@pytest.mark.parametrize("task", [BINARY, MULTICLASS, MULTILABEL])
def test_a_calibrated_head_gives_what_the_temperature_makes_of_its_probabilities(task):
    head = build_head(5, task, 3, head_units=(4,))
    draws = np.random.default_rng(1)
    head.set_weights([draws.normal(size=array.shape) for array in head.get_weights()])
    features = draws.normal(size=(20, 5)).astype(np.float32)
    before = head(features).numpy()
    calibrate_head(head, 1.7)
    np.testing.assert_allclose(head(features).numpy(), task.apply_temperature(before, 1.7), atol=1e-5)
