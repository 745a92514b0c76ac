"""Recordings go from training to reports, predictions and exports, on the encoder of Whisper."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import soundfile

from app.config import TrainConfig
from app.errors import UsageError
from data.kinds import Part
from data.sounds.decode import cut_sound
from exports.run import export_run
from headstart import Run
from inference.answering import of_run
from inference.files import FoundFile
from inference.load import TrainedRun, read_run
from inference.run_record import find_learnt_from, read_metrics, read_sample
from inference.web_page import load_ask, make_app
from reports.evaluation import evaluate
from reports.evaluation_inputs import load_evaluation
from tests.stopped_runs import going_on, train_until
from training.begun import read_begun
from training.folder import open_folder
from training.inputs import load_inputs
from training.run import train

RATE = 8_000


@pytest.fixture(scope="module")
def sounds(tmp_path_factory) -> Path:
    """Tones that rise and tones that fall, over noise."""
    random, folder = np.random.default_rng(0), tmp_path_factory.mktemp("sounds") / "tones"
    for label, factor in (("down", 0.5), ("up", 2.0)):
        (folder / label).mkdir(parents=True)
        for number in range(30):
            length = int(random.uniform(0.2, 0.5) * RATE)
            times = np.arange(length) / RATE
            hertz = random.uniform(300, 900) * factor ** (times / times[-1])
            tone = 0.4 * np.sin(2 * np.pi * np.cumsum(hertz) / RATE) + random.normal(0, 0.02, length)
            soundfile.write(folder / label / f"{number}.{'flac' if number % 2 else 'wav'}", tone, RATE)
    (folder / "up" / "silent.wav").write_bytes((folder / "up" / "0.wav").read_bytes()[:44])
    return folder


def config_of(sounds: Path, name: str, **settings) -> TrainConfig:
    places = {"data": str(sounds), "cache_dir": sounds.parent / "cache", "output": sounds.parent / name}
    return TrainConfig.of(**places, trainable_layers=1, fine_tune_epochs=1, **settings)


@pytest.fixture(scope="module")
def run(sounds) -> TrainedRun:
    return read_run(train(load_inputs(config_of(sounds, "run"))))


def test_the_window_and_the_network_follow_from_the_recordings(run):
    metrics = read_metrics(run)
    assert (run.config.model.backbone, run.config.data.clip_seconds) == ("whisper_tiny_en", 1)
    assert metrics["baseline"].keys() == {"majority", "spectrogram_statistics"}
    assert metrics["test"]["accuracy"] >= 0.8
    (set_aside,) = pd.read_csv(run.folder / "quarantine.csv").to_dict("records")
    assert Path(set_aside["path"]).name == "silent.wav"


def test_a_long_recording_is_answered_part_by_part(run, tmp_path):
    times = np.arange(3 * RATE) / RATE
    soundfile.write(tmp_path / "long.wav", 0.4 * np.sin(2 * np.pi * 440 * times), RATE)
    answers = Run(run.folder).predict(tmp_path / "long.wav")
    assert [Path(path).name for path in answers["path"]] == [f"long.wav#t={start},{start + 1}" for start in range(3)]
    assert set(answers["status"]) == {"answered"}


def test_parts_of_what_it_learnt_from_are_found_and_nothing_that_was_set_aside(run, sounds):
    measured = [sounds / path for path in pd.read_csv(run.folder / "predictions.csv")["path"]]
    (silent,) = sounds.rglob("silent.wav")
    learnt = next(path for path in sorted(sounds.rglob("*.wav")) if path not in (*measured, silent))
    paths = [measured[0], learnt, sounds.parent / "elsewhere.wav"]
    files = [FoundFile(path) for path in (*paths, silent)]
    parts = [FoundFile(part.name, content=part) for part in (Part(path, 0, 0.1, cut_sound) for path in paths)]
    assert find_learnt_from(run, files) == [files[1]]
    assert find_learnt_from(run, parts) == [parts[1]]


def test_the_page_shows_what_was_heard_and_nothing_of_pictures(run):
    body = (run.folder / "report.html").read_text().split("<main")[-1]
    assert "recordings" in body
    assert "Grad-CAM" not in body
    assert "pixels" not in body


def test_a_run_is_evaluated_and_asked(run, sounds, capsys):
    evaluate(load_evaluation(run, None, (), sounds.parent / "cache"))
    assert "identical to metrics.json" in capsys.readouterr().out
    answers = Run(run.folder).predict([sounds / "up", sounds / "down"])
    assert answers["status"].value_counts().to_dict() == {"answered": 60, "unreadable": 1}
    recorded = pd.read_csv(run.folder / "predictions.csv").set_index("path")["probability_up"]
    found = answers.assign(path=[str(Path(path).relative_to(sounds)) for path in answers["path"]]).set_index("path")
    assert found["probability_up"].loc[recorded.index].to_list() == recorded.to_list()


def test_exports_take_samples(run, sounds):
    sample = read_sample(run, (), 12, sounds.parent / "cache")
    folders = {name: sounds.parent / "export" / name for name in ("saved_model", "litert", "onnx")}
    export_run(run, read_metrics(run), sample, folders, quantize=False)
    for folder in folders.values():
        for parity in json.loads((folder / "parity.json").read_text())["routes"].values():
            assert (parity["n"], parity["same_labels"]) == (12, 1.0)
        card = (folder / "MODEL_CARD.md").read_text()
        assert card.splitlines()[2].startswith("A recording classifier")
        assert "Of a recording longer than 1 s, take the middle." in " ".join(card.split())


def test_varied_views_are_cached_and_resumed_to_the_bit(sounds, capsys):
    settings = {"views": 3, "vary": "specaugment", "head_epochs": 2}

    def answers(config: TrainConfig) -> bytes:
        return (train(load_inputs(config)) / "predictions.csv").read_bytes()

    whole = config_of(sounds, "whole", **settings)
    expected = answers(whole)
    assert "60 recordings through the frozen layers, once (3 views of each to train on)" in capsys.readouterr().out
    stopped = whole.replace(output=sounds.parent / "stopped", checkpoint_seconds=0.0)
    train_until(stopped, 2)
    with going_on(), open_folder(read_begun(sounds.parent / "stopped")) as resumed:
        assert answers(resumed) == expected
    assert answers(whole.replace(output=sounds.parent / "anew", cache_dir=sounds.parent / "new")) == expected
    assert answers(whole.replace(output=sounds.parent / "mild", vary="mild")) != expected


def test_sizes_of_other_kinds_are_refused(sounds):
    with pytest.raises(UsageError, match="--image-size is for pictures; the data are recordings"):
        load_inputs(config_of(sounds, "none", image_size=32))


def test_the_page_answers_a_recording_with_a_player(run, sounds):
    network = of_run(run)
    client = make_app(network, "name", (), load_ask(network)).test_client()
    answer = client.post("/answer", data=(sounds / "up" / "0.wav").read_bytes()).get_data(as_text=True)
    assert "<audio" in answer
    assert answer.count("<data value=") == 2
    assert "not a recording" in client.post("/answer", data=b"none at all").get_data(as_text=True)
