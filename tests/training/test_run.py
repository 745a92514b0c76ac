"""The main job, end to end, on pictures made on the fly and on the bundled ones."""

import json
import os
from pathlib import Path

import keras
import numpy as np
import pandas as pd
import pytest
import tensorflow as tf

from app.config import TrainConfig
from app.errors import RunError, UsageError
from data.batches import View
from data.images.decode import read_picture
from data.images.explain import grad_cam
from features.forward_pass import apply_model
from inference.files import find_files
from inference.load import read_run
from inference.run_record import find_learnt_from
from reports.evaluation import evaluate
from reports.evaluation_inputs import load_evaluation
from tasks.classification import MULTICLASS
from tests.conftest import draw_photos
from tests.small_network import small_network
from tests.stopped_runs import going_on, train_until
from training.begun import read_begun
from training.folder import open_folder
from training.inputs import load_inputs
from training.learner import BatchTooLargeError, Learner
from training.run import train

CONTRACT = {
    "config.json",
    "environment.json",
    "history.csv",
    "metrics.json",
    "predictions.csv",
    "confusion_matrix.csv",
    "quarantine.csv",
    "learnt_from.txt",
    "figures",
    "model.keras",
    "model.json",
    "report.html",
    "report.json",
    "per_class.csv",
    "roc.csv",
    "pr.csv",
    "reliability.csv",
    "suspects.csv",
    "MODEL_CARD.md",
}


def run(data: Path | str, tmp_path: Path, name: str = "run", **settings) -> Path:
    quick = {"backbone": small_network(tmp_path), "image_size": 32, "head_epochs": 1, "fine_tune_epochs": 1}
    config = TrainConfig.of(data=str(data), output=tmp_path / name, cache_dir=tmp_path / "cache", **(quick | settings))
    return train(load_inputs(config))


def pretrained(**settings) -> dict:
    return {"backbone": "efficientnet_lite0", "weights": "imagenet", "image_size": 64, **settings}


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> Path:
    """A finished run on pictures of three colours, one of them broken."""
    root = tmp_path_factory.mktemp("photos")
    draw_photos(root / "photos", ("blue, dark", "green", "red"), 12)
    (root / "photos" / "red" / "broken.jpg").write_bytes(b"\xff\xd8\xff")
    return run(root / "photos", root, **pretrained(head_epochs=8, fine_tune_epochs=2, batch_size=4))


def test_a_run_leaves_what_the_contract_says(finished):
    assert {path.name for path in finished.iterdir()} == CONTRACT
    assert {path.name for path in (finished / "figures").iterdir()} == {
        "learning_curves.png",
        "confusion_matrix.png",
        "roc.png",
        "precision_recall.png",
        "reliability.png",
        "mistakes.png",
    }


def test_the_record_has_every_key_of_the_contract(finished):
    record = json.loads((finished / "metrics.json").read_text())
    beside = {"calibration", "operating_point", "decision", "unknown", "diverged", "phases", "folds"}
    measured = {"val", "test", "baseline", "baseline_difference"}
    assert set(record) == {"data", "model", "seconds", "epochs", *measured, *beside}
    assert record["data"] == {
        "classes": ["blue, dark", "green", "red"],
        "train": 24,
        "val": 6,
        "test": 6,
        "quarantined": 1,
        "duplicates": 0,
    }
    assert set(record["model"]) == {"backbone", "weights", "image_size", "parameters", "trainable_parameters"}
    assert 0 < record["model"]["trainable_parameters"] < record["model"]["parameters"]
    assert set(record["test"]) == {
        "n",
        "accuracy",
        "accuracy_ci95",
        "balanced_accuracy",
        "macro_f1",
        "log_loss",
        "ece",
        "roc_auc",
        "per_class",
        "recall_ci95",
    }
    assert set(record["baseline"]) == {"majority", "raw_pixels"}
    assert record["baseline"]["majority"] == pytest.approx(1 / 3)
    stages = {"prepare", "import", "build", "features", "head", "fine_tune", "evaluate", "save", "report", "other"}
    assert set(record["seconds"]) == {"total", *stages}
    assert sum(record["seconds"][stage] for stage in stages) == pytest.approx(record["seconds"]["total"], abs=0.01)
    assert record["epochs"] == {"head": 8, "fine_tune": 2}
    history = pd.read_csv(finished / "history.csv")
    assert [(phase["phase"], phase["epochs"]) for phase in record["phases"]] == [("head", 8), ("fine_tune", 2)]
    layers = json.loads((finished / "config.json").read_text())["trainable_layers"]
    assert [phase["trained"] for phase in record["phases"]] == ["head", f"last {layers} layers"]
    bests = [history["val_loss"][:8].min(), history["val_loss"].min()]
    assert [phase["val_loss"] for phase in record["phases"]] == pytest.approx(bests)


