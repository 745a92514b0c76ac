"""Thresholds that a rule chooses on val, against values worked out by hand."""

import dataclasses

import numpy as np
import pytest
import tensorflow as tf

from app.config import TrainConfig
from app.decision import DecisionConfig, check_rule, objective_of
from app.decision import rule_of as rule_of_objective
from app.errors import UsageError
from exports.saved_model import name_labels
from tasks.answers import label_texts
from tasks.classification import BINARY, MULTICLASS, MULTILABEL
from tasks.decision import choose, decide, find_metric, measure_decision, needed, suggest
from tasks.metrics import measure_threshold

TRUTH = np.array([0, 0, 0, 1, 0, 1, 1, 1], bool)
SCORES = np.array([0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8], np.float32)


def rule_of(**flags):
    return DecisionConfig.of(**flags).rule


@pytest.mark.parametrize(
    ("flags", "threshold"),
    [
        ({"sensitivity": 0.98}, 0.35),
        ({"sensitivity": 0.75}, 0.55),
        ({"sensitivity": 0.5}, 0.55),  # 0.65 finds one fewer, and has as many false alarms: none
        ({"specificity": 0.75}, 0.35),
        ({"specificity": 0.5}, 0.35),  # 0.25 has one more false alarm, and finds as many
        ({"specificity": 0.98}, 0.55),
        ({"precision_at_least": 0.98}, 0.55),
        ({"precision_at_least": 0.8}, 0.35),
        ({"cost": "10:1"}, 0.35),
        ({"cost": "1:10"}, 0.55),
        ({"threshold": 0.25}, 0.25),
    ],
)
def test_a_threshold_is_half_way_between_two_examples(flags, threshold):
    chosen = choose(rule_of(**flags), TRUTH, SCORES)
    assert chosen == pytest.approx(threshold)
    assert chosen == np.float32(chosen)


def test_equal_scores_are_on_one_side():
    scores = np.array([0.5, 0.5, 0.5, 0.9], np.float32)
    truth = np.array([0, 1, 1, 0], bool)
    assert choose(rule_of(sensitivity=0.5), truth, scores) <= 0.5
    near = np.array([0.5, np.nextafter(np.float32(0.5), np.float32(1))], np.float32)
    assert choose(rule_of(sensitivity=0.9), np.array([0, 1], bool), near) == near[1]


def test_the_suggested_threshold_is_kept_where_probabilities_are_almost_one():
    targets = np.array([[0], [0], [1]], np.float32)
    outputs = np.array([[0.2], [1 - 2**-23], [1 - 2**-24]], np.float32)
    measured = measure_threshold(targets, outputs, suggest(targets, outputs))
    assert (measured["sensitivity"], measured["specificity"]) == (1, 1)
    assert suggest(targets[:2], outputs[:2]) is None


def test_a_precision_that_no_threshold_reaches_gets_the_highest_there_is():
    truth, scores = np.array([1, 0], bool), np.array([0.2, 0.9], np.float32)
    assert choose(rule_of(precision_at_least=0.9), truth, scores) == pytest.approx(0.1)


def test_the_answers_of_all_parts_obey():
    outputs = np.array([[0.2], [0.4]], np.float32)
    task = dataclasses.replace(BINARY, thresholds=(0.3,))
    assert task.predicted(task.probabilities(outputs)).tolist() == [[True, False], [False, True]]
    answers = task.answers(np.array([[1], [1]], np.float32), outputs)
    assert answers.right.tolist() == [False, True]
    several = dataclasses.replace(MULTILABEL, thresholds=(0.3, 0.9))
    for each, rows in ((task, task.probabilities(outputs)), (several, np.array([[0.4, 0.8], [0.2, 0.95]], np.float32))):
        named = [label.decode() for label in name_labels(tf.constant(rows), ("no", "yes"), each).numpy()]
        assert named == label_texts(each.predicted(rows), ("no", "yes"))


def test_each_label_has_a_threshold_and_one_that_val_knows_nothing_of_keeps_the_half():
    targets = np.stack([TRUTH, ~TRUTH, np.zeros(8, bool)], axis=1).astype(np.float32)
    task = decide(rule_of(sensitivity=0.98), MULTILABEL, targets, np.stack([SCORES, SCORES, SCORES], axis=1))
    assert task.thresholds == pytest.approx((0.35, 0.05, 0.5))
    again = MULTILABEL.with_thresholds("abc", task.thresholds_of("abc"))
    assert again == task
    assert BINARY.with_thresholds(("no", "yes"), {}) == BINARY


