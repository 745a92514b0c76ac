"""Starts several workers on this machine, to try --strategy multiworker:
`python -m devices.launch 2 --data photos --output runs/two`.

The flags are those of `train.py`. The first worker, the chief, shows its output; that of another worker is shown if it
fails first. A mistake in the flags ends all of them, and is shown once.
"""

import app.oldest_python  # noqa: F401

import argparse
import contextlib
import json
import os
import random
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import IO

from app.cli import USAGE_STATUS
from app.interrupts import SIGNALS
from devices.tf_config import VARIABLE

PATIENCE = 90.0
"""Seconds for the other workers to end by themselves after one has failed: they notice it within a minute."""
SHORT_PATIENCE = 10.0
"""Seconds for the other workers to end after the chief, without which they cannot continue."""
POLL = 0.2
TRAIN = Path(__file__).parent.parent / "train.py"


def main() -> None:
    """Starts the workers, and exits with the status of the first that fails."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("workers", type=int, help="processes to start")
    parser.add_argument("flags", nargs=argparse.REMAINDER, help="of train.py")
    arguments = parser.parse_args()
    if arguments.workers < 1:
        parser.error("workers must be at least 1")
    sys.exit(launch(arguments.workers, arguments.flags))


def launch(count: int, flags: Sequence[str]) -> int:
    """Starts workers with the flags of `train.py` and waits for them; returns the exit status, 0 for success.

    Ctrl-C and SIGTERM go to the chief, which saves before it ends; the second one ends all workers.
    """
    workers: list[subprocess.Popen] = []
    with contextlib.ExitStack() as stack:
        outputs = [stack.enter_context(tempfile.TemporaryFile("w+", errors="replace")) for _ in range(count)]
        try:
            _pass_signals_on(workers)
            addresses = _free_addresses(count)
            for number, output in enumerate(outputs):
                workers.append(_start(flags, addresses, number, output if number else None))
            failed = _wait(workers)
        finally:
            for worker in workers:
                worker.kill()
                worker.wait()
        if failed and failed[0] and workers[0].returncode != USAGE_STATUS:
            outputs[failed[0]].seek(0)
            print(f"worker {failed[0]}: {outputs[failed[0]].read().strip()}", file=sys.stderr)
    status = workers[failed[0]].returncode if failed else 0
    return status if status >= 0 else 128 - status  # as shells do for signals


def _start(flags: Sequence[str], addresses: Sequence[str], number: int, output: IO | None) -> subprocess.Popen:
    """Starts a worker in its own session, so that Ctrl-C reaches it only through this process."""
    task = {"cluster": {"worker": addresses}, "task": {"type": "worker", "index": number}}
    environment = {**os.environ, VARIABLE: json.dumps(task)}
    command = [sys.executable, str(TRAIN), *flags, "--strategy", "multiworker"]
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
    """Waits until all have ended, or long enough after one has; returns those that failed, in order.

    A thread for each notes when it ends: the first that fails tells why, and the others may fail moments later.
    """
    failed: list[int] = []

    def note(number: int) -> None:
        if workers[number].wait():
            failed.append(number)

    watches = [threading.Thread(target=note, args=(number,), daemon=True) for number in range(len(workers))]
    for watch in watches:
        watch.start()
    deadline = float("inf")
    while any(watch.is_alive() for watch in watches) and time.monotonic() < deadline:
        if failed or not watches[0].is_alive():
            patience = PATIENCE if watches[0].is_alive() else SHORT_PATIENCE
            deadline = min(deadline, time.monotonic() + patience)
        time.sleep(POLL)
    return list(failed)


def _free_addresses(count: int) -> list[str]:
    """Returns unused addresses of this machine."""
    found: list[str] = []
    # The system gives ports outside this range to other programs while the workers still import TensorFlow.
    for port in random.SystemRandom().sample(range(20_000, 32_000), 1_000):
        with contextlib.suppress(OSError), socket.create_server(("127.0.0.1", port)):
            found.append(f"127.0.0.1:{port}")
        if len(found) == count:
            break
    return found


if __name__ == "__main__":
    main()
