"""Sections of the page of a run that finds boxes; see `reports.sections`."""

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from markupsafe import Markup
from PIL import Image

from app.data_uri import picture_element
from app.terminal import counted
from data.arrays import row_of
from data.prepare import Data
from inference.drawing import Drawn, draw_boxes
from reports.curves import LINE_COLOURS
from reports.detection import compare_all, overlap
from reports.facts import Beside, Facts, Section
from reports.page import number, percent
from reports.plots import VAL_COLOUR, make_panel, shorten, tidy
from tasks.detection_metrics import RECALLS, SIZES

SHOWN = 12
"""Number of pictures, and of mistakes of each kind, on the page."""
RIGHT, TRUE, WRONG = "#2b8a4b", "#3b82c4", "#d1603d"
"""Colours of a right answer, of a true box, and of a mistake."""
MARGIN = 0.75
"""Margin around a mistake, as a share of its box."""
SHOWN_WIDTH = 480
"""Width of a picture on the page, pixels."""
SIZE_STEPS = (0, 16, 32, 64, 96, 128, 192, np.inf)
"""Limits of the sizes for recall: sides of boxes, pixels."""


def box_classes(facts: Facts) -> dict[str, Any]:
    """Shows figures of each class at its threshold, and confusions between classes."""
    compared, measured = facts.found.compared, facts.record[facts.split]
    names = facts.data.class_names
    thresholds = facts.data.task.thresholds_of(names)
    rows = []
    for index, name in enumerate(names):
        missed = sum(int(each.missed[each.truth[:, 4] == index].sum()) for each in compared)
        alarms = sum(int(each.false_alarms[each.answers[:, 5] == index].sum()) for each in compared)
        boxes = measured["per_class"][name]["boxes"]
        right = boxes - missed
        rows.append(
            {
                "class": name,
                **measured["per_class"][name],
                "threshold": thresholds.get(name, np.nan),
                "precision": right / (right + alarms) if right + alarms else np.nan,
                "recall": right / boxes if boxes else np.nan,
                "missed": missed,
                "false_alarms": alarms,
            }
        )
    table = pd.DataFrame(rows)
    facts.write_table("per_class.csv", table)
    counts = confusion(compared, len(names))
    matrix = pd.DataFrame(counts, columns=[*names, "(missed)"])
    matrix.insert(0, "label", [*names, "(nothing there)"], allow_duplicates=True)
    facts.write_table("confusion_matrix.csv", matrix)
    few = len(names) <= 20
    return {"rows": table.replace({np.nan: None}).to_dict("records"), "names": names, "counts": counts if few else None}


def confusion(compared: Sequence[Beside], num_classes: int) -> np.ndarray:
    """Counts true boxes by class and by the class answered there, (classes + 1, classes + 1).

    The last column has missed boxes, the last row answers where there is no box.
    """
    counts = np.zeros((num_classes + 1, num_classes + 1), int)
    for each in compared:
        free = each.false_alarms.copy()
        for box, answer in zip(each.truth, each.found_by, strict=True):
            if box[5]:
                continue
            column = num_classes
            if answer >= 0:
                column = int(each.answers[answer, 5])
            elif free.any():  # an answer of another class in this place
                overlaps = np.where(free, overlap(box[:4], each.answers[:, :4]), 0)
                if overlaps.max() >= 0.5:
                    column = int(each.answers[overlaps.argmax(), 5])
                    free[overlaps.argmax()] = False
            counts[int(box[4]), column] += 1
        for answer in each.answers[free]:
            counts[num_classes, int(answer[5])] += 1
    return counts


