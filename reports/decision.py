"""The decision thresholds of a run: chooses them on val, measures them, and describes them in sentences."""

from typing import Any

import numpy as np

from app.decision import Rule
from data.kinds import Kind
from data.prepare import Data
from data.sources import Split
from reports.page import SPACE, interval, percent
from tasks.decision import measure_decision
from tasks.table import classes_of

CLASSES_TOLD = 5
"""Most classes of a multi-label task for which promises are reported by name."""


def decision_record(data: Data, outputs: dict[Split, np.ndarray], rule: Rule | None) -> dict[str, Any] | None:
    """Measures the decision of `reports.classification.decide`; see `tasks.decision.measure_decision`."""
    if rule is None:
        return None
    of_splits = {
        split: (data.targets[data.splits[split]], each, data.groups[data.splits[split]])
        for split, each in outputs.items()
    }
    return measure_decision(rule, classes_of(data.task), data.class_names, of_splits)


def decision_lines(decision: dict[str, Any]) -> list[str]:
    """Describes for each class (the first few of many) its threshold and the resulting figures."""
    lines = []
    for name, point in list(decision["classes"].items())[:CLASSES_TOLD]:
        found = []
        for split, measured in point.items():
            if split != "threshold" and measured is not None:
                right, left = (measured["counts"][share] for share in ("sensitivity", "specificity"))
                found.append(
                    f"{split}: {right[0]:,} of {right[1]:,} found, {left[0]:,} of {left[1]:,} others left alone"
                )
        standing = f"{_standing(decision, point)} on test: " if decision["promise"] and point["test"] else ""
        lines.append(f"{standing}'{name}' from {point['threshold']:.4g} on ({decision['flag']}); {'; '.join(found)}")
    return lines


def is_given(flag: str) -> bool:
    """Returns whether the user gave the thresholds by a flag; otherwise, it is a rule that chose them on val."""
    return flag.startswith("--threshold ")


def without_examples(decision: dict[str, Any]) -> list[str]:
    """Returns the classes for which a rule could choose no threshold, as val has none of them or nothing else."""
    if is_given(decision["flag"]):
        return []
    return [name for name, point in decision["classes"].items() if not _could_choose(point["val"])]


def promise_sentences(
    decision: dict[str, Any] | None, split: Split, kind: Kind, *, confirmed: bool = False
) -> list[str]:
    """Says which promises a measured split does not confirm (or which it does), and how many examples would."""
    if decision is None or decision["promise"] is None:
        return []
    share, least, count = (decision["promise"][name] for name in ("share", "least", "needed"))
    said = []
    for name, point in decision["classes"].items():
        measured = point[split]
        if measured is None or measured["shown"] != confirmed:
            continue
        right, of = measured["counts"][share]
        goal = f"for a {share} of {_plain(least)}"
        chosen = f"no threshold was chosen {goal}, as val lacks examples; it is {point['threshold']:.4g}"
        if _could_choose(point["val"]):
            chosen = "the threshold was chosen on val ({:,} of {:,}) {}".format(*point["val"]["counts"][share], goal)
        what = {
            "sensitivity": f"of the {kind.nouns} that are '{name}' are found",
            "specificity": f"of the {kind.nouns} that are not '{name}' are left alone",
            "precision": f"of the alarms for '{name}' are right",
        }[share]
        bounds = interval(measured[f"{share}_ci95"])
        measured_text = f"{right:,} of {of:,} ({percent(measured[share])}{f'; {bounds}' if bounds else ''})"
        what_counts, there = "", f"{of:,}"
        if "effective_n" in measured:
            independent = round(measured["effective_n"])
            what_counts, there = f" independent {kind.nouns}", f"{of:,} {kind.nouns}, which count as {independent:,}"
        said.append(
            f"{_standing(decision, point, split)} on {split}: {chosen}; on {split}, {measured_text} {what}. To show "
            f"{_plain(least)} at 95{SPACE}% confidence takes {count:,}{what_counts}, all right; there are {there}."
        )
    if len(said) > CLASSES_TOLD:
        said[CLASSES_TOLD:] = [f"The same holds for {len(said) - CLASSES_TOLD:,} more labels (see Thresholds)."]
    return said


def _could_choose(val: dict[str, Any] | None) -> bool:
    return val is not None and all(val["counts"][share][1] for share in ("sensitivity", "specificity"))


def _standing(decision: dict[str, Any], point: dict[str, Any], split: Split = "test") -> str:
    """Says how a promise stands on a measured split that has examples."""
    share, least = decision["promise"]["share"], decision["promise"]["least"]
    found = point[split][share]
    if point[split]["shown"]:
        return "Confirmed"
    return "Missed" if found is not None and found < least else "Not confirmed"


def _plain(share: float) -> str:
    return f"{100 * share:g}{SPACE}%"
