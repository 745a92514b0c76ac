"""Runs a command as a user does, kills it at a moment of choice, and compares what two runs leave."""

import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import keras
import numpy as np

REPOSITORY = Path(__file__).parents[2]
STAGES = ("start", "data", "model", "features", "head", "fine-tune")
"""The first word of the line after which a stage begins; the last ends with the process."""
WITH_TIMES = {"environment.json", "report.html", "metrics.json", "model.keras", "MODEL_CARD.md"}
"""Files that tell the time, or are told apart in another way."""


class Kill(NamedTuple):
    """A moment in a run."""

    stage: str
    """The line after which the clock starts."""
    delay: float
    """Seconds."""
    signal: int = signal.SIGKILL
    file: Path | None = None
    """What the process must have written before the clock starts. It is removed then, to see whether it is written
    again."""


class Ended(NamedTuple):
    """How a process ended."""

    status: int
    lines: list[str]
    """What it printed."""
    times: dict[str, float]
    """When each stage began, seconds."""


def train(flags: Sequence[str | Path], kill: Kill | None = None, before: Callable[[], None] | None = None) -> Ended:
    """Runs `train.py`; see `run`."""
    return run("train.py", flags, kill, before)


def run(
    script: str,
    flags: Sequence[str | Path],
    kill: Kill | None = None,
    before: Callable[[], None] | None = None,
) -> Ended:
    """Runs a command to its end, or until it is killed.

    Args:
        script: such as 'train.py'.
        flags: of the command.
        kill: when to kill it; None lets it end. A process that is faster ends by itself.
        before: called in the new process before it begins.
    """
    environment = os.environ | {"PYTHONUNBUFFERED": "1", "COLUMNS": "300"}
    process = subprocess.Popen(
        [sys.executable, script, *map(str, flags)],
        cwd=REPOSITORY,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        preexec_fn=before,
    )
    started = time.perf_counter()
    lines, times = [], {"start": 0.0}
    if kill is None or kill.stage != "start":
        for line in process.stdout:
            lines.append(line.rstrip())
            stage = line.split(" ")[0]
            times.setdefault(stage, time.perf_counter() - started)
            if kill is not None and stage == kill.stage:
                break
    if kill is not None:
        while kill.file is not None and not kill.file.exists() and process.poll() is None:
            time.sleep(0.05)
        if kill.file is not None:
            kill.file.unlink(missing_ok=True)
        time.sleep(kill.delay)
        process.send_signal(kill.signal)
    lines += process.communicate()[0].splitlines()
    times["end"] = time.perf_counter() - started
    return Ended(process.returncode, lines, times)


def random_kills(times: Mapping[str, float], count: int, seed: int) -> list[Kill]:
    """Chooses moments at random, as many in each stage, however short it is.

    Args:
        times: when each stage began in a run that was not killed.
        count: of moments.
        seed: another one gives other moments.
    """
    draw = random.Random(seed)
    ends = [*(times[stage] for stage in STAGES[1:]), times["end"]]
    kills = []
    for number in range(count):
        place = number % len(STAGES)
        stage = STAGES[place]
        kills.append(Kill(stage, draw.uniform(0, ends[place] - times[stage])))
    return kills


def differences(first: Path, second: Path) -> list[str]:
    """Names of what differs between two run folders; times and dates may."""
    names = [{str(path.relative_to(root)) for path in root.rglob("*")} for root in (first, second)]
    found = [f"{name} is in one folder only" for name in sorted(names[0] ^ names[1])]
    for name in sorted(names[0] & names[1] - WITH_TIMES):
        if (first / name).is_file() and (first / name).read_bytes() != (second / name).read_bytes():
            found.append(name)
    if _without_times(first) != _without_times(second):
        found.append("metrics.json")
    if len({_below_title(folder / "MODEL_CARD.md") for folder in (first, second)}) > 1:
        found.append("MODEL_CARD.md")
    weights = [_weights(folder / "model.keras") for folder in (first, second)]
    if not all(np.array_equal(one, other) for one, other in zip(*weights, strict=True)):
        found.append("model.keras")
    return found


def _below_title(card: Path) -> str:
    """The card without its first line, the name of the folder."""
    return card.read_text(encoding="utf-8").partition("\n")[2]


def _without_times(folder: Path) -> dict:
    record = json.loads((folder / "metrics.json").read_text())
    del record["seconds"]
    return record


@contextlib.contextmanager
def again_and_again(call: Callable[[], None], pause: float) -> Iterator[None]:
    """Calls a function beside a block, with pauses, until the block ends; raises what it raised.

    Args:
        call: the function.
        pause: seconds between two calls.
    """
    ended = threading.Event()

    def repeat() -> None:
        while not ended.is_set():
            call()
            ended.wait(pause)

    with ThreadPoolExecutor() as executor:
        future = executor.submit(repeat)
        try:
            yield
        finally:
            ended.set()
        future.result()


def clear(cache: Path) -> None:
    """Runs `cache.py --clear`; what another process is at work on may remain."""
    if not cache.is_dir():  # nothing has begun yet
        return
    ended = run("cache.py", ["--clear", "--cache-dir", cache])
    assert ended.status == 0 or "a run is using it" in ended.lines[-1], ended.lines


def _weights(path: Path) -> list[np.ndarray]:
    return keras.saving.load_model(path, compile=False, safe_mode=True).get_weights()
