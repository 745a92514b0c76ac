"""Labels that a confident model contradicts are suspected; what it is merely unsure of is not."""

import dataclasses

import numpy as np
import pytest

from data.near_duplicates import NearDuplicate
from reports.suspects import LabelError, find_label_errors, suspects_table
from tasks.classification import BINARY, MULTICLASS, MULTILABEL
from tests.reports.made_data import make_data


def rows(errors: list[LabelError]) -> list[int]:
    return [error.row for error in errors]


def test_a_confident_contradiction_is_suspected_and_a_doubt_is_not():
    targets = np.eye(3, dtype=np.float32)[[0, 0, 0, 1, 1, 2, 2]]
    outputs = np.full((7, 3), 0.05, np.float32)
    outputs[np.arange(7), [0, 0, 1, 1, 1, 2, 2]] = 0.9
    # The model leans to class 1, but less than it usually does on pictures of class 1.
    outputs[1] = [0.4, 0.5, 0.1]
    errors = find_label_errors(targets, outputs, MULTICLASS)
    assert rows(errors) == [2]
    assert errors[0].labels.tolist() == [False, True, False]
    assert errors[0].score == pytest.approx(0.85)


def test_the_least_believable_label_comes_first():
    targets = np.array([[0], [0], [0], [1], [1], [1]], np.float32)
    outputs = np.array([[0.1], [0.9], [0.99], [0.8], [0.7], [0.02]], np.float32)
    errors = find_label_errors(targets, outputs, BINARY)
    assert rows(errors) == [2, 5, 1]
    assert [error.labels.tolist() for error in errors] == [[False, True], [True, False], [False, True]]
    assert errors[0].score == pytest.approx(0.98, abs=1e-6)


def test_each_label_of_several_is_a_question_of_its_own():
    targets = np.array([[1, 0], [1, 1], [0, 0], [0, 1]], np.float32)
    outputs = np.array([[0.9, 0.1], [0.9, 0.9], [0.97, 0.95], [0.1, 0.9]], np.float32)
    errors = find_label_errors(targets, outputs, MULTILABEL)
    assert rows(errors) == [2]
    # The least believable of its labels alone.
    assert errors[0].labels.tolist() == [True, False]
    assert errors[0].score == pytest.approx(0.94)


def test_a_label_that_is_the_answer_by_a_threshold_is_no_suspect():
    targets = np.array([[0], [0], [0], [1], [1], [1]], np.float32)
    outputs = np.array([[0.1], [0.9], [0.99], [0.8], [0.7], [0.02]], np.float32)
    assert rows(find_label_errors(targets, outputs, dataclasses.replace(BINARY, thresholds=(0.01,)))) == [2, 1]
    several = dataclasses.replace(MULTILABEL, thresholds=(0.01, 0.5))
    assert rows(find_label_errors(np.hstack([targets] * 2), np.hstack([outputs] * 2), several)) == [2, 5, 1]
    assert rows(find_label_errors(targets, outputs, dataclasses.replace(MULTILABEL, thresholds=(0.01,)))) == [2, 1]


@pytest.mark.parametrize("task", [BINARY, MULTICLASS, MULTILABEL])
def test_a_perfect_model_suspects_nothing(task):
    data = make_data(task, ("a", "b", "c") if task != BINARY else ("a", "b"))
    assert find_label_errors(data.targets, data.targets, task) == []
    assert find_label_errors(data.targets[:0], data.targets[:0], task) == []


def test_a_class_without_pictures_is_never_suggested():
    targets = np.eye(3, dtype=np.float32)[[0, 0, 1]]
    outputs = np.array([[0.9, 0.05, 0.05], [0.02, 0.03, 0.95], [0.1, 0.8, 0.1]], np.float32)
    assert find_label_errors(targets, outputs, MULTICLASS) == []


def test_the_table_names_pictures_and_their_labels():
    data = make_data(MULTICLASS, ("<cat>", "dog", "🦒"))
    wrong = LabelError(1, np.array([False, False, True]), 0.5)
    table = suspects_table(data, [NearDuplicate(20, 3, 0.97)], {"test": [wrong]})
    assert table.values.tolist() == [
        ["near_duplicate", "20.png", "test", "🦒", "3.png", "<cat>", 0.97],
        ["label_error", "19.png", "test", "dog", "", "🦒", 0.5],
    ]
    assert list(suspects_table(data, [], {}).columns) == list(table.columns)
