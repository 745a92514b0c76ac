"""Training on what was computed once is the same training."""

import json
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

import keras
import numpy as np
import pytest

from app.config import TrainConfig
from app.errors import RunError, UsageError
from data.batches import Examples
from data.prepare import prepare_data
from data.sources import load_source
from data.store import Store
from inference.load import read_run
from models.backbones import find
from models.classifier import Classifier, build_classifier
from models.freezing import set_trainable
from reports.evaluation import evaluate
from reports.evaluation_inputs import load_evaluation
from tasks.classification import BINARY
from tests.untrained import keep_signals
from training.cuts import choose_cuts
from training.frozen import PhaseInputs, frozen_inputs, whole_network
from training.inputs import load_inputs
from training.learner import Learner
from training.plan import Plan
from training.run import train

ROOT = Path(__file__).parents[2]


def settings_of(root: Path, tmp_path: Path, **settings) -> TrainConfig:
    defaults = {"image_size": 75, "weights": "none", "batch_size": 4, "views": 1, "augment": "none"}
    phases = {"head_epochs": 1, "fine_tune_epochs": 3, "test_fraction": 0.0, "val_fraction": 0.25}
    places = {"data": str(root), "cache_dir": tmp_path / "cache"}
    return TrainConfig.of(**(defaults | phases | places | settings))


def curve(inputs: PhaseInputs, classifier: Classifier, plan: Plan, data) -> list[tuple[float, float]]:
    set_trainable(classifier.backbone.layers, plan.trainable_layers)
    train_targets, val_targets = (data.targets[data.splits[split]] for split in ("train", "val"))
    examples = Examples(inputs.train, train_targets, np.ones(len(train_targets), np.float32))
    val = Examples([inputs.evaluated["val"]], val_targets, np.ones(len(val_targets), np.float32))
    settings = {"epochs": plan.fine_tune_epochs, "learning_rate": 1e-4, "vary": inputs.vary}
    result = Learner(inputs.model, data.task, "adam").train("fine_tune", examples, val, plan, **settings)
    return [(epoch.loss, epoch.val_loss) for epoch in result.epochs]


@pytest.mark.parametrize(
    ("backbone", "trainable_layers"),
    [
        ("vgg16", 4),
        ("mobilenetv2", 20),
        pytest.param("nasnetmobile", 46, marks=pytest.mark.slow),  # two tensors cross its cuts
        pytest.param("inceptionv3", 30, marks=pytest.mark.slow),
        pytest.param("resnet50", 12, marks=pytest.mark.slow),
    ],
)
def test_the_loss_curve_is_that_of_the_whole_network(make_folder, tmp_path, backbone, trainable_layers):
    check_curve(make_folder(count=10), tmp_path, backbone, trainable_layers, 75)


def check_curve(root: Path, tmp_path: Path, backbone: str, trainable_layers: int, image_size: int) -> None:
    """Trains the last layers behind what was cached and within the whole network, and compares the losses."""
    config = settings_of(root, tmp_path, backbone=backbone, trainable_layers=trainable_layers, image_size=image_size)
    data = prepare_data(load_source(config.data.data, config.run.cache_dir), config)

    def start() -> Classifier:
        keras.utils.set_random_seed(0)
        classifier = build_classifier(
            find(backbone), weights="none", image_size=image_size, task=BINARY, num_classes=2, dropout=0.2
        )
        output = classifier.head.layers[-1]
        output.kernel.assign(keras.random.normal(output.kernel.shape, stddev=0.1, seed=1))
        keep_signals(classifier.backbone)
        set_trainable(classifier.backbone.layers, 0)
        return classifier

    whole = start()
    expected = curve(whole_network(whole, data), whole, Plan.of(config), data)
    cached = start()
    cuts = {"fine_tune": choose_cuts(cached, Plan.of(config))["fine_tune"]}
    frozen = [cached.model.get_layer(name) for name in _layers_before(cached, cuts["fine_tune"].layer)]
    before = [layer.get_weights() for layer in frozen]
    store = Store(tmp_path / "s", 10**9)
    inputs = frozen_inputs(cached, cuts, {"fine_tune": 1}, config, data, store, precision="float32")
    features = inputs["fine_tune"].train[0].inputs[0]
    assert features.dtype == np.float32
    assert np.abs(features[0] - features[1]).max() > 1e-4
    got = curve(inputs["fine_tune"], cached, Plan.of(config), data)

    np.testing.assert_allclose(got, expected, rtol=1e-4)
    assert len({round(loss, 5) for loss, _ in got}) > 1
    for layer, weights in zip(frozen, before, strict=True):
        for old, new in zip(weights, layer.get_weights(), strict=True):
            np.testing.assert_array_equal(old, new)


