"""Runs, searches and rankings on networks of KerasHub, from training to exports."""

import json
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from tensorflow.python.framework.test_util import IsMklEnabled

pytest.importorskip("keras_hub")

from app.config import TrainConfig
from app.errors import RunError
from data.images.explain import grad_cam
from exports.run import FORMATS, export_run
from inference.load import load_model, read_run
from inference.run_record import read_metrics, read_sample
from models.backbones import find
from models.classifier import build_classifier
from reports.evaluation import evaluate
from reports.evaluation_inputs import load_evaluation
from tasks.classification import BINARY
from tests.models.test_hub import save_preset
from tests.small_runs import make_run, network_of
from tests.stopped_runs import train_until
from tests.tiny_hub import SIZE, TINY, shrink
from tests.training.test_frozen import check_curve
from training.begun import read_begun
from training.folder import open_folder
from training.inputs import load_inputs
from training.optimizers import layer_decay_factors
from training.run import train
from tuning.inputs import load_candidates, load_search_inputs
from tuning.ranking import rank
from tuning.search import search
from tuning.space import TuneConfig

VIT = "vit_tiny_patch16_224"
LAYERS = {"swin_tiny_patch4_window7_224": 4, "csp_resnet_50_ra_imagenet": 12}
TUNED = {"fine_tune_epochs": 2, "fine_tune_learning_rate": 1e-3, "effort": "best"}  # which mirrors pictures as well


@pytest.fixture(scope="module")
def tiny() -> None:
    """Lets ViT and DINOv2 be small."""
    with pytest.MonkeyPatch.context() as patch:
        shrink(VIT, patch)
        shrink("dinov2_small", patch)
        yield


@pytest.fixture(scope="module")
def vit_run(tiny, tmp_path_factory) -> Path:
    """A run folder beside `preset` and `photos`; the last block and what is behind it learnt."""
    root = tmp_path_factory.mktemp("hub")
    save_preset(find(VIT), SIZE, root / "preset")
    return make_run(root, ("cat", "dog"), **settings_of(root), trainable_layers=2, **TUNED)


def settings_of(root: Path) -> dict:
    return {"backbone": VIT, "weights": str(root / "preset")}


def config_of(root: Path, **changes) -> TrainConfig:
    """The settings of `vit_run`, for another folder."""
    given = json.loads((root / "run" / "config.json").read_text()) | {"cache_dir": str(root / "cache")}
    return TrainConfig.from_json(given).replace(**changes)


def check_run(folder: Path, cache: Path) -> None:
    """Checks answers, explanations and exports of a run."""
    run = read_run(folder)
    sample = read_sample(run, (), 8, cache)
    table = pd.read_csv(folder / "predictions.csv", index_col="path")
    told = [table.loc[str(path.relative_to(folder.parent / "photos")), "probability_dog"] for path in sample.paths]
    np.testing.assert_allclose(network_of(folder).load()(np.asarray(sample.inputs[0]))[:, 0], told, rtol=1e-6)
    pictures = np.random.default_rng(0).integers(0, 256, (2, SIZE, SIZE, 3), dtype=np.uint8)
    assert grad_cam(load_model(run), pictures, np.array([0, 1])).shape == (2, SIZE, SIZE)
    assert "Grad-CAM" in (folder / "report.html").read_text()
    formats = [each for each in FORMATS if (run.config.model.backbone[:4], each) != ("swin", "litert")]
    export_run(run, read_metrics(run), sample, {each: folder / each for each in formats})
    if len(formats) < len(FORMATS):
        with pytest.raises(RunError, match="LiteRT cannot compute Roll, which this network needs"):
            export_run(run, read_metrics(run), sample, {"litert": folder / "litert"})
    for each in formats:
        assert json.loads((folder / each / "parity.json").read_text())["routes"]


def test_a_run_fine_tunes_predicts_explains_and_is_exported(vit_run):
    assert read_run(vit_run).config.model.pooling == "first"
    # the last block, the normalization behind it, and the head
    trainable = json.loads((vit_run / "metrics.json").read_text())["model"]["trainable_parameters"]
    assert trainable == (4 * 17 * 16 + 33 * 16 + 17 * 32 + 4 * 16) + 2 * 16 + 17
    check_run(vit_run, vit_run.parent / "cache")


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in TINY if name != VIT])
def test_a_run_on_every_family_fine_tunes_predicts_explains_and_is_exported(name, tmp_path, monkeypatch):
    backbone = shrink(name, monkeypatch)
    settings = {"trainable_layers": LAYERS.get(name, 2), **TUNED}
    folder = make_run(tmp_path, ("cat", "dog"), backbone=name, weights="none", **settings)
    assert read_run(folder).config.model.pooling == backbone.family.pooling[0]
    check_run(folder, tmp_path / "cache")


