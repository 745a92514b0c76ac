"""The figures of a run, against values worked out by hand."""

import math

import numpy as np
import pytest
from scipy import stats

from data.images.kind import KIND
from data.kinds import find_kind
from reports.baselines import simple_right
from reports.curves import class_curves, reliability_table
from reports.page import number, percent
from tasks.classification import BINARY, MULTICLASS, MULTILABEL
from tasks.metrics import (
    METRICS,
    accuracy_interval,
    balanced_interval,
    difference_interval,
    effective_count,
    error_by_chance,
    majority_accuracy,
    measure_threshold,
    share_interval,
)
from tests.conftest import COLOURS, make_picture


def one_hot(classes: list[int], count: int) -> np.ndarray:
    return np.eye(count, dtype=np.float32)[classes]


def test_a_multi_class_result():
    targets = one_hot([0, 0, 1, 2], 3)
    outputs = np.array([[0.8, 0.1, 0.1], [0.2, 0.7, 0.1], [0.1, 0.8, 0.1], [0.3, 0.3, 0.4]], np.float32)
    found = MULTICLASS.measure(targets, outputs, ("a", "b", "c"))
    assert found["n"] == 4
    assert found["accuracy"] == 0.75
    assert found["balanced_accuracy"] == pytest.approx((0.5 + 1 + 1) / 3)
    assert found["per_class"]["a"] == {"precision": 1.0, "recall": 0.5, "f1": pytest.approx(2 / 3), "support": 2}
    assert found["per_class"]["b"] == {"precision": 0.5, "recall": 1.0, "f1": pytest.approx(2 / 3), "support": 1}
    assert found["macro_f1"] == pytest.approx((2 / 3 + 2 / 3 + 1) / 3)
    assert found["log_loss"] == pytest.approx(-np.log([0.8, 0.2, 0.8, 0.4]).mean(), rel=1e-6)
    # Bins of 1/15: {0.8, 0.8} right, {0.7} wrong, {0.4} right.
    assert found["ece"] == pytest.approx((abs(2 - 1.6) + 0.7 + 0.6) / 4, rel=1e-6)
    assert found["roc_auc"] == pytest.approx((3 / 4 + 1 + 1) / 3)


def test_a_binary_result_counts_the_output_as_the_second_class():
    targets = np.array([[0], [0], [1], [1]], np.float32)
    outputs = np.array([[0.1], [0.6], [0.7], [0.9]], np.float32)
    found = BINARY.measure(targets, outputs, ("healthy", "ill"))
    assert found["accuracy"] == 0.75
    assert found["per_class"]["ill"]["recall"] == 1.0
    assert found["per_class"]["healthy"]["recall"] == 0.5
    assert found["roc_auc"] == 1.0
    np.testing.assert_allclose(BINARY.probabilities(outputs).sum(axis=1), 1, rtol=1e-6)


def test_a_multi_label_result_is_right_only_if_all_labels_are():
    targets = np.array([[1, 0], [1, 1], [0, 0]], np.float32)
    outputs = np.array([[0.9, 0.2], [0.8, 0.4], [0.1, 0.3]], np.float32)
    found = MULTILABEL.measure(targets, outputs, ("cat", "indoors"))
    assert found["accuracy"] == pytest.approx(2 / 3)
    assert found["per_class"]["cat"]["f1"] == 1.0
    assert found["per_class"]["indoors"]["recall"] == 0.0
    assert found["balanced_accuracy"] == pytest.approx((1 + 0.5) / 2)
    assert found["log_loss"] == pytest.approx(-np.log([0.9, 0.8, 0.8, 0.4, 0.9, 0.7]).mean(), rel=1e-6)


@pytest.mark.parametrize("targets", [[[1, 0], [1, 0]], [[0, 0]], [[1, 1], [1, 0]]])
def test_a_label_that_all_or_no_pictures_have_is_measured_by_what_occurs(targets):
    targets = np.array(targets, np.float32)
    assert MULTILABEL.measure(targets, 0.2 + 0.6 * targets, ("cat", "indoors"))["balanced_accuracy"] == 1.0


def test_a_class_without_pictures_does_no_harm():
    found = MULTICLASS.measure(
        one_hot([0, 0], 3), np.array([[0.9, 0.1, 0.0], [0.2, 0.8, 0.0]], np.float32), ("a", "b", "c")
    )
    assert found["per_class"]["c"] == {"precision": 0.0, "recall": 0.0, "f1": 0.0, "support": 0}
    assert found["balanced_accuracy"] == 0.5
    assert found["roc_auc"] is None
    assert math.isfinite(found["log_loss"])


