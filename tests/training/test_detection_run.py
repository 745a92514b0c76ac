"""Boxes are found in a run of the same loop, store and folder as classes: trained, measured, resumed, asked, told."""

import json
import sys
from pathlib import Path

import keras
import numpy as np
import pandas as pd
import pytest
from PIL import Image

import predict
from app.cli import run_command
from app.config import TrainConfig
from app.errors import UsageError
from app.run_folder import MORE_DATA_FILE
from data.sources import load_source
from exports.onnx import open_onnx
from exports.run import FORMATS, export_run
from headstart import Run
from inference.files import FoundFile
from inference.flags import AskFlags
from inference.load import load_model, read_run
from inference.predict_boxes import _draw_all
from inference.predictor import Predictor
from inference.run_record import read_metrics, read_sample
from models.backbones import find
from reports.evaluation import evaluate
from reports.evaluation_inputs import load_evaluation
from tests.stopped_runs import going_on, train_until
from training.begun import forget
from training.inputs import load_inputs, settings_for_boxes
from training.run import train

PICTURES = 24
COLOURS = {"blue": (30, 40, 220), "red": (220, 40, 30)}


def draw_squares(root: Path) -> Path:
    """Draws squares of two colours on noise, 96 x 64 pixels, and names their boxes in a CSV file; one picture has
    none."""
    root.mkdir()
    random, rows = np.random.default_rng(0), ["path,label,x1,y1,x2,y2"]
    for number in range(PICTURES):
        pixels = random.integers(90, 160, (64, 96, 3), dtype=np.uint8)
        for index, (label, colour) in enumerate(COLOURS.items()):
            side, x, y = random.integers(20, 32), 48 * index + random.integers(0, 16), random.integers(0, 32)
            if number:
                pixels[y : y + side, x : x + side] = colour
                rows.append(f"{number}.png,{label},{x},{y},{x + side},{y + side}")
        rows += [] if number else ["0.png,,,,,"]
        Image.fromarray(pixels).save(root / f"{number}.png")
    (root / "boxes.csv").write_text("\n".join(rows))
    return root / "boxes.csv"


def settings(root: Path, **changes) -> TrainConfig:
    places = {"data": str(root / "squares" / "boxes.csv"), "cache_dir": root / "cache", "output": root / "run"}
    return TrainConfig.of(**places | {"image_size": 96, "head_epochs": 12, "learning_rate": 5e-3} | changes)


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("detection")
    draw_squares(root / "squares")
    return train(load_inputs(settings(root)))


@pytest.fixture(scope="module")
def tuned(run) -> Path:
    """A run whose last layers were fine-tuned, and which does not look at the mirror image."""
    changes = {"effort": "quick", "head_epochs": 1, "trainable_layers": 30, "fine_tune_epochs": 1}
    return train(load_inputs(settings(run.parent, output=run.parent / "tuned", **changes)))


def test_the_folder_of_a_run_has_what_the_contract_says(run):
    metrics = json.loads((run / "metrics.json").read_text())
    assert metrics["data"]["classes"] == ["blue", "red"]
    assert metrics["test"].keys() >= {"n", "ap", "ap50", "ap50_ci95", "per_class"}
    assert metrics["test"]["n"] == metrics["data"]["test"]
    assert metrics["test"]["ap50"] > 0.5
    assert metrics["epochs"] == {"head": 12, "fine_tune": 0}
    files = ("predictions.csv", "confusion_matrix.csv", "quarantine.csv", "history.csv", "report.html", "MODEL_CARD.md")
    assert all((run / name).is_file() for name in files)
    table = pd.read_csv(run / "predictions.csv")
    assert list(table.columns) == ["path", "split", "label", "predicted", "score", "x1", "y1", "x2", "y2"]
    assert set(table["label"].dropna()) == {"blue", "red"}
    page = (run / "report.html").read_text()
    assert all(f'id="{name}"' in page for name in ("box_classes", "box_pictures", "box_curves", "box_mistakes"))
    assert 'aria-label="boxes found by epoch"' in page


def test_the_model_gives_boxes_scores_and_classes_and_reloads_in_safe_mode(run):
    model = keras.saving.load_model(run / "model.keras", compile=False, safe_mode=True)
    pixels = np.asarray(Image.open(run.parent / "squares" / "3.png").resize((96, 96)), np.float32)
    boxes, scores, classes = (np.asarray(each) for each in model(pixels[None], training=False))
    assert boxes.shape[::2] == (1, 4)
    assert boxes.min() >= 0
    assert boxes.max() <= 1
    assert (np.diff(scores[0]) <= 0).all()
    assert set(classes[0]) <= {0, 1}


