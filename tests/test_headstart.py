"""What docs/python.md shows works anywhere: train, predict, evaluate and export from Python."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

from app.config import TrainConfig
from app.errors import UsageError
from app.run_folder import METRICS_FILE
from headstart import Run, train
from tests.conftest import draw_photos
from tests.small_network import small_network
from tests.stopped_runs import going_on, train_until

REPOSITORY = Path(__file__).parent.parent
PAGE = (REPOSITORY / "docs" / "python.md").read_text(encoding="utf-8")


def test_the_page_runs_as_it_is_written_in_any_folder(tmp_path):
    draw_photos(tmp_path / "photos", ("cat", "dog"), 12)
    draw_photos(tmp_path / "more", ("cat",), 1)
    (tmp_path / "more" / "cat" / "0.jpg").rename(tmp_path / "more" / "0.jpg")
    (code,) = re.findall(r"^```python\n(.*?)^```", PAGE, re.S | re.M)
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY), "XDG_CACHE_HOME": str(tmp_path / "cache")}
    ended = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr
    assert re.search(r"^[01]\.\d+ \('cat', 'dog'\)$", ended.stdout, re.M)
    assert "identical to metrics.json" in ended.stdout
    assert (tmp_path / "runs" / "first" / "export" / "onnx" / "model.onnx").is_file()
    assert json.loads((tmp_path / "runs" / "second" / "config.json").read_text())["seed"] == 1


def test_answers_are_those_of_the_run_and_nothing_is_printed(binary_run, capsys):
    run = Run(binary_run)
    answers = run.predict(binary_run.parent / "photos")
    assert capsys.readouterr().out == ""
    assert list(answers["status"].unique()) == ["answered"]
    recorded = pd.read_csv(binary_run / "predictions.csv").set_index("path")["probability_dog"]
    found = answers.assign(path=[os.path.relpath(path, binary_run.parent / "photos") for path in answers["path"]])
    found = found.set_index("path")["probability_dog"].loc[recorded.index]
    assert found.to_list() == recorded.to_list()
    model = run._network(False).load()
    run.predict([binary_run.parent / "photos" / "cat" / "0.jpg"])
    assert run._network(False).load() is model


def test_mistakes_are_sentences(binary_run, tmp_path):
    with pytest.raises(UsageError, match="RUN must be a run folder"):
        Run(tmp_path / "nothing").evaluate()
    with pytest.raises(UsageError, match="A format must be one of saved_model, litert, onnx; received 'onyx'"):
        Run(binary_run).export("onyx", output=tmp_path)
    with pytest.raises(UsageError, match="A setting must be one of"):
        train(bakbone="resnet50")


def test_an_unfinished_run_is_resumed_where_it_was(tmp_path):
    draw_photos(tmp_path / "photos", ("cat", "dog"), 12)
    places = {"data": str(tmp_path / "photos"), "cache_dir": tmp_path / "cache"}
    settings = {"backbone": small_network(tmp_path), "image_size": 32, "head_epochs": 2, "batch_size": 4}
    whole = train(**settings, **places, output=tmp_path / "whole")
    train_until(TrainConfig.of(**settings, **places, output=tmp_path / "stopped", checkpoint_seconds=0), last=5)
    with pytest.raises(UsageError, match=r"was begun with --batch-size 4; received 8\."):
        train(resume=tmp_path / "stopped", batch_size=8)
    with pytest.raises(UsageError, match=r"was begun without --weight-decay; received 0\.5\. Leave it out"):
        train(resume=tmp_path / "stopped", weight_decay=0.5)
    with going_on():
        named = {"data": os.path.relpath(tmp_path / "photos")}  # the same folder
        resumed = train(resume=tmp_path / "stopped", **settings, **named)
    assert resumed.folder == tmp_path / "stopped"
    assert (resumed.folder / "history.csv").read_bytes() == (whole.folder / "history.csv").read_bytes()


def test_a_finished_run_is_opened_where_it_is_to_be_resumed(binary_run):
    run = train(resume=binary_run)
    assert run.folder == binary_run
    assert run.metrics == json.loads((binary_run / METRICS_FILE).read_text())