def test_colours_are_learnt(finished):
    assert json.loads((finished / "metrics.json").read_text())["test"]["accuracy"] == 1.0


def test_the_saved_model_predicts_what_the_table_says(finished):
    model = keras.saving.load_model(finished / "model.keras", safe_mode=True, compile=False)
    table = pd.read_csv(finished / "predictions.csv")
    root = finished.parent / "photos"
    pixels = np.stack([read_picture(root / path, 64) for path in table["path"]])
    for split, rows in table.groupby("split"):
        predicted = apply_model(model, View((pixels,), rows.index.to_numpy()))
        written = rows[[f"probability_{name}" for name in ("blue, dark", "green", "red")]].to_numpy(np.float32)
        np.testing.assert_allclose(written, predicted, atol=1e-5, err_msg=split)


def test_the_saved_model_holds_no_augmentation_no_code_and_no_optimizer(finished):
    model = keras.saving.load_model(finished / "model.keras", safe_mode=True, compile=False)
    assert not hasattr(keras.saving.load_model(finished / "model.keras", safe_mode=True), "optimizer")
    kinds = {type(layer).__module__.split(".")[0] for layer in model.layers}
    assert kinds == {"keras"}
    assert not [layer for layer in model.layers if "Random" in type(layer).__name__ or "Lambda" in type(layer).__name__]


def test_the_history_has_a_line_per_epoch(finished):
    history = pd.read_csv(finished / "history.csv")
    assert history["phase"].tolist() == ["head"] * 8 + ["fine_tune"] * 2
    assert history.notna().all().all()


def test_the_quarantine_names_the_file_and_the_reason(finished):
    table = pd.read_csv(finished / "quarantine.csv")
    assert table.to_dict("records") == [{"path": "red/broken.jpg", "reason": "not a picture"}]


def test_a_run_repeats_from_its_config(finished, tmp_path):
    config = TrainConfig.from_file(finished / "config.json")
    settings = config.to_json() | {"output": tmp_path / "again", "cache_dir": tmp_path / "cache"}
    again = train(load_inputs(TrainConfig.of(**settings)))
    for name in ("config.json", "predictions.csv", "confusion_matrix.csv"):
        assert (again / name).read_bytes() == (finished / name).read_bytes()


def test_another_seed_gives_another_result(finished, tmp_path):
    config = TrainConfig.from_file(finished / "config.json")
    settings = config.to_json() | {"output": tmp_path / "again", "cache_dir": tmp_path / "cache", "seed": 1}
    again = train(load_inputs(TrainConfig.of(**settings)))
    assert (again / "predictions.csv").read_bytes() != (finished / "predictions.csv").read_bytes()


@pytest.mark.parametrize("backbone", [pytest.param("vgg16", marks=pytest.mark.slow), "mobilenet"])
def test_six_pictures_train_without_pretrained_weights(make_folder, tmp_path, backbone):
    folder = run(make_folder(count=3), tmp_path, backbone=backbone, weights="none")
    record = json.loads((folder / "metrics.json").read_text())
    assert record["epochs"] == {"head": 1, "fine_tune": 1}
    assert record["model"]["weights"] == "none"


@pytest.mark.slow
@pytest.mark.parametrize("backbone", ["vgg19", "resnet50", "inceptionv3", "efficientnetb0"])
def test_six_pictures_train_on_large_networks(make_folder, tmp_path, backbone):
    run(make_folder(count=3), tmp_path, backbone=backbone, weights="none", image_size=75)