def test_evaluate_reproduces_the_figures(run, capsys):
    measured = evaluate(load_evaluation(read_run(run), None, (), run.parent / "cache"))
    assert measured["test"] == json.loads((run / "metrics.json").read_text())["test"]
    assert "val and test: identical to metrics.json" in capsys.readouterr().out


def test_predict_writes_boxes_in_pixels_and_draws_them(run, tmp_path, monkeypatch, capsys):
    squares, table, drawn = run.parent / "squares", tmp_path / "boxes.csv", tmp_path / "drawn"
    (tmp_path / "no.png").write_text("no picture")
    given = ["predict.py", str(run), str(squares / "5.png"), str(squares / "0.png"), str(tmp_path / "no.png")]
    monkeypatch.setattr("inference.batches.ROWS_SHOWN", 1)
    coco = tmp_path / "boxes.json"
    monkeypatch.setattr(sys, "argv", [*given, "--csv", str(table), "--coco", str(coco), "--draw", str(drawn)])
    run_command(predict.main)
    answers = pd.read_csv(table)
    (unreadable,) = answers[answers["path"] == str(tmp_path / "no.png")].to_dict("records")
    assert (unreadable["status"], unreadable["reason"]) == ("unreadable", "not a picture")
    found = answers[answers["status"] == "found"]
    assert found[["x1", "x2"]].to_numpy().max() <= 96
    assert found[["y1", "y2"]].to_numpy().max() <= 64
    again = load_source(str(coco), tmp_path, outside=True)
    corners = [box for each in again.examples for box in each.boxes.corners]
    np.testing.assert_allclose(corners, found[["x1", "y1", "x2", "y2"]], atol=0.02)
    assert [label for each in again.examples for label in each.boxes.labels] == list(found["predicted"])
    assert sorted(path.name for path in drawn.iterdir()) == ["0.png", "5.png"]
    assert Image.open(drawn / "5.png").size == (96, 64)
    assert f"and {len(answers) - 1} rows more" in capsys.readouterr().out
    assert list(Run(run).predict(squares / "5.png")["predicted"]) == list(
        found[found["path"].str.contains("5.png")]["predicted"]
    )


def test_a_picture_of_16_bits_is_drawn_as_the_network_saw_it(run, tmp_path):
    Image.fromarray(np.full((64, 96), 30_000, np.uint16)).save(tmp_path / "x_ray.png")
    _draw_all(tmp_path / "drawn", [FoundFile(tmp_path / "x_ray.png")], [np.zeros((0, 6))], ["blue", "red"])
    assert Image.open(tmp_path / "drawn" / "x_ray.png").getpixel((5, 5)) == (117, 117, 117)


def test_a_head_learns_on_a_backbone_of_random_weights(run, tmp_path):
    asked = settings(run.parent, weights="none", head_epochs=1, fine_tune_epochs=0, output=tmp_path / "scratch")
    with_head = train(load_inputs(asked.replace(learning_rate=None, views=1)))
    assert json.loads((with_head / "metrics.json").read_text())["epochs"]["head"] == 1


def test_a_test_split_without_boxes_is_passed_over(run, tmp_path, capsys):
    squares = run.parent / "squares"
    lines = (squares / "boxes.csv").read_text().splitlines()
    splits = ["split", *("val" if line.startswith("1.") else "train" for line in lines[1:])]
    splits[1:] = ["test" if line.startswith("0.") else split for line, split in zip(lines[1:], splits[1:], strict=True)]
    rows = [f"{line},{split}" for line, split in zip(lines, splits, strict=True)]
    (squares / "given.csv").write_text("\n".join(rows))
    asked = settings(run.parent, data=str(squares / "given.csv"), head_epochs=1, output=tmp_path / "given")
    found = train(load_inputs(asked))
    assert json.loads((found / "metrics.json").read_text())["test"] is None
    page = (found / "report.html").read_text()
    assert "Finds" in page
    assert "The test split has no boxes to find" in page
    assert "could not be made" not in capsys.readouterr().out


def test_what_a_run_learnt_from_parts_is_forgotten_with_the_rest(run, tmp_path):
    (tmp_path / MORE_DATA_FILE).write_text("examples,val_ap")
    forget(tmp_path)
    assert not (tmp_path / MORE_DATA_FILE).exists()


def test_a_resumed_run_ends_the_same_to_the_bit(run, tmp_path):
    config = settings(run.parent, output=tmp_path / "again", checkpoint_seconds=0)
    train_until(config, last=4)
    with going_on():
        train(load_inputs(config))
    for name in ("history.csv", "predictions.csv"):
        assert (tmp_path / "again" / name).read_text() == (run / name).read_text()


