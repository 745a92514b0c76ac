"""Every job has one result, whatever becomes of the workers; what is no worker changes nothing."""

import contextlib
import importlib.util
import os
import secrets
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from types import SimpleNamespace

import psutil
import pytest

from app.errors import RunError, UsageError
from cluster import pool as pool_module
from cluster.connection import check_ray, connect, divide
from cluster.pool import ATTEMPTS, Lost, Pool
from tests.cluster import toys


@pytest.fixture(scope="module")
def pool() -> Iterator[Pool]:
    before, pool = set(psutil.Process().children(recursive=True)), Pool(2, None)
    yield pool
    children = set(psutil.Process().children(recursive=True)) - before
    pool.close()
    _, alive = psutil.wait_procs(children, timeout=120)
    assert not [process for process in alive if process.status() != psutil.STATUS_ZOMBIE]


def results(pool: Pool, jobs: list, **settings) -> list:
    found = dict(pool.run(toys.make, jobs, **settings))
    return [found.get(position) for position in range(len(jobs))]


def test_every_job_is_done_by_one_of_several_processes(pool):
    assert results(pool, [("double", number) for number in range(20)]) == [2 * number for number in range(20)]
    busy = results(pool, [("sleep", 0.5), ("process",), ("process",)])
    assert os.getpid() not in busy


def test_a_job_whose_worker_dies_is_given_to_another(pool, tmp_path, capsys):
    jobs = [("double", 1), ("die at first", tmp_path / "died"), ("double", 2)]
    assert results(pool, jobs) == [2, "done", 4]
    assert "a worker died" in capsys.readouterr().out


@pytest.mark.slow
def test_a_job_that_kills_every_worker_is_lost_and_no_other(pool):
    first, lost, last = results(pool, [("double", 1), ("die",), ("double", 2)])
    assert (first, last) == (2, 4)
    assert lost == Lost(f"its worker died {ATTEMPTS} times, perhaps for lack of memory")


def test_a_job_that_stops_its_worker_is_ended_and_counts_as_no_death(pool, monkeypatch):
    monkeypatch.setattr(pool_module, "ATTEMPTS", 0)  # a single death would end the command
    jobs = [("stop",), *(("double", number) for number in range(5))]
    limit = {"stop": 2.0}
    first, *others = results(pool, jobs, limit=lambda job: limit.get(job[0], 600.0))
    assert first == Lost("took longer than 0.0333333 minutes")
    assert others == [0, 2, 4, 6, 8]


def test_what_is_found_is_told_before_deaths_end_the_command(pool, monkeypatch):
    monkeypatch.setattr(pool_module, "ATTEMPTS", 0)
    outcomes = pool.run(toys.make, [("die",), ("sleep", 60)])
    assert next(outcomes) == (0, Lost("its worker died 0 times, perhaps for lack of memory"))
    with pytest.raises(RunError, match="die again and again"):
        next(outcomes)


def test_a_machine_without_the_folder_is_named_as_the_cause(pool, monkeypatch, tmp_path):
    assert results(pool, [("double", 1)]) == [2]  # Ray itself runs in the right folder
    with monkeypatch.context() as patch:
        patch.setattr("os.getcwd", lambda: str(tmp_path / "not there"))
        reason = r"^A worker cannot start .*No such file or directory: '.*not there'\. All mach"
        with pytest.raises(RunError, match=reason):
            results(pool, [("die",), ("sleep", 60)])
    pool.close()  # the next test must get no worker of the wrong folder


def test_what_a_job_raises_is_raised(pool):
    with pytest.raises(ValueError, match=r"^of its own$"):
        results(pool, [("fail", "of its own")])


def test_nothing_is_begun_after_the_deadline(pool):
    assert results(pool, [("double", 1)], deadline=time.perf_counter()) == [None]


def test_without_jobs_nothing_starts():
    pool = Pool(2, None)
    assert not list(pool.run(toys.make, []))
    assert not pool._count
    pool.close()


def test_sigterm_is_answered_as_before(pool):
    before = signal.getsignal(signal.SIGTERM)
    assert results(pool, [("double", 1)]) == [2]
    assert signal.getsignal(signal.SIGTERM) == before