def _layers_before(classifier: Classifier, cut: str) -> list[str]:
    names = [layer.name for layer in classifier.backbone.layers]
    return names[: names.index(cut) + 1]


def test_phases_without_anything_frozen_have_no_cut(make_folder, tmp_path):
    classifier = build_classifier(find("mobilenet"), weights="none", image_size=32, task=BINARY, num_classes=2)
    plan = Plan.of(settings_of(make_folder(), tmp_path, trainable_layers=14))
    assert set(choose_cuts(classifier, plan)) == {"head", "fine_tune"}
    assert choose_cuts(classifier, plan.replace(augment="fresh")) == {}
    assert set(choose_cuts(classifier, plan.replace(fine_tune_augment="fresh"))) == {"head"}
    assert set(choose_cuts(classifier, plan.replace(fine_tune_augment="none"))) == {"head", "fine_tune"}
    assert set(choose_cuts(classifier, plan.replace(trainable_layers="all"))) == {"head"}
    assert set(choose_cuts(classifier, plan.replace(trainable_layers=0))) == {"head"}
    assert set(choose_cuts(classifier, plan.replace(head_epochs=0))) == {"fine_tune"}
    assert not classifier.backbone.trainable_variables


def run(root: Path, tmp_path: Path, name: str, **settings) -> Path:
    quick = {"image_size": 64, "head_epochs": 3, "fine_tune_epochs": 2, "batch_size": 4}
    config = TrainConfig.of(data=str(root), output=tmp_path / name, cache_dir=tmp_path / "cache", **(quick | settings))
    return train(load_inputs(config))


def test_a_second_run_starts_with_the_features_and_ends_the_same(make_folder, tmp_path, capsys):
    root = make_folder(count=12)
    cold = run(root, tmp_path, "cold")
    assert "saved" not in capsys.readouterr().out
    warm = run(root, tmp_path, "warm")
    assert "saved" in capsys.readouterr().out
    for name in ("predictions.csv", "config.json", "history.csv"):
        assert (cold / name).read_bytes() == (warm / name).read_bytes()


def test_with_openvino_what_is_measured_is_still_what_tensorflow_computes(make_folder, tmp_path, capsys):
    pytest.importorskip("openvino")
    folder = run(make_folder(count=12), tmp_path, "run", trainable_layers=0, runtime="openvino")
    evaluate(load_evaluation(read_run(folder), None, (), tmp_path / "cache"))
    assert "val and test: identical to metrics.json" in capsys.readouterr().out


def test_a_cache_too_small_for_feature_maps_is_told_before_anything_is_computed(make_folder, tmp_path, monkeypatch):
    root = make_folder(count=12)
    with monkeypatch.context() as patch:
        patch.setattr("training.run.frozen_inputs", lambda *_, **__: pytest.fail("computed"))
        with pytest.raises(UsageError) as error:
            run(root, tmp_path, "small", cache_gb=0.0)
    text = str(error.value)
    assert re.search(r"--cache-gb must be at least \S+ for what the frozen layers make of 24 pictures in 2 views", text)
    assert "received 0. Raise it, or choose --views 1, --trainable-layers 0, or --fine-tune-augment fresh" in text
    least = float(re.search(r"at least (\S+) for", text)[1])
    assert (run(root, tmp_path, "enough", cache_gb=least) / "report.html").exists()


