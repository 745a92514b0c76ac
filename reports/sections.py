"""Sections of a run's page. Each function returns the variables of its template in `sections/`, and writes the tables
and figures behind it; None leaves the section out."""

import math
from collections import Counter
from typing import Any

import numpy as np
import pandas as pd

from app.files import read_json
from app.run_folder import MORE_DATA_FILE
from data.prepare import Data
from inference.run_record import chosen_by
from reports import curves, plots
from reports.decision import is_given, promise_sentences, without_examples
from reports.detection_sections import DETECTION_SECTIONS
from reports.facts import Content, Facts, Section
from reports.mistakes import explain_mistakes, mistakes_by_length
from reports.more_data import WORDS, draw, forecast
from reports.page import inline_svg, png_uri
from reports.per_class import (
    answers_of,
    confusion_counts,
    frequent_confusions,
    per_class_table,
    per_group_table,
    true_labels,
)
from reports.suspects import suspects_table
from reports.writer import write_figure, write_table
from tasks.answers import NO_LABEL, label_texts
from tasks.metrics import effective_count, error_by_chance
from tasks.table import classes_of

SUSPECTS_SHOWN = 12
"""Most suspects of each kind to show."""
CHANGED = "decision, changed by evaluate.py to"
"""Name in the table of settings of a rule that is not that of training."""
QUARANTINE_SHOWN = 50
REASONS_SHOWN = 12
MOST_CLASSES_IN_TABLE = 20
"""With more classes, the confusion matrix is a picture, with a list of the most frequent confusions."""
CONFUSIONS_SHOWN = {True: 8, False: 20}
"""Number of listed confusions: beside a table, and under a picture."""


def learning(facts: Facts) -> Content:
    """Shows gain and cost of each phase, and loss and accuracy by epoch; a solved head alone has no curves."""
    if facts.history.empty:
        return None
    names = {"loss": "loss", "accuracy": facts.data.task.measure_of_learning} if len(facts.history) > 1 else {}
    figures = [inline_svg(plots.learning_curve(facts.history, *each), f"{each[1]} by epoch") for each in names.items()]
    return {"phases": facts.record.get("phases", ()), "figures": figures}


def more_data(facts: Facts) -> Content:
    """Forecasts the gain from more training examples, if the head was solved on parts of them.

    It is left out for a run that decides by a rule, and for heads that are hardly better than the most frequent answer.
    """
    path, record = facts.folder / MORE_DATA_FILE, facts.record
    table = pd.read_csv(path) if path.exists() and not record.get("decision") else None
    line = None if table is None else forecast(table)
    if table is None or line is None:
        return None
    measured, expected, words = table.iloc[-1, 1], 1 - line.errors[-1], WORDS[table.columns[1]]
    num_val = effective_count(facts.data.groups[facts.data.splits["val"]])
    chance = math.sqrt(measured * (1 - measured) / num_val)  # standard error
    if table.iloc[:, 1].max() <= (record["baseline"].get("majority") or 0.0) + chance:
        return None
    rises = line.errors[-1] < line.errors[0] and expected - measured > chance
    figure = facts.draw("more_data", draw(table, line, facts.data.kind.nouns, words["title"]))
    return {"figure": figure, "measured": measured, "expected": expected, "rises": rises, "words": words}


def confusion(facts: Facts) -> Content:
    """Shows the confusion matrix, as a table or as a picture."""
    data, split = facts.data, facts.split
    counts = confusion_counts(answers_of(data, split, facts.outputs[split]))
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    few = len(data.class_names) <= MOST_CLASSES_IN_TABLE
    return {
        "rows": list(zip(data.class_names, counts.tolist(), shares.tolist(), strict=True)) if few else None,
        "picture": None if few else png_uri(facts.folder / "figures" / "confusion_matrix.png"),
        "frequent": frequent_confusions(counts, data.class_names, CONFUSIONS_SHOWN[few]),
    }


