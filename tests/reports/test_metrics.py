"""The figures of a run, against values worked out by hand."""

import math

import numpy as np
import pytest

from inference.answers import class_probabilities
from reports.baselines import raw_pixels_accuracy
from reports.metrics import accuracy_interval, majority_accuracy, measure
from tests.conftest import COLOURS, make_picture


def one_hot(classes: list[int], count: int) -> np.ndarray:
    return np.eye(count, dtype=np.float32)[classes]


def test_a_multi_class_result():
    targets = one_hot([0, 0, 1, 2], 3)
    outputs = np.array([[0.8, 0.1, 0.1], [0.2, 0.7, 0.1], [0.1, 0.8, 0.1], [0.3, 0.3, 0.4]], np.float32)
    found = measure(targets, outputs, ("a", "b", "c"), "multiclass")
    assert found["n"] == 4
    assert found["accuracy"] == 0.75
    assert found["balanced_accuracy"] == pytest.approx((0.5 + 1 + 1) / 3)
    assert found["per_class"]["a"] == {"precision": 1.0, "recall": 0.5, "f1": pytest.approx(2 / 3), "support": 2}
    assert found["per_class"]["b"] == {"precision": 0.5, "recall": 1.0, "f1": pytest.approx(2 / 3), "support": 1}
    assert found["macro_f1"] == pytest.approx((2 / 3 + 2 / 3 + 1) / 3)
    assert found["log_loss"] == pytest.approx(-np.log([0.8, 0.2, 0.8, 0.4]).mean(), rel=1e-6)
    # Bins of 1/15: {0.8, 0.8} right, {0.7} wrong, {0.4} right.
    assert found["ece"] == pytest.approx((abs(2 - 1.6) + 0.7 + 0.6) / 4, rel=1e-6)
    assert found["roc_auc"] == pytest.approx((3 / 4 + 2.5 / 3 + 1) / 3, abs=0.1)


def test_a_binary_result_counts_the_output_as_the_second_class():
    targets = np.array([[0], [0], [1], [1]], np.float32)
    outputs = np.array([[0.1], [0.6], [0.7], [0.9]], np.float32)
    found = measure(targets, outputs, ("healthy", "ill"), "binary")
    assert found["accuracy"] == 0.75
    assert found["per_class"]["ill"]["recall"] == 1.0
    assert found["per_class"]["healthy"]["recall"] == 0.5
    assert found["roc_auc"] == 1.0
    np.testing.assert_allclose(class_probabilities(outputs, "binary").sum(axis=1), 1, rtol=1e-6)


def test_a_multi_label_result_is_right_only_if_all_labels_are():
    targets = np.array([[1, 0], [1, 1], [0, 0]], np.float32)
    outputs = np.array([[0.9, 0.2], [0.8, 0.4], [0.1, 0.3]], np.float32)
    found = measure(targets, outputs, ("cat", "indoors"), "multilabel")
    assert found["accuracy"] == pytest.approx(2 / 3)
    assert found["per_class"]["cat"]["f1"] == 1.0
    assert found["per_class"]["indoors"]["recall"] == 0.0
    assert found["balanced_accuracy"] == pytest.approx((1 + 0.5) / 2)
    assert found["log_loss"] == pytest.approx(-np.log([0.9, 0.8, 0.8, 0.4, 0.9, 0.7]).mean(), rel=1e-6)


def test_a_class_without_pictures_does_no_harm():
    found = measure(
        one_hot([0, 0], 3), np.array([[0.9, 0.1, 0.0], [0.2, 0.8, 0.0]], np.float32), ("a", "b", "c"), "multiclass"
    )
    assert found["per_class"]["c"] == {"precision": 0.0, "recall": 0.0, "f1": 0.0, "support": 0}
    assert found["balanced_accuracy"] == 0.5
    assert found["roc_auc"] is None
    assert math.isfinite(found["log_loss"])


def test_no_pictures_have_no_figures():
    assert measure(np.zeros((0, 1)), np.zeros((0, 1)), ("a", "b"), "binary") is None


def test_the_interval_is_wilsons():
    assert accuracy_interval(147, 153) == pytest.approx([0.9171, 0.9819], abs=1e-4)
    assert accuracy_interval(10, 10)[0] == pytest.approx(0.7225, abs=1e-4)


def test_the_majority_is_that_of_the_training_pictures():
    train, judged = one_hot([0, 1, 1], 2), one_hot([0, 0, 0, 1], 2)
    assert majority_accuracy(train, judged) == 0.25


@pytest.mark.parametrize("task", ["binary", "multiclass", "multilabel"])
def test_raw_pixels_tell_colours_apart(task):
    count = 2 if task == "binary" else 3
    classes = np.arange(36) % count
    pixels = np.stack([np.asarray(make_picture(i, COLOURS[c], (20, 20))) for i, c in enumerate(classes)])
    targets = one_hot(list(classes), count)
    targets = targets[:, 1:] if task == "binary" else targets
    positions = np.arange(36)
    assert raw_pixels_accuracy(pixels, targets, positions[:24], positions[24:], task) == 1.0
