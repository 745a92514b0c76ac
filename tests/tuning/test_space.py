"""Flags become ranges, and what is drawn from them becomes settings of train.py."""

import pytest

from app.config import TrainConfig
from app.errors import UsageError
from tuning.space import SPACE, TuneConfig, default_config, parse_search, search_space, trial_config

DEPTHS = (0, 6, "all")


def names(config: TuneConfig, depths=DEPTHS) -> set[str]:
    return {parameter.name for parameter in search_space(config, depths).space}


def test_settings_of_one_value_are_not_searched():
    config = parse_search(["--batch-size", "16", "--optimizer", "adam", "--dropout", "0.1"])
    assert names(config).isdisjoint({"batch_size", "optimizer", "dropout", "backbone", "views"})
    assert {"trainable_layers", "learning_rate", "fine_tune_learning_rate", "weight_decay", "head_units"} <= names(
        config
    )
    drawn = trial_config(config, {"efficientnet_lite0": DEPTHS}, {"trainable_layers": 0, "learning_rate": 0.01})
    assert (drawn.training.batch_size, drawn.training.optimizer, drawn.model.dropout) == (16, "adam", 0.1)


def test_frozen_trials_have_no_settings_of_fine_tuning():
    frozen = trial_config(
        TuneConfig.of(), {"efficientnet_lite0": DEPTHS}, {"trainable_layers": 0, "learning_rate": 0.02}
    )
    assert (frozen.model.trainable_layers, frozen.training.fine_tune_epochs, frozen.training.learning_rate) == (
        0,
        0,
        0.02,
    )
    assert names(TuneConfig.of(), (0,)).isdisjoint({"fine_tune_learning_rate", "fine_tune_epochs", "trainable_layers"})


def test_deep_trials_leave_the_head_to_the_recipe():
    values = {"trainable_layers": 2, "fine_tune_learning_rate": 3e-4, "fine_tune_epochs": 4, "head_units": 128}
    deep = trial_config(TuneConfig.of(), {"efficientnet_lite0": DEPTHS}, values)
    assert (deep.model.trainable_layers, deep.training.fine_tune_epochs, deep.training.fine_tune_learning_rate) == (
        "all",
        4,
        3e-4,
    )
    assert (deep.training.learning_rate, deep.training.head_epochs, deep.model.head_units) == (None, None, (128,))
    assert deep.training.head_solver is None
    assert names(TuneConfig.of(), (6,)).isdisjoint({"learning_rate", "head_epochs", "trainable_layers"})


def test_the_default_has_what_was_fixed_and_leaves_open_what_varies():
    config = TuneConfig.of(backbone=("mobilenet", "resnet50"), dropout=(0.3,), batch_size=(16, 32), head_units=(64,))
    default = default_config(config, "mobilenet")
    fixed = {"backbone": "mobilenet", "dropout": 0.3, "head_units": (64,), "split_seed": 0}
    assert default == TrainConfig.of(**fixed)
    assert default_config(TuneConfig.of(), "efficientnet_lite0") == TrainConfig.of(split_seed=0)


def test_another_seed_of_a_trial_has_the_split_of_the_search():
    for config in (TuneConfig.of(seed=5), TuneConfig.of(split_seed=5)):
        trial = trial_config(config, {"efficientnet_lite0": DEPTHS}, {})
        assert trial.replace(seed=6).seed_of_split == 5


def test_hyperband_chooses_the_epochs_itself():
    config = TuneConfig.of(oracle="hyperband")
    assert names(config).isdisjoint({"head_epochs", "fine_tune_epochs"})
    for depth, name, expected in ((0, "head_epochs", 14), (1, "fine_tune_epochs", 2)):  # of at most 40 and 4
        values = {"trainable_layers": depth, "tuner/epochs": 14}
        assert getattr(trial_config(config, {"efficientnet_lite0": DEPTHS}, values).training, name) == expected


def test_grid_takes_rates_as_choices():
    config = parse_search(["--oracle", "grid", "--learning-rate", "0.1", "0.01", "0.001"])
    (rate,) = [each for each in search_space(config, (0,)).space if each.name == "learning_rate"]
    assert rate.values == [0.1, 0.01, 0.001]


def test_every_hyperparameter_is_a_setting_of_train():
    assert set(SPACE) <= set(TrainConfig().flat())


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ("--learning-rate 0.1 0.01", "--learning-rate must be one value, or lowest and highest; received 0.1 0.01"),
        ("--dropout 0 0.2 0.5", "--dropout must be one value, or lowest and highest"),
        ("--dropout 0 1", "--dropout must be a number of at least 0 and below 1"),
        ("--weight-decay 0 0.1", "--weight-decay must be above 0 to be a range"),
        ("--optimizer adam sgd adam", "--optimizer names a value twice: adam sgd adam"),
        ("--weight-decay 1 20", "--weight-decay must be a number of at least 0 and at most 10"),
        ("--batch-size 0", "--batch-size must be a whole number of at least 1"),
        ("--trainable-layers -1", "--trainable-layers must be a whole number of at least 0, or 'all'"),
        ("--max-trials 0", "--max-trials must be a whole number of at least 1"),
        ("--max-minutes 0", "--max-minutes must be a number above 0"),
        ("--val-fraction 0", "--val-fraction must be above 0"),
        ("--val-fraction 0.6 --test-fraction 0.5", "must leave something to train on"),
        ("--head-epochs 0 10", "--head-epochs must be whole numbers of at least 1"),
        ("--learning-rate find", "--learning-rate find is for train.py"),
        ("--augment fresh", "Unknown options: --augment"),
        ("--optimizer adma", "adma"),
        ("--oracle bayes", "bayes"),
        ("--learnin-rate 1", "learnin-rate"),
    ],
)
def test_mistakes_are_one_sentence(flags, message):
    with pytest.raises(UsageError) as raised:
        parse_search(flags.split())
    assert message in str(raised.value)
    assert "\n" not in str(raised.value)


def test_an_objective_that_nothing_measures_is_told_at_once():
    with pytest.raises(UsageError, match=r"--objective must be one of val_accuracy, .*; received 'val_acuracy'"):
        TuneConfig.of(objective="val_acuracy")


def test_a_promise_has_an_objective_unless_another_is_named():
    for flags, objective in (
        (["--sensitivity", "0.98"], "val_specificity_at_sensitivity_98"),
        (["--specificity", "0.9"], "val_sensitivity_at_specificity_90"),
        (["--sensitivity", "0.98", "--objective", "val_accuracy"], "val_accuracy"),
        (["--cost", "10:1"], "val_accuracy"),
    ):
        assert parse_search(flags).search.objective == objective


def test_values_of_one_flag_may_be_whole_and_fractions():
    config = TuneConfig.of(fine_tune_epochs=(0.5, 1), trainable_layers=(9,))
    (epochs,) = [each for each in search_space(config, (9,)).space if each.name == "fine_tune_epochs"]
    assert epochs.values == [0.5, 1.0]


def test_a_backbone_with_fewer_depths_has_its_last_for_the_deepest():
    config = TuneConfig.of(backbone=("mobilenet", "vgg16"))
    depths = {"mobilenet": (0, 8, 16), "vgg16": (0, 4)}
    found = trial_config(config, depths, {"backbone": "vgg16", "trainable_layers": 2})
    assert found.model.trainable_layers == 4