def test_no_pictures_have_no_figures():
    assert BINARY.measure(np.zeros((0, 1)), np.zeros((0, 1)), ("a", "b")) is None


@pytest.mark.parametrize("count", [1, 10, 153])
def test_the_interval_is_wilsons(count):
    for right in range(count + 1):
        expected = stats.binomtest(right, count).proportion_ci(0.95, method="wilson")
        answers = np.arange(count) < right
        assert (
            accuracy_interval(answers) == accuracy_interval(answers, np.arange(count)) == [expected.low, expected.high]
        )


def test_copies_make_no_interval_narrower():
    right, groups = np.arange(40) < 34, np.arange(40)
    once = accuracy_interval(right)
    assert accuracy_interval(np.tile(right, 5), np.tile(groups, 5)) == pytest.approx(once, rel=1e-12)
    assert effective_count(np.array([7, 7, 7, 2])) == 16 / 10


def test_the_interval_holds_the_truth_as_often_as_it_says_where_pictures_look_alike():
    random, truth = np.random.default_rng(0), 0.9
    groups = np.repeat(np.arange(80), [1] * 60 + [4] * 20)
    held = {"independent": 0, "grouped": 0}
    for _ in range(1_000):
        right = (random.random(80) < truth)[groups]
        for name, (low, high) in (
            ("independent", accuracy_interval(right)),
            ("grouped", accuracy_interval(right, groups)),
        ):
            held[name] += low <= truth <= high
    assert held["independent"] < 800
    assert held["grouped"] >= 940


def test_groups_widen_the_intervals_and_change_nothing_else():
    targets = one_hot([0, 0, 1, 1, 1, 1], 2)[:, 1:]
    outputs = np.array([[0.1], [0.7], [0.8], [0.8], [0.9], [0.4]], np.float32)
    groups = np.array([0, 1, 2, 2, 2, 3])
    alone, grouped = (BINARY.measure(targets, outputs, ("a", "b"), each) for each in (np.arange(6), groups))
    assert alone == BINARY.measure(targets, outputs, ("a", "b"))
    assert grouped.pop("effective_n") == 36 / 12
    assert grouped.pop("accuracy_ci95")[0] < alone.pop("accuracy_ci95")[0]
    of_classes, of_groups = alone.pop("recall_ci95"), grouped.pop("recall_ci95")
    assert of_groups["a"] == of_classes["a"] == accuracy_interval(np.array([True, False]))
    assert of_groups["b"] == accuracy_interval(np.arange(4) < 3, np.array([2, 2, 2, 3]))
    assert of_classes["b"] == accuracy_interval(np.arange(4) < 3)
    assert grouped == alone
    alone, grouped = (measure_threshold(targets, outputs, 0.5, each) for each in (None, groups))
    assert grouped["sensitivity_ci95"] == pytest.approx(accuracy_interval(np.arange(4) < 3, np.array([2, 2, 2, 3])))
    assert grouped["sensitivity_ci95"][0] < alone["sensitivity_ci95"][0]
    assert grouped["specificity_ci95"] == alone["specificity_ci95"]


@pytest.mark.parametrize("task", [MULTICLASS, MULTILABEL])
def test_bins_of_certainty_count_groups_as_well(task):
    targets, outputs = one_hot([0, 0, 1], 2), np.array([[0.9, 0.1], [0.9, 0.1], [0.1, 0.9]], np.float32)
    low = [
        reliability_table(targets, outputs, task, groups)["accuracy_low"].iloc[-1]
        for groups in (None, np.arange(3), np.array([4, 4, 5], np.int32))
    ]
    assert low[0] == low[1] > low[2]


def test_the_majority_is_that_of_the_training_pictures():
    train, judged = one_hot([0, 1, 1], 2), one_hot([0, 0, 0, 1], 2)
    assert majority_accuracy(train, judged) == 0.25


@pytest.mark.parametrize("task", [BINARY, MULTICLASS, MULTILABEL])
def test_raw_pixels_tell_colours_apart(task):
    count = 2 if task.two_classes else 3
    classes = np.arange(36) % count
    pixels = np.stack([np.asarray(make_picture(i, COLOURS[c], (20, 20))) for i, c in enumerate(classes)])
    targets = one_hot(list(classes), count)
    targets = targets[:, 1:] if task.two_classes else targets
    positions = np.arange(36)
    assert simple_right(KIND.baseline, (pixels,), [], targets, positions[:24], positions[24:], task).all()


