"""Workers of Ray that run jobs: processes on this machine, or on the machines of a Ray cluster that is running.

Ray starts, watches and ends the processes, gives each its cores or its GPU, and carries jobs and results. This module
decides which job runs next, and what becomes of one whose worker dies or hangs.
"""

import math
import os
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, Generic, NamedTuple, TypeVar

from app.errors import RunError
from app.terminal import console, counted, show_stage
from cluster.connection import connect, divide

if TYPE_CHECKING:
    from ray import ObjectRef  # type: ignore[attr-defined,unused-ignore]
    from ray.actor import ActorHandle

Job = TypeVar("Job")
Result = TypeVar("Result")

ATTEMPTS = 4
"""Times that a job is given out: a worker that dies, for lack of memory perhaps, costs its job a retry."""
POLL = 1.0
"""Seconds between looks at the clock."""
START_SECONDS = 3600.0
"""Time without any worker after which the command ends: a worker may have to decode all examples first."""


class Lost(NamedTuple):
    """A job without a result."""

    reason: str


class _Started(NamedTuple):
    """A job that a worker is at."""

    position: int
    worker: "ActorHandle"
    begun: float


class Worker(Generic[Job, Result]):
    """A process that runs jobs, as Ray makes it."""

    def __init__(self, folder: str, threads: int, make: Callable[[], Callable[[Job], Result]]):
        """Sets up the process, before it imports TensorFlow.

        Args:
            folder: working directory, so that relative paths are those of the command.
            threads: for TensorFlow.
            make: called here; returns the function that runs a job.
        """
        os.chdir(folder)
        os.environ.update(TF_NUM_INTRAOP_THREADS=str(threads), TF_NUM_INTEROP_THREADS=str(threads))
        console.quiet = True
        self._make = make

    def prepare(self) -> None:
        """Makes what all jobs share."""
        self._run = self._make()

    def run(self, job: Job) -> Result:
        """Runs a job."""
        return self._run(job)


