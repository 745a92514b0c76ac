"""All of a run's page that is about the judged split, and the tables and figures behind it."""

from pathlib import Path
from typing import Any

import keras
import numpy as np
import pandas as pd
from markupsafe import Markup
from matplotlib.figure import Figure

from data.prepare import ImageData
from data.sources import Split
from reports import curve_plots, plots
from reports.curves import ClassCurves, class_curves, curves_table, lines_shown, reliability_table
from reports.mistakes import Mistakes, explain_mistakes
from reports.page import LONGEST_SIDE, inline_svg, picture_uri, png_uri
from reports.per_class import confusion_counts, frequent_confusions, per_class_table, truth_and_answers
from reports.writer import write_figure, write_table

MOST_CLASSES_IN_TABLE = 20
"""Confusion matrices of more classes are a picture, with a list of the most frequent confusions."""
CONFUSIONS_SHOWN = {True: 8, False: 20}
"""Beside a matrix in a table, and under a picture of one."""
PAIRS_PER_ROW = 3
"""Of pictures and what they were looked at, in `figures/grad_cam.png`."""


def measured_content(
    folder: Path,
    data: ImageData,
    outputs: dict[Split, np.ndarray],
    record: dict[str, Any],
    model: keras.Model,
    split: Split,
) -> dict[str, Any]:
    """Makes all of the page that is about the judged split, and writes its tables and figures.

    Args:
        folder: of the run.
        data: the pictures.
        outputs: float32 (n, num_outputs) for each judged split.
        record: the content of `metrics.json`.
        model: that gave the outputs.
        split: that was judged.

    Returns:
        What `report.html.j2` calls `measured`.
    """
    targets, predicted = data.targets[data.splits[split]], outputs[split]
    curves = class_curves(targets, predicted, data.class_names, data.task)
    table = per_class_table(data, predicted, split, curves, record[split])
    write_table(folder / "per_class.csv", table)
    return {
        "per_class": table.to_dict("records"),
        "confusion": _confusion(folder, data, predicted, split),
        "curves": _curve_figures(folder, data, list(curves.values()), record, split),
        "operating_point": record["operating_point"],
        "reliability": _reliability_figure(folder, data, split, predicted, record),
        "mistakes": _mistakes(folder, explain_mistakes(data, predicted, split, model)),
    }


def _confusion(folder: Path, data: ImageData, outputs: np.ndarray, split: Split) -> dict[str, Any] | None:
    if data.task.multi_label:
        return None
    counts = confusion_counts(*truth_and_answers(data, outputs, split))
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    few = len(data.class_names) <= MOST_CLASSES_IN_TABLE
    return {
        "rows": list(zip(data.class_names, counts.tolist(), shares.tolist(), strict=True)) if few else None,
        "picture": None if few else png_uri(folder / "figures" / "confusion_matrix.png"),
        "frequent": frequent_confusions(counts, data.class_names, CONFUSIONS_SHOWN[few]),
    }


def _curve_figures(
    folder: Path, data: ImageData, curves: list[ClassCurves], record: dict[str, Any], split: Split
) -> dict[str, Any]:
    """Precision-recall, ROC and, for two classes, the thresholds; nothing where no class can be told from others."""
    by_precision, by_area = lines_shown(curves, "average_precision"), lines_shown(curves, "roc_auc")
    columns = ("threshold", "recall", "precision")
    write_table(folder / "pr.csv", curves_table(by_precision, "precision_recall", columns))
    columns = ("threshold", "false_positive_rate", "true_positive_rate")
    write_table(folder / "roc.csv", curves_table(by_area, "roc", columns))
    if not curves:
        return {}
    point = record["operating_point"]
    chosen = point and point[split] and (1 - point[split]["specificity"], point[split]["sensitivity"])
    figures = {
        "precision_recall": curve_plots.precision_recall(by_precision),
        "roc": curve_plots.roc(by_area, chosen),
    }
    if chosen:
        figures["thresholds"] = curve_plots.thresholds(curves[0], point["threshold"], data.class_names[0])
    return {name: _figure(folder, name, figure) for name, figure in figures.items()}


def _reliability_figure(
    folder: Path, data: ImageData, split: Split, outputs: np.ndarray, record: dict[str, Any]
) -> Markup:
    targets, groups = data.targets[data.splits[split]], data.groups[data.splits[split]]
    temperature = record["calibration"]["temperature"]
    uncalibrated = data.task.apply_temperature(outputs, 1 / temperature)
    tables = {
        "before": reliability_table(targets, uncalibrated, data.task, groups),
        "after": reliability_table(targets, outputs, data.task, groups),
    }
    joined = pd.concat([table.assign(temperature_scaling=stage) for stage, table in tables.items()])
    write_table(folder / "reliability.csv", joined)
    return _figure(folder, "reliability", curve_plots.reliability(**tables))


def _figure(folder: Path, name: str, figure: Figure) -> Markup:
    write_figure(folder / "figures" / f"{name}.png", figure)
    return inline_svg(figure, name.replace("_", " "))


def _mistakes(folder: Path, mistakes: Mistakes) -> dict[str, Any]:
    if not mistakes.unexplained:
        step = -(-mistakes.shown[0].pixels.shape[0] // LONGEST_SIDE)
        pairs = [np.concatenate([each.pixels, each.overlay], axis=1)[::step, ::step] for each in mistakes.shown]
        write_figure(folder / "figures" / "grad_cam.png", plots.mosaic(pairs, PAIRS_PER_ROW))
    shown = [
        {**each._asdict(), "uris": [picture_uri(side) for side in (each.pixels, each.overlay) if side is not None]}
        for each in mistakes.shown
    ]
    return {"count": mistakes.num_mistakes, "shown": shown, "unexplained": mistakes.unexplained}
