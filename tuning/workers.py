"""Processes that run trials, all reading one store, each with its share of the cores or a GPU.

They import this file before anything else, so TensorFlow is imported only where it is used.
"""

import multiprocessing
import os
import signal
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from typing import TYPE_CHECKING, Any

from config import TrainConfig
from terminal import console, import_tensorflow, show_stage
from tuning.space import TuneConfig

if TYPE_CHECKING:
    from tuning.network import Network, Outcome

Job = Sequence[tuple[int, TrainConfig]]
"""Trials that run together: numbers and settings."""
ATTEMPTS = 3
"""Times that the worker of a job may die, as one does that takes more memory than there is; the last ones alone."""
_networks: "dict[str, Network]" = {}
"""Of a worker, by backbone."""
_failure: list[Exception] = []
"""What kept a worker from starting."""


class Workers:
    """A pool of processes, started when the first job comes."""

    def __init__(self, config: TuneConfig, gpus: int):
        """Starts nothing yet.

        Args:
            config: of the search, with the number of workers.
            gpus: number of GPUs, which the workers share out.
        """
        self._config = config
        self._gpus = gpus
        self._pool: ProcessPoolExecutor | None = None

    def run(self, jobs: Sequence[Job], deadline: float) -> "Iterator[tuple[int, Outcome | str]]":
        """Gives jobs to workers; when one dies, all start afresh, and what they were at is done again, one at a time.

        Args:
            jobs: trials.
            deadline: value of `time.perf_counter` after which none is begun.

        Yields:
            Number and outcome of each trial; a text instead of an outcome says why there is none.
        """
        waiting, deaths = dict(enumerate(jobs)), Counter[int]()
        while waiting and time.perf_counter() < deadline:
            running: dict[Future, int] = {}
            left = sorted(waiting, key=lambda index: deaths[index])
            try:
                while running or (left and time.perf_counter() < deadline):
                    # What may have killed a worker runs alone, so that nothing else is blamed.
                    while left and time.perf_counter() < deadline:
                        if len(running) >= (1 if deaths[left[0]] else self._config.workers):
                            break
                        index = left.pop(0)
                        running[self._started().submit(_work, waiting[index])] = index
                    for future in wait(running, return_when=FIRST_COMPLETED).done:
                        outcomes = future.result()
                        del waiting[running.pop(future)]
                        yield from outcomes
            except BrokenProcessPool:
                self.close()
                show_stage("search", "a worker died; its trials are given to another")
                deaths.update(running.values())
                for index in [index for index in waiting if deaths[index] >= ATTEMPTS]:
                    message = f"its worker died {ATTEMPTS} times, perhaps for lack of memory"
                    yield from ((number, message) for number, _ in waiting.pop(index))

    def close(self) -> None:
        """Ends the processes, whatever they are at."""
        if self._pool is not None:
            processes = list((self._pool._processes or {}).values())  # the executor cannot end running jobs itself
            self._pool.shutdown(wait=False, cancel_futures=True)
            for process in processes:
                process.terminate()
            self._pool = None

    def _started(self) -> ProcessPoolExecutor:
        if self._pool is None:
            context = multiprocessing.get_context("spawn")  # TensorFlow does not survive a fork
            places = context.SimpleQueue()
            for place in range(self._config.workers):
                places.put(place)
            arguments = self._config, places, self._gpus
            self._pool = ProcessPoolExecutor(self._config.workers, context, _prepare_worker, arguments)
        return self._pool


def _prepare_worker(config: TuneConfig, places: Any, gpus: int) -> None:
    """Takes a share of the machine, and everything else from the store."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the process that asked ends this one
    threading.Thread(target=_end_with_parent, daemon=True).start()
    threads = str(max(1, (os.cpu_count() or 1) // config.workers))
    os.environ.update(TF_NUM_INTRAOP_THREADS=threads, TF_NUM_INTEROP_THREADS=threads)
    if gpus:
        visible = os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",")
        names = visible if visible != [""] else [str(number) for number in range(gpus)]
        os.environ["CUDA_VISIBLE_DEVICES"] = names[places.get() % len(names)]
    console.quiet = True
    try:
        import_tensorflow()
        from training.run import make_deterministic
        from tuning.inputs import load_search_inputs
        from tuning.network import Network

        make_deterministic(config.seed)
        _, inputs = load_search_inputs(config)
        _networks.update({each.config.backbone: Network(each, config) for each in inputs})
    except Exception as error:  # raised by the first job: here it would only be a pool that breaks
        _failure.append(error)


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _work(job: Job) -> "list[tuple[int, Outcome]]":
    from tuning.jobs import run_job

    if _failure:
        raise _failure[0]
    return list(run_job(_networks[job[0][1].backbone], job))