class Pool(Generic[Job, Result]):
    """Workers, and the jobs they are at."""

    def __init__(self, make: Callable[[], Callable[[Job], Result]], workers: int | None, address: str | None):
        """Describes the workers; they start with the first jobs.

        Args:
            make: called in each worker; returns the function that runs a job. Pickled, with what it holds.
            workers: how many; None for one for each GPU of the cluster, or for each machine if there is none.
            address: of a running Ray, 'auto' or 'HOST:PORT'; None starts one on this machine.
        """
        self._make, self._count, self._address = make, workers, address
        self._options: dict[str, float] = {}
        self._starting: dict[ObjectRef, ActorHandle] = {}
        self._idle: list[ActorHandle] = []
        self._running: dict[ObjectRef, _Started] = {}
        self._deaths_in_a_row = 0
        self._alive = time.monotonic()
        """When a worker was last seen that could work."""

    def run(
        self, jobs: Sequence[Job], deadline: float = math.inf, limit: Callable[[Job], float] = lambda _: math.inf
    ) -> Iterator[tuple[int, Result | Lost]]:
        """Runs jobs, the first ones first.

        Args:
            jobs: what is handed to the function of a worker.
            deadline: value of `time.perf_counter` after which none is begun.
            limit: seconds that a job may take before its worker is ended.

        Yields:
            Position and result of each job, as soon as it is known.

        Raises:
            RunError: no worker can start, or none stays alive.
            Exception: whatever a job raised.
        """
        if not jobs:
            return
        if not self._options:
            self._start()
        import ray  # after its settings are in the environment

        waiting, deaths = dict(enumerate(jobs)), Counter[int]()
        while self._running or (waiting and time.perf_counter() < deadline):
            if time.perf_counter() < deadline:
                self._give_out(waiting, deaths)
            done, _ = ray.wait([*self._starting, *self._running], timeout=POLL)
            for ref in done:
                if ref in self._starting:
                    self._welcome(ref)
                    continue
                started = self._running.pop(ref)
                try:
                    result = _get(ref)
                except _DeadError:
                    self._replace(started.worker)
                    deaths[started.position] += 1
                    if deaths[started.position] < ATTEMPTS:
                        show_stage("cluster", "a worker died; what it was at is given to another")
                        waiting[started.position] = jobs[started.position]
                    else:
                        yield started.position, Lost(f"its worker died {ATTEMPTS} times, perhaps for lack of memory")
                else:
                    self._idle.append(started.worker)
                    self._deaths_in_a_row = 0
                    yield started.position, result
            for ref, started in list(self._running.items()):
                seconds = limit(jobs[started.position])
                if time.monotonic() - started.begun > seconds:
                    del self._running[ref]
                    self._replace(started.worker)
                    yield started.position, Lost(f"took longer than {seconds / 60:g} minutes")
            self._check_alive()

    def close(self) -> None:
        """Ends the workers, whatever they are at, and the Ray that was started for them."""
        if not self._options:
            return
        import ray

        for worker in (*self._starting.values(), *self._idle, *(each.worker for each in self._running.values())):
            ray.kill(worker)
        ray.shutdown()
        self._options = {}

    def _start(self) -> None:
        connect(self._address)
        import ray

        nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
        self._count, self._options = divide(nodes, self._count)
        options = ", ".join(f"{value:g} {name.removeprefix('num_')}" for name, value in self._options.items() if value)
        show_stage("cluster", f"{counted(self._count, 'worker', 'workers')} with {options} each")
        self._alive = time.monotonic()
        for _ in range(self._count):
            self._start_worker()

    def _start_worker(self) -> None:
        import ray

        options: dict[str, Any] = {"scheduling_strategy": "SPREAD", **self._options}
        actor: Any = ray.remote(**options)(Worker)
        threads = max(1, int(self._options["num_cpus"]))
        worker = actor.remote(os.getcwd(), threads, self._make)
        self._starting[worker.prepare.remote()] = worker

    def _welcome(self, ref: "ObjectRef") -> None:
        """Takes a worker that is ready, or replaces one that died before."""
        worker = self._starting.pop(ref)
        try:
            _get(ref)
            self._idle.append(worker)
        except _DeadError:
            self._replace(worker)

    def _replace(self, worker: "ActorHandle") -> None:
        import ray

        ray.kill(worker)
        self._deaths_in_a_row += 1
        self._start_worker()

    def _give_out(self, waiting: dict[int, Any], deaths: Counter[int]) -> None:
        """Gives jobs to idle workers. What may have killed a worker runs alone: what others take may be why."""
        while waiting and self._idle:
            index = min(waiting, key=lambda index: (deaths[index], index))
            alone = deaths[index] or any(deaths[started.position] for started in self._running.values())
            if alone and self._running:
                return
            worker: Any = self._idle.pop(0)
            ref = worker.run.remote(waiting.pop(index))
            self._running[ref] = _Started(index, worker, time.monotonic())

    def _check_alive(self) -> None:
        if self._running or self._idle:
            self._alive = time.monotonic()
        if self._deaths_in_a_row > ATTEMPTS * ((self._count or 1) + 1):
            raise RunError("The workers are killed again and again, perhaps for lack of memory. Ask for fewer.")
        if time.monotonic() - self._alive > START_SECONDS:
            raise RunError(f"No worker has started for {START_SECONDS / 60:g} minutes: Ray has no room for one.")


class _DeadError(Exception):
    """A worker is gone."""


def _get(ref: "ObjectRef") -> Any:
    """Returns a result.

    Raises:
        _DeadError: the worker is gone.
        Exception: what the job raised.
    """
    import ray

    try:
        return ray.get(ref)
    except ray.exceptions.RayTaskError as error:
        raise error.cause from None
    except ray.exceptions.RayError as error:
        raise _DeadError from error