def test_a_multi_label_run(make_folder, tmp_path):
    root = make_folder(count=12)
    rows = [f"{name}/{i}.png,{name}{'|even' if i % 2 == 0 else ''}" for name in ("cat", "dog") for i in range(12)]
    (root / "labels.csv").write_text("\n".join(["path,label", *rows]))
    folder = run(root / "labels.csv", tmp_path, class_weights=True)
    record = json.loads((folder / "metrics.json").read_text())
    assert record["data"]["classes"] == ["cat", "dog", "even"]
    assert set(record["test"]["per_class"]) == {"cat", "dog", "even"}
    assert not (folder / "confusion_matrix.csv").exists()


def test_a_run_without_val_and_test_keeps_its_last_weights(make_folder, tmp_path):
    folder = run(make_folder(), tmp_path, val_fraction=0.0, test_fraction=0.0)
    record = json.loads((folder / "metrics.json").read_text())
    assert record["val"] is None
    assert record["test"] is None
    assert pd.read_csv(folder / "predictions.csv").empty
    assert (folder / "model.keras").exists()


def test_nothing_is_chosen_on_test(make_folder, tmp_path):
    """Other labels on test change what is measured there, and nothing else."""
    root = make_folder(count=20)
    rows = [(f"{name}/{number}.png", name, number) for name in ("cat", "dog") for number in range(20)]
    split = ["test", "val", "val", "train"]
    folders = []
    for turned in (False, True):
        told = [
            (path, {"cat": "dog", "dog": "cat"}[name] if turned and number % 4 == 0 else name, split[number % 4])
            for path, name, number in rows
        ]
        table = root / f"turned_{turned}.csv"
        table.write_text("\n".join(map(",".join, [("path", "label", "split"), *told])))
        settings = pretrained(head_epochs=None, fine_tune_epochs=2, trainable_layers=8)
        folders.append(run(table, tmp_path, str(turned), **settings, sensitivity=0.8, positive="dog"))
    assert (folders[0] / "history.csv").read_bytes() == (folders[1] / "history.csv").read_bytes()
    kept = [json.loads((folder / "model.json").read_text()) for folder in folders]
    assert kept[0]["temperature"] == kept[1]["temperature"]
    models = [keras.saving.load_model(folder / "model.keras", compile=False, safe_mode=True) for folder in folders]
    for one, other in zip(*(model.get_weights() for model in models), strict=True):
        np.testing.assert_array_equal(one, other)
    records = [json.loads((folder / "metrics.json").read_text()) for folder in folders]
    assert records[0]["val"] == records[1]["val"]
    assert (
        records[0]["decision"]["classes"]["dog"]["threshold"] == records[1]["decision"]["classes"]["dog"]["threshold"]
    )
    assert records[0]["test"]["accuracy"] == pytest.approx(1 - records[1]["test"]["accuracy"])
    assert records[0]["test"]["accuracy"] != 0.5


def test_every_part_of_the_recipe_can_be_changed(make_folder, tmp_path, monkeypatch):
    factors, init = [], Learner.__init__

    def recording(learner, model, task, optimizer, learning_rate_factors=None, *rest):
        factors.append(learning_rate_factors)
        init(learner, model, task, optimizer, learning_rate_factors, *rest)

    monkeypatch.setattr(Learner, "__init__", recording)
    folder = run(
        make_folder(),
        tmp_path,
        augment="fresh",
        head_units=(8, 4),
        pooling="max",
        layer_decay=0.7,
        optimizer="sgd",
        trainable_layers=12,
        class_weights=True,
        resize="pad",
    )
    settings = read_run(folder).config.model
    assert (settings.head_units, settings.pooling) == ((8, 4), "max")
    model = keras.saving.load_model(folder / "model.keras", compile=False, safe_mode=True)
    assert [layer.units for layer in model.get_layer("head").layers if isinstance(layer, keras.layers.Dense)] == [
        8,
        4,
        1,
    ]
    assert len(factors) == 2  # of the head, and of what is fine-tuned
    assert factors[0] is None
    assert min(factors[1].values()) < max(factors[1].values()) == pytest.approx(0.7)


