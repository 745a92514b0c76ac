"""A checkpoint comes back to the bit, and is complete or absent."""

import json
import math
import os
from pathlib import Path

import numpy as np
import pytest

from training.checkpoint import Checkpoint, Saver, load, save
from training.learner import EpochResult, PhaseState

EPOCHS = [
    EpochResult("head", 1, 1e-3 / 3, 0.1 + 0.2, 0.5, 2 / 3, 0.25),
    EpochResult("head", 2, 1e-5 / 3, math.pi, 0.75, None, None),
]


def make_checkpoint(step: int = 3) -> Checkpoint:
    rng = np.random.default_rng(step)
    arrays = {
        "model": [rng.normal(size=(3, 4)).astype(np.float32), np.array([7, 2**32 - 1], np.uint32)],
        "optimizer": [np.array(5, np.int64), *(rng.normal(size=3).astype(np.float32) for _ in range(11))],
        "sums": [np.float32(0.1)],
        "best": [],
    }
    return Checkpoint(False, {"total": 1.5}, PhaseState(EPOCHS, step, 1, 2 / 3, arrays))


def assert_equal(first: Checkpoint, second: Checkpoint) -> None:
    assert first._replace(state=None) == second._replace(state=None)
    assert first.state._replace(arrays=None) == second.state._replace(arrays=None)
    for name in ("model", "optimizer", "sums"):
        for one, other in zip(first.state.arrays[name], second.state.arrays[name], strict=True):
            np.testing.assert_array_equal(one, other)
            assert np.asarray(one).dtype == other.dtype


def test_what_was_saved_is_loaded(tmp_path):
    save(tmp_path / "head.npz", make_checkpoint())
    assert_equal(make_checkpoint(), load(tmp_path / "head.npz"))
    assert os.listdir(tmp_path) == ["head.npz"]


def test_no_checkpoint_is_none(tmp_path):
    assert load(tmp_path / "head.npz") is None


def test_a_loss_that_is_no_number_comes_back(tmp_path):
    epochs = [EPOCHS[0]._replace(loss=math.nan)]
    save(tmp_path / "head.npz", make_checkpoint()._replace(state=make_checkpoint().state._replace(epochs=epochs)))
    assert math.isnan(load(tmp_path / "head.npz").state.epochs[0].loss)


@pytest.mark.parametrize("place", range(0, 100, 9))
def test_a_damaged_checkpoint_is_not_used_and_that_is_said(tmp_path, place, capsys):
    path = tmp_path / "head.npz"
    save(path, make_checkpoint())
    content = bytearray(path.read_bytes())
    content = content[: len(content) * place // 100] if place % 2 else _flip(content, place)
    path.write_bytes(content)
    loaded = load(path)
    if loaded is None:
        assert "its phase starts again" in capsys.readouterr().out
    else:
        assert_equal(make_checkpoint(), loaded)  # what was flipped did not matter


def _flip(content: bytearray, place: int) -> bytearray:
    content[len(content) * place // 100] ^= 0xFF
    return content


def test_the_one_before_stays_if_the_disk_is_full(tmp_path, monkeypatch):
    save(tmp_path / "head.npz", make_checkpoint())

    def fail(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", fail)
    with pytest.raises(OSError, match="No space left"):
        save(tmp_path / "head.npz", make_checkpoint(step=4))
    assert_equal(make_checkpoint(), load(tmp_path / "head.npz"))
    assert os.listdir(tmp_path) == ["head.npz"]


def test_a_saver_saves_when_it_is_time(tmp_path):
    path: Path = tmp_path / "head.npz"
    Saver(path, interval=3600).save_if_due(make_checkpoint)
    assert not path.exists()
    saver = Saver(path, interval=0)
    saver.save_if_due(make_checkpoint)
    saver.save_if_due(lambda: make_checkpoint(step=4))
    assert load(path).state.step == 4


def test_a_record_of_another_shape_is_not_used(tmp_path):
    np.savez(tmp_path / "head.npz", record=np.frombuffer(json.dumps([1, 2]).encode(), np.uint8))
    assert load(tmp_path / "head.npz") is None
