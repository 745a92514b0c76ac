"""Waits until the machines of a Ray cluster have joined it: `python -m cluster.wait HOST:PORT 4`.

A command counts the machines when it starts, so a script that starts both Ray and the command waits in between.
"""

import argparse
import time

from app.cli import run_command
from app.errors import RunError, UsageError
from cluster.connection import connect

WAIT_SECONDS = 300.0
"""Seconds after which a script gives up."""
POLL = 1.0
"""Seconds between looks."""


def wait_for_nodes(address: str, count: int, seconds: float = WAIT_SECONDS) -> None:
    """Waits until a Ray, which need not be up yet, has machines.

    Args:
        address: HOST:PORT of the Ray.
        count: number of machines, with the head.
        seconds: time limit.

    Raises:
        RunError: the time is up.
    """
    until = time.monotonic() + seconds
    alive, reason = 0, ""
    while True:
        try:
            alive, reason = _count_nodes(address), ""
        except (UsageError, RunError) as error:
            reason = f" {error}"
        if alive >= count:
            return
        if time.monotonic() > until:
            raise RunError(f"{alive} of {count} machines have joined the Ray at {address} in {seconds:g} s.{reason}")
        time.sleep(POLL)


def _count_nodes(address: str) -> int:
    connect(address, 1)
    import ray  # after its settings are in the environment

    try:
        return sum(node["Alive"] for node in ray.nodes())
    finally:
        ray.shutdown()


def main() -> None:
    """Waits as told by the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("address", help="HOST:PORT of the Ray")
    parser.add_argument("machines", type=int, help="number of machines, with the head")
    flags = parser.parse_args()
    wait_for_nodes(flags.address, flags.machines)


if __name__ == "__main__":
    run_command(main)