def test_class_weights_choose_as_they_train(tmp_path):
    photos = tmp_path / "photos"
    draw_photos(photos, ("cat", "dog", "elk"), 24)
    for path in [*sorted((photos / "dog").iterdir())[6:], *sorted((photos / "elk").iterdir())[8:]]:
        path.unlink()
    settings = pretrained(head_epochs=3, fine_tune_epochs=0, val_fraction=0.3, test_fraction=0.0)
    folder = run(photos, tmp_path, class_weights=True, **settings)
    table, model = pd.read_csv(folder / "predictions.csv"), json.loads((folder / "model.json").read_text())
    classes, temperature = model["classes"], model["temperature"]
    calibrated = table[[f"probability_{name}" for name in classes]].to_numpy()
    outputs = MULTICLASS.apply_temperature(calibrated, 1 / temperature)
    labels = table["label"].map(classes.index).to_numpy()
    counts = np.bincount(labels)
    assert len(set(counts)) > 1
    weights = len(labels) / (len(counts) * counts[labels])
    losses = -np.log(outputs[np.arange(len(labels)), labels])
    history = pd.read_csv(folder / "history.csv")
    assert history["val_loss"].min() == pytest.approx(np.mean(weights * losses), rel=1e-3)
    assert history["val_loss"].min() != pytest.approx(np.mean(losses), rel=1e-2)
    targets = np.eye(3, dtype=np.float32)[labels]
    assert MULTICLASS.fit_temperature(outputs, targets, weights) == pytest.approx(temperature, rel=1e-3)


def test_fine_tuning_can_be_left_out(make_folder, tmp_path):
    folder = run(make_folder(), tmp_path, trainable_layers=0)
    record = json.loads((folder / "metrics.json").read_text())
    assert record["epochs"] == {"head": 1, "fine_tune": 0}
    assert record["model"]["trainable_parameters"] == 17


def test_odd_names_do_no_harm(make_folder, tmp_path):
    classes = ("label", "a|b, =1+1", "[bold]日本$", os.fsdecode(b"caf\xe9"))
    folder = run(make_folder(classes=classes, count=4), tmp_path)
    table = pd.read_csv(folder / "predictions.csv")
    assert set(table["label"]) == {"label", "a|b, =1+1", "[bold]日本$", "caf\\xe9"}
    assert pd.read_csv(folder / "confusion_matrix.csv").shape == (4, 5)


DIVERGING = {"backbone": "vgg16", "weights": "none", "optimizer": "sgd", "batch_size": 1, "learning_rate": 0.01} | {
    "fine_tune_learning_rate": 10.0,
    "weight_decay": 10.0,
}
"""Each step of fine-tuning makes the weights a hundred times as large."""


def test_what_diverges_while_fine_tuning_keeps_the_head(make_folder, tmp_path, capsys):
    folder = run(make_folder(), tmp_path, head_epochs=2, fine_tune_epochs=4, trainable_layers=8, **DIVERGING)
    shown = capsys.readouterr().out
    assert "stopped, and the best weights before are kept. Lower --fine-tune-learning-rate" in shown
    record = json.loads((folder / "metrics.json").read_text())
    assert record["diverged"] == ["fine_tune"]
    assert record["test"]["log_loss"] < 10
    assert "Fine-tuning diverged (its loss is NaN)" in (folder / "report.html").read_text()
    weights = keras.saving.load_model(folder / "model.keras", compile=False).get_weights()
    assert all(np.isfinite(values).all() for values in weights)


def test_what_diverges_before_anything_is_learnt_is_an_error(make_folder, tmp_path):
    with pytest.raises(RunError, match=r"before anything was learnt: .* Lower --fine-tune-learning-rate"):
        run(make_folder(), tmp_path, head_epochs=0, fine_tune_epochs=4, trainable_layers=8, **DIVERGING)


