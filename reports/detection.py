"""Reports about boxes: figures, thresholds, tables, the verdict, and answers beside true boxes; see
`reports.by_task`."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from rich.table import Column, Table

from app.config import TrainConfig
from app.decision import Rule
from app.terminal import counted, listed, make_table, share_text
from data.boxes.targets import to_pixels
from data.kinds import Kind
from data.prepare import Data
from data.sources import Split
from inference.run_record import measured_split
from reports.facts import Beside, Facts, Findings
from reports.verdict import DIVERGED, FEW_PICTURES, Verdict, alike, interval_note, unknown_verdict, wide_interval
from tasks.detection import LEAST_SCORE, Detection
from tasks.detection_metrics import BOX_METRICS, BoxMetric, Compared, choose_thresholds, compare_boxes, measure_boxes
from tasks.table import Task

RIGHT = 0.5
"""Least overlap of an answer that matches a true box."""


def metrics() -> Mapping[str, BoxMetric]:
    """Returns the metrics of `tasks.detection_metrics`."""
    return BOX_METRICS


def true_boxes(data: Data, positions: np.ndarray) -> list[np.ndarray]:
    """Returns the true boxes of pictures, float64 (boxes, 6) each: corners in pixels, class, ignored."""
    known = (targets[targets[:, 4] >= 0] for targets in data.targets[positions])
    return _in_pixels(data, positions, known)


def answered_boxes(data: Data, positions: np.ndarray, outputs: Iterable[np.ndarray]) -> list[np.ndarray]:
    """Returns all answers for pictures, float64 (answers, 6) each: corners in pixels, probability, class."""
    return _in_pixels(data, positions, (each[each[:, 4] > 0] for each in outputs))


def measure(data: Data, split: Split, outputs: np.ndarray) -> dict[str, Any] | None:
    """Measures a split; see `tasks.detection_metrics.measure_boxes`."""
    groups = data.groups[data.splits[split]]
    return measure_boxes(*_truth_and_answers(data, split, outputs), data.class_names, groups)


def compare_all(data: Data, split: Split, outputs: np.ndarray) -> Compared | None:
    """Compares all answers, however unlikely, with a split; see `tasks.detection_metrics.compare_boxes`."""
    return compare_boxes(*_truth_and_answers(data, split, outputs), len(data.class_names))


def decide(data: Data, outputs: dict[Split, np.ndarray], rule: Rule | None) -> Data:
    """Returns the data with a task that answers by thresholds, chosen on val for each class."""
    compared = compare_all(data, "val", outputs["val"]) if "val" in outputs else None
    thresholds = choose_thresholds(compared.matched, LEAST_SCORE) if compared else (0.3,) * len(data.class_names)
    return data._replace(task=Detection(thresholds=thresholds))


def own_record(data: Data, config: TrainConfig, outputs: dict[Split, np.ndarray], temperature: float) -> dict[str, Any]:
    """Returns the part of `metrics.json` that depends on the task: None for all that only classification measures."""
    unknown = ("calibration", "folds", "baseline_difference", "operating_point", "decision")
    return {**dict.fromkeys(unknown), "baseline": {}}


def examine(data: Data, outputs: Mapping[Split, np.ndarray], split: Split | None) -> Findings:
    """Matches the answers for a split with its true boxes."""
    return Findings(compared=[] if split is None else compare(data, split, outputs[split]))


def reach_verdict(record: dict[str, Any], task: Task, kind: Kind, facts: Facts | None = None) -> Verdict:
    """Sums up a run by its test split, or by val without test; with `facts`, it counts boxes."""
    known = measured_split(record)
    if known is None:
        return _unknown_verdict(record, kind, facts.data.cautions if facts else ())
    split, measured = known
    what, alarms = "boxes", ""
    if facts is not None:
        right = sum(int((each.found_by >= 0).sum()) for each in facts.found.compared)
        what = f"{right:,} of {measured['boxes']:,} boxes"
        alarms = f", with {_false_alarms(facts.found.compared)}"
    unseen = "it had never seen" if split == "test" else "kept for validation"
    explained = (
        "The large figure is AP50, the area under the curve of precision and recall, mean over the classes, where an "
        "overlap of half is right."
    )
    return Verdict(
        split,
        f"Finds {what} in {measured['n']:,} {kind.nouns} {unseen}{alarms}",
        measured["ap50"],
        measured["ap50_ci95"] and tuple(measured["ap50_ci95"]),
        " ".join(filter(None, (interval_note(measured, kind), explained))),
        "",
        _cautions(record, split, kind, facts),
        measured["ap50"],
    )


def _unknown_verdict(record: dict[str, Any], kind: Kind, doubts: Sequence[str]) -> Verdict:
    """Returns the verdict of a run without a measured split: there is none, or none has boxes."""
    verdict, splits = unknown_verdict(kind, doubts), [each for each in ("val", "test") if record["data"][each]]
    if not splits:
        return verdict
    nothing = f"AP unknown: no {' or '.join(splits)} {kind.noun} has a box to find."
    return verdict._replace(sentence=nothing, cautions=[f"Add {kind.nouns} with boxes to val and test.", *doubts])


def _cautions(record: dict[str, Any], split: Split, kind: Kind, facts: Facts | None) -> list[str]:
    """Returns reasons for caution, the most serious first."""
    measured, found = record[split], [DIVERGED[phase] for phase in record["diverged"]]
    if split == "val":
        found.append(
            f"{_missing_test(record, kind, facts)} Epoch and thresholds were chosen on these val {kind.nouns}: AP is "
            "optimistic."
        )
    if bounds := measured["ap50_ci95"]:
        found += wide_interval(measured, kind, "AP50", bounds)
    if facts is None:
        return found
    if facts.leaks.near_duplicates:
        found.append(f"{alike(facts.leaks.near_duplicates, split, kind)}.")
    few = [f"{name} ({row['boxes']})" for name, row in measured["per_class"].items() if row["boxes"] < FEW_PICTURES]
    if few:
        found.append(f"Few {split} boxes are of {listed(few)}: figures of single classes are rough.")
    return [*found, *facts.data.cautions]


def _missing_test(record: dict[str, Any], kind: Kind, facts: Facts | None) -> str:
    """Says why val is measured: there is no test split, or it has no boxes."""
    count = record["data"]["test"]
    if not count:
        return "There is no test split."
    text = "The test split has no boxes to find, so its AP is unknown"
    if facts is None:
        return f"{text}."
    alarms = _false_alarms(compare(facts.data, "test", facts.outputs["test"]))
    return f"{text}; the model answers with {alarms} in {counted(count, kind.noun, kind.nouns)}."


def _false_alarms(compared: Sequence[Beside]) -> str:
    return counted(sum(int(each.false_alarms.sum()) for each in compared), "false alarm", "false alarms")


def compare(data: Data, split: Split, outputs: np.ndarray) -> list[Beside]:
    """Matches the answers for a split that reach the thresholds of the task with the true boxes."""
    positions, task = data.splits[split], data.task
    if not isinstance(task, Detection):
        raise ValueError("boxes are compared for detection alone")
    answers = answered_boxes(data, positions, task.chosen(outputs))
    return list(map(beside, true_boxes(data, positions), answers))


def beside(truth: np.ndarray, answers: np.ndarray) -> Beside:
    """Matches each answer, the likeliest first, with the true box of its class that it overlaps most."""
    found_by = np.full(len(truth), -1)
    is_right, to_ignored = np.zeros(len(answers), bool), np.zeros(len(answers), bool)
    for number in np.argsort(-answers[:, 4], kind="stable"):
        box, label = answers[number, :4], answers[number, 5]
        same, ignored = truth[:, 4] == label, truth[:, 5] == 1
        free = np.where((found_by < 0) & same & ~ignored, overlap(box, truth[:, :4]), 0)
        if free.max(initial=0) >= RIGHT:
            is_right[number] = True
            found_by[free.argmax()] = number
        else:
            to_ignored[number] = (share_inside(box, truth[same & ignored, :4]) >= RIGHT).any()
    return Beside(truth, answers, found_by, is_right, to_ignored)


def overlap(box: np.ndarray, boxes: np.ndarray) -> np.ndarray:
    """Returns intersection over union of a box (4,) with each of several (n, 4)."""
    common = _common(box, boxes)
    areas = np.prod(box[2:] - box[:2]) + np.prod(boxes[:, 2:] - boxes[:, :2], axis=1)
    return common / np.maximum(areas - common, 1e-9)


def share_inside(box: np.ndarray, boxes: np.ndarray) -> np.ndarray:
    """Returns the fraction of a box (4,) inside each of several (n, 4), the measure of COCO for ignored boxes."""
    return _common(box, boxes) / np.maximum(np.prod(box[2:] - box[:2]), 1e-9)


def _common(box: np.ndarray, boxes: np.ndarray) -> np.ndarray:
    sides = np.minimum(box[2:], boxes[:, 2:]) - np.maximum(box[:2], boxes[:, :2])
    return np.prod(np.maximum(sides, 0), axis=1)


def predictions_table(data: Data, outputs: Mapping[Split, np.ndarray]) -> pd.DataFrame:
    """Makes a table with a row per box: path, split, label, predicted, score and corners in pixels.

    A missed box has no `predicted`, a false alarm no `label`; a picture without boxes and answers has one row.
    """
    columns = ["path", "split", "label", "predicted", "score", "x1", "y1", "x2", "y2"]
    rows: list[Sequence[Any]] = []
    for split, each in outputs.items():
        for position, found in zip(data.splits[split], compare(data, split, each), strict=True):
            path, name = data.display_path(data.examples[position].path), data.class_names
            before = len(rows)
            labels = {int(answer): box for box, answer in enumerate(found.found_by) if answer >= 0}
            for number, answer in enumerate(found.answers):
                label = name[int(found.truth[labels[number], 4])] if number in labels else ""
                corners = answer[:4].round(2)
                rows.append((path, split, label, name[int(answer[5])], round(float(answer[4]), 6), *corners))
            rows += [
                (path, split, name[int(box[4])], "", np.nan, *box[:4].round(2)) for box in found.truth[found.missed]
            ]
            if len(rows) == before:
                rows.append((path, split, "", "", *[np.nan] * 5))
    return pd.DataFrame(rows, columns=columns)


def results_table(measured: Mapping[str, dict[str, Any]], nouns: str) -> Table:
    """Makes a table for the terminal with a row for each measured split."""
    columns = ("", "AP50", "95 % interval", "AP", "AP75", "boxes", nouns)
    caption = "AP50: boxes are right from an overlap of 50 % on; AP: mean over overlaps of 50 to 95 %"
    table = make_table(*(Column(name, no_wrap=True) for name in columns), caption=caption)
    for split, figures in measured.items():
        shares = ["–" if figures[name] is None else share_text(figures[name]) for name in ("ap50", "ap", "ap75")]
        bounds = " to ".join(map(share_text, figures["ap50_ci95"] or ()))
        table.add_row(split, shares[0], bounds, *shares[1:], f"{figures['boxes']:,}", f"{figures['n']:,}")
    return table


def _truth_and_answers(data: Data, split: Split, outputs: np.ndarray) -> tuple[list[np.ndarray], list[np.ndarray]]:
    positions = data.splits[split]
    return true_boxes(data, positions), answered_boxes(data, positions, outputs)


def _in_pixels(data: Data, positions: np.ndarray, boxes: Iterable[np.ndarray]) -> list[np.ndarray]:
    """Turns the corners of the boxes of each picture into pixels, in float64; other columns stay."""
    if data.frames is None:
        raise ValueError("these examples have no boxes")
    found = []
    for each, frame in zip(boxes, data.frames[positions], strict=True):
        exact = each.astype(np.float64)
        found.append(np.hstack([to_pixels(exact[:, :4], frame), exact[:, 4:]]))
    return found
