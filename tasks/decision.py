"""Thresholds of a classifier: chooses them on val by a rule, and measures them on the measured splits."""

import dataclasses
import functools
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from scipy import stats

from app.decision import COUNTERPARTS, Rule, rule_of
from tasks.answers import Answers
from tasks.classification import Classification
from tasks.metrics import Metric, accuracy_interval, all_metrics, effective_count, measure_threshold

CONFIDENCE = 0.95
"""One-sided confidence at which a split confirms a promise."""
PROMISES = {"sensitivity": "sensitivity", "specificity": "specificity", "precision_at_least": "precision"}
"""Measure that a rule promises, by the name of the rule."""


def decide(rule: Rule, task: Classification, targets: np.ndarray, outputs: np.ndarray) -> Classification:
    """Returns the task with the thresholds that a rule chooses; 0.5 for a class that val does not cover.

    Args:
        rule: rule for each output.
        task: task with two classes, or multi-label.
        targets: targets of val, 0 or 1, float32 (n, num_outputs).
        outputs: probabilities of val, float32 (n, num_outputs).
    """
    chosen = [choose(rule, targets[:, column] > 0.5, outputs[:, column]) for column in range(targets.shape[1])]
    return dataclasses.replace(task, thresholds=tuple(0.5 if each is None else each for each in chosen))


def choose(rule: Rule, truth: np.ndarray, scores: np.ndarray) -> float | None:
    """Chooses a threshold: examples with at least this score are positive.

    Of the thresholds that keep a promise of sensitivity, it is the lowest with the fewest false alarms: a higher one
    would find fewer for nothing. With one of specificity or precision, it is the highest that finds the most. If no
    threshold keeps a promise of precision, the one with the highest precision is chosen.

    Args:
        rule: rule to satisfy.
        truth: bool (n,).
        scores: float32 (n,) in [0, 1].

    Returns:
        A number of float32, half-way between the scores of two examples; None if a class has no examples.
    """
    if rule.name == "threshold":
        return float(np.float32(rule.value))
    if truth.all() or not truth.any():
        return None
    positives, negatives = scores[truth], scores[~truth]
    candidates, found, alarms = _candidates(positives, negatives)
    precision = found / np.maximum(found + alarms, 1)
    if rule.name == "cost":
        costs = rule.value * (len(positives) - found) + alarms
        best = candidates[costs <= costs.min() * (1 + 1e-12)]
        return float(best[np.abs(best - 1 / (1 + rule.value)).argmin()])  # best if calibrated
    if rule.name == "sensitivity":
        kept = found >= _least(rule.value, len(positives))
        return float(candidates[kept & (alarms == alarms[kept].min())].min())
    if rule.name == "specificity":
        kept = len(negatives) - alarms >= _least(rule.value, len(negatives))
        return float(candidates[kept & (found == found[kept].max())].max())
    kept = (precision >= min(rule.value, precision.max()) - 1e-12) & (found > 0)
    return float(candidates[kept & (found == found[kept].max())].max())


def suggest(targets: np.ndarray, outputs: np.ndarray) -> float | None:
    """Finds the threshold with the largest sum of sensitivity and specificity (Youden, 1950).

    Of several such thresholds, it is the one nearest to 0.5.

    Args:
        targets: float32 (n, 1), 1 for examples of the second class.
        outputs: float32 (n, 1), probabilities of the second class.

    Returns:
        A number as from `choose`; None if one of the classes has no examples.
    """
    truth, scores = targets[:, 0] > 0.5, outputs[:, 0]
    if truth.all() or not truth.any():
        return None
    candidates, found, alarms = _candidates(scores[truth], scores[~truth])
    youden = found / truth.sum() - alarms / (~truth).sum()
    best = candidates[youden >= youden.max() - 1e-12]
    return float(best[np.abs(best - 0.5).argmin()])


def find_metric(name: str) -> Metric:
    """Finds a figure that a search optimises: one of every run, or one such as 'sensitivity_at_specificity_95'.

    Raises:
        KeyError: there is none of this name.
    """
    rule = rule_of(f"val_{name}")
    known = all_metrics()
    if rule is None or name in known:
        return known[name]
    share = COUNTERPARTS[rule.name]
    title = f"{share} at {rule.name} {100 * rule.value:g} %"
    return Metric(functools.partial(_counterpart, rule), title, True, "by the threshold of these examples themselves")


