"""TensorBoard reads what a run wrote for it."""

import pytest
import tensorflow as tf
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from reports.tensorboard import Board
from training.learner import EpochResult


def read(folder, board: str, chart: str) -> list[tuple[int, float]]:
    events = EventAccumulator(str(folder / "tensorboard" / board), {"tensors": 0})
    events.Reload()
    return [(event.step, float(tf.make_ndarray(event.tensor_proto))) for event in events.Tensors(chart)]


def test_epochs_of_both_phases_are_one_curve_and_validation_is_beside_training(tmp_path):
    board = Board(tmp_path)
    board.log_epoch(1, EpochResult("head", 1, 1e-3, 0.9, 0.5, 0.8, 0.6)._asdict())
    board.log_epoch(2, EpochResult("fine_tune", 1, 1e-4, 0.7, 0.7, 0.6, 0.8)._asdict())
    assert read(tmp_path, "training", "loss") == [(1, pytest.approx(0.9)), (2, pytest.approx(0.7))]
    assert read(tmp_path, "validation", "loss") == [(1, pytest.approx(0.8)), (2, pytest.approx(0.6))]
    assert read(tmp_path, "training", "learning_rate") == [(1, pytest.approx(1e-3)), (2, pytest.approx(1e-4))]


def test_without_a_val_split_there_is_only_training(tmp_path):
    board = Board(tmp_path)
    board.log_epoch(1, EpochResult("head", 1, 1e-3, 0.9, 0.5, None, None)._asdict())
    assert not (tmp_path / "tensorboard" / "validation").exists()


def test_a_run_that_starts_again_in_the_same_place_is_written_again(tmp_path):
    for _ in range(2):
        board = Board(tmp_path)
        board.log_epoch(1, EpochResult("head", 1, 1e-3, 0.9, 0.5, 0.8, 0.6)._asdict())
        board.close()
        assert read(tmp_path, "training", "loss") == [(1, pytest.approx(0.9))]