def test_where_nothing_can_be_told_apart_the_baseline_answers_the_most_common():
    pixels, positions = np.random.default_rng(0).integers(0, 256, (8, 20, 20, 3), np.uint8), np.arange(8)
    targets = one_hot([0, 0, 0, 0, 0, 1, 0, 1], 2)[:, 1:]
    right = simple_right(KIND.baseline, (pixels,), [], targets, positions[:4], positions[4:], BINARY)
    assert right.tolist() == [True, False, True, False]
    smiles = [text.encode() for text in ("1 2", ":)", "3 4", ":(") * 2]
    targets = one_hot([0, 1, 1, 1, 0, 1, 1, 1], 2)[:, 1:]
    right = simple_right(find_kind("text").baseline, (), smiles, targets, positions[:4], positions[4:], BINARY)
    assert right.tolist() == [False, True, True, True]


def test_an_area_of_all_is_one_wherever_it_is_shown():
    random = np.random.default_rng(0)
    for count in range(3, 60):
        targets = np.zeros((count, 1), np.float32)
        targets[: count // 3 + 1] = 1
        outputs = (targets + random.uniform(0, 0.5, targets.shape)).astype(np.float32) / 2
        (curves,) = class_curves(targets, outputs, ("no", "yes"), BINARY).values()
        assert curves.roc_auc == 1.0
        assert number(curves.roc_auc) == "1.000"


def test_what_differs_by_rounding_is_shown_the_same():
    assert number(0.9999999999999999) == number(1.0) == "1.000"
    assert percent(0.9999999999999999) == percent(1.0)
    assert number(0.9999) == "0.999"
    assert [percent(value, digits) for value, digits in ((0.0096, 1), (0.0096, 0), (0.00996, 2), (0.99996, 1))] == [
        "1.0\u00a0%",
        "1\u00a0%",
        "1.00\u00a0%",
        "99.9\u00a0%",
    ]


def test_the_interval_of_a_difference_is_of_pairs():
    first, second = np.ones(100, bool), np.ones(100, bool)
    second[:10], first[10:14] = False, False
    assert difference_interval(first, second, 100) == pytest.approx([-0.0172, 0.1348], abs=1e-4)
    assert difference_interval(second, first, 100) == pytest.approx([-0.1348, 0.0172], abs=1e-4)
    low, high = difference_interval(first, second, 25)  # fewer that are independent
    assert low < -0.0172
    assert high > 0.1348


def test_the_interval_of_a_difference_holds_it_in_19_of_20_cases():
    draw, held = np.random.default_rng(0), 0
    for _ in range(2_000):
        easy, first, second = draw.random((3, 150))
        low, high = difference_interval((easy < 0.8) | (first < 0.6), (easy < 0.8) | (second < 0.3), 150)
        held += low <= 0.2 * 0.3 <= high
    assert 0.94 < held / 2_000 < 0.97


def test_the_interval_of_a_balanced_accuracy_holds_it_in_19_of_20_cases():
    draw, counts, recalls = np.random.default_rng(0), np.array([180, 10, 10]), np.array([0.95, 0.6, 0.4])
    held = 0
    for found in draw.binomial(counts, recalls, (2_000, 3)):
        shares = found / counts
        low, high = balanced_interval(list(shares), list(map(share_interval, shares, counts)))
        held += low <= recalls.mean() <= high
    assert 0.94 < held / 2_000 < 0.98


def test_a_calibration_error_by_chance_is_that_of_a_calibrated_model():
    draw = np.random.default_rng(0)
    outputs = draw.dirichlet([0.5] * 10, 80).astype(np.float32)
    errors = []
    for _ in range(300):
        drawn = (outputs.cumsum(1) > draw.random((80, 1))).argmax(1)
        errors.append(METRICS["ece"].compute(MULTICLASS.answers(one_hot(drawn, 10), outputs)))
    assert (
        0.05
        < np.mean(errors)
        == pytest.approx(error_by_chance(MULTICLASS.answers(one_hot(drawn, 10), outputs)), rel=0.1)
    )
    assert error_by_chance(MULTICLASS.answers(one_hot([0, 1], 2), one_hot([0, 1], 2))) == 0
