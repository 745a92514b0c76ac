"""Devices to train on: one device, all GPUs of a machine, several machines, or TPUs.

Every choice is a `tf.distribute.Strategy`. Each replica has the whole network and an equal shard of each batch, and
the gradients of all are summed, so the weights stay the same everywhere: a batch is as large as on one device, and
results differ only by rounding. The code for TPUs follows TensorFlow's guide and has not run on one yet.
"""

import contextlib
import glob
import importlib.util
import textwrap
from collections.abc import Iterator
from typing import Literal

import keras
import tensorflow as tf

from app.errors import RunError, UsageError
from app.interrupts import end_at_once, ignore_interrupts
from app.run_config import Strategy
from app.terminal import counted, show_stage, silence
from devices.precision import Precision, choose_precision
from devices.replicas import chief_decides, has_workers, is_chief

FEW = 16
"""Examples per replica and step below which a GPU mostly waits."""
LOST_WORKER = (
    tf.errors.UnavailableError,
    tf.errors.AbortedError,
    tf.errors.CancelledError,
    tf.errors.DeadlineExceededError,
)
"""Errors that TensorFlow may raise if another worker is lost."""
TPU_DEVICES = ("/dev/accel[0-9]*", "/dev/vfio/[0-9]*")


def make_strategy(name: Strategy, devices: int | None) -> tf.distribute.Strategy:
    """Chooses the devices, before any other use of TensorFlow, and shows the choice.

    Args:
        name: name of the strategy; 'auto' uses the available devices.
        devices: number of devices of this machine; None for all GPUs. Without GPUs, the CPU is split into that many.

    Raises:
        UsageError: the requested devices do not exist.
        RunError: other workers do not answer.
    """
    kind = _find(devices) if name == "auto" else name
    strategy = STRATEGIES[kind](devices)
    if not is_chief(strategy):
        silence()
        ignore_interrupts()
    show_stage("devices", _describe(strategy))
    return strategy


def describe_batch(batch_size: int, strategy: tf.distribute.Strategy, noun: str, nouns: str) -> str:
    """Describes the size of a batch and its shards: '32 examples per step, 16 on each of 2 replicas'."""
    replicas, text = strategy.num_replicas_in_sync, f"{counted(batch_size, noun, nouns)} per step"
    if replicas == 1:
        return text
    rows = -(-batch_size // replicas)
    advice = "; a larger --batch-size keeps them busier" if rows < FEW else ""
    return f"{text}, {rows} on each of {replicas} replicas{advice}"


def chosen_precision(
    asked_for: Literal["auto"] | Precision, model: keras.Model, strategy: tf.distribute.Strategy, openvino: bool = False
) -> Precision:
    """Chooses the precision for a model on the chief's machine, and shows the choice of 'auto'."""
    precision = chief_decides(strategy, lambda: choose_precision(asked_for, model, openvino))
    if asked_for == "auto":
        show_stage("precision", f"{precision}, the fastest here")
    return precision


@contextlib.contextmanager
def heed_lost_workers(strategy: tf.distribute.Strategy) -> Iterator[None]:
    """Raises a RunError if another worker is lost while a block runs; TensorFlow notices it within a minute."""
    try:
        yield
    except LOST_WORKER as error:
        if not has_workers(strategy):
            raise
        raise RunError(
            f"Another worker is gone, and this one cannot continue alone. Start all of them again, with --resume if "
            f"the run has a folder, or continue with any other --strategy. ({str(error).splitlines()[0]})"
        ) from error


def _find(devices: int | None) -> str:
    """Chooses the strategy for 'auto'."""
    if importlib.util.find_spec("libtpu") is not None and any(map(glob.glob, TPU_DEVICES)):
        return "tpu"
    gpus = tf.config.list_physical_devices("GPU")
    return "mirrored" if min(len(gpus), devices or len(gpus)) > 1 or (devices or 1) > 1 else "one"


def _one(devices: int | None) -> tf.distribute.Strategy:
    if devices is not None and devices > 1:
        raise UsageError(f"--strategy one uses one device; --devices is {devices}. Take --strategy mirrored.")
    _see_alone(tf.config.list_physical_devices("GPU")[:1])
    return tf.distribute.get_strategy()


def _mirrored(devices: int | None) -> tf.distribute.Strategy:
    gpus = tf.config.list_physical_devices("GPU")
    if gpus:
        if devices is not None and devices > len(gpus):
            raise UsageError(f"--devices must be at most {len(gpus)}, the GPUs that are there; received {devices}.")
        used = gpus[:devices]
        _see_alone(used)
        return tf.distribute.MirroredStrategy([f"GPU:{number}" for number in range(len(used))])
    if devices is None:
        raise UsageError("--strategy mirrored needs several GPUs, and there are none. To try it on a CPU: --devices 2")
    (cpu,) = tf.config.list_physical_devices("CPU")
    tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * devices)
    return tf.distribute.MirroredStrategy([f"CPU:{number}" for number in range(devices)])


