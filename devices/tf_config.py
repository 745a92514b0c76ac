"""Reads from the variable TF_CONFIG which worker this process is.

TensorFlow defines it: {"cluster": {"worker": ["host:port", ...]}, "task": {"type": "worker", "index": 0}}. The program
that starts the processes sets it: `devices/launch.py` on one machine, a cluster manager on several.
"""

import json
import os
import re
from typing import Any

from app.config import TrainConfig
from app.errors import UsageError

VARIABLE = "TF_CONFIG"


def read_worker(config: TrainConfig) -> int | None:
    """Reads which of the processes that train together this one is; None if it works alone.

    Worker 0 is the chief: it alone writes the run folder and the cache.

    Raises:
        UsageError: --strategy multiworker is set, but the variable is missing or damaged, or --output is missing.
    """
    strategy, text = config.run.strategy, os.environ.get(VARIABLE, "")
    if strategy not in ("auto", "multiworker") or (strategy == "auto" and not text):
        return None
    if not text:
        raise UsageError(
            f"--strategy multiworker needs {VARIABLE}, which says where the workers are. To start some on this "
            f"machine: python -m devices.launch 2 --data photos --output runs/two"
        )
    try:
        parsed = json.loads(text)
        cluster, task = parsed["cluster"], parsed["task"]
        kinds = ("chief", "worker")
        places = [(kind, index) for kind in kinds for index in range(_count(cluster.get(kind, [])))]
        number = places.index((task["type"], task["index"]))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UsageError(
            f'{VARIABLE} must be like {{"cluster": {{"worker": ["host:port", ...]}}, "task": {{"type": "worker", '
            f'"index": 0}}}}; it is not: {error}.'
        ) from None
    if len(places) == 1:
        return None
    if config.run.output is None:
        raise UsageError("Several workers need --output, the same for all: a folder that they share.")
    if config.run.devices is not None:
        raise UsageError("Several workers use all GPUs of their machines; leave out --devices.")
    return number


def _count(addresses: Any) -> int:
    """Returns how many addresses there are; raises a ValueError or TypeError if they are no list of host:port."""
    if not isinstance(addresses, list):
        raise ValueError(f"{addresses!r} is no list")
    for address in addresses:
        if not re.fullmatch(r"\S+:\d+", address):
            raise ValueError(f"'{address}' is no host:port")
    return len(addresses)
