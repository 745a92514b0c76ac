"""Processes that run trials, all reading one store, each with its share of the cores or a GPU.

They import this file before anything else, so TensorFlow is imported only where it is used.
"""

import contextlib
import multiprocessing
import os
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
"""Times that the worker of a trial may die, as one does that takes more memory than there is."""
_networks: "dict[str, Network]" = {}
"""Of a worker, by backbone."""


def run_in_workers(
    jobs: Sequence[Job], config: TuneConfig, deadline: float, gpus: int
) -> "Iterator[tuple[int, Outcome | str]]":
    """Gives jobs to workers; when one dies, all start afresh, and what they were at is done again.

    Args:
        jobs: trials.
        config: of the search, with the number of workers.
        deadline: value of `time.perf_counter` after which none is begun.
        gpus: number of GPUs, which the workers share out.

    Yields:
        Number and outcome of each trial; a text instead of an outcome says why there is none.
    """
    waiting, deaths = dict(enumerate(jobs)), Counter[int]()
    while waiting and time.perf_counter() < deadline:
        running: dict[Future, int] = {}
        pool = _start_workers(config, gpus)
        left = list(waiting)
        try:
            while running or (left and time.perf_counter() < deadline):
                while left and len(running) < config.workers and time.perf_counter() < deadline:
                    index = left.pop(0)
                    running[pool.submit(_work, waiting[index])] = index
                for future in wait(running, return_when=FIRST_COMPLETED).done:
                    outcomes = future.result()
                    del waiting[running.pop(future)]
                    yield from outcomes
            return
        except BrokenProcessPool:
            show_stage("search", "a worker died; its trials are given to another")
            deaths.update(running.values())
            for index in [index for index in waiting if deaths[index] == ATTEMPTS]:
                message = f"its worker died {ATTEMPTS} times, perhaps for lack of memory"
                yield from ((number, message) for number, _ in waiting.pop(index))
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


def _start_workers(config: TuneConfig, gpus: int) -> ProcessPoolExecutor:
    context = multiprocessing.get_context("spawn")  # TensorFlow does not survive a fork
    places = context.SimpleQueue()
    for place in range(config.workers):
        places.put(place)
    return ProcessPoolExecutor(config.workers, context, _prepare_worker, (config, places, gpus))


def _prepare_worker(config: TuneConfig, places: Any, gpus: int) -> None:
    """Takes a share of the machine, and everything else from the store."""
    threads = str(max(1, (os.cpu_count() or 1) // config.workers))
    os.environ.update(TF_NUM_INTRAOP_THREADS=threads, TF_NUM_INTEROP_THREADS=threads)
    if gpus:
        os.environ["CUDA_VISIBLE_DEVICES"] = str(places.get() % gpus)
    console.quiet = True
    import_tensorflow()
    from tuning.inputs import load_search_inputs
    from tuning.network import Network, make_deterministic

    make_deterministic(config.seed)
    _, inputs = load_search_inputs(config)
    _networks.update({each.config.backbone: Network(each, config) for each in inputs})


def _work(job: Job) -> "list[tuple[int, Outcome]]":
    from tuning.jobs import run_job

    with contextlib.suppress(KeyboardInterrupt):  # the process that asked says what there is to say
        return list(run_job(_networks[job[0][1].backbone], job))
    return []