def _see_alone(gpus: list[tf.config.PhysicalDevice]) -> None:
    """Hides the other GPUs, whose memory TensorFlow would take as well."""
    with contextlib.suppress(RuntimeError):  # a program that has already used TensorFlow sees what it saw
        tf.config.set_visible_devices(gpus, "GPU")


def _multiworker(devices: int | None) -> tf.distribute.Strategy:
    if devices is not None:
        raise UsageError("--strategy multiworker uses all GPUs of a machine; leave out --devices.")
    show_stage("devices", "waiting for all workers of TF_CONFIG")
    try:
        # This may wait for ever, and Python handles no signal meanwhile; TensorFlow itself takes SIGTERM, and goes on.
        with end_at_once():
            return tf.distribute.MultiWorkerMirroredStrategy()
    except (*LOST_WORKER, tf.errors.UnknownError, RuntimeError) as error:
        reason = str(error).splitlines()[0]
        raise RunError(f"The workers of TF_CONFIG cannot be reached: {reason}") from error


def _tpu(devices: int | None) -> tf.distribute.Strategy:
    if devices is not None:
        raise UsageError("--strategy tpu uses all cores; leave out --devices.")
    try:
        resolver = tf.distribute.cluster_resolver.TPUClusterResolver("local")
        tf.config.experimental_connect_to_cluster(resolver)
        tf.tpu.experimental.initialize_tpu_system(resolver)
        return tf.distribute.TPUStrategy(resolver)
    except (ValueError, RuntimeError, tf.errors.OpError) as error:
        reason = textwrap.shorten(str(error) or type(error).__name__, 60, placeholder=" ...")
        raise UsageError(
            f"--strategy tpu finds no TPU ({reason}). It needs the package tensorflow-tpu, on the machine that "
            f"has the TPU."
        ) from error


STRATEGIES = {"one": _one, "mirrored": _mirrored, "multiworker": _multiworker, "tpu": _tpu}


def _describe(strategy: tf.distribute.Strategy) -> str:
    """Names the devices: 'one CPU', '2 GPUs (NVIDIA A100), mirrored'."""
    replicas = strategy.num_replicas_in_sync
    if isinstance(strategy, tf.distribute.TPUStrategy):
        return f"TPU with {counted(replicas, 'core', 'cores')}"
    gpus = tf.config.get_visible_devices("GPU")
    kinds = ("GPU", "GPUs") if gpus else ("CPU", "CPUs")
    details = [tf.config.experimental.get_device_details(gpu).get("device_name", "") for gpu in gpus]
    models = f" ({', '.join(sorted(set(filter(None, details))))})" if any(details) else ""
    if has_workers(strategy):
        workers = strategy.extended._num_workers
        return f"{counted(workers, 'worker', 'workers')}, {counted(replicas, *kinds)} in all{models}"
    return f"{counted(replicas, *kinds)}{models}{', mirrored' if replicas > 1 else ''}"
