"""A process that runs the trials that a chief gives it, with a share of the cores or a GPU, or all of a machine.

It imports this file before anything else, so TensorFlow is imported only where it is used.
"""

import multiprocessing
import os
import queue
import signal
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from multiprocessing.process import BaseProcess
from typing import TYPE_CHECKING

import grpc
from joblib import cpu_count

from app.cli import RUN_STATUS, run_command
from app.errors import RunError, UsageError
from app.terminal import console, import_tensorflow, show_stage
from training.inputs import RunInputs
from tuning.cluster import HANDED_BACK, METHOD, OPTIONS, SERVICE, decode, encode, unpack
from tuning.inputs import load_search_inputs
from tuning.space import TuneConfig
from tuning.trials import Job

if TYPE_CHECKING:
    from tuning.network import Network
    from tuning.trials import Outcome

CONNECT_SECONDS = 600
"""That the chief on another machine may take to start; it listens before it computes."""


def start_worker(config: TuneConfig, address: str, place: int, gpus: int, patient: bool) -> BaseProcess:
    """Starts a worker as one of several processes on this machine.

    Args:
        config: of the search; `workers` is the number of processes that share the machine.
        address: host and port of the chief.
        place: which of them it is, from 0.
        gpus: number of GPUs, each of which goes to one process, or to several if there are more of them.
        patient: whether to wait for a chief that is not there yet.
    """
    context = multiprocessing.get_context("spawn")  # TensorFlow does not survive a fork
    arguments = config, address, place, gpus, patient
    process = context.Process(target=_run_worker, args=arguments, daemon=True)
    handler = signal.signal(signal.SIGINT, signal.SIG_IGN)  # inherited: the process that starts this one also ends it
    try:
        process.start()
    finally:
        signal.signal(signal.SIGINT, handler)
    return process


def _run_worker(config: TuneConfig, address: str, place: int, gpus: int, patient: bool) -> None:
    threads = str(max(1, cpu_count() // config.workers))
    os.environ.update(TF_NUM_INTRAOP_THREADS=threads, TF_NUM_INTEROP_THREADS=threads)
    if gpus:
        visible = os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",")
        names = visible if visible != [""] else [str(number) for number in range(gpus)]
        os.environ["CUDA_VISIBLE_DEVICES"] = names[place % len(names)]
    console.quiet = True

    def start() -> None:
        _, inputs = load_search_inputs(config)
        import_tensorflow()
        work(config, inputs, address, patient)

    run_command(start)


def run_workers(config: TuneConfig, inputs: Sequence[RunInputs], address: str) -> None:
    """Runs trials for a chief on another machine until its search is over; TensorFlow is imported.

    Args:
        config: as the chief was asked, but for the folders and the number of workers on this machine.
        inputs: pictures and settings of each backbone.
        address: host and port of the chief.

    Raises:
        UsageError: the chief searches something else.
        RunError: the chief is not there, or ends before its search does.
    """
    show_stage("worker", f"waiting for the chief at {address}")
    if config.workers == 1:
        work(config, inputs, address, patient=True)
    else:
        import tensorflow as tf

        gpus = len(tf.config.list_physical_devices("GPU"))
        processes = [start_worker(config, address, place, gpus, patient=True) for place in range(config.workers)]
        for process in processes:
            process.join()
        if any(process.exitcode for process in processes):
            raise RunError("A worker has failed; what it said stands above.")
    show_stage("done", "the chief's search is over")


def work(config: TuneConfig, inputs: Sequence[RunInputs], address: str, patient: bool) -> None:
    """Runs trials for a chief until its search is over.

    Args:
        config: of the search.
        inputs: pictures and settings of each backbone.
        address: host and port of the chief.
        patient: whether to wait for a chief that is not there yet.

    Raises:
        UsageError: the chief searches something else.
        RunError: the chief is not there, or is gone.
    """
    from training.run import make_deterministic
    from tuning.network import Network
    from tuning.records import asked

    make_deterministic(config.seed)
    messages = queue.SimpleQueue[bytes]()
    messages.put(encode(asked(config, inputs)))
    busy = threading.Event()

    def end_if_busy() -> None:
        """A trial that nobody waits for any more is not run to its end."""
        if busy.is_set():
            if patient:
                print(f"error: {_gone(address)}", file=sys.stderr, flush=True)
            os._exit(RUN_STATUS)

    try:
        with grpc.insecure_channel(address, options=OPTIONS) as channel:
            if patient:
                grpc.channel_ready_future(channel).result(CONNECT_SECONDS)
            jobs = channel.stream_stream(f"/{SERVICE}/{METHOD}")(iter(messages.get, b""))
            next(jobs)  # the welcome: the chief's features are in the store by now, if this machine shares it
            jobs.add_callback(end_if_busy)
            show_stage("worker", f"works for the chief at {address}")
            networks = {each.config.backbone: Network(each, config) for each in inputs}
            messages.put(encode([]))
            for message in jobs:
                messages.put(encode(_do(unpack(decode(message)), networks, busy, messages, jobs)))
    except StopIteration:
        return  # over before it began
    except grpc.FutureTimeoutError:
        raise RunError(f"No chief answers at {address} after {CONNECT_SECONDS:,} seconds.") from None
    except grpc.RpcError as error:
        if error.code() == grpc.StatusCode.CANCELLED:
            return  # over while this worker was getting ready
        if error.code() == grpc.StatusCode.FAILED_PRECONDITION:
            raise UsageError(error.details()) from None
        raise RunError(_gone(address)) from None
    finally:
        messages.put(b"")  # no more of them


def _do(
    job: Job,
    networks: "Mapping[str, Network]",
    busy: threading.Event,
    messages: "queue.SimpleQueue[bytes]",
    jobs: Iterator[bytes],
) -> "list[tuple[int, Outcome]]":
    """Runs a job; hands it back if this machine cannot do it, or if Ctrl-C stops this worker."""
    from tuning.jobs import run_job

    network = networks[job[0][1].backbone]
    busy.set()
    try:
        if any(network.complete(config) != config for _, config in job):
            raise RunError("This machine computes otherwise than the chief: its libraries are others.")
        outcomes = list(run_job(network, job))
    except (UsageError, RunError, KeyboardInterrupt):
        busy.clear()
        messages.put(HANDED_BACK)
        next(jobs, None)  # the chief ends the stream when it has heard it
        raise
    finally:
        busy.clear()
    for number, outcome in outcomes:
        text = f"val accuracy {outcome.val_accuracy:.2%}" if outcome.status == "done" else outcome.message
        show_stage("worker", f"trial {number}: {text}")
    return outcomes


def _gone(address: str) -> str:
    return f"The chief at {address} is gone; the same commands go on from there."