def test_garbage_and_clients_without_the_token_change_nothing(pool):
    assert results(pool, [("double", 1)]) == [2]
    listening = set()
    for process in [psutil.Process(), *psutil.Process().children(recursive=True)]:
        with contextlib.suppress(psutil.NoSuchProcess):  # Ray has some that live for a moment
            connections = process.net_connections("tcp")
            listening |= {each.laddr for each in connections if each.status == psutil.CONN_LISTEN}
    assert listening
    assert {address.ip.removeprefix("::ffff:") for address in listening} == {"127.0.0.1"}
    for address in listening:
        for garbage in (secrets.token_bytes(2**16), b"GET / HTTP/1.1\r\n\r\n", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" * 9):
            with socket.create_connection(("127.0.0.1", address.port)) as stranger:
                with_reset = threading.Thread(target=_send, args=(stranger, garbage))
                with_reset.start()
                with_reset.join(5)
    import ray

    stranger = f"import ray; ray.init(address={ray.get_runtime_context().gcs_address!r})"
    environment = {**os.environ, "RAY_AUTH_TOKEN": "0" * 64, "RAY_gcs_rpc_server_connect_timeout_s": "1"}
    refused = subprocess.run([sys.executable, "-c", stranger], env=environment, capture_output=True, text=True)
    assert refused.returncode != 0
    assert "InvalidAuthToken" in refused.stderr
    assert results(pool, [("double", number) for number in range(5)]) == [0, 2, 4, 6, 8]


def _send(stranger: socket.socket, garbage: bytes) -> None:
    with contextlib.suppress(OSError):
        stranger.sendall(garbage)


def test_jobs_of_a_machine_that_is_lost_go_to_another(two_nodes):
    """In a process of its own: a process speaks to one Ray at a time, and the other tests' is still there."""
    nodes, (first, _) = two_nodes
    program = (
        "from cluster.pool import Pool\n"
        "from tests.cluster import toys\n"
        f"pool = Pool(2, {nodes.address!r})\n"
        "print('ready' if dict(pool.run(toys.make, [('process',)] * 2)) else '', flush=True)\n"
        "print(sorted(dict(pool.run(toys.make, [('sleep', 0.5)] * 12))), flush=True)\n"
        "pool.close()\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", program], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    for line in process.stdout:
        if line == "ready\n":
            break
    time.sleep(1)
    nodes.remove_node(first, allow_graceful=False)
    output, _ = process.communicate(timeout=240)
    assert str(list(range(12))) in output.splitlines(), output


@pytest.mark.parametrize(
    ("nodes", "workers", "expected"),
    [
        ([{"CPU": 8.0}], 2, (2, {"num_cpus": 4, "num_gpus": 0})),
        ([{"CPU": 2.0}], 3, (3, {"num_cpus": 2 / 3, "num_gpus": 0})),
        ([{"CPU": 16.0, "GPU": 4.0}], None, (4, {"num_cpus": 4, "num_gpus": 1})),
        ([{"CPU": 16.0, "GPU": 2.0}], 3, (3, {"num_cpus": 5, "num_gpus": 0.5})),
        ([{"memory": 1.0}, {"CPU": 8.0}, {"CPU": 4.0}], None, (2, {"num_cpus": 4, "num_gpus": 0})),
        ([{"CPU": 16.0, "GPU": 4.0}, {"CPU": 16.0, "GPU": 1.0}], None, (5, {"num_cpus": 4, "num_gpus": 1})),
        ([{"CPU": 16.0, "GPU": 4.0}, {"CPU": 16.0, "GPU": 1.0}], 2, (2, {"num_cpus": 16, "num_gpus": 1})),
        ([{"CPU": 64.0}, {"CPU": 8.0, "GPU": 1.0}, {"CPU": 8.0, "GPU": 1.0}], 2, (2, {"num_cpus": 8, "num_gpus": 1})),
        ([], None, (1, {"num_cpus": 1, "num_gpus": 0})),
    ],
)
def test_workers_share_cores_and_gpus(nodes, workers, expected):
    assert divide(nodes, workers) == expected


def test_without_ray_the_message_says_what_installs_it(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UsageError, match=r"^--workers needs Ray: pip install -r requirements-cluster.txt$"):
        check_ray("--workers")


def test_an_address_where_nothing_answers_is_refused_at_once():
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"127.0.0.1:{server.getsockname()[1]}"
    with pytest.raises(UsageError, match=rf"'{address}' does not answer: Connection refused\.$"):
        connect(address, 1)
    with pytest.raises(UsageError, match=r"'head' does not answer: it names no port\.$"):
        connect("head", 1)


@pytest.mark.slow
def test_a_ray_that_is_gone_is_no_long_wait(monkeypatch):
    """Ray stores the address of the one that was started last; by default, it would wait over ten minutes for it."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        monkeypatch.setenv("RAY_ADDRESS", f"127.0.0.1:{server.getsockname()[1]}")
    command = [sys.executable, "-c", "from cluster.connection import connect; connect('auto', 1)"]
    ended = subprocess.run(command, stderr=subprocess.PIPE, text=True, timeout=120)
    assert "RunError: Ray at --cluster auto cannot be used: " in ended.stderr


def test_of_a_ray_that_did_not_start_nothing_is_left():
    """In a process of its own; the second attempt starts one."""
    program = """
import os
from cluster.connection import LOCAL_SETTINGS, connect
os.environ |= LOCAL_SETTINGS | {"RAY_AUTH_TOKEN": "0" * 64}  # which Ray reads when it is imported

import psutil
from ray._private import services

started, get_node = [], services.get_node

def too_slow(*args, **settings):
    if started:
        return get_node(*args, **settings)
    started.extend(psutil.Process().children(recursive=True))
    raise Exception("too slow")

services.get_node = too_slow
connect(None, 1)
print([process.name() for process in psutil.Process().children()].count("gcs_server"))
print(len(started) > 2, [each for each in started if each.is_running()])
"""
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=240)
    assert ended.stdout == "1\nTrue []\n", ended


@pytest.mark.parametrize(
    ("error", "reason"),
    [(RuntimeError("Version mismatch: started with:\n  Ray: 2.59\n"), "Version mismatch: started with: Ray: 2.59"),
     (ConnectionError(), "ConnectionError")],
)  # fmt: skip
def test_all_that_ray_says_is_in_the_message(monkeypatch, error, reason):
    def refuse(**settings):
        raise error

    monkeypatch.setitem(sys.modules, "ray", SimpleNamespace(init=refuse, shutdown=lambda: None))
    with pytest.raises(RunError, match=rf"^Ray at --cluster auto cannot be used: {reason}$"):
        connect("auto", 1)


def test_workers_that_cannot_start_end_the_command(monkeypatch):
    pool = Pool(1, None)
    monkeypatch.setattr(pool_module, "START_SECONDS", -1.0)
    with pytest.raises(RunError, match="No worker has started"):
        pool._check_alive()