def classes(facts: Facts) -> Content:
    """Shows precision, recall and F1 of each class."""
    outputs, measured = facts.outputs[facts.split], facts.record[facts.split]
    table = per_class_table(facts.data, outputs, facts.split, facts.found.class_curves, measured)
    write_table(facts.folder / "per_class.csv", table)
    return {"rows": table.to_dict("records")}


def groups(facts: Facts) -> Content:
    """Shows the accuracy of each group of the data, such as a speaker."""
    table = per_group_table(facts.data, facts.outputs[facts.split], facts.split)
    if table.empty:
        return None
    facts.write_table("per_group.csv", table)
    return {"rows": table.to_dict("records")}


def thresholds(facts: Facts) -> Content:
    """Shows precision-recall and ROC curves and, for two classes, the threshold."""
    all_curves, point = list(facts.found.class_curves.values()), facts.record["operating_point"]
    if not all_curves:
        return None
    by_precision = curves.worst_classes(all_curves, "average_precision")
    by_area = curves.worst_classes(all_curves, "roc_auc")
    columns = ("threshold", "recall", "precision")
    write_table(facts.folder / "pr.csv", curves.curves_table(by_precision, "precision_recall", columns))
    columns = ("threshold", "false_positive_rate", "true_positive_rate")
    write_table(facts.folder / "roc.csv", curves.curves_table(by_area, "roc", columns))
    measured = point and point[facts.split]
    decision = facts.record.get("decision")
    if decision and point:
        point = {"positive": point["positive"], **decision["classes"][point["positive"]]}
        measured = point[facts.split]
    chosen = (1 - measured["specificity"], measured["sensitivity"]) if measured else None
    word = "chosen" if decision else "suggested"
    roc = curves.draw_roc(by_area, chosen, word)
    figures = {"precision_recall": curves.draw_precision_recall(by_precision), "roc": roc}
    if chosen:
        others = facts.data.class_names[0]
        figures["thresholds"] = curves.draw_thresholds(all_curves[0], point["threshold"], others, word)
    shown = {name: facts.draw(name, figure) for name, figure in figures.items()}
    return {
        "decision": decision,
        "given": decision is not None and is_given(decision["flag"]),
        "without_examples": without_examples(decision) if decision else [],
        # The verdict has the others; val, on which the threshold was chosen, confirms nothing.
        "confirmed": promise_sentences(decision, "test", facts.data.kind, confirmed=True),
        "operating_point": point,
        "num_curves": len(all_curves),
        **shown,
    }


def certainty(facts: Facts) -> Content:
    """Shows confidence against accuracy, before and after temperature scaling."""
    task, positions, outputs = classes_of(facts.data.task), facts.data.splits[facts.split], facts.outputs[facts.split]
    uncalibrated = task.apply_temperature(outputs, 1 / facts.record["calibration"]["temperature"])
    tables = {
        stage: curves.reliability_table(facts.data.targets[positions], each, task, facts.data.groups[positions])
        for stage, each in (("before", uncalibrated), ("after", outputs))
    }
    joined = pd.concat([table.assign(temperature_scaling=stage) for stage, table in tables.items()])
    write_table(facts.folder / "reliability.csv", joined)
    by_chance = error_by_chance(answers_of(facts.data, facts.split, outputs))
    figure = facts.draw("reliability", curves.draw_reliability(**tables))
    return {"reliability": figure, "by_chance": by_chance, "weighted": facts.config.training.class_weights}


def mistakes(facts: Facts) -> Content:
    """Shows the most confident mistakes, with what the network looked at."""
    found = explain_mistakes(facts.data, facts.outputs[facts.split], facts.split, facts.model)
    sides = [[side.pixels for side in each.sides if side.pixels is not None] for each in found.shown]
    if all(sides):
        titles = [f"{each.said}\nlabel: {each.label}" for each in found.shown]
        sheet = plots.picture_sheet([np.concatenate(pair, axis=1) for pair in sides], titles)
        write_figure(facts.folder / "figures" / "mistakes.png", sheet)
    lengths = mistakes_by_length(facts.data, facts.outputs[facts.split], facts.split)
    return {"count": found.num_mistakes, "shown": found.shown, "unexplained": found.unexplained, "lengths": lengths}


