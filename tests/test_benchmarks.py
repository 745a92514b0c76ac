"""What the benchmarks compare on: every side has the same pictures in the same splits."""

import argparse
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf

from benchmarks.keras_recipe import fit
from benchmarks.processes import our_command, shared_pictures
from data.sources import load_source
from training.flags import parse_config
from training.inputs import load_inputs


def asked(folder: Path) -> argparse.Namespace:
    return argparse.Namespace(data=str(folder), backbone="mobilenet", weights="none", image_size=32)


def test_linked_pictures_are_the_same_in_the_same_splits(make_folder, tmp_path):
    made, folder = shared_pictures(asked(make_folder()), tmp_path / "scratch", test_fraction=0.2)
    _, script, *flags = our_command("train.py", made, folder, seed=3)
    assert script.endswith("train.py")
    linked = load_inputs(parse_config([*flags, "--cache-dir", str(tmp_path / "cache")]))
    for split in ("train", "val", "test"):
        of_made, of_linked = ({each.data.digests[row] for row in each.data.splits[split]} for each in (made, linked))
        assert of_linked == of_made != set()
    assert linked.data.quarantine == []


def test_without_a_test_split_none_is_carved(make_folder, tmp_path):
    _, folder = shared_pictures(asked(make_folder()), tmp_path / "scratch")
    assert {path.name for path in folder.iterdir()} == {"train", "val"}


def test_the_peer_keeps_the_epoch_of_the_lowest_val_loss():
    keras.utils.set_random_seed(0)
    values = np.random.default_rng(0).normal(size=(32, 8)).astype(np.float32)
    labels = np.random.default_rng(1).integers(0, 2, 32)  # noise: the longer it learns, the worse on val
    model = keras.Sequential([keras.layers.Dense(32, "relu"), keras.layers.Dense(2)])
    batches = tf.data.Dataset.from_tensor_slices((values, labels)).batch(4)
    train, val = batches.take(4), batches.skip(4)
    lowest = fit(model, train, val, keras.optimizers.Adam(0.1), 6)
    assert model.evaluate(val, verbose=0)[0] == pytest.approx(lowest, rel=1e-5)


def test_all_seeds_are_measured_on_one_split(make_folder, tmp_path):
    made, folder = shared_pictures(asked(make_folder()), tmp_path / "scratch")
    first, second = (parse_config(our_command("train.py", made, folder, seed)[2:]) for seed in (0, 1))
    assert second.training.seed == 1
    assert second.replace(seed=0, split_seed=0) == first.replace(split_seed=0)
    assert {row.split for row in load_source(second.data.data, tmp_path, outside=True).examples} == {"train", "val"}