def box_pictures(facts: Facts) -> dict[str, Any]:
    """Shows pictures with all answers and true boxes: an even sample, ordered by the number of mistakes."""
    data, split = facts.data, facts.split
    compared = facts.found.compared
    order = np.argsort([-int(each.missed.sum() + each.false_alarms.sum()) for each in compared], kind="stable")
    rows = order[np.unique(np.linspace(0, len(order) - 1, min(SHOWN, len(order))).astype(int))]
    shown = []
    for row in rows:
        each, position = compared[row], data.splits[split][row]
        drawn = [Drawn(box[:4], TRUE) for box in each.truth[~each.missed]]
        drawn += [Drawn(box[:4], WRONG, f"{data.class_names[int(box[4])]}?") for box in each.truth[each.missed]]
        for answer, is_right in zip(each.answers, each.is_right, strict=True):
            text = "" if is_right else f"{data.class_names[int(answer[5])]} {percent(answer[4], 0)}"
            drawn.append(Drawn(answer[:4], RIGHT if is_right else WRONG, text))
        title = f"{int((each.found_by >= 0).sum())} found, {int(each.missed.sum())} missed, "
        title += counted(int(each.false_alarms.sum()), "false alarm", "false alarms")
        html = _show(data, position, drawn, title)
        shown.append({"html": html, "title": title, "path": data.display_path(data.examples[position].path)})
    return {"shown": shown}


def box_curves(facts: Facts) -> dict[str, Any]:
    """Shows precision and recall of each class at all thresholds, and recall by the size of boxes."""
    compared, names = compare_all(facts.data, facts.split, facts.outputs[facts.split]), facts.data.class_names
    if compared is None:
        raise ValueError("a section is about a split with examples")
    precision = compared.precision[0, :, :, 0].T  # of each class at all recalls
    figure, axes = make_panel()
    known = [index for index in range(len(names)) if not np.isnan(precision[index]).any()]
    worst = sorted(known, key=lambda index: precision[index].mean())[: len(LINE_COLOURS)]
    for colour, index in zip(LINE_COLOURS, worst, strict=False):
        label = f"{shorten(names[index])} {number(precision[index].mean(), 2)}"
        axes.plot(RECALLS, precision[index], color=colour, label=label)
    axes.set(xlabel="recall", ylabel="precision", xlim=(0, 1.01), ylim=(0, 1.02))
    axes.legend(frameon=False, fontsize=8, loc="lower left")
    tidy(axes)
    curves = pd.DataFrame(precision.T, columns=names)
    curves.insert(0, "recall", RECALLS, allow_duplicates=True)
    facts.write_table("pr.csv", curves)
    sides, is_found = _sides(facts.found.compared)
    by_size, bars = make_panel()
    steps = [
        (low, high, inside)
        for low, high in itertools.pairwise(SIZE_STEPS)
        if (inside := (sides >= low) & (sides < high)).any()
    ]
    labels = [f"{low}–{high}" if high < np.inf else f"over {low}" for low, high, _ in steps]
    recalls = [is_found[inside].mean() for *_, inside in steps]
    bars.bar(labels, recalls, color=VAL_COLOUR)
    for place, (recall, (*_, inside)) in enumerate(zip(recalls, steps, strict=True)):
        bottom, colour = (0, "white") if recall > 0.1 else (recall, "0.3")  # on the bar, or above it
        bars.text(place, bottom + 0.02, f"{inside.sum():,}", ha="center", color=colour, fontsize=9)
    bars.set(xlabel="side of the box, pixels", ylabel="recall", ylim=(0, 1.02))
    tidy(bars)
    figures = {"precision_recall": figure, "recall_by_size": by_size}
    shown: dict[str, Any] = {name: facts.draw(name, each) for name, each in figures.items()}
    rows = [(size, facts.record[facts.split]["by_size"][size]) for size in SIZES]
    return {**shown, "sizes": rows, "num_curves": len(known)}


