"""Requests per second of serve.py, how long they take, and its memory, against the frozen pass alone.

`python -m benchmarks.serving runs/NAME --data photos` starts the server, lets some clients ask at once, each for a file
after the other, then 200 clients for `--requests` in all, and ends it by SIGTERM while they ask.
"""

import argparse
import asyncio
import itertools
import json
import re
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from app.cli import run_command
from benchmarks.frozen_pass import frozen_layers
from benchmarks.machine import best_seconds
from benchmarks.processes import ROOT
from inference.files import find_files

if TYPE_CHECKING:
    import tensorflow as tf

CLIENTS = (1, 8, 32)
"""Clients at once of the short rounds."""
SHORT = 2_000
"""Requests of a short round."""
MOST_CLIENTS = 200
PARTS = 10
"""Parts of the long round, after each of which memory is read."""
BOUNDARY = b"benchmark"


class Usage(NamedTuple):
    """Memory of the server, MiB, and the milliseconds that it has computed."""

    memory: float
    computed: float


class Round(NamedTuple):
    """What the requests of a round brought."""

    statuses: Counter[int]
    milliseconds: np.ndarray
    """Of each answered request."""
    seconds: float

    def __str__(self) -> str:
        p50, p99 = np.percentile(self.milliseconds, (50, 99))
        rate = len(self.milliseconds) / self.seconds
        return f"{rate:6,.0f} requests/s, p50 {p50:6,.0f} ms, p99 {p99:6,.0f} ms, {dict(self.statuses)}"


def main() -> None:
    """Measures the frozen pass, then the server in rounds, and the frozen pass again."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", help="a run folder")
    parser.add_argument("--data", required=True, help="a folder of files to send")
    parser.add_argument("--requests", type=int, default=100_000)
    flags = parser.parse_args()
    bodies = [_request(file.path) for file in find_files([flags.data])]

    from app.terminal import import_tensorflow

    import_tensorflow()
    from inference.load import load_model, read_run

    frozen, batch = frozen_layers(load_model(read_run(Path(flags.run))))
    print(_frozen_rate(frozen, batch), flush=True)
    command = [sys.executable, str(ROOT / "serve.py"), flags.run, "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        try:
            assert server.stdout is not None
            found = re.search(r":(\d+)/", server.stdout.readline())
            assert found
            asyncio.run(_measure(int(found[1]), bodies, flags.requests, server))
        finally:
            server.terminate()
    print(_frozen_rate(frozen, batch))


async def _measure(port: int, bodies: list[bytes], requests: int, server: subprocess.Popen[str]) -> None:
    """Runs the rounds, and prints a line for each."""
    for clients in CLIENTS:
        print(f"{clients:>4} clients: {await ask(port, bodies, SHORT, clients)}", flush=True)
    parts, before = [], await _usage(port)
    after = before
    print(f"{before.memory:,.0f} MiB before {requests:,} requests of {MOST_CLIENTS} clients", flush=True)
    for _ in range(PARTS):
        parts.append(await ask(port, bodies, requests // PARTS, MOST_CLIENTS))
        after = await _usage(port)
        print(f"     {parts[-1]}, {after.memory:,.0f} MiB", flush=True)
    whole = Round(
        sum((part.statuses for part in parts), Counter()),
        np.concatenate([part.milliseconds for part in parts]),
        sum(part.seconds for part in parts),
    )
    computed = (after.computed - before.computed) / len(whole.milliseconds)
    print(f"{MOST_CLIENTS:>4} clients: {whole}, {computed:.2f} ms of the processor each", flush=True)
    last = asyncio.create_task(ask(port, bodies, SHORT, MOST_CLIENTS))
    await asyncio.sleep(1)
    server.send_signal(signal.SIGTERM)
    ended = await last
    print(f"SIGTERM: {dict(ended.statuses)} (0: no answer), status {await asyncio.to_thread(server.wait)}", flush=True)


async def ask(port: int, bodies: list[bytes], requests: int, clients: int) -> Round:
    """Sends requests, as many at once as there are clients; a status of 0 is a connection that was refused or closed
    before anything of the answer came."""
    statuses: Counter[int] = Counter()
    milliseconds: list[float] = []
    waiting = itertools.islice(itertools.cycle(bodies), requests)
    started = time.perf_counter()
    await asyncio.gather(*(_ask_in_turn(port, waiting, statuses, milliseconds) for _ in range(clients)))
    return Round(statuses, np.array(milliseconds), time.perf_counter() - started)


async def _ask_in_turn(port: int, waiting: Iterator[bytes], statuses: Counter[int], milliseconds: list[float]) -> None:
    """One client: sends a request, waits for the answer, and takes the next, on one connection."""
    try:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        for body in waiting:
            started = time.perf_counter()
            writer.write(body)
            head = await reader.readuntil(b"\r\n\r\n")
            length = re.search(rb"(?i)content-length: (\d+)", head)
            await reader.readexactly(int(length[1]) if length else 0)
            milliseconds.append((time.perf_counter() - started) * 1000)
            statuses[int(head.split(maxsplit=2)[1])] += 1
            if b"connection: close" in head.lower():
                break
        writer.close()
    except asyncio.IncompleteReadError as error:
        statuses[-1 if error.partial else 0] += 1
    except ConnectionError:
        statuses[0] += 1


async def _usage(port: int) -> Usage:
    """Asks the server what it uses."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
    text = (await reader.read()).decode()
    writer.close()
    values = dict(re.findall(r"^(process_\w+) (\S+)", text, re.MULTILINE))
    return Usage(
        float(values["process_resident_memory_bytes"]) / 2**20, float(values["process_cpu_seconds_total"]) * 1000
    )


def _request(path: Path) -> bytes:
    """A request for one file."""
    disposition = f'form-data; name="files"; filename={json.dumps(path.name)}'.encode()
    body = b"--%b\r\nContent-Disposition: %b\r\n\r\n%b\r\n--%b--\r\n" % (
        BOUNDARY,
        disposition,
        path.read_bytes(),
        BOUNDARY,
    )
    head = f"POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(body)}\r\n"
    return head.encode() + b"Content-Type: multipart/form-data; boundary=%b\r\n\r\n" % BOUNDARY + body


def _frozen_rate(frozen: Callable[..., Any], batch: "tf.Tensor") -> str:
    """Measures the frozen layers alone."""
    started, calls = time.process_time(), 20
    best = best_seconds(lambda: frozen(batch)[0], repeats=calls)
    computed = (time.process_time() - started) * 1000 / (calls + 1) / len(batch)
    return f"frozen pass {len(batch) / best:,.0f} examples/s, {computed:.2f} ms of the processor each"


if __name__ == "__main__":
    run_command(main)
