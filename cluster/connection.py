"""Connects to Ray: starts one for this process, or uses a running one."""

import contextlib
import importlib.util
import math
import os
import secrets
import signal
import socket
import threading
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from joblib import cpu_count

from app.errors import RunError, UsageError

if TYPE_CHECKING:
    from ray import ObjectRef  # type: ignore[attr-defined,unused-ignore]

RAY_SETTINGS = {"RAY_USAGE_STATS_ENABLED": "0"}
"""Environment variables for any Ray, unless set already: no usage reports."""
LOCAL_SETTINGS = {"RAY_AUTH_MODE": "token", "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0"}
"""Environment variables for a Ray on this machine: it requires a token, and its servers bind only 127.0.0.1."""
FOUND_SETTINGS = {"RAY_NUM_REDIS_GET_RETRIES": "1"}
"""Environment variables for a Ray that runs already, unless set: of one that is gone, such as that of a machine since
started anew, this is known after 40 seconds. By default, Ray tries for over ten minutes."""
OBJECT_BYTES = 2**26
"""Shared memory per worker for jobs and results of a Ray on this machine."""
ANSWER_SECONDS = 10.0
"""Seconds that the machine of `--cluster HOST:PORT` has to answer."""
START_ATTEMPTS = 3
"""Attempts to start a Ray: it gives up after half a minute, which may be too short on a busy machine."""


def check_ray(flag: str) -> None:
    """Makes sure that Ray is installed.

    Args:
        flag: flag that needs Ray.

    Raises:
        UsageError: Ray is not installed.
    """
    if importlib.util.find_spec("ray") is None:
        raise UsageError(f"{flag} needs Ray: pip install -r requirements-cluster.txt")


def connect(address: str | None, workers: int) -> None:
    """Connects to a running Ray, or starts one on this machine that ends with this process.

    Args:
        address: 'auto' or 'HOST:PORT'; None starts one.
        workers: number of workers of the Ray that is started.

    Raises:
        UsageError: nothing answers at the address.
        RunError: there is no Ray at the address, or it refuses the connection.
    """
    if address not in (None, "auto"):
        _check_answers(address)
    for name, value in (RAY_SETTINGS | (FOUND_SETTINGS if address else {})).items():
        os.environ.setdefault(name, value)
    if address is None:
        os.environ.update(LOCAL_SETTINGS)
        # By default, Ray would write the token to a file.
        os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))
    import ray

    settings: dict[str, Any] = {"address": address, "log_to_driver": False, "logging_level": "error"}
    if address is None:
        own = {"address": "local", "num_cpus": cpu_count(), "object_store_memory": OBJECT_BYTES * (workers + 2)}
        settings |= {**own, "include_dashboard": False}
    for attempt in range(START_ATTEMPTS):
        try:
            with _own_sigterm(), contextlib.nullcontext() if address else _nothing_left_of_a_failure():
                ray.init(**settings)
            return
        except Exception as error:  # Ray raises a bare Exception if it was too slow to start
            ray.shutdown()
            if attempt == START_ATTEMPTS - 1 or address is not None:
                reason = " ".join(str(error).split()) or type(error).__name__
                place = "on this machine" if address is None else f"at --cluster {address}"
                raise RunError(f"Ray {place} cannot be used: {reason}") from error


def divide(nodes: Sequence[Mapping[str, float]], workers: int | None) -> tuple[int, dict[str, float]]:
    """Divides the cores and GPUs of machines among workers.

    Args:
        nodes: resources of each machine, as Ray names them: 'CPU' and 'GPU'.
        workers: number of workers; None for one per GPU, or one per machine if there are no GPUs.

    Returns:
        The number of workers, and the resources of each: whole GPUs and cores, or a fraction if several share one.
    """
    nodes = [node for node in nodes if node.get("GPU")] or [node for node in nodes if node.get("CPU")] or [{"CPU": 1}]
    gpus = sum(node.get("GPU", 0) for node in nodes)
    count = workers or int(gpus) or len(nodes)
    per_gpu = math.ceil(count / gpus) if gpus else 0
    room = [max(1, int(node["GPU"] * per_gpu)) if gpus else count for node in nodes]  # workers for which it has GPUs
    # A machine with few GPUs leaves its part to the others, so they must have cores for more than an equal part.
    most = next((each for each in range(1, count) if sum(min(each, fits) for fits in room) >= count), count)
    cpus = min(node.get("CPU", 1) / min(most, fits) for node, fits in zip(nodes, room, strict=True))
    share = {"num_cpus": math.floor(cpus) if cpus >= 1 else cpus}
    return count, {**share, "num_gpus": 1 / per_gpu if gpus else 0}


def _check_answers(address: str) -> None:
    """Raises a UsageError if nothing answers at HOST:PORT, for which Ray would wait many minutes."""
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host.strip("[]"), int(port)), ANSWER_SECONDS).close()
    except (OSError, ValueError, OverflowError) as error:
        reason = error.strerror or error if isinstance(error, OSError) else "it names no port"
        raise UsageError(
            f"--cluster must be 'auto' or the HOST:PORT of a running Ray; '{address}' does not answer: {reason}."
        ) from None


@contextlib.contextmanager
def _nothing_left_of_a_failure() -> Iterator[None]:
    """Ends the processes of a Ray that does not start, which would live as long as this one."""
    import psutil

    before = psutil.Process().children(recursive=True)
    try:
        yield
    except Exception:
        started = set(psutil.Process().children(recursive=True)) - set(before)
        for process in started:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        psutil.wait_procs(started, timeout=ANSWER_SECONDS)
        raise


@contextlib.contextmanager
def _own_sigterm() -> Iterator[None]:
    """Keeps this process's handler of SIGTERM, which Ray would replace."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


class DeadError(Exception):
    """A worker is lost."""


def result_of(ref: "ObjectRef") -> Any:
    """Returns the result of a job.

    Raises:
        DeadError: the worker is lost.
        RunError: the worker's machine cannot run workers, perhaps because it lacks this folder.
        Exception: whatever the job raised.
    """
    import ray

    try:
        return ray.get(ref)
    except ray.exceptions.RayTaskError as error:
        raise error.cause from None
    except ray.exceptions.RayActorError as error:
        if not error.actor_init_failed:
            raise DeadError from error
        reason = str(error).strip().splitlines()[-1]
        raise RunError(
            f"A worker cannot start on its machine: {reason}. All machines need the same paths to this folder and its "
            f"environment."
        ) from None
    except ray.exceptions.RayError as error:
        raise DeadError from error