def set_aside(facts: Facts) -> Content:
    """Shows which files were not used, and why."""
    quarantine = facts.data.quarantine
    reasons = Counter(item.reason for item in quarantine)
    return {
        "count": len(quarantine),
        "reasons": reasons.most_common(REASONS_SHOWN),
        "other_reasons": max(0, len(reasons) - REASONS_SHOWN),
        "rows": [(facts.data.display_path(item.path), item.reason) for item in quarantine[:QUARANTINE_SHOWN]],
        "duplicates": facts.data.duplicates,
    }


def suspects(facts: Facts) -> Content:
    """Shows examples that look the same in two splits, and labels that the model contradicts."""
    data, copies = facts.data, facts.near_duplicates
    label_errors = facts.found.label_errors
    facts.write_table("suspects.csv", suspects_table(data, copies, label_errors or {}))
    errors = [(split, error) for split, found in (label_errors or {}).items() for error in found]
    errors.sort(key=lambda found: -found[1].score)
    return {
        "num_copies": len(copies),
        "copies": [(_example(data, pair.evaluated), _example(data, pair.train)) for pair in copies[:SUSPECTS_SHOWN]],
        "num_errors": None if label_errors is None else len(errors),
        "errors": [
            {
                **_example(data, data.splits[split][error.row]),
                "suggested": label_texts(error.labels[None], data.class_names)[0] or NO_LABEL,
            }
            for split, error in errors[:SUSPECTS_SHOWN]
        ],
    }


def settings(facts: Facts) -> Content:
    """Shows the settings of the run, the rule in force if `evaluate.py` changed it, and versions of the packages."""
    path = facts.folder / "environment.json"
    environment = read_json(path) if path.is_file() else {}
    packages = environment.pop("packages", {})
    decision, flag = facts.config.decision, chosen_by(facts.record)
    changed = flag if flag != (decision.rule and decision.rule.flag) else None
    shown = facts.config.to_json() | (dict.fromkeys(decision.flat()) | {CHANGED: changed} if changed else {})
    return {"settings": shown, "changed": changed, "versions": {**environment, **packages}.items()}


SECTIONS = {
    "learning": Section("Learning", learning),
    "more_data": Section("More data", more_data),
    "confusion": Section("Confusion matrix", confusion),
    "classes": Section("Classes", classes),
    "groups": Section("Groups", groups),
    "thresholds": Section("Thresholds", thresholds),
    "certainty": Section("Calibration", certainty),
    "mistakes": Section("Mistakes", mistakes),
    "aside": Section("Set aside", set_aside),
    "suspects": Section("Suspects", suspects),
    **DETECTION_SECTIONS,
    "settings": Section("Settings", settings),
}
"""Sections by name, for template and anchor. `Task.sections` lists those about the measured split."""
ABOUT_RUN = ("learning", "more_data"), ("aside", "suspects", "settings")
"""Sections of every run, before and after those of the task."""


def make_sections(facts: Facts) -> list[dict[str, Any]]:
    """Makes the sections of a page, in order, with `id`, `title` and `content`; those without content are left out."""
    before, after = ABOUT_RUN
    is_measured = facts.split in facts.outputs and facts.record[facts.split]  # pictures without boxes are not
    names = (*before, *(facts.data.task.sections if is_measured else ()), *after)
    made = [{"id": name, "title": SECTIONS[name].title, "content": SECTIONS[name].make(facts)} for name in names]
    return [section for section in made if section["content"] is not None]


def _example(data: Data, position: int) -> dict[str, str]:
    """Returns an example as the page shows it."""
    label = true_labels(data, [position])[0] or NO_LABEL
    return {
        "shown": data.show(position, label).html,
        "path": data.display_path(data.examples[position].path),
        "label": label,
        "split": next(split for split, positions in data.splits.items() if position in positions),
    }
