"""The page of a run, `report.html`, and the tables and figures behind it.

It tells a stranger how good the model is, where it errs and why, and what in the data may be wrong.
"""

import json
from collections import Counter
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pandas as pd
from markupsafe import Markup

from app.config import TrainConfig
from app.files import write_json
from data.images.signature import compared_values
from data.near_duplicates import NearDuplicate, find_near_duplicates
from data.prepare import ImageData
from data.sources import Split, choose_judged
from reports import plots
from reports.judged_split import measured_content
from reports.page import inline_svg, picture_uri, setting, write_page
from reports.per_class import truth_and_answers
from reports.suspects import LabelError, find_label_errors, suspects_table
from reports.verdict import Leaks, Verdict, baseline_bars, reach_verdict
from reports.writer import write_table
from tasks.answers import NO_LABEL, label_texts
from tasks.metrics import METRICS

PICTURES_SHOWN = 12
"""Of each kind of suspects."""
QUARANTINE_SHOWN = 50
REASONS_SHOWN = 12


def write_report(
    folder: Path,
    data: ImageData,
    outputs: dict[Split, np.ndarray],
    record: dict[str, Any],
    model: keras.Model,
    config: TrainConfig,
    history: pd.DataFrame,
) -> Path:
    """Writes `report.html`, `report.json`, and every table and figure of the page that is not in the folder yet.

    Args:
        folder: of the run; its `environment.json` is shown.
        data: the pictures.
        outputs: float32 (n, num_outputs) for each judged split, in the order of `data.splits`; may be empty.
        record: the content of `metrics.json`.
        model: that gave the outputs.
        config: with every setting chosen.
        history: the table of `history.csv`; may be empty.

    Returns:
        The page.
    """
    copies, errors = _find_suspects(data, outputs)
    write_table(folder / "suspects.csv", suspects_table(data, copies, errors))
    judged = choose_judged(outputs)
    leaks = _find_leaks(data, outputs, judged, copies)
    verdict = reach_verdict(record, data.task, leaks, data.cautions)
    summary = {"verdict": verdict._asdict(), **leaks._asdict(), "label_errors": sum(map(len, errors.values()))}
    write_json(folder / "report.json", summary)
    return write_page(
        folder / "report.html",
        "report.html.j2",
        name=folder.name,
        data=data,
        verdict=verdict,
        record=record,
        metrics=METRICS,
        bars=_bars(verdict, record),
        history=_history_figures(history),
        measured=measured_content(folder, data, outputs, record, model, judged) if judged else None,
        quarantine=_quarantine(data),
        copies=_shown_copies(data, copies),
        errors=_shown_errors(data, errors),
        settings=config.to_json(),
        environment_rows=_environment_rows(folder),
    )


def _find_suspects(
    data: ImageData, outputs: dict[Split, np.ndarray]
) -> tuple[list[NearDuplicate], dict[Split, list[LabelError]]]:
    judged = np.concatenate([np.zeros(0, int), *(data.splits[split] for split in outputs)])
    errors = {
        split: find_label_errors(data.targets[data.splits[split]], predicted, data.task)
        for split, predicted in outputs.items()
    }
    return find_near_duplicates(data.looks, compared_values, judged, data.splits["train"], data.least_score), errors


def _find_leaks(
    data: ImageData, outputs: dict[Split, np.ndarray], judged: Split | None, copies: list[NearDuplicate]
) -> Leaks:
    """How many judged pictures look like a training picture, the accuracy without them, and how many of val do."""
    if judged is None:
        return Leaks()
    alike = [pair.judged for pair in copies]
    suspected = np.isin(data.splits[judged], alike)
    truth, predicted = truth_and_answers(data, outputs[judged], judged)
    right = (truth == predicted).all(axis=1)[~suspected]
    without = float(right.mean()) if suspected.any() and len(right) else None
    in_val = int(np.isin(data.splits["val"], alike).sum()) if judged == "test" else 0
    return Leaks(int(suspected.sum()), without, in_val)


def _bars(verdict: Verdict, record: dict[str, Any]) -> list[dict[str, Any]]:
    """What the accuracy stands beside."""
    if verdict.split is None:
        return []
    model = {"name": "this model", "value": verdict.accuracy, "interval": verdict.interval}
    return [model, *baseline_bars(record["baseline"])]


def _history_figures(history: pd.DataFrame) -> list[Markup]:
    if history.empty:
        return []
    names = ("loss", "accuracy")
    return [inline_svg(plots.learning_curve(history, name), f"{name} by epoch") for name in names]


def _quarantine(data: ImageData) -> dict[str, Any]:
    reasons = Counter(item.reason for item in data.quarantine)
    return {
        "count": len(data.quarantine),
        "reasons": reasons.most_common(REASONS_SHOWN),
        "other_reasons": max(0, len(reasons) - REASONS_SHOWN),
        "rows": [(data.display_path(item.path), item.reason) for item in data.quarantine[:QUARANTINE_SHOWN]],
    }


def _shown_copies(data: ImageData, copies: list[NearDuplicate]) -> dict[str, Any]:
    shown = [
        {"sides": [_picture(data, pair.judged), _picture(data, pair.train)], "score": pair.score}
        for pair in copies[:PICTURES_SHOWN]
    ]
    return {"count": len(copies), "shown": shown}


def _shown_errors(data: ImageData, errors: dict[Split, list[LabelError]]) -> dict[str, Any]:
    found = sorted(
        ((split, error) for split, each in errors.items() for error in each), key=lambda found: -found[1].score
    )
    shown = [
        {
            "picture": _picture(data, data.splits[split][error.row]),
            "suggested": label_texts(error.labels[None], data.class_names)[0] or NO_LABEL,
            "score": error.score,
        }
        for split, error in found[:PICTURES_SHOWN]
    ]
    return {"count": len(found), "shown": shown}


def _picture(data: ImageData, position: int) -> dict[str, str]:
    labels = data.task.truth(data.targets[[position]])
    split = next(split for split, positions in data.splits.items() if position in positions)
    return {
        "uri": picture_uri(data.pixels[position]),
        "path": data.display_path(data.pictures[position].path),
        "label": label_texts(labels, data.class_names)[0] or NO_LABEL,
        "split": split,
    }


def _environment_rows(folder: Path) -> list[tuple[str, str]]:
    """What `environment.json` holds, a row each."""
    path = folder / "environment.json"
    environment = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    packages = environment.pop("packages", {})
    return [(name, setting(value)) for name, value in (*environment.items(), *packages.items())]