def test_a_disk_too_full_for_feature_maps_is_nobodys_mistake(make_folder, tmp_path, monkeypatch):
    monkeypatch.setattr(Store, "room", lambda _: 2_000)
    message = r"The disk of '.*' has 0.00 GB left for what the frozen layers make of 24 pictures in 2 views.* Make room"
    with pytest.raises(RunError, match=message):
        run(make_folder(count=12), tmp_path, "run")


def test_without_a_cache_a_head_learns_the_same(make_folder, tmp_path):
    root = make_folder(count=12)
    without, kept = (
        run(root, tmp_path, name, cache_gb=size, trainable_layers=0) for name, size in (("0", 0.0), ("1", 1))
    )
    assert (without / "predictions.csv").read_bytes() == (kept / "predictions.csv").read_bytes()


def test_fine_tuning_the_whole_network_is_a_choice_that_is_kept(make_folder, tmp_path, capsys):
    root = make_folder(count=12)
    asked = run(root, tmp_path, "asked", cache_gb=0.0, fine_tune_augment="fresh")
    assert Store(tmp_path / "cache" / "store", 0).entries() == []
    assert json.loads((asked / "config.json").read_text())["fine_tune_augment"] == "fresh"
    assert "in place of views" not in capsys.readouterr().out
    again = run(root, tmp_path, "again", fine_tune_augment="fresh")
    assert (asked / "predictions.csv").read_bytes() == (again / "predictions.csv").read_bytes()


def test_fine_tuning_of_all_layers_varies_pictures_anew_and_says_so(make_folder, tmp_path, capsys):
    root, short = make_folder(), {"head_epochs": 1, "fine_tune_epochs": 1}
    said = "fine-tuning of all layers runs the whole network: examples are varied anew in every epoch"
    left_open = run(root, tmp_path, "open", trainable_layers="all", **short)
    assert said in " ".join(capsys.readouterr().out.split())
    assert json.loads((left_open / "config.json").read_text())["fine_tune_augment"] == "fresh"
    plain = run(root, tmp_path, "plain", trainable_layers="all", fine_tune_augment="none", **short)
    assert said not in " ".join(capsys.readouterr().out.split())
    assert json.loads((plain / "config.json").read_text())["fine_tune_augment"] == "none"
    assert (plain / "history.csv").read_bytes() != (left_open / "history.csv").read_bytes()


def test_fine_tuning_without_augmentation_computes_no_other_view_of_its_feature_maps(make_folder, tmp_path):
    run(make_folder(), tmp_path, "run", fine_tune_augment="none")
    titles = Counter(entry.title for entry in Store(tmp_path / "cache" / "store", 0).entries())
    assert sorted(count for title, count in titles.items() if "efficientnet" in title) == [1, 2]


def command(root: Path, tmp_path: Path, name: str) -> list[str]:
    flags = {"data": root, "output": tmp_path / name, "cache-dir": tmp_path / "cache", "image-size": 64}
    flags |= {"head-epochs": 1, "fine-tune-epochs": 1, "views": 3}
    return [sys.executable, str(ROOT / "train.py"), *(f"--{flag}={value}" for flag, value in flags.items())]


def test_two_runs_at_once_both_finish_right(make_folder, tmp_path):
    root = make_folder(count=60, size=(20, 20))
    processes = [
        subprocess.Popen(command(root, tmp_path, name), stdout=subprocess.PIPE, text=True) for name in ("a", "b")
    ]
    outputs = [process.communicate()[0] for process in processes]
    assert [process.returncode for process in processes] == [0, 0], outputs
    assert (tmp_path / "a" / "predictions.csv").read_bytes() == (tmp_path / "b" / "predictions.csv").read_bytes()
    assert not list((tmp_path / "cache").rglob("*.partial"))
