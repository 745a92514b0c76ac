"""The process that keeps a search gives its jobs to workers, on this machine or on others."""

import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from multiprocessing.process import BaseProcess
from typing import Any

import grpc

from app.errors import RunError, UsageError
from app.terminal import show_stage
from tuning.cluster import HANDED_BACK, METHOD, OPTIONS, SERVICE, decode, encode, pack
from tuning.space import TuneConfig
from tuning.trials import Job, Outcome, failed
from tuning.workers import start_worker

ATTEMPTS = 3
"""Times that the worker of a job may die, as one does that takes more memory than there is."""
MOST_WORKERS = 1000
PATIENCE = 1.0
"""Seconds between looks at the clock and at the processes of this machine."""
GRACE = 2.0
"""Seconds that workers have to take leave."""


class Chief:
    """Gives jobs to whoever asks for one, and those of a worker that is gone to another."""

    def __init__(self, config: TuneConfig, search: dict[str, Any], gpus: int, address: str | None):
        """Listens for workers on other machines; those on this one are started with the first jobs.

        Args:
            config: of the search, with the number of workers to start on this machine.
            search: what is searched; a worker that has anything else is refused.
            gpus: number of GPUs here, which the workers here share out.
            address: host and port for workers on other machines, and then there are none here; None for workers here.

        Raises:
            UsageError: the address cannot be had.
        """
        self._config, self._search, self._gpus = config, encode(search), gpus
        self._starts_workers = address is None
        self._processes: list[BaseProcess] = []
        self._restarts = 0
        """Since the last outcome."""
        self._changed = threading.Condition()
        self._open = True
        self._has_begun = False
        self._deadline = 0.0
        self._waiting: dict[int, Job] = {}
        self._running: dict[object, tuple[int, Job]] = {}
        """By worker: position of a job, and the job."""
        self._deaths = Counter[int]()
        self._outcomes: list[tuple[int, Outcome]] = []
        self._server, self._address = self._listen(address or "127.0.0.1:0")
        if address is not None:
            show_stage("search", f"workers are served at {address}")

    def run(self, jobs: Sequence[Job], deadline: float) -> Iterator[tuple[int, Outcome]]:
        """Has jobs done.

        Args:
            jobs: trials.
            deadline: value of `time.perf_counter` after which none is begun.

        Yields:
            Number and outcome of each trial.

        Raises:
            RunError: no worker can start, or none stays alive.
        """
        if not jobs:
            return
        with self._changed:
            self._waiting, self._deadline, self._has_begun = dict(enumerate(jobs)), deadline, True
            self._deaths.clear()
            self._changed.notify_all()
        if self._starts_workers and not self._processes:
            self._processes = [self._start_worker(place) for place in range(self._config.workers)]
        while True:
            with self._changed:
                while not self._outcomes and (self._running or (self._waiting and time.perf_counter() < deadline)):
                    self._changed.wait(PATIENCE)
                    self._replace_dead()
                outcomes, self._outcomes = self._outcomes, []
            if not outcomes:
                return
            self._restarts = 0
            yield from outcomes

    def close(self) -> None:
        """Tells the workers that the search is over; ends those of this machine, whatever they are at."""
        with self._changed:
            self._open = False
            self._changed.notify_all()
        for process in self._processes:
            process.terminate()
            process.join()
        self._server.stop(GRACE).wait()

    def _listen(self, address: str) -> tuple[grpc.Server, str]:
        serve = grpc.stream_stream_rpc_method_handler(self._serve)
        server = grpc.server(ThreadPoolExecutor(MOST_WORKERS), options=OPTIONS)
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, {METHOD: serve}),))
        try:
            port = server.add_insecure_port(address)
        except RuntimeError:
            raise UsageError(
                f"No workers can be served at {address}: it is no address of this machine, or the port is taken."
            ) from None
        server.start()
        return server, f"{address.rpartition(':')[0]}:{port}"

    def _start_worker(self, place: int) -> BaseProcess:
        return start_worker(self._config, self._address, place, self._gpus, patient=False)

    def _replace_dead(self) -> None:
        for place, process in enumerate(self._processes):
            if process.exitcode is None:
                continue
            if process.exitcode > 0:  # by itself, not by a signal
                raise RunError("A worker has failed; what it said stands above.")
            self._restarts += 1
            if self._restarts > ATTEMPTS * (self._config.workers + 1):
                raise RunError("The workers are killed again and again, perhaps for lack of memory. Ask for fewer.")
            show_stage("search", "a worker died; another takes its place")
            self._processes[place] = self._start_worker(place)

    def _serve(self, messages: Iterator[bytes], context: grpc.ServicerContext) -> Iterator[bytes]:
        """Serves a worker for as long as it lives: it brings outcomes and is given a job."""
        if next(messages) != self._search:
            text = "This worker was asked for another search than the chief, or has other pictures, labels or weights."
            context.abort(grpc.StatusCode.FAILED_PRECONDITION, text)
        worker = object()
        if not context.add_callback(lambda: self._leave(worker)):
            return
        with self._changed:
            while self._open and not self._has_begun and context.is_active():
                self._changed.wait(PATIENCE)
        yield encode("welcome")
        for message in messages:
            if message == HANDED_BACK:
                self._take_back(worker)
                return
            outcomes = [(number, Outcome(*values)) for number, values in decode(message)]
            job = self._exchange(worker, outcomes, context)
            if job is None:
                return
            yield encode(pack(job))

    def _exchange(
        self, worker: object, outcomes: list[tuple[int, Outcome]], context: grpc.ServicerContext
    ) -> Job | None:
        """Takes what a worker brings, and waits until there is a job for it; None if there never will be."""
        with self._changed:
            if self._running.pop(worker, None) is not None:  # else it is given to another already
                self._outcomes += outcomes
            self._changed.notify_all()
            while self._open and context.is_active():  # once it is not, `_leave` has been and will not come again
                index = self._next()
                if index is not None:
                    self._running[worker] = index, self._waiting.pop(index)
                    return self._running[worker][1]
                self._changed.wait(PATIENCE)
            return None

    def _next(self) -> int | None:
        """Position of the job to begin now. What may have killed a worker runs alone: what others take may be why."""
        if not self._waiting or time.perf_counter() > self._deadline:
            return None
        index = min(self._waiting, key=lambda index: (self._deaths[index], index))
        alone = self._deaths[index] or any(self._deaths[other] for other, _ in self._running.values())
        return None if alone and self._running else index

    def _take_back(self, worker: object) -> None:
        """Takes back the job of a worker that cannot do it, or was told to stop, which is not the job's fault."""
        with self._changed:
            index, job = self._running.pop(worker)
            self._waiting[index] = job
            self._changed.notify_all()

    def _leave(self, worker: object) -> None:
        """Takes back the job of a worker that is gone."""
        with self._changed:
            index, job = self._running.pop(worker, (-1, ()))
            if job and self._open:
                self._deaths[index] += 1
                if self._deaths[index] < ATTEMPTS:
                    show_stage("search", "a worker died; its trials are given to another")
                    self._waiting[index] = job
                else:
                    message = f"its worker died {ATTEMPTS} times, perhaps for lack of memory"
                    self._outcomes += [(number, failed(message)) for number, _ in job]
            self._changed.notify_all()
