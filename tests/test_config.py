"""Settings: checked, saved and read back."""

import json
import os

import pytest

from app.config import TrainConfig
from app.errors import UsageError, did_you_mean


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"dropout": 1.0}, "--dropout must be a number of at least 0 and below 1; received 1.0"),
        ({"val_fraction": -0.1}, "--val-fraction must be a number of at least 0 and below 1; received -0.1"),
        ({"val_fraction": 0.6, "test_fraction": 0.5}, "must leave something to train on"),
        ({"batch_size": 0}, "--batch-size must be a whole number of at least 1; received 0"),
        ({"learning_rate": 0.0}, "--learning-rate must be a number above 0 and at most 10, or 'find'; received 0.0"),
        ({"learning_rate": "find", "head_epochs": 0}, "find needs a head phase, and --head-epochs is 0"),
        ({"learning_rate": "find", "weights": "none"}, "find needs a head phase, and --weights none leaves it out"),
        ({"trainable_layers": -1}, "--trainable-layers must be a whole number of at least 0, or 'all'; received -1"),
        ({"head_units": (64, 0)}, "--head-units must be whole numbers of at least 1; received 0"),
        ({"layer_decay": 1.5}, "--layer-decay must be a number above 0 and at most 1"),
        ({"seed": -1}, "--seed must be a whole number of at least 0"),
        ({"split_seed": -1}, "--split-seed must be a whole number of at least 0"),
    ],
)
def test_impossible_settings_are_refused_with_the_flag_and_the_value(settings, message):
    with pytest.raises(UsageError, match=message.replace("(", r"\(")):
        TrainConfig.of(**settings)


def test_a_config_that_is_a_pipe_is_refused_at_once(tmp_path):
    os.mkfifo(tmp_path / "config.json")
    with pytest.raises(UsageError, match="not a file"):
        TrainConfig.from_file(tmp_path / "config.json")


def test_a_saved_config_reads_back_equal(tmp_path):
    config = TrainConfig.of(head_units=(64, 32), trainable_layers="all", layer_decay=0.8, learning_rate="find")
    path = tmp_path / "config.json"
    path.write_text(json.dumps(config.to_json()))
    assert TrainConfig.from_file(path) == config


def test_a_config_of_an_older_version_reads_what_it_lacks_as_open(tmp_path):
    settings = TrainConfig().to_json()
    del settings["fine_tune_augment"]
    path = tmp_path / "config.json"
    path.write_text(json.dumps(settings))
    assert TrainConfig.from_file(path).training.fine_tune_augment is None


def test_a_saved_config_does_not_say_where_things_go(tmp_path):
    assert {"output", "cache_dir", "strict"}.isdisjoint(TrainConfig.of(output=tmp_path, strict=True).to_json())


def test_a_saved_config_says_which_pictures_may_be_used():
    assert TrainConfig.of(outside=True).to_json()["outside"] is True


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "is no JSON"),
        ("[1]", "must hold a JSON object"),
        ('{"droput": 0.1}', "Did you mean 'dropout'"),
        ('{"dropout": "much"}', "cannot be used: --dropout must be a number of at least 0 and below 1; received much"),
        ('{"resize": "zoom"}', "cannot be used: --resize must be one of crop, pad, stretch; received 'zoom'"),
        ('{"learning_rate": "fnd"}', "cannot be used: --learning-rate must be a number .* or 'find'; received fnd"),
        ('{"dropout": 7}', "--dropout must be"),
    ],
)
def test_a_broken_config_file_is_explained(tmp_path, content, message):
    path = tmp_path / "config.json"
    path.write_text(content)
    with pytest.raises(UsageError, match=message):
        TrainConfig.from_file(path)


@pytest.mark.parametrize(("received", "hint"), [("nothere", ""), ("thre", " Did you mean 'three'?")])
def test_only_a_near_name_is_suggested(received, hint):
    assert did_you_mean(received, ["one", "two", "three"]) == hint
