"""What is recorded of a trial comes back as it was, and a damaged record is one line."""

import pytest

from app.config import TrainConfig
from app.errors import UsageError
from app.escapes import visible
from training.plan import Plan
from tuning.records import Outcome, Records, varied_in

SEARCH = {"config": {"data": "photos"}, "inputs": ["0123"]}
PLAN = Plan.of(
    TrainConfig.of(
        backbone="mobilenet",
        head_units=(64,),
        trainable_layers=3,
        head_epochs=2,
        fine_tune_epochs=1,
        learning_rate=1e-3,
        fine_tune_learning_rate=1e-4,
        batch_size=32,
        weight_decay=0.0,
        views=4,
    )
)


@pytest.mark.parametrize("message", ["", "=HYPERLINK(1)", "'quoted'", "-1", 'ran out\rof memory, "all" of it'])
def test_a_message_comes_back_as_it_was(tmp_path, message):
    outcome = Outcome(status="FAILED", score=0.5, val_accuracy=0.0, val_loss=9.0, seconds=1.5, message=message)
    Records(tmp_path, SEARCH).trials.add(0, PLAN, outcome)
    assert Records(tmp_path, SEARCH).trials.known(0, PLAN) == outcome._replace(message=visible(message))


@pytest.mark.parametrize("name", ["trials.csv", "finalists.csv"])
@pytest.mark.parametrize("content", [b"", b"trial\n0\n", b"\xff\xfe", b'a,b\n"'])
def test_damaged_trials_are_one_line(tmp_path, content, name):
    Records(tmp_path, SEARCH)
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UsageError, match=rf"{name}' is damaged\. Choose another --output\."):
        Records(tmp_path, SEARCH)


def test_a_trial_and_its_repeats_with_other_seeds_are_told_apart(tmp_path):
    records, outcome = Records(tmp_path, SEARCH), Outcome("done", 0.5, 0.5, 1.0, 1.0, "")
    again = PLAN.replace(seed=PLAN.config.training.seed + 1)
    records.repeats.add(1, PLAN, outcome)
    assert records.repeats.known(1, again) is None
    records.repeats.add(1, again, outcome._replace(score=0.25))
    found = Records(tmp_path, SEARCH).repeats
    assert (found.known(1, PLAN).score, found.known(1, again).score) == (0.5, 0.25)


def test_epochs_of_fine_tuning_do_not_differ_between_trials_that_fine_tune_nothing(tmp_path):
    trials, outcome = Records(tmp_path, SEARCH).trials, Outcome("done", 0.5, 0.5, 1.0, 1.0, "")
    for number, settings in enumerate([{"fine_tune_epochs": 0}, {"fine_tune_epochs": 2, "learning_rate": 1e-2}]):
        trials.add(number, Plan.of(PLAN.config.replace(trainable_layers=0, **settings)), outcome)
    assert list(varied_in(trials.table)) == ["learning_rate"]
    for number, epochs in enumerate([1, 2]):
        trials.add(number, Plan.of(PLAN.config.replace(fine_tune_epochs=epochs)), outcome)
    assert list(varied_in(trials.table)) == ["fine_tune_epochs"]
