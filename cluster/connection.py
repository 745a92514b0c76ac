"""A connection to Ray: one that this process starts for itself, or one that is running."""

import contextlib
import importlib.util
import math
import os
import secrets
import signal
import threading
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from joblib import cpu_count

from app.errors import RunError, UsageError

if TYPE_CHECKING:
    from ray import ObjectRef  # type: ignore[attr-defined,unused-ignore]

RAY_SETTINGS = {"RAY_USAGE_STATS_ENABLED": "0"}
"""Environment variables for any Ray, unless they are set: no usage reports."""
LOCAL_SETTINGS = {"RAY_AUTH_MODE": "token", "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0"}
"""Environment variables for a Ray on this machine: it asks for a token, and its servers bind 127.0.0.1 alone."""
OBJECT_BYTES = 2**26
"""Shared memory for each worker in which a Ray on this machine carries jobs and results."""
START_ATTEMPTS = 3
"""Times that a Ray is started: it gives up after half a minute, which a busy machine may need."""


def check_ray(flag: str) -> None:
    """Makes sure that Ray is installed.

    Args:
        flag: what asks for it.

    Raises:
        UsageError: it is not.
    """
    if importlib.util.find_spec("ray") is None:
        raise UsageError(f"{flag} needs Ray: pip install -r requirements-cluster.txt")


def connect(address: str | None, workers: int) -> None:
    """Connects to a running Ray, or starts one on this machine that ends with this process.

    Args:
        address: 'auto' or 'HOST:PORT'; None starts one.
        workers: that the one which is started will have.

    Raises:
        RunError: there is none, or it does not let this process in.
    """
    for name, value in RAY_SETTINGS.items():
        os.environ.setdefault(name, value)
    if address is None:
        os.environ.update(LOCAL_SETTINGS)
        # In the environment, not in a file as Ray has it.
        os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))
    import ray

    settings: dict[str, Any] = {"address": address, "log_to_driver": False, "logging_level": "error"}
    if address is None:
        own = {"address": "local", "num_cpus": cpu_count(), "object_store_memory": OBJECT_BYTES * (workers + 2)}
        settings |= {**own, "include_dashboard": False}
    for attempt in range(START_ATTEMPTS):
        try:
            with _own_sigterm():
                ray.init(**settings)
            return
        except Exception as error:  # which is all that Ray raises where it was too slow to start
            ray.shutdown()
            if attempt == START_ATTEMPTS - 1 or address is not None:
                reason = str(error).strip().splitlines()[0]
                place = "on this machine" if address is None else f"at --cluster {address}"
                raise RunError(f"No Ray {place} can be used: {reason}") from error


def divide(nodes: Sequence[Mapping[str, float]], workers: int | None) -> tuple[int, dict[str, float]]:
    """Divides the cores and GPUs of machines among workers.

    Args:
        nodes: resources of each machine, as Ray names them: 'CPU' and 'GPU'.
        workers: how many; None for one for each GPU, or for each machine if there is none.

    Returns:
        How many workers, and what each asks Ray for: whole GPUs and cores, or a fraction where several share one.
    """
    nodes = [node for node in nodes if node.get("GPU")] or [node for node in nodes if node.get("CPU")] or [{"CPU": 1}]
    gpus = sum(node.get("GPU", 0) for node in nodes)
    count = workers or int(gpus) or len(nodes)
    cpus = min(node.get("CPU", 1) for node in nodes) / math.ceil(count / len(nodes))
    share = {"num_cpus": math.floor(cpus) if cpus >= 1 else cpus}
    return count, {**share, "num_gpus": 1 / math.ceil(count / gpus) if gpus else 0}


@contextlib.contextmanager
def _own_sigterm() -> Iterator[None]:
    """Keeps this process's answer to SIGTERM, which Ray would replace."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


class DeadError(Exception):
    """A worker is gone."""


def result_of(ref: "ObjectRef") -> Any:
    """Returns a result.

    Raises:
        DeadError: the worker is gone.
        Exception: what the job raised.
    """
    import ray

    try:
        return ray.get(ref)
    except ray.exceptions.RayTaskError as error:
        raise error.cause from None
    except ray.exceptions.RayError as error:
        raise DeadError from error
