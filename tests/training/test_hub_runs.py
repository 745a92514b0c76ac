"""Runs on networks of KerasHub, from training to exports."""

import json

import numpy as np
import pandas as pd
import pytest

pytest.importorskip("keras_hub")

from app.errors import UsageError
from data.images.explain import grad_cam
from exports.run import FORMATS, export_run
from inference.load import load_model, read_run
from inference.run_record import read_metrics, read_sample
from tests.models.test_hub import save_preset
from tests.small_runs import make_run, network_of
from tests.tiny_hub import SIZE, TINY, shrink

LAYERS = {"swin_tiny_patch4_window7_224": 4, "csp_resnet_50_ra_imagenet": 12}
SLOW = [name for name in TINY if name != "vit_tiny_patch16_224"]


@pytest.mark.parametrize("name", [pytest.param(name, marks=pytest.mark.slow if name in SLOW else ()) for name in TINY])
def test_a_run_fine_tunes_predicts_explains_and_is_exported(name, tmp_path, monkeypatch):
    backbone, weights = shrink(name, monkeypatch), "none"
    if name not in SLOW:
        weights = str(tmp_path / "preset")
        save_preset(backbone, SIZE, tmp_path / "preset")
    folder = make_run(
        tmp_path,
        ("cat", "dog"),
        backbone=name,
        weights=weights,
        trainable_layers=LAYERS.get(name, 2),
        fine_tune_epochs=1,
        fine_tune_learning_rate=1e-3,
    )
    run = read_run(folder)
    assert run.config.model.pooling == backbone.family.pooling[0]
    sample = read_sample(run, (), 8, tmp_path / "cache")
    table = pd.read_csv(folder / "predictions.csv", index_col="path")
    told = [table.loc[str(path.relative_to(tmp_path / "photos")), "probability_dog"] for path in sample.paths]
    np.testing.assert_allclose(network_of(folder).load()(np.asarray(sample.inputs[0]))[:, 0], told, rtol=1e-6)
    pictures = np.random.default_rng(0).integers(0, 256, (2, SIZE, SIZE, 3), dtype=np.uint8)
    heatmaps = grad_cam(load_model(run), pictures, np.array([0, 1]))
    assert heatmaps.shape == (2, SIZE, SIZE)
    if name == "vit_tiny_patch16_224":  # the last block, the normalization behind it, and the head
        trainable = json.loads((folder / "metrics.json").read_text())["model"]["trainable_parameters"]
        assert trainable == (4 * 17 * 16 + 33 * 16 + 17 * 32 + 4 * 16) + 2 * 16 + 17
    assert "Grad-CAM" in (folder / "report.html").read_text()
    formats = [each for each in FORMATS if (name, each) != ("swin_tiny_patch4_window7_224", "litert")]
    export_run(run, read_metrics(run), sample, {each: folder / each for each in formats})
    if len(formats) < len(FORMATS):
        with pytest.raises(UsageError, match="LiteRT cannot compute Roll, which this network needs"):
            export_run(run, read_metrics(run), sample, {"litert": folder / "litert"})
    for each in formats:
        assert json.loads((folder / each / "parity.json").read_text())["routes"]
