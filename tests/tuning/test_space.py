"""Flags become ranges, and what is drawn from them becomes settings of train.py."""

import dataclasses

import pytest

from app.config import TrainConfig
from app.errors import UsageError
from app.flags import parse_flags
from tuning.space import HYPERPARAMETERS, TuneConfig, search_space, trial_config

DEPTHS = (0, 6, "all")


def names(config: TuneConfig, depths=DEPTHS) -> set[str]:
    return {parameter.name for parameter in search_space(config, depths).space}


def test_settings_of_one_value_are_not_searched():
    config = parse_flags(TuneConfig, ["--batch-size", "16", "--optimizer", "adam", "--dropout", "0.1"])
    assert names(config).isdisjoint({"batch_size", "optimizer", "dropout", "backbone", "views"})
    assert {"depth", "learning_rate", "fine_tune_learning_rate", "weight_decay", "head_units"} <= names(config)
    drawn = trial_config(config, {"efficientnet_lite0": DEPTHS}, {"depth": 0, "learning_rate": 0.01})
    assert (drawn.batch_size, drawn.optimizer, drawn.dropout) == (16, "adam", 0.1)


def test_frozen_trials_have_no_settings_of_fine_tuning():
    frozen = trial_config(TuneConfig(), {"efficientnet_lite0": DEPTHS}, {"depth": 0, "learning_rate": 0.02})
    assert (frozen.trainable_layers, frozen.fine_tune_epochs, frozen.learning_rate) == (0, 0, 0.02)
    assert names(TuneConfig(), (0,)).isdisjoint({"fine_tune_learning_rate", "fine_tune_epochs", "depth"})


def test_deep_trials_leave_the_head_to_the_recipe():
    values = {"depth": 2, "fine_tune_learning_rate": 3e-4, "fine_tune_epochs": 4, "head_units": 128}
    deep = trial_config(TuneConfig(), {"efficientnet_lite0": DEPTHS}, values)
    assert (deep.trainable_layers, deep.fine_tune_epochs, deep.fine_tune_learning_rate) == ("all", 4, 3e-4)
    assert (deep.learning_rate, deep.head_epochs, deep.head_units) == (None, None, (128,))
    assert names(TuneConfig(), (6,)).isdisjoint({"learning_rate", "head_epochs", "depth"})


def test_another_seed_of_a_trial_has_the_split_of_the_search():
    for config in (TuneConfig(seed=5), TuneConfig(split_seed=5)):
        trial = trial_config(config, {"efficientnet_lite0": DEPTHS}, {})
        assert dataclasses.replace(trial, seed=6).seed_of_split == 5


def test_hyperband_chooses_the_epochs_itself():
    config = TuneConfig(oracle="hyperband")
    assert names(config).isdisjoint({"head_epochs", "fine_tune_epochs"})
    for depth, name, expected in ((0, "head_epochs", 14), (1, "fine_tune_epochs", 2)):  # of at most 40 and 4
        values = {"depth": depth, "tuner/epochs": 14}
        assert getattr(trial_config(config, {"efficientnet_lite0": DEPTHS}, values), name) == expected


def test_grid_takes_rates_as_choices():
    config = parse_flags(TuneConfig, ["--oracle", "grid", "--learning-rate", "0.1", "0.01", "0.001"])
    (rate,) = [each for each in search_space(config, (0,)).space if each.name == "learning_rate"]
    assert rate.values == [0.1, 0.01, 0.001]


def test_every_hyperparameter_is_a_setting_of_train():
    assert set(HYPERPARAMETERS) <= set(TrainConfig.__dataclass_fields__)
    assert set(HYPERPARAMETERS) <= set(TuneConfig.__dataclass_fields__)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ("--learning-rate 0.1 0.01", "--learning-rate must be one value, or lowest and highest; received 0.1 0.01"),
        ("--dropout 0 0.2 0.5", "--dropout must be one value, or lowest and highest"),
        ("--dropout 0 1", "--dropout must be at least 0 and below 1"),
        ("--weight-decay 0 0.1", "--weight-decay must be above 0 to be a range"),
        ("--optimizer adam sgd adam", "--optimizer names a value twice: adam sgd adam"),
        ("--weight-decay 1 20", "--weight-decay must be from 0 to 10"),
        ("--batch-size 0", "--batch-size must be at least 1"),
        ("--trainable-layers -1", "--trainable-layers must be 'all', or numbers of at least 0"),
        ("--max-trials 0", "--max-trials must be at least 1"),
        ("--max-minutes 0", "--max-minutes must be above 0"),
        ("--val-fraction 0", "--val-fraction must be above 0"),
        ("--val-fraction 0.6 --test-fraction 0.5", "must leave something to train on"),
        ("--optimizer adma", "adma"),
        ("--oracle bayes", "bayes"),
        ("--learnin-rate 1", "learnin-rate"),
    ],
)
def test_mistakes_are_one_sentence(flags, message):
    with pytest.raises(UsageError) as raised:
        parse_flags(TuneConfig, flags.split())
    assert message in str(raised.value)
    assert "\n" not in str(raised.value)