@pytest.mark.slow
def test_a_run_that_was_stopped_ends_as_if_it_never_was(vit_run, tmp_path):
    places = {"output": tmp_path / "run", "cache_dir": tmp_path / "cache"}
    train_until(config_of(vit_run.parent, checkpoint_seconds=0.0, **places), last=2)
    with open_folder(read_begun(tmp_path / "run")) as config:
        train(load_inputs(config))
    for name in ("predictions.csv", "history.csv", "model.json"):
        assert (tmp_path / "run" / name).read_bytes() == (vit_run / name).read_bytes()


def test_bfloat16_leaves_a_model_that_answers_in_float32(vit_run, tmp_path):
    given = config_of(vit_run.parent, output=tmp_path / "run", precision="mixed_bfloat16")
    table = pd.read_csv(train(load_inputs(given)) / "predictions.csv")
    usual = pd.read_csv(vit_run / "predictions.csv")
    np.testing.assert_allclose(table["probability_dog"], usual["probability_dog"], atol=0.1)
    if IsMklEnabled():  # by default, only on CPUs with AVX-512; without oneDNN, such networks are not rewritten
        assert not np.array_equal(table["probability_dog"], usual["probability_dog"])
    run = read_run(tmp_path / "run")
    assert {layer.compute_dtype for layer in load_model(run)._flatten_layers() if layer.weights} == {"float32"}


def test_a_run_is_evaluated_to_the_same_figures(vit_run, capsys):
    root = vit_run.parent
    evaluate(load_evaluation(read_run(vit_run), None, (), root / "cache"))
    assert "identical to metrics.json" in capsys.readouterr().out


@pytest.mark.usefixtures("tiny")
@pytest.mark.parametrize("name", [VIT, "dinov2_small"])
def test_the_loss_curve_on_cached_tokens_is_that_of_the_whole_network(name, make_folder, tmp_path):
    check_curve(make_folder(count=10), tmp_path, name, 3, SIZE)


@pytest.mark.usefixtures("tiny")
@pytest.mark.parametrize("name", [VIT, "dinov2_small"])
def test_learning_rates_fall_block_by_block(name):
    classifier = build_classifier(find(name), weights="none", image_size=SIZE, task=BINARY, num_classes=2)
    factors = layer_decay_factors(classifier.blocks, 0.5)
    assert factors.keys() == {variable.path for variable in classifier.backbone.trainable_variables}
    assert len(factors) == len(classifier.backbone.trainable_variables)  # every variable has a path of its own
    for number, block in enumerate(reversed(classifier.blocks), start=1):
        assert {factors[weight.path] for layer in block for weight in layer.trainable_weights} == {0.5**number}


@pytest.mark.slow
def test_a_search_takes_blocks_of_a_transformer_as_depths(vit_run, tmp_path):
    root = vit_run.parent
    places = {"data": str(root / "photos"), "cache_dir": root / "cache", "output": tmp_path / "search"}
    quick = {"image_size": SIZE, "head_epochs": (2,), "fine_tune_epochs": (1,), "trainable_layers": (0, 2, 3)}
    config = TuneConfig.of(backbone=(VIT,), weights=str(root / "preset"), max_trials=4, **places, **quick)
    folder, inputs = load_search_inputs(config)
    search(config, inputs, folder, time.perf_counter())
    trials = pd.read_csv(folder / "trials.csv")
    assert set(trials["trainable_layers"]) > {0}
    best = json.loads((folder / "best" / "metrics.json").read_text())
    record = json.loads((folder / "search.json").read_text())
    assert best["val"]["accuracy"] == pytest.approx(record["best"]["val_accuracy"], abs=1e-6)


def test_a_transformer_is_ranked_among_others(vit_run, tmp_path, monkeypatch):
    root, place = vit_run.parent, tmp_path / "models/keras/dinov2/keras/dinov2_small/1"
    save_preset(find("dinov2_small"), SIZE, place)
    monkeypatch.setenv("KAGGLEHUB_CACHE", str(tmp_path))
    config = TuneConfig.of(
        data=str(root / "photos"),
        cache_dir=tmp_path / "cache",
        output=tmp_path / "ranking",
        backbone=("efficientnet_lite0", "dinov2_small"),
        image_size=SIZE,
        val_fraction=0.3,
        rank_backbones=True,
    )
    folder, candidates = load_candidates(config)
    folder = rank(config, candidates, folder, time.perf_counter(), None)
    table = pd.read_csv(folder / "ranking.csv", index_col="backbone")
    assert set(table.index) == {"efficientnet_lite0", "dinov2_small"}
    assert table.loc["dinov2_small", "imagenet_accuracy"] == 0.811