def measure_decision(
    rule: Rule,
    task: Classification,
    class_names: Sequence[str],
    splits: Mapping[Any, tuple[np.ndarray, np.ndarray, np.ndarray]],
) -> dict[str, Any]:
    """Measures the thresholds of a task.

    Args:
        rule: rule that chose the thresholds.
        task: task with thresholds.
        class_names: names in the order of the classes.
        splits: targets, outputs and groups of each measured split.

    Returns:
        The record `decision` of `metrics.json`: `flag`, `promise` (which share, and how much; None if the rule promises
        nothing), and for each class `threshold` and, by split, sensitivity, specificity and precision with 95 %
        intervals, `counts` (right, and of how many) of each, and whether the promise is `shown`. If examples that it is
        about share a group, `effective_n` is the number of independent ones among them.
    """
    classes: dict[str, Any] = {}
    for column, (name, threshold) in enumerate(task.thresholds_of(class_names).items()):
        classes[name] = {"threshold": threshold, "val": None, "test": None}
        for split, (targets, outputs, groups) in splits.items():
            classes[name][split] = _measure_one(rule, targets[:, [column]], outputs[:, [column]], threshold, groups)
    share = PROMISES.get(rule.name)
    promise = None if share is None else {"share": share, "least": rule.value, "needed": needed(rule.value)}
    return {"flag": rule.flag, "promise": promise, "classes": classes}


def needed(share: float) -> int:
    """Returns how many independent examples, all right, show with `CONFIDENCE` that a share is at least this large.

    It is the exact binomial test: with a smaller share, so many right examples would occur in under 5 of 100 cases.
    """
    return math.ceil(math.log(1 - CONFIDENCE) / math.log(share) - 1e-9)


def fewest(rule: Rule, targets: np.ndarray, groups: np.ndarray) -> tuple[int, float] | None:
    """Returns which output has the fewest independent examples that a promise is about, and how many.

    Args:
        rule: what is promised.
        targets: float32 (n, num_outputs): 0 or 1.
        groups: int (n,), the same for examples that are not independent.

    Returns:
        None without a promise, or for a promise of precision, as nobody knows the number of alarms in advance.
    """
    if rule.name not in COUNTERPARTS:
        return None
    asked = (targets > 0.5) == (rule.name == "sensitivity")
    counts = [effective_count(groups[of_output]) if of_output.any() else 0.0 for of_output in asked.T]
    return int(np.argmin(counts)), min(counts)


def _candidates(positives: np.ndarray, negatives: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Returns all thresholds that differ in their answers, float32, with how many positives and negatives each finds.

    In float32, the middle of two neighbouring scores is one of them; it must be the upper one.
    """
    steps = np.unique(np.concatenate([positives, negatives]).astype(np.float32))
    middles = np.maximum((steps[1:] + steps[:-1]) / 2, np.nextafter(steps[:-1], np.float32(2)))
    candidates = np.concatenate([[steps[0] / 2], middles, [np.nextafter(steps[-1], np.float32(2))]])
    found, alarms = (len(each) - np.searchsorted(np.sort(each), candidates) for each in (positives, negatives))
    return candidates, found, alarms


def _counterpart(rule: Rule, answers: Answers) -> float | None:
    """Measures the counterpart of the share that a rule promises, at the threshold that the rule chooses on the same
    examples. With several labels, it is the mean over those that have positive and negative examples."""
    shares: list[float] = []
    for column in range(answers.truth.shape[1]) if answers.multi_label else [1]:
        truth, scores = answers.truth[:, [column]], answers.probabilities[:, [column]].astype(np.float32)
        threshold = choose(rule, truth[:, 0], scores[:, 0])
        if threshold is not None:
            shares.append(measure_threshold(truth, scores, threshold)[COUNTERPARTS[rule.name]])
    return float(np.mean(shares)) if shares else None


def _measure_one(
    rule: Rule, targets: np.ndarray, outputs: np.ndarray, threshold: float, groups: np.ndarray
) -> dict[str, Any]:
    truth, positive = targets[:, 0] > 0.5, outputs[:, 0] >= threshold
    measured = measure_threshold(targets, outputs, threshold, groups)
    hits = truth[positive]
    measured["precision"] = float(hits.mean()) if len(hits) else None
    measured["precision_ci95"] = accuracy_interval(hits, groups[positive]) if len(hits) else None
    asked = {"sensitivity": (truth, positive), "specificity": (~truth, ~positive), "precision": (positive, truth)}
    measured["counts"] = {name: [int((of & right).sum()), int(of.sum())] for name, (of, right) in asked.items()}
    if rule.name in PROMISES:
        share = PROMISES[rule.name]
        right, count = measured["counts"][share]
        independent = effective_count(groups[asked[share][0]]) if count else 0.0
        measured["shown"] = _is_shown(right * independent / max(count, 1), independent, rule.value)
        if independent < count:
            measured["effective_n"] = independent
    return measured


def _is_shown(right: float, count: float, least: float) -> bool:
    """Returns whether `right` of `count` shows a share of at least `least` (Clopper and Pearson, 1934, one-sided)."""
    return right > 0 and float(stats.beta.ppf(1 - CONFIDENCE, right, count - right + 1)) >= least


def _least(share: float, count: int) -> int:
    """Returns the smallest number of examples that is at least a share of `count`."""
    return math.ceil(share * count - 1e-9)
