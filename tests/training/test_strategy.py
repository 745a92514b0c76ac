"""What is chosen from the devices that are there, and what is said where something is missing."""

import types

import pytest
import tensorflow as tf

from app.errors import RunError, UsageError
from devices.replicas import Part, check_alike, chief_decides, distribute, is_chief, is_shared
from devices.strategy import describe_batch, heed_lost_workers, make_strategy


@pytest.fixture
def machine(monkeypatch):
    """Returns a function that lets this machine seem to have other devices."""

    def have(gpus: int = 0, tpu: bool = False) -> None:
        devices = {"GPU": [f"GPU {number}" for number in range(gpus)], "CPU": ["CPU 0"]}
        monkeypatch.setattr(tf.config, "list_physical_devices", lambda kind=None: devices.get(kind, []))
        visible = dict(devices)
        monkeypatch.setattr(tf.config, "get_visible_devices", lambda kind: visible[kind])
        monkeypatch.setattr(tf.config, "set_visible_devices", lambda some, kind: visible.update({kind: some}))
        monkeypatch.setattr(
            tf.config.experimental, "get_device_details", lambda device: {"device_name": "Tesla", "asked": device}
        )
        monkeypatch.setattr("devices.strategy.glob.glob", lambda pattern: [pattern] if tpu else [])
        monkeypatch.setattr("devices.strategy.importlib.util.find_spec", lambda name: name if tpu else None)

    have()
    return have


@pytest.fixture
def made(monkeypatch) -> list:
    """What is made of `tf.distribute`, in order, instead of strategies that this machine cannot have."""
    calls = []

    def note(name, result=None):
        return lambda *arguments: calls.append((name, *arguments)) or result or tf.distribute.get_strategy()

    monkeypatch.setattr(tf.distribute, "MirroredStrategy", note("mirrored"))
    monkeypatch.setattr(tf.config, "set_logical_device_configuration", note("split"))
    monkeypatch.setattr(tf.distribute.cluster_resolver, "TPUClusterResolver", note("resolver", "the resolver"))
    monkeypatch.setattr(tf.config, "experimental_connect_to_cluster", note("connect"))
    monkeypatch.setattr(tf.tpu.experimental, "initialize_tpu_system", note("initialize"))
    strategy = type(
        "TPUStrategy", (), {"num_replicas_in_sync": 8, "__init__": lambda self, *_: note("tpu")(*_) and None}
    )
    monkeypatch.setattr(tf.distribute, "TPUStrategy", strategy)
    return calls


@pytest.mark.parametrize(
    ("there", "devices", "expected"),
    [
        ({}, None, []),
        ({}, 1, []),
        ({"gpus": 1}, None, []),
        ({"gpus": 4}, None, [("mirrored", ["GPU:0", "GPU:1", "GPU:2", "GPU:3"])]),
        ({"gpus": 4}, 2, [("mirrored", ["GPU:0", "GPU:1"])]),
        ({"gpus": 4}, 1, []),
    ],
)
def test_auto_takes_the_gpus_that_are_there(machine, made, there, devices, expected):
    machine(**there)
    make_strategy("auto", devices)
    assert made == expected
    used = len(expected[0][1]) if expected else min(there.get("gpus", 0), 1)
    assert len(tf.config.get_visible_devices("GPU")) == used  # of the others, TensorFlow takes no memory


def test_a_cpu_is_split_to_try_several_devices(machine, made):
    make_strategy("auto", 2)
    (split, cpu, parts), (mirrored, names) = made
    assert (split, cpu, len(parts)) == ("split", "CPU 0", 2)
    assert (mirrored, names) == ("mirrored", ["CPU:0", "CPU:1"])


@pytest.mark.parametrize("asked_for", ["auto", "tpu"])
def test_a_tpu_is_connected_and_initialized_before_its_strategy_is_made(machine, made, capsys, asked_for):
    machine(tpu=True)
    strategy = make_strategy(asked_for, None)
    steps = ["resolver", "connect", "initialize", "tpu"]
    assert [call[0] for call in made] == steps
    assert [call[1] for call in made] == ["local", *["the resolver"] * 3]
    assert "TPU with 8 cores" in capsys.readouterr().out
    assert is_shared(strategy)  # static shapes, even where there is one core


@pytest.mark.parametrize(
    ("asked_for", "devices", "message"),
    [
        ("one", 2, "--strategy one uses one device; --devices is 2. Take --strategy mirrored."),
        (
            "mirrored",
            None,
            "--strategy mirrored needs several GPUs, and there are none. To try it on a CPU: --devices 2",
        ),
        ("multiworker", 2, "--strategy multiworker uses all GPUs of a machine"),
        ("tpu", 2, "--strategy tpu uses all cores"),
    ],
)
def test_what_cannot_be_had_is_said(machine, made, asked_for, devices, message):
    with pytest.raises(UsageError, match=message.replace(".", r"\.")):
        make_strategy(asked_for, devices)


def test_more_gpus_than_there_are(machine, made):
    machine(gpus=2)
    with pytest.raises(UsageError, match="--devices must be at most 2, the GPUs that are there; received 3"):
        make_strategy("mirrored", 3)


def test_a_machine_without_a_tpu_says_so():
    with pytest.raises(UsageError, match=r"--strategy tpu finds no TPU .* tensorflow-tpu"):
        make_strategy("tpu", None)


def test_one_device_is_a_strategy_that_shares_nothing():
    strategy = make_strategy("one", None)
    assert isinstance(strategy, tf.distribute.Strategy)
    assert not is_shared(strategy)
    assert is_chief(strategy)
    assert chief_decides(strategy, lambda: 7) == 7
    check_alike(strategy, "anything")
    (batch,) = distribute(strategy, lambda part: tf.data.Dataset.from_tensors(part is None))
    assert bool(batch)
    assert describe_batch(32, strategy, "picture", "pictures") == "32 pictures per step"


def test_what_each_replica_gets_of_a_batch_is_said():
    strategy = types.SimpleNamespace(num_replicas_in_sync=3)
    assert describe_batch(64, strategy, "picture", "pictures") == "64 pictures per step, 22 on each of 3 replicas"
    assert describe_batch(32, strategy, "picture", "pictures").endswith(
        "11 on each of 3 replicas; a larger --batch-size keeps them busier"
    )


def test_parts_are_those_of_the_workers_in_order():
    contexts = [tf.distribute.InputContext(2, worker, 6) for worker in range(2)]
    assert [Part.of(context) for context in contexts] == [Part(6, 0, 3), Part(6, 3, 3)]


def test_a_lost_worker_is_a_sentence_and_other_errors_are_themselves(monkeypatch):
    lost = tf.errors.UnavailableError(None, None, "Collective ops is aborted by: Socket closed")
    with pytest.raises(tf.errors.UnavailableError), heed_lost_workers(tf.distribute.get_strategy()):
        raise lost
    several = object.__new__(tf.distribute.MultiWorkerMirroredStrategy)
    with pytest.raises(RunError, match=r"Another worker is gone.* with --resume"), heed_lost_workers(several):
        raise lost
    with pytest.raises(ZeroDivisionError), heed_lost_workers(several):
        raise ZeroDivisionError
