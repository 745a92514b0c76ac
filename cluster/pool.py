"""Workers of Ray that run jobs: processes on this machine, or on the machines of a Ray cluster that is running.

Ray starts, watches and ends the processes, gives each its cores or its GPU, and carries jobs and results. This module
decides which job runs next, and what happens to a job whose worker dies or hangs.
"""

import contextlib
import math
import os
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from app.config import RunConfig
from app.errors import RunError
from app.terminal import counted, show_stage
from cluster.connection import DeadError, check_ray, connect, divide, result_of
from cluster.process import Worker, library_versions

if TYPE_CHECKING:
    from ray import ObjectRef  # type: ignore[attr-defined,unused-ignore]
    from ray.actor import ActorHandle

Job = TypeVar("Job")
Result = TypeVar("Result")

ATTEMPTS = 4
"""Attempts per job: if its worker dies, perhaps for lack of memory, the job is retried."""
AHEAD = 2
"""Jobs per worker that may start before an earlier one of a sequence is done; waiting results are in memory."""
SHARD_BYTES = 2**24
"""Bytes that a job of a forward pass sends or returns."""
SHARD_SECONDS = 3600.0
"""Seconds after which a job of a forward pass is stopped."""
POLL = 1.0
"""Seconds between checks of deadlines."""
START_SECONDS = 3600.0
"""Seconds without any worker after which the command ends; a worker may have to decode all examples first."""


class Lost(NamedTuple):
    """A job without a result."""

    reason: str


class _Started(NamedTuple):
    """A job that has started on a worker."""

    position: int
    worker: "ActorHandle"
    begun: float
    limit: float
    """Most seconds of the job."""
    alone: bool
    """True if no other job runs beside it."""


@contextlib.contextmanager
def open_pool(config: RunConfig) -> "Iterator[Pool | None]":
    """Describes the requested workers, and stops them after the block; None if none are requested.

    Raises:
        UsageError: Ray is not installed.
    """
    if not config.has_workers:
        yield None
        return
    check_ray("--workers" if config.cluster is None else "--cluster")
    os.environ.setdefault("TF_FORCE_GPU_ALLOW_GROWTH", "true")  # this process shares GPUs with its workers
    with contextlib.closing(Pool(config.workers, config.cluster)) as pool:
        yield pool


