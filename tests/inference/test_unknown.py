"""What is far from the training examples is unknown, and how far is kept in a small plain file."""

import json
import shutil

import numpy as np
import pytest

from app.config import TrainConfig
from app.errors import UsageError
from inference.answering import of_run
from inference.flags import AskFlags
from inference.load import read_run
from inference.run_record import read_metrics
from inference.unknown import FILE, learn_familiar, read_familiar, write_familiar
from inference.web_page import load_ask
from reports.model_card import Export, write_card
from serving.api import load_answer
from tests.conftest import draw_photos
from training.inputs import load_inputs
from training.run import train


@pytest.fixture
def features():
    return np.random.default_rng(0).normal(3, 1, (400, 48)).astype(np.float32)


def test_one_in_twenty_of_what_is_familiar_is_called_unknown_and_what_is_far_is(features):
    familiar = learn_familiar(features[:200], features[200:300])
    assert familiar.is_unknown(features[200:300]).sum() == 4  # ceil(0.95 * 101) = 96 are not
    assert familiar.is_unknown(features[300:]).mean() < 0.2
    assert familiar.is_unknown(features[300:] + 5).all()
    assert familiar.is_unknown(-features[300:]).all()


def test_nothing_is_chosen_on_few_examples(features):
    assert learn_familiar(features[:19], features[19:100]) is None
    assert learn_familiar(features[:100], features[100:119]) is None


def test_the_file_says_the_same(features, tmp_path):
    familiar = learn_familiar(features[:200], features[200:300])
    write_familiar(tmp_path, familiar)
    assert (tmp_path / FILE).stat().st_size < 10_000
    np.testing.assert_array_equal(read_familiar(tmp_path).distances(features), familiar.distances(features))


@pytest.mark.parametrize("change", ["pickled", "wide", "zero", "text"])
def test_a_damaged_file_is_refused_and_nothing_in_it_is_executed(change, features, tmp_path):
    arrays = learn_familiar(features[:200], features[200:300])._asdict()
    if change == "text":
        (tmp_path / FILE).write_text("no arrays")
    else:
        wrong = {"pickled": np.array([object()]), "wide": np.zeros(49, np.float32), "zero": np.float32(0)}[change]
        np.savez(tmp_path / FILE, **arrays | {"rest" if change == "zero" else "mean": wrong})
    with pytest.raises(UsageError, match="is damaged"):
        read_familiar(tmp_path)


def test_a_run_says_unknown_when_asked_and_answers_as_before_when_not(tmp_path):
    draw_photos(tmp_path / "photos", ("cat", "dog"), 80)
    settings = {"data": str(tmp_path / "photos"), "image_size": 32, "effort": "quick", "val_fraction": 0.3}
    config = TrainConfig.of(output=tmp_path / "run", cache_dir=tmp_path / "cache", **settings)
    run = read_run(train(load_inputs(config)))
    record = json.loads((run.folder / "metrics.json").read_text())["unknown"]
    assert record["val"]["false_alarms"] <= record["val"]["n"] * 0.05
    told = f"wrongly for {record['test']['false_alarms']} of the {record['test']['n']}"
    for page in ("MODEL_CARD.md", "report.html"):
        assert told in (run.folder / page).read_text()
    plain, asked = of_run(run), of_run(run, unknown=True)
    stripes = np.where(np.arange(32) // 4 % 2, 255, 0).astype(np.uint8)
    pictures = np.broadcast_to(stripes[None, :, None, None], (8, 32, 32, 3))
    predictors = [network.load() for network in (asked, plain)]
    outputs, unknown = asked.ask(predictors[0], [pictures])
    assert unknown.all()  # stripes are neither
    as_before, nothing = plain.ask(predictors[1], [pictures])
    np.testing.assert_array_equal(outputs, as_before)
    assert nothing is None
    asked, plain = asked._replace(load=lambda: predictors[0]), plain._replace(load=lambda: predictors[1])
    examples = [(picture,) for picture in pictures]
    for network, statuses in ((asked, {"unknown"}), (plain, {"answered"})):
        assert {answer.status for answer in load_answer(network)(examples)} == statuses
    assert [load_ask(network)(examples[0])["answer"] == "unknown" for network in (asked, plain)] == [True, False]
    write_card(tmp_path / "card.md", run, read_metrics(run), Export("onnx", {}, ()))
    assert f"{told} " in (tmp_path / "card.md").read_text()
    assert "This export does not carry that" in (tmp_path / "card.md").read_text()
    assert "does not carry" not in (run.folder / "MODEL_CARD.md").read_text()


def test_the_file_of_another_run_is_refused(features, binary_run, tmp_path):
    copy = tmp_path / "run"
    shutil.copytree(binary_run, copy)
    write_familiar(copy, learn_familiar(features[:200], features[200:300]))
    with pytest.raises(UsageError, match="is that of another run"):
        of_run(read_run(copy), unknown=True).load()


def test_a_run_without_it_and_a_pretrained_network_say_so(tmp_path):
    with pytest.raises(UsageError, match=r"--unknown needs .* Train again, or give --unknown-below"):
        read_familiar(tmp_path)
    with pytest.raises(UsageError, match="--unknown is for a RUN"):
        AskFlags.of(backbone="resnet50", unknown=True)