@pytest.mark.parametrize(
    "given",
    [
        pytest.param({"learning_rate": 4e-3, "fine_tune_learning_rate": 4e-4}, id="given", marks=pytest.mark.slow),
        pytest.param({}, id="open"),
    ],
)
def test_too_large_a_batch_is_halved_until_it_fits(make_folder, tmp_path, monkeypatch, capsys, given):
    root, train_phase = make_folder(), Learner.train

    def train_with_little_memory(learner, phase, train, val, plan, **settings):
        if phase == "fine_tune" and plan.batch_size > 3:
            raise BatchTooLargeError
        return train_phase(learner, phase, train, val, plan, **settings)

    fixed = {"head_epochs": 2, "trainable_layers": 6, **given}
    with monkeypatch.context() as patch:
        patch.setattr(Learner, "train", train_with_little_memory)
        halved = run(root, tmp_path, "halved", batch_size=12, **fixed)
    assert "the memory is too small for a batch of 12: starting again with 6" in capsys.readouterr().out
    config = json.loads((halved / "config.json").read_text())
    assert given.items() <= config.items()
    asked = run(root, tmp_path, "asked", batch_size=3, **fixed)
    for name in ("config.json", "history.csv", "predictions.csv"):
        assert (asked / name).read_bytes() == (halved / name).read_bytes()


def test_a_resumed_run_halves_its_batch_as_one_that_was_never_stopped(make_folder, tmp_path, monkeypatch):
    root, train_phase = make_folder(), Learner.train
    settings = {"backbone": small_network(tmp_path), "image_size": 32, "batch_size": 12, "learning_rate": "find"}
    settings |= {"head_epochs": 1, "fine_tune_epochs": 0}
    places = {"data": str(root), "output": tmp_path / "run", "cache_dir": tmp_path / "cache"}

    def stopped(*_, **__):
        raise KeyboardInterrupt

    def train_with_little_memory(learner, phase, train, val, plan, **settings):
        if plan.batch_size > 6:
            raise BatchTooLargeError
        return train_phase(learner, phase, train, val, plan, **settings)

    monkeypatch.setattr(Learner, "train", stopped)
    with pytest.raises(KeyboardInterrupt), open_folder(TrainConfig.of(**settings, **places)) as config:
        train(load_inputs(config))
    monkeypatch.setattr(Learner, "train", train_with_little_memory)
    with open_folder(read_begun(tmp_path / "run")) as config:
        halved = train(load_inputs(config))
    asked = run(root, tmp_path, "asked", **settings | {"batch_size": 6})
    for name in ("config.json", "predictions.csv"):
        assert (asked / name).read_bytes() == (halved / name).read_bytes()


def test_memory_that_is_too_small_for_one_picture_is_explained(make_folder, tmp_path, monkeypatch):
    def fail(*_, **__):
        raise BatchTooLargeError

    monkeypatch.setattr(Learner, "train", fail)
    with pytest.raises(RunError, match="The memory is too small for a batch of one"):
        run(make_folder(), tmp_path, batch_size=2)


def test_memory_that_is_too_small_elsewhere_is_explained(make_folder, tmp_path, monkeypatch):
    def fail(*_, **__):
        raise tf.errors.ResourceExhaustedError(None, None, "OOM when allocating tensor")

    monkeypatch.setattr("training.run.apply_to_views", fail)
    with pytest.raises(RunError, match=r"The memory is too small for .*small\.keras at 32 px"):
        run(make_folder(), tmp_path)


