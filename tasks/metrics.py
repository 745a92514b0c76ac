"""Metrics of a classifier for `metrics.json`, by scikit-learn where possible."""

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from scipy import stats
from sklearn import metrics

from app.custom_parts import custom_metrics
from tasks.answers import Answers

CALIBRATION_BINS = 15
"""Bins of the expected calibration error, as in Guo et al. (2017)."""
CHANCE_DRAWS = 50
"""Draws for the calibration error by chance: the mean is exact to a few hundredths of itself."""


class Metric(NamedTuple):
    """A metric of a split; `METRICS` adds it to metrics.json, the terminal, the report and evaluate.py."""

    compute: Callable[[Answers], float | None]
    """Computes the metric from at least one answer; None if undefined."""
    title: str
    is_share: bool
    """True if it is shown in percent."""
    hint: str
    """Meaning in a few words."""


def measure(answers: Answers, class_names: Sequence[str], groups: np.ndarray | None = None) -> dict[str, Any] | None:
    """Computes all metrics of answers.

    Args:
        answers: answers to measure; a multi-label example is right only if all its labels are.
        class_names: names in the order of the classes.
        groups: int (n,), the same for examples that are not independent; None if all are.

    Returns:
        The record M of `metrics.json`, or None without examples. If examples share a group, `effective_n` is the number
        of independent examples that the interval counts.
    """
    count = len(answers.truth)
    if count == 0:
        return None
    effective = count if groups is None else effective_count(groups)
    precision, recall, f1, support = _per_class(answers)
    return {
        "n": count,
        **{name: metric.compute(answers) for name, metric in all_metrics().items()},
        "accuracy_ci95": accuracy_interval(answers.right, groups),
        **({"effective_n": effective} if effective < count else {}),
        "per_class": {
            name: {
                "precision": float(precision[index]),
                "recall": float(recall[index]),
                "f1": float(f1[index]),
                "support": int(support[index]),
            }
            for index, name in enumerate(class_names)
        },
        "recall_ci95": {name: _recall_interval(answers, groups, index) for index, name in enumerate(class_names)},
    }


def all_metrics() -> dict[str, Metric]:
    """Returns all metrics that are one number, by name in `metrics.json`: `METRICS`, and those of `custom.py`."""
    own = {
        name: Metric(compute, name.replace("_", " "), False, "see custom.py")
        for name, compute in custom_metrics().items()
    }
    return {**METRICS, **own}


def accuracy_interval(right: np.ndarray, groups: np.ndarray | None = None) -> list[float]:
    """Computes the 95 % interval of an accuracy (Wilson, 1927), which is valid for few examples and near 100 %.

    With groups, the interval counts the `effective_count` of the examples, as Korn and Graubard (1998) put the
    effective size of a survey of clusters into the interval of a share.

    Args:
        right: bool (n,), at least one.
        groups: int (n,), the same for examples that are not independent; None if all are.
    """
    count = float(len(right) if groups is None else effective_count(groups))
    return share_interval(float(right.sum()) / len(right), count)


def share_interval(share: float, count: float) -> list[float]:
    """Computes the 95 % interval (Wilson, 1927) of a share among `count` independent examples, more than 0."""
    z = float(stats.norm.ppf(0.975))
    middle = (2 * count * share + z**2) / (2 * (count + z**2))
    reach = z / (2 * (count + z**2)) * math.sqrt(4 * count * share * (1 - share) + z**2)
    return [0.0 if share == 0 else middle - reach, 1.0 if share == 1 else middle + reach]


def balanced_interval(recalls: Sequence[float], bounds: Sequence[Sequence[float]]) -> list[float]:
    """Computes the 95 % interval of a balanced accuracy from those of its recalls (Zou and Donner, 2008).

    Args:
        recalls: recall of each class that has examples; at least one.
        bounds: 95 % interval of each.
    """
    shares, (low, high) = np.array(recalls), np.transpose(bounds)
    reach_down, reach_up = (math.sqrt(((shares - end) ** 2).sum()) / len(shares) for end in (low, high))
    return [float(shares.mean()) - reach_down, float(shares.mean()) + reach_up]


