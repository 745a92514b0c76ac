"""How good the predictions are: the figures of `metrics.json`, by scikit-learn where it has them."""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from scipy import stats
from sklearn import metrics

from app.config import Task
from inference.answers import class_probabilities, predicted_labels

CALIBRATION_BINS = 15
"""Bins of the expected calibration error, as in Guo et al. (2017)."""


class Answers(NamedTuple):
    """What a metric is computed from."""

    truth: np.ndarray
    """bool (n, num_classes)."""
    predicted: np.ndarray
    """bool (n, num_classes), the classes said to be present."""
    probabilities: np.ndarray
    """float64 (n, num_classes) in [0, 1]."""
    task: Task


class Metric(NamedTuple):
    """A figure of a split: `METRICS` brings it to metrics.json, the terminal, the report and evaluate.py."""

    compute: Callable[[Answers], float | None]
    """From at least one answer; None where it is not defined."""
    title: str
    is_share: bool
    """Whether it is shown in percent."""
    hint: str
    """What it says, in a few words."""


def measure(
    targets: np.ndarray,
    outputs: np.ndarray,
    class_names: tuple[str, ...],
    task: Task,
    groups: np.ndarray | None = None,
) -> dict[str, Any] | None:
    """Measures predictions against the truth.

    Args:
        targets: float32 (n, num_outputs), 0 or 1.
        outputs: float32 (n, num_outputs), the model's probabilities.
        class_names: names in the order of the classes.
        task: in a multi-label task a picture counts as right only if all its labels are.
        groups: int (n,), the same for pictures that are not independent; None if all are.

    Returns:
        The record M of `metrics.json`, or None for no pictures. Where pictures share a group, `effective_n` says how
        many independent ones the interval counts.
    """
    if len(targets) == 0:
        return None
    answers = _answers(targets, outputs, task)
    effective = len(targets) if groups is None else effective_count(groups)
    precision, recall, f1, support = _per_class(answers)
    return {
        "n": len(targets),
        **{name: metric.compute(answers) for name, metric in METRICS.items()},
        "accuracy_ci95": accuracy_interval(_right(answers), groups),
        **({"effective_n": effective} if effective < len(targets) else {}),
        "per_class": {
            name: {
                "precision": float(precision[index]),
                "recall": float(recall[index]),
                "f1": float(f1[index]),
                "support": int(support[index]),
            }
            for index, name in enumerate(class_names)
        },
    }


def measure_certainty(targets: np.ndarray, outputs: np.ndarray, task: Task) -> dict[str, float]:
    """The part of `measure` that changes with how sure the answers are, whatever they are: `log_loss` and `ece`."""
    answers = _answers(targets, outputs, task)
    return {"log_loss": _log_loss(answers), "ece": _expected_calibration_error(answers)}


def accuracy_interval(right: np.ndarray, groups: np.ndarray | None = None) -> list[float]:
    """The 95 % interval of an accuracy (Wilson, 1927), which stays honest for few pictures and near 100 %.

    Pictures of one group count by their `effective_count` in it, as Korn and Graubard (1998) put the effective size of
    a survey of clusters into the interval of a share.

    Args:
        right: bool (n,), at least one.
        groups: int (n,), the same for pictures that are not independent; None if all are.
    """
    count = float(len(right) if groups is None else effective_count(groups))
    share, z = float(right.sum()) / len(right), float(stats.norm.ppf(0.975))
    middle = (2 * count * share + z**2) / (2 * (count + z**2))
    reach = z / (2 * (count + z**2)) * math.sqrt(4 * count * share * (1 - share) + z**2)
    return [0.0 if share == 0 else middle - reach, 1.0 if share == 1 else middle + reach]


def effective_count(groups: np.ndarray) -> float:
    """How many independent pictures tell as much about an accuracy: their number over the design effect (Kish, 1965).

    Pictures of one group are taken to be right or wrong together (a correlation of 1 within it). Of copies that is so;
    of pictures that look the same it is on the safe side.

    Args:
        groups: int (n,), at least one; the same for pictures that are not independent.

    Returns:
        From 1, for one group, to n, if no two pictures share a group.
    """
    sizes = np.unique(groups, return_counts=True)[1]
    return len(groups) ** 2 / int((sizes**2).sum())