class Pool:
    """Workers, and the jobs they are running."""

    def __init__(self, workers: int | None, address: str | None):
        """Describes the workers; they start with the first jobs.

        Args:
            workers: number of workers; None for one per GPU of the cluster, or one per machine if there are no GPUs.
            address: address of a running Ray, 'auto' or 'HOST:PORT'; None starts one on this machine.
        """
        self._workers, self._address = workers, address
        self._count = 0
        """Intended number of workers; 0 before Ray is connected."""
        self._options: dict[str, float] = {}
        self._make: Callable[[], Callable[[Any], Any]] | None = None
        self._made: ObjectRef | None = None
        """Copy of `_make` in Ray's memory, for the workers."""
        self._starting: dict[ObjectRef, ActorHandle] = {}
        self._idle: list[ActorHandle] = []
        self._running: dict[ObjectRef, _Started] = {}
        self._deaths_in_a_row = 0
        self._alive = time.monotonic()
        """Time when a usable worker was last seen."""

    def in_order(self, make: Callable[[], Callable[[Job], Result]], jobs: Sequence[Job]) -> Iterator[Result]:
        """Runs the jobs of a forward pass; yields their results in the order of the jobs.

        Args:
            make: see `run`.
            jobs: the jobs; each is accessed only when it starts, so a lazy sequence works.

        Raises:
            RunError: a job is lost, or no worker can start.
        """
        early: dict[int, Result] = {}
        position = 0
        for found, result in self.run(make, jobs, limit=lambda _: SHARD_SECONDS, ahead=AHEAD):
            if isinstance(result, Lost):
                raise RunError(f"A part of the work is lost: {result.reason}. The same command continues from there.")
            early[found] = result
            while position in early:
                yield early.pop(position)
                position += 1

    def run(
        self,
        make: Callable[[], Callable[[Job], Result]],
        jobs: Sequence[Job],
        deadline: float = math.inf,
        limit: Callable[[Job], float] = lambda _: math.inf,
        ahead: float = math.inf,
    ) -> Iterator[tuple[int, Result | Lost]]:
        """Runs jobs on the workers; they start in order.

        Args:
            make: called in each worker; returns the function that runs a job. Pickled, with what it holds.
            jobs: arguments of that function.
            deadline: value of `time.perf_counter` after which no job starts.
            limit: seconds after which a job's worker is stopped.
            ahead: jobs per worker that may start before an earlier one is done.

        Yields:
            Position and result of each job, as soon as it is known.

        Raises:
            RunError: no worker can start, or none stays alive.
            Exception: whatever a job raised.
        """
        if not len(jobs):
            return
        self._start(make)
        import ray  # after its settings are in the environment

        waiting, again, deaths = deque(range(len(jobs))), list[int](), Counter[int]()
        found: list[tuple[int, Result | Lost]] = []
        try:
            while found or self._running or ((waiting or again) and time.perf_counter() < deadline):
                if time.perf_counter() < deadline:
                    self._give_out(jobs, waiting, again, limit, ahead)
                if found:
                    yield from found  # while the workers run the next jobs
                    found = []
                    continue
                done, _ = ray.wait([*self._starting, *self._running], timeout=POLL)
                for ref in done:
                    if ref in self._starting:
                        self._welcome(ref)
                        continue
                    started = self._running.pop(ref)
                    try:
                        result = result_of(ref)
                    except DeadError:
                        self._replace(started.worker, died=True)
                        deaths[started.position] += 1
                        if deaths[started.position] < ATTEMPTS:
                            show_stage("cluster", "a worker died; another gets its job")
                            again.append(started.position)
                        else:
                            reason = f"its worker died {ATTEMPTS} times, perhaps for lack of memory"
                            found.append((started.position, Lost(reason)))
                    else:
                        self._idle.append(started.worker)
                        self._deaths_in_a_row = 0
                        found.append((started.position, result))
                for ref, started in list(self._running.items()):
                    if time.monotonic() - started.begun > started.limit:
                        del self._running[ref]
                        self._replace(started.worker)
                        found.append((started.position, Lost(f"took longer than {started.limit / 60:g} minutes")))
                if not found:  # what is found is told before the end
                    self._check_alive()
        finally:
            for started in self._running.values():  # nobody waits for them any more
                ray.kill(started.worker)
            self._running = {}

    def close(self) -> None:
        """Stops the workers, even running ones, and the Ray that was started for them."""
        if not self._count:
            return
        import ray

        for worker in (*self._starting.values(), *self._idle, *(each.worker for each in self._running.values())):
            ray.kill(worker)
        self._made = self._make = None
        self._starting, self._idle, self._running = {}, [], {}
        ray.shutdown()
        self._count = 0

    def _start(self, make: Callable[[], Callable[[Any], Any]]) -> None:
        """Makes sure that there are workers, prepared by `make`."""
        if not self._count:
            connect(self._address, self._workers or 1)
        import ray

        if not self._count:
            nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
            self._count, self._options = divide(nodes, self._workers)
            options = [f"{value:g} {name.removeprefix('num_')}" for name, value in self._options.items() if value]
            show_stage("cluster", f"{counted(self._count, 'worker', 'workers')} with {', '.join(options)} each")
        self._alive = time.monotonic()
        if make is not self._make:
            self._make, self._made = make, ray.put(make)
            workers, self._starting, self._idle = [*self._starting.values(), *self._idle], {}, []
            for worker in workers:
                self._prepare(worker)
        while len(self._starting) + len(self._idle) < self._count:
            self._start_worker()

    def _start_worker(self) -> None:
        import ray

        options: dict[str, Any] = {"scheduling_strategy": "SPREAD", **self._options}
        actor: Any = ray.remote(**options)(Worker)
        threads = max(1, int(self._options["num_cpus"]))
        self._prepare(actor.remote(os.getcwd(), threads))

    def _prepare(self, worker: "ActorHandle") -> None:
        handle: Any = worker
        self._starting[handle.prepare.remote(self._made, library_versions())] = worker

    def _welcome(self, ref: "ObjectRef") -> None:
        """Adds a worker that is ready, or replaces one that died on the way."""
        worker = self._starting.pop(ref)
        try:
            result_of(ref)
            self._idle.append(worker)
        except DeadError:
            self._replace(worker, died=True)

    def _replace(self, worker: "ActorHandle", died: bool = False) -> None:
        """Starts another worker in place of one that died, or that is stopped because its job takes too long."""
        import ray

        ray.kill(worker)
        self._deaths_in_a_row += died
        self._start_worker()

    def _give_out(
        self,
        jobs: Sequence[Any],
        waiting: deque[int],
        again: list[int],
        limit: Callable[[Any], float],
        ahead: float,
    ) -> None:
        """Gives jobs to idle workers. A job that may have killed a worker runs alone: others may take the memory."""
        while self._idle and not any(started.alone for started in self._running.values()):
            at = [started.position for started in self._running.values()]
            oldest = min([*at, *again, *islice(waiting, 1)], default=0)
            if waiting and waiting[0] < oldest + ahead * self._count:
                position, alone = waiting.popleft(), False
            elif again and not at:
                position, alone = again.pop(0), True
            else:
                return
            worker: Any = self._idle.pop(0)
            job = jobs[position]
            self._running[worker.run.remote(job)] = _Started(position, worker, time.monotonic(), limit(job), alone)

    def _check_alive(self) -> None:
        if self._running or self._idle:
            self._alive = time.monotonic()
        if self._deaths_in_a_row > ATTEMPTS * (self._count + 1):
            raise RunError("The workers die again and again, perhaps for lack of memory. Ask for fewer.")
        if time.monotonic() - self._alive > START_SECONDS:
            raise RunError(f"No worker has started for {START_SECONDS / 60:g} minutes: Ray has no room for one.")