def box_mistakes(facts: Facts) -> dict[str, Any]:
    """Shows the most confident false alarms, some of which are missing labels, and the largest missed boxes."""
    data, split = facts.data, facts.split
    compared = facts.found.compared
    alarms = [(row, answer) for row, each in enumerate(compared) for answer in each.answers[each.false_alarms]]
    missed = [(row, box) for row, each in enumerate(compared) for box in each.truth[each.missed]]
    alarms.sort(key=lambda found: -found[1][4])
    missed.sort(key=lambda found: -float(np.prod(found[1][2:4] - found[1][:2])))
    names = data.class_names

    def cut(row: int, box: np.ndarray, text: str) -> dict[str, Any]:
        return _cut(data, data.splits[split][row], box, text, compared[row])

    return {
        "num_alarms": len(alarms),
        "num_missed": len(missed),
        "alarms": [cut(row, box, f"{names[int(box[5])]}, {percent(box[4], 0)} sure") for row, box in alarms[:SHOWN]],
        "missed": [cut(row, box, names[int(box[4])]) for row, box in missed[:SHOWN]],
    }


def _sides(compared: Sequence[Beside]) -> tuple[np.ndarray, np.ndarray]:
    """Returns for every true box its side in pixels (of a square of the same area), and whether it is found."""
    learnt = [each.truth[:, 5] == 0 for each in compared]
    boxes = np.concatenate([each.truth[keep] for each, keep in zip(compared, learnt, strict=True)])
    found = np.concatenate([each.found_by[keep] >= 0 for each, keep in zip(compared, learnt, strict=True)])
    return np.sqrt(np.prod(boxes[:, 2:4] - boxes[:, :2], axis=1)), found


def _picture(data: Data, position: int) -> Image.Image:
    """Returns a picture as the network sees it, without bars, large enough to draw on."""
    if data.frames is None:
        raise ValueError("these examples have no boxes")
    pixels = row_of(data.inputs[0], position)
    scale_x, scale_y, left, top, width, height = data.frames[position]
    side = len(pixels)
    columns, rows = round(scale_x * width * side), round(scale_y * height * side)
    x, y = round(left * side), round(top * side)
    picture = Image.fromarray(np.ascontiguousarray(pixels[y : y + rows, x : x + columns]))
    return picture.resize((SHOWN_WIDTH, max(1, round(SHOWN_WIDTH * rows / columns))), Image.Resampling.BICUBIC)


def _scaled(data: Data, position: int, picture: Image.Image, drawn: Sequence[Drawn]) -> list[Drawn]:
    width, height = data.frames[position, 4:]  # type: ignore[index]  # pictures with boxes have them
    factors = np.tile([picture.width / width, picture.height / height], 2)
    return [each._replace(corners=np.asarray(each.corners) * factors) for each in drawn]


def _show(data: Data, position: int, drawn: Sequence[Drawn], title: str) -> Markup:
    picture = _picture(data, position)
    return picture_element(draw_boxes(picture, _scaled(data, position, picture, drawn)), title)


def _cut(data: Data, position: int, box: np.ndarray, text: str, beside: Beside) -> dict[str, Any]:
    """Cuts a box with a margin out of its picture."""
    drawn = [Drawn(each[:4], TRUE) for each in beside.truth] + [Drawn(box[:4], WRONG)]
    picture = _picture(data, position)
    scaled = _scaled(data, position, picture, drawn)
    x1, y1, x2, y2 = scaled[-1].corners
    margin = MARGIN * max(x2 - x1, y2 - y1) + 8
    left, top = max(0, round(x1 - margin)), max(0, round(y1 - margin))
    whole = draw_boxes(picture, scaled)
    part = whole.crop((left, top, min(whole.width, round(x2 + margin)), min(whole.height, round(y2 + margin))))
    path = data.display_path(data.examples[position].path)
    return {"html": picture_element(part, text), "text": text, "path": path}


DETECTION_SECTIONS = {
    "box_classes": Section("Classes", box_classes),
    "box_pictures": Section("Pictures", box_pictures),
    "box_curves": Section("Precision and recall", box_curves),
    "box_mistakes": Section("Mistakes", box_mistakes),
}
"""Sections by the name of the template."""