def calibration_bins(
    truth: np.ndarray, probabilities: np.ndarray, task: Task
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """How sure each answer is, whether it is right, and its bin.

    Args:
        truth: bool (n, num_classes).
        probabilities: float (n, num_classes).
        task: in a multi-label task every yes-or-no decision counts, else only the likeliest class.
    """
    if task == "multilabel":
        confidence = np.maximum(probabilities, 1 - probabilities).ravel()
        correct = (predicted_labels(probabilities, task) == truth).ravel()
    else:
        confidence = probabilities.max(axis=1)
        correct = truth[np.arange(len(truth)), probabilities.argmax(axis=1)]
    bins = np.minimum((confidence * CALIBRATION_BINS).astype(int), CALIBRATION_BINS - 1)
    return confidence, correct, bins


def majority_accuracy(train_targets: np.ndarray, targets: np.ndarray) -> float | None:
    """The accuracy of always answering what most training pictures are; None for no pictures."""
    if len(targets) == 0:
        return None
    answers, counts = np.unique(train_targets, axis=0, return_counts=True)
    return float((targets == answers[counts.argmax()]).all(axis=1).mean())


def choose_threshold(targets: np.ndarray, outputs: np.ndarray) -> float | None:
    """The threshold at which sensitivity and specificity are largest together (Youden, 1950); of equals, nearest 0.5.

    Args:
        targets: float32 (n, 1), 1 for pictures of the second class.
        outputs: float32 (n, 1), their probability.

    Returns:
        Half-way between two pictures' probabilities; None if one of the classes has no pictures.
    """
    truth, scores = targets[:, 0] > 0.5, outputs[:, 0].astype(np.float64)
    if truth.all() or not truth.any():
        return None
    steps = np.unique(scores)
    candidates = np.concatenate([[steps[0] / 2], (steps[1:] + steps[:-1]) / 2, [(1 + steps[-1]) / 2]])
    sensitivity = 1 - np.searchsorted(np.sort(scores[truth]), candidates) / truth.sum()
    specificity = np.searchsorted(np.sort(scores[~truth]), candidates) / (~truth).sum()
    youden = sensitivity + specificity
    best = candidates[youden >= youden.max() - 1e-12]
    return float(best[np.abs(best - 0.5).argmin()])


def measure_threshold(
    targets: np.ndarray, outputs: np.ndarray, threshold: float, groups: np.ndarray | None = None
) -> dict[str, Any]:
    """Sensitivity and specificity of saying 'second class' from a threshold on, with their 95 % intervals.

    Args:
        targets: float32 (n, 1), 1 for pictures of the second class.
        outputs: float32 (n, 1), their probability.
        threshold: fraction.
        groups: as of `measure`.

    Returns:
        None in place of a share for a class without pictures.
    """
    truth, said = targets[:, 0] > 0.5, outputs[:, 0] >= threshold
    found: dict[str, Any] = {}
    for name, of_class, right in (("sensitivity", truth, said), ("specificity", ~truth, ~said)):
        hits, among = right[of_class], None if groups is None else groups[of_class]
        found[name] = float(hits.mean()) if len(hits) else None
        found[f"{name}_ci95"] = accuracy_interval(hits, among) if len(hits) else None
    return found


def _answers(targets: np.ndarray, outputs: np.ndarray, task: Task) -> Answers:
    probabilities = class_probabilities(outputs.astype(np.float64), task)
    truth = class_probabilities(targets, task) > 0.5
    return Answers(truth, predicted_labels(probabilities, task), probabilities, task)


def _right(answers: Answers) -> np.ndarray:
    """Which pictures are right in all, bool (n,)."""
    return (answers.truth == answers.predicted).all(axis=1)


def _per_class(answers: Answers) -> tuple[np.ndarray, ...]:
    """Precision, recall, F1 and number of pictures, (num_classes,) each."""
    return metrics.precision_recall_fscore_support(
        answers.truth, answers.predicted, labels=range(answers.truth.shape[1]), average=None, zero_division=0
    )


def _accuracy(answers: Answers) -> float:
    return float(_right(answers).mean())


def _balanced_accuracy(answers: Answers) -> float:
    """Mean recall over the classes that occur; in a multi-label task the mean of each label's balanced accuracy."""
    truth, predicted = answers.truth, answers.predicted
    recall = (truth & predicted).sum(0) / np.maximum(truth.sum(0), 1)
    if answers.task != "multilabel":
        return float(recall[truth.any(axis=0)].mean())
    specificity = (~truth & ~predicted).sum(0) / np.maximum((~truth).sum(0), 1)
    occurs = truth.any(axis=0) & ~truth.all(axis=0)
    return float(((recall + specificity) / 2)[occurs].mean()) if occurs.any() else float(recall.mean())


def _macro_f1(answers: Answers) -> float:
    """Mean over the classes that occur."""
    _, _, f1, support = _per_class(answers)
    return float(f1[support > 0].mean()) if support.any() else 0.0


def _log_loss(answers: Answers) -> float:
    """Mean negative logarithm of the probability given to the truth; in a multi-label task per yes-or-no decision."""
    tiny = np.finfo(np.float32).eps
    clipped = np.clip(answers.probabilities, tiny, 1 - tiny)
    if answers.task == "multilabel":
        return float(-np.log(np.where(answers.truth, clipped, 1 - clipped)).mean())
    return float(-np.log(clipped[answers.truth]).mean())


def _expected_calibration_error(answers: Answers) -> float:
    """Mean gap between how sure the model is and how often it is right (Guo et al., 2017)."""
    confidence, correct, bins = calibration_bins(answers.truth, answers.probabilities, answers.task)
    gaps = np.bincount(bins, weights=correct - confidence, minlength=CALIBRATION_BINS)
    return float(np.abs(gaps).sum() / len(confidence))


def _roc_auc(answers: Answers) -> float | None:
    """Mean over the classes (one against the rest) that have pictures both with and without them."""
    truth = answers.truth
    defined = truth.any(axis=0) & ~truth.all(axis=0)
    if not defined.any():
        return None
    return float(metrics.roc_auc_score(truth[:, defined], answers.probabilities[:, defined], average="macro"))


METRICS: dict[str, Metric] = {
    "accuracy": Metric(_accuracy, "accuracy", True, "the share that is right"),
    "balanced_accuracy": Metric(_balanced_accuracy, "balanced accuracy", True, "every class counts the same"),
    "macro_f1": Metric(_macro_f1, "mean F1", False, "precision and recall in one"),
    "log_loss": Metric(_log_loss, "log loss", False, "0 is perfect; sure mistakes cost most"),
    "ece": Metric(_expected_calibration_error, "calibration error", True, "how wrong its certainty is"),
    "roc_auc": Metric(_roc_auc, "ROC AUC", False, "1 is perfect, 0.5 guessing"),
}
"""Every figure of a split that is one number, by its name in `metrics.json`."""
