"""A kind of input of one's own goes from training to exports by lines in tables: nothing else knows pictures."""

import json
import sys
from pathlib import Path

import keras
import numpy as np
import pandas as pd
import pytest
from sklearn.preprocessing import StandardScaler

import demo
import predict
from app.cli import run_command
from app.config import TrainConfig
from data import sources
from data.kinds import KINDS, Baseline, find_kind
from data.sources import Source
from exports.run import export_run
from inference.load import read_run
from inference.run_record import read_metrics, read_sample
from models import backbones
from models.parts import Parts
from reports.evaluation import evaluate
from reports.evaluation_inputs import load_evaluation
from tests.data.test_kinds import NUMBERS, WIDTH, numbers_reader, read_numbers, rows_of
from training.inputs import load_inputs
from training.run import train


def accepts(data: str) -> bool:
    return data.endswith(".rows")


def load(data: str, cache_dir: Path, outside: bool = False) -> Source:
    return Source("rows", cache_dir, [row._replace(path=cache_dir / row.path) for row in rows_of(120)], KIND)


def one_tensor(config, folder=None):
    reader = numbers_reader(config)
    return reader._replace(
        inputs=reader.inputs[:1],
        read=lambda content: read_numbers(content)[:1],
        read_with_signature=lambda content: (read_numbers(content)[:1], read_numbers(content)[0]),
    )


KIND = NUMBERS._replace(
    reader=one_tensor,
    compared_values=lambda signatures: np.zeros((len(signatures), 1), np.float32),
    baseline=Baseline(
        "raw_numbers", lambda inputs, contents, positions: inputs[0][positions], StandardScaler, 0.01, 5_000
    ),
)


def build(backbone, image_size, weights, include_top) -> Parts:
    rows = keras.Input((WIDTH,), name="rows")
    dense = keras.layers.Dense(8, "relu", name="hidden")
    return Parts(keras.Model(rows, dense(rows)), [[dense]], {"avg": keras.layers.Identity})


@pytest.fixture
def rows(monkeypatch):
    monkeypatch.setitem(KINDS, "numbers", __name__)
    monkeypatch.setattr(sources, "SOURCES", {"rows": __name__, **sources.SOURCES})
    monkeypatch.setitem(backbones.FAMILIES, "dense", backbones.Family("", "", 1, builder=__name__))
    row = backbones.Backbone("dense8", "", "dense", 1, 0.1, 0.0, kind="numbers")
    monkeypatch.setattr(backbones, "TABLE", (*backbones.TABLE, row))
    find_kind.cache_clear()
    yield
    find_kind.cache_clear()


def ask_from_the_command_line(run: Path, folder: Path, monkeypatch) -> None:
    """Asks predict.py about the files of a table, one of them damaged, and demo.py for its page."""
    (folder / "1.numbers").write_text("1,2,3")
    (folder / "2.numbers").write_text("1,2")
    (folder / "asked.csv").write_text("path\n1.numbers\n2.numbers\n")
    answers = folder / "answers.csv"
    monkeypatch.setattr(sys, "argv", ["predict.py", str(run), str(folder / "asked.csv"), "--csv", str(answers)])
    run_command(predict.main)
    table = pd.read_csv(answers)
    assert table["status"].tolist() == ["answered", "unreadable"]
    assert table["reason"][1] == "2 numbers, not 3"
    monkeypatch.setattr(sys, "argv", ["demo.py", str(run)])
    with pytest.raises(SystemExit) as end:
        run_command(demo.main)
    assert end.value.code == 2


def test_rows_without_files_are_trained_on_evaluated_reported_and_exported(rows, tmp_path, monkeypatch, capsys):
    (tmp_path / "made.rows").touch()
    places = {"data": str(tmp_path / "made.rows"), "cache_dir": tmp_path / "cache", "output": tmp_path / "run"}
    config = TrainConfig.of(**places, backbone="dense8", weights="none", fine_tune_epochs=2)
    run = read_run(train(load_inputs(config)))
    assert run.kind == KIND
    assert json.loads((run.folder / "config.json").read_text())["fine_tune_augment"] == "none"
    page = (run.folder / "report.html").read_text()
    assert "Grad-CAM" not in page
    assert "picture" not in page.split("<main")[-1].replace('class="pictures', "")
    inputs = load_evaluation(run, None, (), tmp_path / "cache")
    assert evaluate(inputs)["test"]["accuracy"] == read_metrics(run)["test"]["accuracy"]
    assert "identical to metrics.json" in capsys.readouterr().out
    ask_from_the_command_line(run.folder, tmp_path, monkeypatch)
    assert "demo.py shows pictures and texts only" in capsys.readouterr().err
    sample = read_sample(run, (), 20, tmp_path / "cache")
    assert sample.inputs[0].shape == (20, WIDTH)
    folders = {name: tmp_path / name for name in ("saved_model", "onnx")}
    export_run(run, read_metrics(run), sample, folders)
    for name, folder in folders.items():
        (parity,) = json.loads((folder / "parity.json").read_text())["routes"].values()
        assert (name, parity["n"], parity["same_labels"]) == (name, 20, 1.0)