def test_the_best_effort_says_what_more_pictures_would_bring(run, tmp_path):
    best = train(load_inputs(settings(run.parent, output=tmp_path / "run", effort="best", head_epochs=2)))
    table = pd.read_csv(best / "more_data.csv")
    assert list(table.columns) == ["examples", "val_ap"]
    assert table["examples"].iloc[-1] == json.loads((best / "metrics.json").read_text())["data"]["train"]
    assert table["val_ap"].between(0, 1).all()


def test_the_last_layers_are_fine_tuned_behind_a_cut_that_shares_tensors_with_that_of_the_head(tuned):
    metrics = json.loads((tuned / "metrics.json").read_text())
    assert metrics["epochs"] == {"head": 1, "fine_tune": 1}
    assert metrics["model"]["trainable_parameters"] > 400_000


def test_the_pyramid_that_is_cached_is_that_of_the_whole_network(tuned):
    read = read_run(tuned)
    assert read.cut is not None
    model = load_model(read)
    pixels = np.stack([np.asarray(Image.open(tuned.parent / "squares" / "3.png").resize((96, 96)))] * 2)
    np.testing.assert_allclose(Predictor(model, read.cut)(pixels), Predictor(model)(pixels), atol=1e-4)


def test_the_config_of_a_run_is_taken_again(run):
    again = load_inputs(TrainConfig.from_file(run / "config.json").replace(cache_dir=run.parent / "cache"))
    assert again.config.data.resize == "pad"


@pytest.mark.parametrize("flag", ["folds", "dropout", "positive", "class_weights", "sensitivity"])
def test_settings_for_classes_are_refused(run, flag):
    value = {"folds": 3, "dropout": 0.5, "positive": "red", "class_weights": True, "sensitivity": 0.9}[flag]
    with pytest.raises(UsageError, match=f"^--{flag.replace('_', '-')} is for classes of whole pictures"):
        load_inputs(settings(run.parent, **{flag: value}))


@pytest.mark.parametrize("flag", [{"unknown_below": 0.9}, {"unknown": True}])
def test_no_command_takes_a_box_for_unknown(run, flag):
    with pytest.raises(UsageError, match="has no answer 'unknown'"):
        AskFlags.of(**flag).find_network(run)


def test_the_channels_of_the_pyramid_are_one_number(run):
    with pytest.raises(UsageError, match=r"^--head-units takes one number where boxes are found"):
        load_inputs(settings(run.parent, head_units=(8, 8)))


def test_the_size_of_pictures_fits_the_network():
    sizes = {
        name: settings_for_boxes(TrainConfig(), find(name)).data.image_size for name in ("mobilenet", "dinov2_small")
    }
    assert sizes == {"mobilenet": 320, "dinov2_small": 23 * 14}
    with pytest.raises(UsageError, match=r"^--backbone siglip_base_patch16_224 pools its pictures itself"):
        settings_for_boxes(TrainConfig(), find("siglip_base_patch16_224"))


def test_exports_find_the_same_boxes(run, tmp_path):
    read = read_run(run)
    sample = read_sample(read, [], 12, run.parent / "cache")
    folders = {name: tmp_path / name for name in FORMATS}
    export_run(read, read_metrics(read), sample, folders)
    for name, folder in folders.items():
        routes = json.loads((folder / "parity.json").read_text())["routes"]
        assert {route["n"] for route in routes.values()} == {len(sample.paths)}, name
    pixels = np.zeros((2, 96, 96, 3), np.float32)
    found = open_onnx(folders["onnx"] / "model.onnx")(pictures=pixels)
    assert {name: values.shape for name, values in found.items()} == {
        "boxes": (2, 100, 4),
        "scores": (2, 100),
        "classes": (2, 100),
    }


def test_boxes_that_moved_are_another_answer(run):
    read = read_run(run)
    answers = np.zeros((1, 3, 6), np.float32)
    answers[0, 0] = 0.2, 0.2, 0.4, 0.4, 1.0, 1  # above any threshold
    moved, other = answers.copy(), answers.copy()
    moved[0, 0, 0] += 0.1
    other[0, 0, 5] = 0
    assert read.task.differences(answers, answers[:, ::-1]).tolist() == [0]
    assert read.task.differences(moved, answers).tolist() == pytest.approx([0.1])
    assert read.task.differences(other, answers).tolist() == [1]
    assert read.task.texts(answers, read.class_names) == ["0 1"]
    assert read.task.texts(other, read.class_names) == ["1 0"]