def difference_interval(first: np.ndarray, second: np.ndarray, count: float) -> list[float]:
    """Computes the 95 % interval of the difference of two accuracies on the same examples (Bonett and Price, 2012).

    Args:
        first: bool (n,), whether the first is right on each example; at least one.
        second: bool (n,), the same for the second.
        count: effective number of independent examples.
    """
    z = float(stats.norm.ppf(0.975))
    only_first, only_second = (
        (float(only.mean()) * count + 1) / (count + 2) for only in (first & ~second, second & ~first)
    )
    difference = only_first - only_second
    reach = z * math.sqrt((only_first + only_second - difference**2) / (count + 2))
    return [max(-1.0, difference - reach), min(1.0, difference + reach)]


def effective_count(groups: np.ndarray) -> float:
    """Computes the effective number of independent examples: n over the design effect (Kish, 1965).

    It assumes that examples of one group are right or wrong together (a correlation of 1). This holds for copies, and
    is on the safe side for look-alikes.

    Args:
        groups: int (n,), at least one; the same for examples that are not independent.

    Returns:
        1 for a single group, up to n if no two examples share a group.
    """
    sizes = np.unique(groups, return_counts=True)[1]
    return len(groups) ** 2 / int((sizes**2).sum())


def calibration_bins(answers: Answers) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Returns confidence, correctness and bin of each answer; in a multi-label task, of each yes-or-no decision."""
    truth, probabilities = answers.truth, answers.probabilities
    if answers.multi_label:
        confidence = np.maximum(probabilities, 1 - probabilities).ravel()
        correct = ((probabilities >= 0.5) == truth).ravel()
    else:
        confidence = probabilities.max(axis=1)
        correct = truth[np.arange(len(truth)), probabilities.argmax(axis=1)]
    bins = np.minimum((confidence * CALIBRATION_BINS).astype(int), CALIBRATION_BINS - 1)
    return confidence, correct, bins


def error_by_chance(answers: Answers) -> float:
    """Returns the calibration error that a perfectly calibrated model has on average with these probabilities.

    It is above 0, as a share of few examples differs from its probability; see Bröcker and Smith, "Increasing the
    Reliability of Reliability Diagrams" (2007), who draw answers in the same way.

    Args:
        answers: at least one.
    """
    confidence, _, bins = calibration_bins(answers)
    generator = np.random.default_rng(0)
    errors = [_gap(confidence, generator.random(len(confidence)) < confidence, bins) for _ in range(CHANCE_DRAWS)]
    return float(np.mean(errors))


def majority_accuracy(train_targets: np.ndarray, targets: np.ndarray) -> float | None:
    """Returns the accuracy of always answering the most frequent training target; None without examples."""
    if len(targets) == 0:
        return None
    answers, counts = np.unique(train_targets, axis=0, return_counts=True)
    return float((targets == answers[counts.argmax()]).all(axis=1).mean())


def measure_threshold(
    targets: np.ndarray, outputs: np.ndarray, threshold: float, groups: np.ndarray | None = None
) -> dict[str, Any]:
    """Measures sensitivity and specificity of a threshold for the second class, with 95 % intervals.

    Args:
        targets: float32 (n, 1), 1 for examples of the second class.
        outputs: float32 (n, 1), probabilities of the second class.
        threshold: lowest probability for the second class.
        groups: as in `measure`.

    Returns:
        The record; a share is None if its class has no examples.
    """
    truth, positive = targets[:, 0] > 0.5, outputs[:, 0] >= threshold
    found: dict[str, Any] = {}
    for name, of_class, right in (("sensitivity", truth, positive), ("specificity", ~truth, ~positive)):
        hits, among = right[of_class], None if groups is None else groups[of_class]
        found[name] = float(hits.mean()) if len(hits) else None
        found[f"{name}_ci95"] = accuracy_interval(hits, among) if len(hits) else None
    return found


def _per_class(answers: Answers) -> tuple[np.ndarray, ...]:
    """Returns precision, recall, F1 and number of examples, (num_classes,) each."""
    return metrics.precision_recall_fscore_support(
        answers.truth, answers.predicted, labels=range(answers.truth.shape[1]), average=None, zero_division=0
    )


def _recall_interval(answers: Answers, groups: np.ndarray | None, index: int) -> list[float] | None:
    """Returns the 95 % interval of the recall of a class; None without examples of it."""
    own = answers.truth[:, index]
    if not own.any():
        return None
    return accuracy_interval(answers.predicted[own, index], None if groups is None else groups[own])


def _accuracy(answers: Answers) -> float:
    return float(answers.right.mean())


def _balanced_accuracy(answers: Answers) -> float:
    """Returns the mean recall over the classes that occur; with several labels, the mean over both answers to each."""
    truth, predicted = answers.truth, answers.predicted
    recall = (truth & predicted).sum(0) / np.maximum(truth.sum(0), 1)
    if not answers.multi_label:
        return float(recall[truth.any(axis=0)].mean())
    specificity = (~truth & ~predicted).sum(0) / np.maximum((~truth).sum(0), 1)
    occurs = np.concatenate([truth.any(axis=0), ~truth.all(axis=0)])
    both = occurs & np.roll(occurs, len(recall))  # labels with both answers count alone, if there are any
    return float(np.concatenate([recall, specificity])[both if both.any() else occurs].mean())


def _macro_f1(answers: Answers) -> float:
    """Returns the mean F1 over the classes that occur."""
    _, _, f1, support = _per_class(answers)
    return float(f1[support > 0].mean()) if support.any() else 0.0


def _log_loss(answers: Answers) -> float:
    """Returns the mean negative log-probability of the truth; with several labels, over all yes-or-no decisions."""
    tiny = np.finfo(np.float32).eps
    clipped = np.clip(answers.probabilities, tiny, 1 - tiny)
    if answers.multi_label:
        return float(-np.log(np.where(answers.truth, clipped, 1 - clipped)).mean())
    return float(-np.log(clipped[answers.truth]).mean())


def _expected_calibration_error(answers: Answers) -> float:
    """Returns the mean gap between confidence and accuracy (Guo et al., 2017)."""
    return _gap(*calibration_bins(answers))


def _gap(confidence: np.ndarray, correct: np.ndarray, bins: np.ndarray) -> float:
    gaps = np.bincount(bins, weights=correct - confidence, minlength=CALIBRATION_BINS)
    return float(np.abs(gaps).sum() / len(confidence))


def _roc_auc(answers: Answers) -> float | None:
    """Returns the mean area over the classes (one against the rest) that have examples inside and outside."""
    truth = answers.truth
    defined = truth.any(axis=0) & ~truth.all(axis=0)
    if not defined.any():
        return None
    return float(metrics.roc_auc_score(truth[:, defined], answers.probabilities[:, defined], average="macro"))


METRICS: dict[str, Metric] = {
    "accuracy": Metric(_accuracy, "accuracy", True, "the share that is right"),
    "balanced_accuracy": Metric(_balanced_accuracy, "balanced accuracy", True, "every class counts the same"),
    "macro_f1": Metric(_macro_f1, "mean F1", False, "precision and recall in one"),
    "log_loss": Metric(_log_loss, "log loss", False, "0 is perfect; confident mistakes cost most"),
    "ece": Metric(_expected_calibration_error, "calibration error", True, "gap between confidence and accuracy"),
    "roc_auc": Metric(_roc_auc, "ROC AUC", False, "1 is perfect, 0.5 guessing"),
}
"""Figures that every run has; see `all_metrics`."""
