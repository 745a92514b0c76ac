"""Classes and files may be called anything: no name becomes a tag, a formula, mathematics or a line of its own."""

import csv
import io
import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from app.config import TrainConfig
from data.csv_cells import read_table
from data.sources import printable
from exports.class_function import class_function
from exports.run import export_format, make_reference
from inference.load import load_model, read_run
from inference.run_record import read_metrics, read_sample
from reports.evaluation import evaluate
from reports.evaluation_inputs import load_evaluation
from reports.model_card import Export, write_card
from tests.reports.read_page import check_page, text_of
from tests.small_runs import PICTURES, make_run

WRITTEN = (
    "<script>alert(1)</script>",
    '"onload="x',
    '=HYPERLINK("http://localhost","x")',
    "$\\frac$",
    "'tis & `so`",
    "a\r=1+1\n# b",
)
CLASSES = tuple(map(printable, WRITTEN))
FOLDERS = ("<img src=x onerror=alert(2)>", "=cmd $\\frac$")
TAGS = """html head meta title link style body main header footer nav section details summary figure figcaption img svg
    g path defs use text clippath rect polygon polyline line circle p h1 h2 h3 dl div dt dd ul li ol a span small strong
    b i bdi br hr table thead tbody tr th td code script"""
NUMBER = re.compile(r"[+-]?[\d.]+(e[+-]?\d+)?", re.ASCII)


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Path:
    """A run on pictures of such names, of which two thirds are judged."""
    rows = [(f"{folder}/{index}.jpg", WRITTEN[index % 6]) for folder in FOLDERS for index in range(PICTURES)]
    labels = pd.DataFrame(rows, columns=["path", "label"]).to_csv(index=False, quoting=csv.QUOTE_ALL)
    root = tmp_path_factory.mktemp("<u>names")
    return make_run(root, FOLDERS, labels, val_fraction=0.3, test_fraction=0.3, head_epochs=1)


class _Tags(HTMLParser):
    """Collects every tag and attribute of a page."""

    def __init__(self):
        super().__init__()
        self.tags: set[str] = set()
        self.attributes: set[str] = set()

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        self.tags.add(tag)
        self.attributes |= {name for name, _ in attrs}


def test_no_name_becomes_a_tag_of_the_page(run):
    page = (run / "report.html").read_text(encoding="utf-8")
    check_page(page)
    found = _Tags()
    found.feed(page)
    assert found.tags <= set(TAGS.split())
    assert not {name for name in found.attributes if name.startswith("on")}
    assert page.count("<script") == 1
    for name in CLASSES:
        assert " ".join(name.split()) in text_of(page)


def test_no_name_becomes_a_formula_of_any_table(run):
    tables = sorted(run.glob("*.csv"))
    assert {"predictions.csv", "confusion_matrix.csv", "per_class.csv", "suspects.csv"} <= {
        path.name for path in tables
    }
    for path in tables:
        for row in csv.reader(io.StringIO(path.read_text(encoding="utf-8"), newline="")):
            for cell in row:
                assert not cell.startswith(("=", "+", "-", "@", "\t", "\r", "\n")) or NUMBER.fullmatch(cell), cell


def test_every_name_comes_back_from_the_tables(run):
    predictions = read_table(run / "predictions.csv")
    assert set(predictions["label"]) == set(CLASSES)
    assert {Path(path).parent.name for path in predictions["path"]} == set(FOLDERS)
    assert set(read_table(run / "per_class.csv")["class"]) == set(CLASSES)
    matrix = read_table(run / "confusion_matrix.csv")
    assert set(matrix) == {"label", *CLASSES}
    assert set(json.loads((run / "metrics.json").read_text())["test"]["per_class"]) == set(CLASSES)


def test_the_pictures_are_found_and_judged_again(run, tmp_path, capsys):
    cache = run.parent / "cache"
    inputs = load_evaluation(read_run(run), None, (), cache)
    evaluate(inputs, csv_file=tmp_path / "again.csv")
    assert (tmp_path / "again.csv").read_bytes() == (run / "predictions.csv").read_bytes()
    printed = capsys.readouterr().out
    assert "val and test: identical to metrics.json" in printed
    assert "changed" not in printed
    count = len(read_table(run / "predictions.csv"))
    assert len(read_sample(read_run(run), (), 100, cache).paths) == count


def test_an_export_has_a_line_for_every_class(run, tmp_path):
    trained = read_run(run)
    model = load_model(trained)
    reference = make_reference(model, trained, read_sample(trained, (), 4, run.parent / "cache"))
    compute = class_function(model, trained)
    export_format("onnx", compute, trained, read_metrics(trained), reference, tmp_path / "onnx")
    lines = (tmp_path / "onnx" / "labels.txt").read_text(encoding="utf-8").splitlines()
    assert lines == list(trained.class_names)


def test_a_card_shows_names_as_they_are(run, tmp_path):
    trained = read_run(run)
    config = TrainConfig.of(**trained.config.to_json() | {"weights": "``<x>\n# big.h5"})
    write_card(tmp_path / "card.md", trained._replace(config=config), read_metrics(trained), Export("onnx", {}, []))
    card = (tmp_path / "card.md").read_text(encoding="utf-8")
    assert [line for line in card.splitlines() if line.startswith("# ")] == ["# `run`"]
    assert ". `<script>alert(1)</script>`\n" in card
    assert ". `` 'tis & `so` ``\n" in card
    assert r". `a\x0d=1+1\x0a# b`" in card
    assert r"``` ``<x>\x0a# big.h5 ```" in card