@pytest.mark.parametrize("table", [{"no": 0.5}, {"yes": "0.5"}, {"yes": float("nan")}, {"yes": -1}, {"yes": 1, "x": 1}])
def test_thresholds_of_a_damaged_file_are_refused(table):
    with pytest.raises(ValueError, match="thresholds"):
        BINARY.with_thresholds(("no", "yes"), table)


def test_a_promise_is_shown_by_enough_examples_only():
    assert needed(0.98) == 149
    assert 0.98**149 < 0.05 < 0.98**148
    rule = rule_of(sensitivity=0.98)
    for count, shown in ((148, False), (149, True)):
        targets = np.ones((count, 1), np.float32)
        split = targets, targets, np.arange(count)
        task = dataclasses.replace(BINARY, thresholds=(0.5,))
        found = measure_decision(rule, task, ("no", "yes"), {"test": split})
        assert found["promise"] == {"share": "sensitivity", "least": 0.98, "needed": 149}
        assert found["classes"]["yes"]["test"]["shown"] is shown
        assert found["classes"]["yes"]["test"]["counts"]["sensitivity"] == [count, count]


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ({"sensitivity": 0.9, "threshold": 0.5}, "Only one flag .* received --sensitivity and --threshold"),
        ({"cost": "10"}, "--cost must be FN:FP, two numbers above 0 such as 10:1; received 10."),
        ({"cost": "0:1"}, "--cost must be FN:FP"),
        ({"sensitivity": 1.0}, "--sensitivity must be a number above 0 and below 1; received 1.0"),
    ],
)
def test_flags_that_cannot_be_are_refused(flags, message):
    with pytest.raises(UsageError, match=message):
        TrainConfig.of(**flags)


def test_several_classes_and_no_val_split_are_refused():
    rule = rule_of(sensitivity=0.9)
    with pytest.raises(UsageError, match=r"--sensitivity 0\.9 needs two classes"):
        check_rule(rule, 3, MULTICLASS.multi_label)
    with pytest.raises(UsageError, match="chosen on val, and there is none"):
        check_rule(rule, 2, multi_label=False, num_val=0)
    check_rule(rule_of(threshold=0.2), 2, multi_label=False, num_val=0)
    check_rule(None, 3, multi_label=False, num_val=0)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("specificity_at_sensitivity_98", 0.75),  # from 0.35 on, all 4 are found, and 1 of 4 others is an alarm
        ("specificity_at_sensitivity_75", 1.0),
        ("sensitivity_at_specificity_75", 1.0),
        ("sensitivity_at_specificity_97.5", 0.75),
    ],
)
def test_a_search_measures_what_is_left_once_the_other_share_is_promised(name, value):
    answers = BINARY.answers(TRUTH[:, None].astype(np.float32), SCORES[:, None])
    assert find_metric(name).compute(answers) == value
    both = MULTILABEL.answers(np.stack([TRUTH, TRUTH, TRUTH * 0], 1), np.stack([SCORES, TRUTH, SCORES], 1))
    assert find_metric(name).compute(both) == (value + 1) / 2  # the last label has no examples


def test_a_share_of_one_class_alone_is_none():
    metric = find_metric("specificity_at_sensitivity_98")
    assert metric.compute(BINARY.answers(np.zeros((2, 1), np.float32), np.zeros((2, 1), np.float32))) is None
    assert metric.title == "specificity at sensitivity 98 %"


def test_a_rule_names_its_objective_and_the_objective_its_rule():
    for flags in ({"sensitivity": 0.98}, {"specificity": 0.975}, {"sensitivity": 0.07}):
        rule = rule_of(**flags)
        assert rule_of_objective(objective_of(rule))[:2] == (rule.name, pytest.approx(rule.value))
    assert objective_of(rule_of(sensitivity=0.98)) == "val_specificity_at_sensitivity_98"
    assert objective_of(rule_of(cost="10:1")) is None
    for other in ("val_accuracy", "val_sensitivity_at_specificity_100", "val_sensitivity_at_sensitivity_9"):
        assert rule_of_objective(other) is None
