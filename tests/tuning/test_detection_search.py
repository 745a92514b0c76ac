"""A search for a detector: heads of several widths, rates and depths learn from the cached pyramid."""

import json
import time
from pathlib import Path

import pandas as pd
import pytest

from app.errors import UsageError
from tests.training.test_detection_run import draw_squares
from tuning.inputs import load_candidates, load_search_inputs
from tuning.network import Network
from tuning.search import search
from tuning.space import TuneConfig

SMALL = {
    "image_size": 96,
    "head_epochs": (2, 3),
    "trainable_layers": (0, 20),
    "fine_tune_epochs": (1,),
    "head_units": (0, 16),
    "views": (2,),
    "max_trials": 4,
    "test_fraction": 0.2,
    "val_fraction": 0.3,
}


def settings(root: Path, **changes) -> TuneConfig:
    places = {"data": str(root / "squares" / "boxes.csv"), "cache_dir": root / "cache", "output": root / "search"}
    return TuneConfig.of(**(SMALL | places | changes))


def run(config: TuneConfig) -> Path:
    folder, inputs = load_search_inputs(config)
    return search(config, inputs, folder, time.perf_counter())


@pytest.fixture(scope="module")
def found(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("search")
    draw_squares(root / "squares")
    return run(settings(root))


def test_a_search_for_boxes_leaves_what_it_promises(found):
    table, record = pd.read_csv(found / "trials.csv"), json.loads((found / "search.json").read_text())
    assert record["config"]["objective"] == "val_ap"
    assert record["trials"] == {"done": 4, "failed": 0}
    assert set(table["trainable_layers"]) == {0, 20}
    assert set(table["head_units"]) == {"none", "16"}
    assert set(table["batch_size"]) == {8}
    assert record["best"]["score"] == table["score"].max()
    metrics = json.loads((found / "best" / "metrics.json").read_text())
    assert record["retrained"]["test"] == metrics["test"]["ap50"]
    assert json.loads((found / "best" / "config.json").read_text())["resize"] == "pad"
    if record["gain"] is not None:
        assert record["gain"]["ap50"]["best"] == metrics["test"]["ap50"]
    assert "validation AP50 is optimistic" in (found / "report.html").read_text()


def test_it_goes_on_where_it_was_killed(found):
    before = pd.read_csv(found / "trials.csv").drop(columns="seconds")
    (found / "trials.csv").write_text("".join((found / "trials.csv").read_text().splitlines(keepends=True)[:3]))
    (found / "report.html").unlink()
    again = pd.read_csv(run(settings(found.parent)) / "trials.csv").drop(columns="seconds")
    pd.testing.assert_frame_equal(again, before)


def test_trials_of_one_head_train_it_once(found):
    config = settings(found.parent)
    inputs = load_search_inputs(config)[1][0]
    config = config.of_task(inputs.data.task)
    network = Network(inputs, config)
    plain = network.complete(inputs.config.replace(trainable_layers=0, head_epochs=2, views=2))
    tuned = network.complete(inputs.config.replace(trainable_layers=20, head_epochs=2, views=2, fine_tune_epochs=1))
    first, second = (dict(network.run([(1, plan)]))[1] for plan in (plain, tuned))
    assert len(network._trained) == 1
    assert second.val_loss <= first.val_loss
    wider = network.complete(plain.config.replace(head_units=(16,)))
    assert dict(network.run([(3, wider)]))[3].status == "done"
    assert len(network._trained) == 2


@pytest.mark.parametrize(("objective", "message"), [("val_macro_f1", "val_ap, val_ap50, val_loss")])
def test_objectives_are_those_of_boxes(tmp_path, objective, message):
    draw_squares(tmp_path / "squares")
    with pytest.raises(UsageError, match=message):
        load_search_inputs(settings(tmp_path, objective=objective))


def test_an_objective_of_boxes_is_refused_for_classes(make_folder, tmp_path):
    config = TuneConfig.of(data=str(make_folder()), objective="val_ap", cache_dir=tmp_path, output=tmp_path / "out")
    with pytest.raises(UsageError, match=r"^--objective val_ap is for pictures with boxes"):
        load_search_inputs(config)


def test_backbones_are_ranked_for_classes_alone(tmp_path):
    draw_squares(tmp_path / "squares")
    config = settings(tmp_path, rank_backbones=True)
    with pytest.raises(UsageError, match=r"^--rank-backbones is for models of classes"):
        load_candidates(config)
