"""Tasks: what their tables promise, and what the rest of the program asks of them."""

import dataclasses

import numpy as np
import pytest
import tensorflow as tf

from tasks.classification import BINARY, MULTICLASS, MULTILABEL
from tasks.detection import DETECTION
from tasks.table import TASKS, choose_task


def test_every_task_is_found_by_the_name_that_model_files_hold():
    assert {name: task.name for name, task in TASKS.items()} == {name: name for name in TASKS}
    assert list(TASKS) == ["binary", "multiclass", "multilabel", "detection"]


def test_the_task_follows_from_the_labels():
    assert choose_task(2, multi_label=False) is BINARY
    assert choose_task(3, multi_label=False) is MULTICLASS
    assert choose_task(1, multi_label=True, has_boxes=True) is DETECTION
    assert choose_task(2, multi_label=True) is choose_task(3, multi_label=True) is MULTILABEL


@pytest.mark.parametrize("task", [BINARY, MULTICLASS, MULTILABEL], ids=lambda task: task.name)
def test_a_prediction_is_right_in_a_graph_where_it_is_right_in_the_metrics(task):
    draws = np.random.default_rng(0)
    outputs = draws.random((200, task.num_outputs(2 if task.two_classes else 3)), np.float32)
    targets = (draws.random(outputs.shape) < 0.5).astype(np.float32)
    if task is MULTICLASS:
        outputs /= outputs.sum(axis=1, keepdims=True)
        targets = np.eye(3, dtype=np.float32)[draws.integers(0, 3, 200)]
    right = task.is_right(tf.constant(targets), tf.constant(outputs))
    np.testing.assert_array_equal(np.asarray(right) > 0.5, task.answers(targets, outputs).right)
    assert task.losses(tf.constant(targets), tf.constant(outputs)).shape == (200,)


def test_a_task_cannot_be_changed():
    with pytest.raises(dataclasses.FrozenInstanceError):
        BINARY.name = "other"
