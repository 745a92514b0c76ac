"""Starts several workers on this machine, to try --strategy multiworker:
`python -m devices.launch 2 --data photos --output runs/two`.

The flags are those of `train.py`. The first worker, the chief, shows how it goes; what another says is shown if it
fails.
"""

import app.oldest_python  # noqa: F401

import argparse
import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from app.cli import USAGE_STATUS
from app.interrupts import SIGNALS
from devices.tf_config import VARIABLE

PATIENCE = 90.0
"""Seconds that the others have to end by themselves when one has ended: they notice it within a minute."""
SHORT_PATIENCE = 5.0
"""If it was the chief that failed, or a mistake in the flags, which the others find too."""
POLL = 0.2
TRAIN = Path(__file__).parent.parent / "train.py"


def main() -> None:
    """Starts the workers, and ends with the status of the first that fails."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("workers", type=int, help="processes to start")
    parser.add_argument("flags", nargs=argparse.REMAINDER, help="of train.py")
    arguments = parser.parse_args()
    if arguments.workers < 1:
        parser.error("workers must be at least 1")
    sys.exit(launch(arguments.workers, arguments.flags))


def launch(count: int, flags: Sequence[str]) -> int:
    """Starts workers and waits for them. Ctrl-C and SIGTERM go to the chief, which saves before it ends; a second time
    they end all.

    Args:
        count: workers.
        flags: of `train.py`.

    Returns:
        The exit status: 0 if all have ended well.
    """
    addresses, workers = _free_addresses(count), list[subprocess.Popen]()
    with tempfile.TemporaryDirectory() as scratch:
        logs = [Path(scratch) / str(number) for number in range(count)]
        try:
            _pass_signals_on(workers)
            for number, log in enumerate(logs):
                workers.append(_start(flags, addresses, number, log))
            failed = _wait(workers)
        finally:
            for worker in workers:
                worker.kill()
                worker.wait()
        if failed and 0 not in failed:
            print(f"worker {failed[0]}: {logs[failed[0]].read_text(errors='replace').strip()}", file=sys.stderr)
    status = workers[failed[0]].returncode if failed else 0
    return status if status >= 0 else 128 - status  # as shells have it for signals


def _start(flags: Sequence[str], addresses: Sequence[str], number: int, log: Path) -> subprocess.Popen:
    """Starts a worker, in a session of its own, so that Ctrl-C reaches it through this process alone."""
    task = {"cluster": {"worker": addresses}, "task": {"type": "worker", "index": number}}
    environment = {"TF_CPP_MIN_LOG_LEVEL": "3", **os.environ, VARIABLE: json.dumps(task)}
    command = [sys.executable, str(TRAIN), *flags, "--strategy", "multiworker"]
    with log.open("wb") as file:
        output = None if number == 0 else file
        return subprocess.Popen(command, env=environment, start_new_session=True, stdout=output, stderr=output)


def _pass_signals_on(workers: Sequence[subprocess.Popen]) -> None:
    """Sends Ctrl-C and SIGTERM to the chief; the second time, kills all workers."""
    received: list[int] = []

    def pass_on(number: int, frame: object) -> None:
        received.append(number)
        for worker in workers[: 1 if len(received) == 1 else None]:
            worker.send_signal(number if len(received) == 1 else signal.SIGKILL)

    for number in SIGNALS:
        signal.signal(number, pass_on)


def _wait(workers: Sequence[subprocess.Popen]) -> list[int]:
    """Waits until all have ended, or long enough after one has; returns those that failed, in order."""
    failed: list[int] = []
    deadline = float("inf")
    while True:
        statuses = [worker.poll() for worker in workers]
        for number, status in enumerate(statuses):
            if status and number not in failed:
                failed.append(number)
                short = number == 0 or status == USAGE_STATUS
                deadline = min(deadline, time.monotonic() + (SHORT_PATIENCE if short else PATIENCE))
        if statuses[0] == 0:
            deadline = min(deadline, time.monotonic() + PATIENCE)
        if None not in statuses or time.monotonic() >= deadline:
            return failed
        time.sleep(POLL)


def _free_addresses(count: int) -> list[str]:
    """Addresses of this machine that nothing listens at."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [f"127.0.0.1:{each.getsockname()[1]}" for each in sockets]


if __name__ == "__main__":
    main()
