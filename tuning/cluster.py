"""What a chief and its workers say to each other: JSON over one gRPC stream for each worker.

Across machines, the roles come from the variables that KerasTuner reads. Its own service is not used: it has no
knowledge of a worker that dies, and waits for it for ever.
"""

import json
import os
from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple

from app.config import CompleteConfig
from app.errors import UsageError
from tuning.trials import Job

SERVICE, METHOD = "headstart.Search", "Work"
HANDED_BACK = b"handed back"
"""What a worker says instead of outcomes if it cannot do its job."""
NO_LIMIT = -1
OPTIONS = (
    ("grpc.keepalive_time_ms", 30_000),  # a machine that is switched off closes no connection
    ("grpc.keepalive_timeout_ms", 20_000),
    ("grpc.http2.min_ping_interval_without_data_ms", 10_000),
    ("grpc.http2.max_pings_without_data", 0),  # no limit
    ("grpc.max_receive_message_length", NO_LIMIT),
    ("grpc.so_reuseport", 0),
)
"""Of both sides."""


class Cluster(NamedTuple):
    """The place of this process among several machines."""

    role: Literal["chief", "worker"]
    address: str
    """Of the chief, host and port."""


def read_cluster() -> Cluster | None:
    """Reads this machine's role from the variables of KerasTuner; None if none is set.

    Raises:
        UsageError: some are set and some are not.
    """
    names = ("KERASTUNER_TUNER_ID", "KERASTUNER_ORACLE_IP", "KERASTUNER_ORACLE_PORT")
    values = [os.environ.get(name, "") for name in names]
    if not any(values):
        return None
    if not all(values):
        missing = " and ".join(name for name, value in zip(names, values, strict=True) if not value)
        raise UsageError(f"For a search on several machines, {missing} must be set too.")
    name, host, port = values
    if not port.isdecimal() or not 0 < int(port) < 2**16:
        raise UsageError(f"KERASTUNER_ORACLE_PORT must be the number of a port; it is '{port}'.")
    return Cluster("chief" if name == "chief" else "worker", f"{host}:{port}")


def encode(message: Any) -> bytes:
    """A message as bytes."""
    return json.dumps(message).encode()


def decode(content: bytes) -> Any:
    """The message of `encode`."""
    return json.loads(content)


def pack(job: Job) -> list[tuple[int, dict[str, Any]]]:
    """A job as JSON has it."""
    return [(number, config.to_json()) for number, config in job]


def unpack(message: Sequence[tuple[int, Mapping[str, Any]]]) -> Job:
    """The job of `pack`."""
    return [
        (number, CompleteConfig(**{**settings, "head_units": tuple(settings["head_units"])}))
        for number, settings in message
    ]