def test_a_batch_that_the_memory_cannot_hold_is_told_before(make_folder, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("training.memory._physical_memory", lambda: 2**20)
    run(make_folder(), tmp_path, backbone="mobilenet", weights="none")
    shown = capsys.readouterr().out
    assert "a batch of 32 takes up to" in shown
    assert "choose a smaller --batch-size" in shown


def test_a_run_goes_no_deeper_where_nothing_is_left_to_gain_or_memory_is_too_small(
    make_folder, tmp_path, monkeypatch, capsys
):
    settings = pretrained(head_epochs=None, fine_tune_epochs=0, deeper_layers="all", deeper_epochs=1)
    easy = run(make_folder(), tmp_path, "easy", **settings)
    assert "not begun: 100.0% are right on val already" in " ".join(capsys.readouterr().out.split())
    monkeypatch.setattr("training.phases.ENOUGH", 2)
    monkeypatch.setattr("training.memory._physical_memory", lambda: 2**20)
    small = run(tmp_path / "photos", tmp_path, "small", **settings)
    assert "not begun: a batch of 32 takes up to" in " ".join(capsys.readouterr().out.split())
    for folder in (easy, small):
        assert list(pd.read_csv(folder / "history.csv")["phase"]) == ["head"]


def test_a_solved_head_and_deeper_layers_go_on_where_they_were(make_folder, tmp_path):
    """Stopped in the last layers, resumed, stopped in the whole network, and resumed again."""
    root = make_folder()
    settings = pretrained(head_epochs=None, deeper_layers="all", deeper_epochs=2, batch_size=4, effort="best")
    settings["checkpoint_seconds"] = 0
    straight = run(root, tmp_path, "straight", **settings)
    history = pd.read_csv(straight / "history.csv")
    assert list(history["phase"]) == ["head", "fine_tune", "deeper", "deeper"]
    assert history["learning_rate"].isna().tolist() == [True, False, False, False]
    places = {"data": str(root), "output": tmp_path / "stopped", "cache_dir": tmp_path / "cache"}
    train_until(TrainConfig.of(**{"fine_tune_epochs": 1} | settings, **places), last=1)
    train_until(read_begun(tmp_path / "stopped"), last=4)
    with going_on(), open_folder(read_begun(tmp_path / "stopped")) as config:
        resumed = train(load_inputs(config))
    for name in ("config.json", "history.csv", "predictions.csv"):
        assert (resumed / name).read_bytes() == (straight / name).read_bytes()


def test_the_best_effort_looks_at_the_mirror_image_as_well(make_folder, tmp_path):
    settings = pretrained(head_epochs=None, fine_tune_epochs=None)
    folder = run(make_folder(), tmp_path, **settings, effort="best")
    model = keras.saving.load_model(folder / "model.keras", compile=False, safe_mode=True)
    table = pd.read_csv(folder / "predictions.csv")
    pictures = np.stack([read_picture(tmp_path / "photos" / path, 64) for path in table["path"]]).astype(np.float32)
    outputs = model(pictures).numpy()
    np.testing.assert_allclose(outputs[:, -1], table.iloc[:, -1], atol=1e-4)
    np.testing.assert_allclose(model(pictures[:, :, ::-1]), outputs, atol=1e-5)
    heatmaps = grad_cam(model, pictures, np.ones(len(pictures), int))
    assert heatmaps.shape == pictures.shape[:3]
    assert run(tmp_path / "photos", tmp_path, "plain", **settings, effort="best", augment="none", views=1).exists()


def test_folds_take_the_place_of_val(make_folder, tmp_path):
    root = make_folder(count=15)
    settings = pretrained(head_epochs=None, fine_tune_epochs=None, folds=4, test_fraction=0.2)
    folder = run(root, tmp_path, **settings)
    metrics, table = json.loads((folder / "metrics.json").read_text()), pd.read_csv(folder / "predictions.csv")
    counts = metrics["data"]
    assert counts["val"] == 0
    assert metrics["val"]["n"] == counts["train"] == (table["split"] == "val").sum()
    assert len(metrics["folds"]["accuracy"]) == 4
    assert metrics["folds"]["mean"] == pytest.approx(metrics["val"]["accuracy"], abs=0.05)
    assert set(table.loc[table["split"] == "val", "path"]).isdisjoint(table.loc[table["split"] == "test", "path"])
    page = (folder / "report.html").read_text()
    assert "Cross-validation: 4 heads" in page
    assert "by heads that had not seen these pictures" in page
    assert "the model was chosen by val" not in page
    without_test = run(root, tmp_path, "all", **(settings | {"test_fraction": 0.0}))
    metrics, page = json.loads((without_test / "metrics.json").read_text()), (without_test / "report.html").read_text()
    lead = metrics["val"]["accuracy"] - metrics["baseline"]["raw_pixels"]  # of what has not seen the fold, either
    assert metrics["baseline_difference"]["difference"] == pytest.approx(lead)
    assert "kept from the heads that answered" in page
    assert "also decided when training stopped" not in page
    assert "<code>--folds 5</code>" not in page
    card = (folder / "MODEL_CARD.md").read_text(encoding="utf-8")
    assert "in 4 folds, each answered by a head that learnt from the others" in card
    assert "calibrated on val" in card
    with pytest.raises(UsageError, match=r"--folds must be at most \d+, as the rarest class has"):
        load_inputs(TrainConfig.of(data=str(root), cache_dir=tmp_path / "cache", **(settings | {"folds": 20})))
    found = read_run(folder)
    with pytest.raises(UsageError, match=r"^--threshold 0\.3 cannot be chosen anew for a run with --folds"):
        evaluate(load_evaluation(found, None, (), tmp_path / "cache"), rule=TrainConfig.of(threshold=0.3).decision.rule)
    assert load_evaluation(found, str(root), ("val",), tmp_path / "cache").data.splits.keys() == {"val"}
    asked = find_files([str(root)])
    assert len(find_learnt_from(found, asked)) == counts["train"]


def test_a_run_takes_as_many_epochs_as_fit_into_its_minutes_and_can_be_repeated(make_folder, tmp_path, capsys):
    root = make_folder()
    settings = pretrained(head_epochs=None, fine_tune_epochs=None, trainable_layers=20)
    short = run(root, tmp_path, "short", **settings, max_minutes=0.01)
    assert "not begun: too little is left of --max-minutes" in capsys.readouterr().out
    assert list(pd.read_csv(short / "history.csv")["phase"]) == ["head"]
    long = run(root, tmp_path, "long", **settings, max_minutes=60)
    assert "2 epochs of" in capsys.readouterr().out
    assert list(pd.read_csv(long / "history.csv")["phase"]) == ["head", "fine_tune", "fine_tune"]
    chosen = TrainConfig.from_file(long / "config.json")
    assert chosen.training.fine_tune_epochs == 2
    again = train(load_inputs(chosen.replace(output=tmp_path / "again", cache_dir=tmp_path / "cache")))
    assert (again / "predictions.csv").read_bytes() == (long / "predictions.csv").read_bytes()


def test_a_phase_that_is_slower_than_planned_ends_when_the_minutes_do(make_folder, tmp_path, monkeypatch):
    """Epochs are planned with all the time there is; at the first step, none of it is left."""
    monkeypatch.setattr("training.budget.seconds_left", lambda run, share=1.0: -1.0 if share == 1 else 3600.0)
    settings = pretrained(head_epochs=None, fine_tune_epochs=None, trainable_layers=20)
    folder = run(make_folder(), tmp_path, "run", **settings, max_minutes=60)
    assert TrainConfig.from_file(folder / "config.json").training.fine_tune_epochs == 2
    assert list(pd.read_csv(folder / "history.csv")["phase"]) == ["head", "fine_tune"]
    assert (folder / "report.html").exists()


def test_a_run_that_was_begun_goes_on_with_its_phases(finished, tmp_path, monkeypatch):
    config = TrainConfig.from_file(finished / "config.json").replace(
        output=tmp_path / "run",
        cache_dir=finished.parent / "cache",
        tensorboard=True,
    )

    def interrupt(*_, **__):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("tasks.classification.Classification.fit_temperature", interrupt)
        with pytest.raises(KeyboardInterrupt):
            train(load_inputs(config))
    assert (tmp_path / "run" / "checkpoints" / "fine_tune.npz").exists()
    with monkeypatch.context() as patch:
        patch.setattr(Learner, "train", pytest.fail)
        again = train(load_inputs(config))
    assert not (again / "checkpoints").exists()
    assert (again / "tensorboard").exists()
    for name in ("config.json", "history.csv", "predictions.csv", "model.json"):
        assert (again / name).read_bytes() == (finished / name).read_bytes()


@pytest.mark.slow
def test_the_bundled_animals_are_recognised(tmp_path):
    settings = dict.fromkeys(("image_size", "head_epochs", "fine_tune_epochs"))
    record = json.loads((run("animals", tmp_path, **pretrained(**settings)) / "metrics.json").read_text())
    assert record["test"]["accuracy"] >= 0.97
    assert record["baseline"]["raw_pixels"] < 0.85
