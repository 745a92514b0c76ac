"""Training on what was computed once is the same training."""

import dataclasses
import json
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest

from config import TrainConfig
from data.pipeline import Examples
from data.prepare import prepare_data
from data.sources import load_source
from data.store import Store
from models.backbones import find
from models.classifier import Classifier, build_classifier
from models.freezing import set_trainable
from training.frozen import PhaseInputs, choose_cuts, frozen_inputs, whole_network
from training.inputs import load_inputs
from training.learner import Learner
from training.run import train

ROOT = Path(__file__).parents[2]


def settings_of(root: Path, tmp_path: Path, **settings) -> TrainConfig:
    defaults = {"image_size": 75, "weights": "none", "batch_size": 4, "views": 1, "augment": "none"}
    phases = {"head_epochs": 1, "fine_tune_epochs": 3, "test_fraction": 0.0, "val_fraction": 0.25}
    places = {"data": str(root), "cache_dir": tmp_path / "cache"}
    return TrainConfig(**(defaults | phases | places | settings))


def curve(inputs: PhaseInputs, classifier: Classifier, config: TrainConfig, data) -> list[tuple[float, float]]:
    set_trainable(classifier.backbone.layers, config.trainable_layers)
    train_targets, val_targets = (data.targets[data.splits[split]] for split in ("train", "val"))
    examples = Examples(inputs.train, train_targets, np.ones(len(train_targets), np.float32))
    val = Examples([inputs.judged["val"]], val_targets, np.ones(len(val_targets), np.float32))
    settings = {"epochs": config.fine_tune_epochs, "learning_rate": 1e-4, "augment": inputs.augment}
    result = Learner(inputs.model, data.task, "adam").train("fine_tune", examples, val, config, **settings)
    return [(epoch.loss, epoch.val_loss) for epoch in result.epochs]


@pytest.mark.parametrize(
    ("backbone", "trainable_layers"),
    [
        ("vgg16", 4),
        ("mobilenetv2", 20),
        pytest.param("inceptionv3", 30, marks=pytest.mark.slow),
        pytest.param("resnet50", 12, marks=pytest.mark.slow),
        pytest.param("efficientnetb0", 16, marks=pytest.mark.slow),
    ],
)
def test_the_loss_curve_is_that_of_the_whole_network(make_folder, tmp_path, backbone, trainable_layers):
    config = settings_of(make_folder(count=10), tmp_path, backbone=backbone, trainable_layers=trainable_layers)
    data = prepare_data(load_source(config.data, config.cache_dir), config, config.image_size)

    def start() -> Classifier:
        keras.utils.set_random_seed(0)
        classifier = build_classifier(
            find(backbone), weights="none", image_size=75, task="binary", num_classes=2, dropout=0.2
        )
        output = classifier.head.layers[-1]
        output.kernel.assign(keras.random.normal(output.kernel.shape, stddev=0.1, seed=1))
        set_trainable(classifier.backbone.layers, 0)
        return classifier

    whole = start()
    expected = curve(whole_network(whole, config, data), whole, config, data)
    cached = start()
    cuts = {"fine_tune": choose_cuts(cached, config)["fine_tune"]}
    frozen = [cached.model.get_layer(name) for name in _layers_before(cached, cuts["fine_tune"].layer)]
    before = [layer.get_weights() for layer in frozen]
    inputs = frozen_inputs(cached, cuts, config, data, Store(tmp_path / "s", 10**9), precision="float32")
    assert inputs["fine_tune"].train[0].values.dtype == np.float32
    got = curve(inputs["fine_tune"], cached, config, data)

    np.testing.assert_allclose(got, expected, rtol=1e-4)
    assert len({round(loss, 5) for loss, _ in got}) > 1
    for layer, weights in zip(frozen, before, strict=True):
        for old, new in zip(weights, layer.get_weights(), strict=True):
            np.testing.assert_array_equal(old, new)


def _layers_before(classifier: Classifier, cut: str) -> list[str]:
    names = [layer.name for layer in classifier.backbone.layers]
    return names[: names.index(cut) + 1]


def test_phases_without_anything_frozen_have_no_cut(make_folder, tmp_path):
    classifier = build_classifier(find("mobilenet"), weights="none", image_size=32, task="binary", num_classes=2)
    config = settings_of(make_folder(), tmp_path, trainable_layers=14)
    assert set(choose_cuts(classifier, config)) == {"head", "fine_tune"}
    assert choose_cuts(classifier, dataclasses.replace(config, augment="fresh")) == {}
    assert set(choose_cuts(classifier, dataclasses.replace(config, trainable_layers="all"))) == {"head"}
    assert set(choose_cuts(classifier, dataclasses.replace(config, trainable_layers=0))) == {"head"}
    assert set(choose_cuts(classifier, dataclasses.replace(config, head_epochs=0))) == {"fine_tune"}
    assert not classifier.backbone.trainable_variables


def run(root: Path, tmp_path: Path, name: str, **settings) -> Path:
    quick = {"image_size": 64, "head_epochs": 3, "fine_tune_epochs": 2, "batch_size": 4}
    config = TrainConfig(data=str(root), output=tmp_path / name, cache_dir=tmp_path / "cache", **(quick | settings))
    return train(load_inputs(config))


def test_a_second_run_starts_with_the_features_and_ends_the_same(make_folder, tmp_path, capsys):
    root = make_folder(count=12)
    cold = run(root, tmp_path, "cold")
    assert "saved" not in capsys.readouterr().out
    warm = run(root, tmp_path, "warm")
    assert "saved" in capsys.readouterr().out
    for name in ("predictions.csv", "config.json", "history.csv"):
        assert (cold / name).read_bytes() == (warm / name).read_bytes()
    other = run(root, tmp_path, "other", seed=1)
    assert (cold / "predictions.csv").read_bytes() != (other / "predictions.csv").read_bytes()


def test_without_a_cache_the_whole_network_is_fine_tuned(make_folder, tmp_path, capsys):
    folder = run(make_folder(count=12), tmp_path, "run", cache_gb=0.0)
    assert "--cache-gb" in capsys.readouterr().out
    assert json.loads((folder / "metrics.json").read_text())["epochs"] == {"head": 3, "fine_tune": 2}
    assert Store(tmp_path / "cache" / "store", 0).entries() == []


def test_fewer_views_are_taken_where_all_do_not_fit(make_folder, tmp_path, capsys):
    folder = run(make_folder(count=12), tmp_path, "run", views=50, cache_gb=0.002)
    views = json.loads((folder / "config.json").read_text())["views"]
    assert 1 < views < 50
    assert f"room for {views} of 50 views" in capsys.readouterr().out


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
