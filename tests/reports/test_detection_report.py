"""The page of a run that finds boxes says how sure its figures are, and rounds nothing up to certainty."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np

from app.config import TrainConfig
from data.boxes.targets import encode, frames
from data.prepare import Data
from data.sources import Boxes, Split
from reports.detection import reach_verdict, results_table
from reports.report import write_report
from reports.summary import build_record
from reports.verdict import interval_note
from tasks.detection import DETECTION
from tests.reports.made_data import HISTORY, make_data, make_model
from tests.reports.read_page import check_page, text_of

CLASSES = ("cat", "dog")
CORNERS = ((2, 2, 14, 14), (16, 16, 30, 30))
"""Box of each class in every picture, pixels of 32."""


def box_data(thresholds: tuple[float, ...] = (0.3, 0.3), without: tuple[Split, ...] = (), **counts: int) -> Data:
    """Pictures with a box of each class; those of the splits `without` have none."""
    data, boxes = make_data(**counts), Boxes(CLASSES, CORNERS, (False, False), (32, 32))
    empty = {position for split in without for position in data.splits[split]}
    none = Boxes((), (), (), (32, 32))
    examples = [each._replace(boxes=none if row in empty else boxes) for row, each in enumerate(data.examples)]
    places = frames(np.full((len(examples), 2), 32), 32, "pad")
    return data._replace(
        task=dataclasses.replace(DETECTION, thresholds=thresholds),
        class_names=CLASSES,
        examples=examples,
        targets=encode(examples, CLASSES, places),
        frames=places,
    )


def box_outputs(data: Data, alarm: float = 0.0) -> dict[Split, np.ndarray]:
    """Answers that are all right but for one 'cat' in the first picture, with the probability `alarm`."""
    outputs = {}
    for split in ("val", "test"):
        found = np.zeros((len(data.splits[split]), 3, 6), np.float32)
        for label, corners in enumerate(CORNERS):
            found[:, label] = [*(np.array(corners) / 32), 0.998, label]
        found[-1, 0, 4] = 0.5  # the last cat is less sure than the false alarm
        found[0, 2] = [0.6, 0.0, 0.9, 0.3, alarm, 0]
        outputs[split] = found
    return outputs


def report(folder: Path, data: Data, outputs: dict[Split, np.ndarray]) -> tuple[str, dict[str, Any], list[str]]:
    """Writes a report; returns the text of its page, the record it is about, and its cautions."""
    config = TrainConfig.of(data="made", image_size=32, backbone="mobilenet", weights="none")
    model = make_model(make_data())  # only its parameters are counted
    record = build_record(data, config, outputs, model, HISTORY, 1.0)
    folder.mkdir(exist_ok=True)
    page = write_report(folder, data, outputs, record, model, config, HISTORY).read_text(encoding="utf-8")
    check_page(page)
    return text_of(page), record, json.loads((folder / "report.json").read_text())["verdict"]["cautions"]


def test_pictures_that_look_alike_widen_the_interval_of_boxes_and_the_page_says_so(tmp_path):
    data = box_data(test=64)
    plain, alone, _ = report(tmp_path / "alone", data, box_outputs(data, 0.996))
    groups = data.groups.copy()
    groups[data.splits["test"]] = np.repeat(np.arange(32), 2)
    text, record, _ = report(tmp_path / "alike", data._replace(groups=groups), box_outputs(data, 0.996))
    assert "effective_n" not in alone["test"]
    assert record["test"]["effective_n"] == 32
    assert record["test"]["ap50_ci95"][0] < alone["test"]["ap50_ci95"][0]
    assert record["val"] == alone["val"]
    note = interval_note(record["test"], data.kind)
    assert "64 pictures" in note
    assert f"{note} The large figure is AP50" in text
    assert note not in plain


def test_a_wide_interval_of_boxes_is_a_reason_for_caution(tmp_path):
    few, many = box_data(), box_data(test=64)
    *_, cautions = report(tmp_path / "few", few, box_outputs(few))
    assert "Measured on 6 pictures only: on more of them, any AP50 from 61 to 100\u00a0% is plausible." in cautions
    *_, cautions = report(tmp_path / "many", many, box_outputs(many))
    assert not any("plausible" in each for each in cautions)


def test_a_test_split_without_boxes_is_not_called_missing(tmp_path):
    data = box_data(without=("test",))
    outputs = box_outputs(data)
    outputs["test"][:, :2, 4] = 0
    outputs["test"][0, 0, 4] = 0.9
    _, record, (caution, *_) = report(tmp_path / "run", data, outputs)
    chosen = "Epoch and thresholds were chosen on these val pictures: AP is optimistic."
    unknown = "The test split has no boxes to find, so its AP is unknown"
    assert caution == f"{unknown}; the model answers with 1 false alarm in 6 pictures. {chosen}"
    assert reach_verdict(record, data.task, data.kind).cautions[0] == f"{unknown}. {chosen}"
    record["data"]["test"] = 0
    assert reach_verdict(record, data.task, data.kind).cautions[0] == f"There is no test split. {chosen}"


def test_a_run_whose_measured_pictures_have_no_boxes_still_gets_a_page(tmp_path):
    data = box_data(without=("val", "test"))
    text, _, (advice, *_) = report(tmp_path / "run", data, box_outputs(data))
    assert "AP unknown: no val or test picture has a box to find." in text
    assert advice == "Add pictures with boxes to val and test."


def test_the_page_rounds_nothing_up_to_certainty(tmp_path, monkeypatch):
    data, drawn = box_data((0.12344, 0.99799), test=24), []
    monkeypatch.setattr("reports.detection_sections.draw_boxes", lambda picture, boxes: drawn.extend(boxes) or picture)
    text, record, _ = report(tmp_path / "run", data, box_outputs(data, 0.996))
    assert 0.995 < record["test"]["per_class"]["cat"]["ap50"] < 1
    assert "cat 0.99 " in text  # beside its curve
    assert "cat, 99 % sure" in text
    assert "cat 99\u00a0%" in {each.text for each in drawn}
    assert "0.1234 " in text
    assert "0.9980 " in text


def test_the_table_of_boxes_rounds_no_figure_up_to_100_percent():
    figures = {"ap50": 0.9996, "ap50_ci95": [0.98, 0.9999], "ap": None, "ap75": 1.0, "boxes": 1234, "n": 500}
    table = results_table({"test": figures}, "pictures")
    cells = [next(iter(column.cells)) for column in table.columns]
    assert cells == ["test", "99.9%", "98.0% to 99.9%", "–", "100.0%", "1,234", "500"]
