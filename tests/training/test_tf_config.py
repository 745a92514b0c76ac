"""The place of a process among several, as TF_CONFIG has it."""

import json
from pathlib import Path

import pytest

from app.config import TrainConfig
from app.errors import UsageError
from devices.tf_config import read_worker

ADDRESSES = ["a:1", "b:1", "c:1"]


def read(monkeypatch, content, **settings) -> int | None:
    text = content if isinstance(content, str) else json.dumps(content)
    monkeypatch.setenv("TF_CONFIG", text)
    return read_worker(TrainConfig.of(**{"output": Path("run")} | settings))


@pytest.mark.parametrize(
    ("cluster", "task", "expected"),
    [
        ({"worker": ADDRESSES}, {"type": "worker", "index": 0}, 0),
        ({"worker": ADDRESSES}, {"type": "worker", "index": 2}, 2),
        ({"chief": ["d:1"], "worker": ADDRESSES}, {"type": "chief", "index": 0}, 0),
        ({"chief": ["d:1"], "worker": ADDRESSES}, {"type": "worker", "index": 0}, 1),
        ({"worker": ADDRESSES[:1]}, {"type": "worker", "index": 0}, None),
        ({"chief": ADDRESSES[:1]}, {"type": "chief", "index": 0}, None),
    ],
)
def test_workers_are_numbered_from_the_chief(monkeypatch, cluster, task, expected):
    assert read(monkeypatch, {"cluster": cluster, "task": task}) == expected


@pytest.mark.parametrize("strategy", ["one", "mirrored", "tpu"])
def test_other_strategies_work_alone(monkeypatch, strategy):
    task = {"cluster": {"worker": ADDRESSES}, "task": {"type": "worker", "index": 1}}
    assert read(monkeypatch, task, strategy=strategy) is None


@pytest.mark.parametrize(
    "content",
    [
        "{",
        "[]",
        "3",
        {"cluster": {}, "task": {"type": "worker", "index": 0}},
        {"cluster": {"worker": ADDRESSES}},
        {"cluster": {"worker": ADDRESSES}, "task": {"type": "worker", "index": 3}},
        {"cluster": {"worker": ADDRESSES}, "task": {"type": "worker", "index": -1}},
        {"cluster": {"worker": ADDRESSES}, "task": {"type": "worker", "index": "0"}},
        {"cluster": {"worker": ADDRESSES}, "task": {"type": "ps", "index": 0}},
        {"cluster": {"worker": 3}, "task": {"type": "worker", "index": 0}},
        {"cluster": ["a:1", "b:1"], "task": {"type": "worker", "index": 0}},
        {"cluster": {"worker": "localhost:1234"}, "task": {"type": "worker", "index": 0}},
        {"cluster": {"worker": ["a", "b:1"]}, "task": {"type": "worker", "index": 0}},
        {"cluster": {"worker": [1, "b:1"]}, "task": {"type": "worker", "index": 0}},
    ],
)
def test_what_is_no_place_is_refused(monkeypatch, content):
    with pytest.raises(UsageError, match="TF_CONFIG must be like"):
        read(monkeypatch, content)


def test_several_machines_need_the_variable_and_a_folder(monkeypatch):
    monkeypatch.delenv("TF_CONFIG", raising=False)
    assert read_worker(TrainConfig()) is None
    with pytest.raises(UsageError, match=r"--strategy multiworker needs TF_CONFIG.*python -m devices.launch 2"):
        read_worker(TrainConfig.of(strategy="multiworker"))
    task = {"cluster": {"worker": ADDRESSES}, "task": {"type": "worker", "index": 1}}
    with pytest.raises(UsageError, match="Several workers need --output"):
        read(monkeypatch, task, output=None)
