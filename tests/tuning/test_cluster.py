"""A chief gives every trial to a worker that lives, on this machine or on another."""

import math
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import grpc
import pandas as pd
import pytest

from app.config import CompleteConfig, TrainConfig
from app.errors import UsageError
from tuning.chief import ATTEMPTS, Chief
from tuning.cluster import HANDED_BACK, METHOD, SERVICE, decode, encode, pack, read_cluster, unpack
from tuning.space import TuneConfig
from tuning.trials import Outcome

ROOT = Path(__file__).parents[2]
SEARCH = {"config": {"data": "photos"}, "inputs": ["digest"]}
NAMES = "KERASTUNER_TUNER_ID", "KERASTUNER_ORACLE_IP", "KERASTUNER_ORACLE_PORT"


def free_address() -> str:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{probe.getsockname()[1]}"


class Peer:
    """A worker that does what a test tells it."""

    def __init__(self, address: str, search: dict = SEARCH):
        self._channel = grpc.insecure_channel(address)
        self._messages = [encode(search)]
        self._more = threading.Condition()
        self._answers = self._channel.stream_stream(f"/{SERVICE}/{METHOD}")(self._sent(), wait_for_ready=True)
        next(self._answers)

    def _sent(self) -> Iterator[bytes]:
        while True:
            with self._more:
                self._more.wait_for(lambda: self._messages)
                message = self._messages.pop(0)
            if not message:
                return
            yield message

    def take(self, outcomes=()):
        """Brings outcomes and takes a job; None when the search is over."""
        self.bring(outcomes)
        message = next(self._answers, None)
        return None if message is None else unpack(decode(message))

    def bring(self, outcomes) -> None:
        """Brings outcomes and waits for nothing."""
        with self._more:
            self._messages.append(encode(outcomes))
            self._more.notify()

    def hand_back(self) -> None:
        with self._more:
            self._messages.append(HANDED_BACK)
            self._more.notify()
        assert next(self._answers, None) is None

    def die(self):
        with self._more:
            self._messages.append(b"")
            self._more.notify()
        self._channel.close()


@pytest.fixture
def chief():
    chief = Chief(TuneConfig(data="photos"), SEARCH, 0, free_address())
    yield chief
    chief.close()


def in_background(chief: Chief, jobs, deadline=math.inf):
    outcomes = {}
    thread = threading.Thread(target=lambda: outcomes.update(chief.run(jobs, deadline)))
    thread.start()
    return thread, outcomes


def done(number: int) -> tuple[int, Outcome]:
    return number, Outcome("done", 1 - number / 100, 0.1 + 0.2, 1.0)


def complete(**settings) -> CompleteConfig:
    return CompleteConfig(**{**vars(TrainConfig()), **settings})


JOBS = [[(1, complete(batch_size=8)), (2, complete(head_units=(3, 4)))], [(3, complete(trainable_layers=2))]]


def test_settings_survive_the_way_to_a_worker():
    for job in JOBS:
        assert unpack(decode(encode(pack(job)))) == job


def test_every_trial_is_done_once(chief):
    thread, outcomes = in_background(chief, JOBS)
    one, other = Peer(chief._address), Peer(chief._address)
    first, second = one.take(), other.take()
    assert sorted([*first, *second]) == sorted([*JOBS[0], *JOBS[1]])
    waiting = threading.Thread(target=one.take, args=([done(number) for number, _ in first],))
    waiting.start()
    assert thread.is_alive()
    closing = threading.Thread(target=lambda: (thread.join(), chief.close()))
    closing.start()
    assert other.take([done(number) for number, _ in second]) is None  # the search is over
    closing.join()
    waiting.join()
    assert outcomes == dict(map(done, (1, 2, 3)))


def test_the_trials_of_a_dead_worker_are_given_to_another(chief, capsys):
    thread, outcomes = in_background(chief, JOBS)
    first, second = Peer(chief._address), Peer(chief._address)
    lost = first.take()
    first.die()
    other = second.take()
    assert other != lost
    again = second.take([done(number) for number, _ in other])
    assert again == lost
    threading.Thread(target=second.take, args=([done(number) for number, _ in again],)).start()
    thread.join()
    assert outcomes == dict(map(done, (1, 2, 3)))
    assert "a worker died" in capsys.readouterr().out


def test_trials_that_kill_every_worker_fail_and_no_others(chief):
    thread, outcomes = in_background(chief, JOBS)
    for _ in range(ATTEMPTS):
        survivor, victim = Peer(chief._address), Peer(chief._address)
        job = victim.take()
        while job != JOBS[0]:
            job = victim.take([done(number) for number, _ in job])
        victim.die()
        survivor.die()
    last = Peer(chief._address)
    threading.Thread(target=lambda: last.take([done(3)] if last.take() == JOBS[1] else [])).start()
    thread.join(30)
    assert {number: outcome.status for number, outcome in outcomes.items()} == {1: "failed", 2: "failed", 3: "done"}
    assert "died 3 times" in outcomes[1].message


def test_nothing_is_begun_after_the_deadline(chief):
    assert not list(chief.run(JOBS, time.perf_counter()))


def test_a_worker_of_another_search_is_refused(chief):
    thread, _ = in_background(chief, JOBS, time.perf_counter() + 3)
    with pytest.raises(grpc.RpcError, match="another search"):
        Peer(chief._address, {**SEARCH, "inputs": ["others"]})
    thread.join()


def test_an_address_that_is_taken_is_a_sentence(chief):
    with pytest.raises(UsageError, match="port is taken"):
        Chief(TuneConfig(data="photos"), SEARCH, 0, chief._address)


def test_a_job_that_is_handed_back_is_nobodys_death(chief):
    thread, outcomes = in_background(chief, JOBS[:1])
    for _ in range(ATTEMPTS + 1):
        unable = Peer(chief._address)
        assert unable.take() == JOBS[0]
        unable.hand_back()
    able = Peer(chief._address)
    threading.Thread(target=able.take, args=([done(number) for number, _ in able.take()],)).start()
    thread.join()
    assert outcomes == dict(map(done, (1, 2)))


def test_a_worker_that_dies_with_its_outcomes_delivered_is_given_nothing_more(chief):
    thread, outcomes = in_background(chief, JOBS)
    for _ in range(2):
        hasty = Peer(chief._address)
        hasty.bring([done(number) for number, _ in hasty.take()])
        hasty.die()
    last = Peer(chief._address)
    for _ in JOBS:
        if not thread.is_alive():
            break
        threading.Thread(target=_work_on, args=(last,), daemon=True).start()
        thread.join(5)
    assert outcomes == dict(map(done, (1, 2, 3)))


def _work_on(peer: Peer) -> None:
    job = peer.take()
    while job is not None:
        job = peer.take([done(number) for number, _ in job])


def test_batch_after_batch_goes_to_the_same_workers_and_to_new_ones(chief):
    early = Peer.__new__(Peer)
    connecting = threading.Thread(target=Peer.__init__, args=(early, chief._address))
    connecting.start()  # it is welcome when there is something to do
    for number in (1, 2):
        thread, outcomes = in_background(chief, JOBS[number - 1 : number])
        if number == 1:
            connecting.join()
            threading.Thread(target=_work_on, args=(early,), daemon=True).start()
        else:
            threading.Thread(target=_work_on, args=(Peer(chief._address),), daemon=True).start()
        thread.join()
        assert sorted(outcomes) == [each for each, _ in JOBS[number - 1]]


def test_without_jobs_no_worker_is_started():
    chief = Chief(TuneConfig(data="photos", workers=2), SEARCH, 0, None)
    assert not list(chief.run([], math.inf))
    assert not chief._processes
    chief.close()


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (("", "", ""), None),
        (("chief", "10.0.0.1", "8000"), ("chief", "10.0.0.1:8000")),
        (("tuner3", "10.0.0.1", "8000"), ("worker", "10.0.0.1:8000")),
        (("tuner3", "", "8000"), "KERASTUNER_ORACLE_IP must be set"),
        (("tuner3", "10.0.0.1", "http"), "must be the number of a port"),
        (("tuner3", "10.0.0.1", "99999"), "must be the number of a port"),
    ],
)
def test_roles_come_from_the_variables_of_kerastuner(monkeypatch, values, expected):
    for name, value in zip(NAMES, values, strict=True):
        monkeypatch.setenv(name, value)
    if isinstance(expected, str):
        with pytest.raises(UsageError, match=expected):
            read_cluster()
    else:
        assert read_cluster() == expected


@pytest.mark.slow
def test_chief_and_workers_find_what_one_process_finds(make_folder, tmp_path):
    root = make_folder(count=15)
    flags = ["--data", str(root), "--image-size", "32", "--batch-size", "4", "8", "--head-epochs", "2", "5"]
    flags += ["--fine-tune-epochs", "1", "2", "--max-trials", "12", "--val-fraction", "0.3", "--test-fraction", "0.2"]
    flags += ["--head-units", "0", "4", "--optimizer", "adam", "sgd", "--cache-dir", str(tmp_path / "cache")]
    host, port = free_address().split(":")

    def start(name: str, role: str | None = None) -> subprocess.Popen:
        roles = dict(zip(NAMES, (role, host, port), strict=True)) if role else {}
        command = [sys.executable, str(ROOT / "tune.py"), *flags, "--output", str(tmp_path / name)]
        streams = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
        return subprocess.Popen(command, cwd=tmp_path, env={**os.environ, **roles}, **streams)

    alone = start("alone")
    assert alone.wait() == 0
    chief, victim, worker = start("chief", "chief"), start("chief", "tuner0"), start("chief", "tuner1")
    for line in victim.stdout:
        if "trial" in line:
            break
    os.kill(victim.pid, signal.SIGKILL)
    output, _ = chief.communicate()
    assert chief.returncode == 0, output
    text, _ = worker.communicate()
    assert worker.returncode == 0, text
    assert "the chief's search is over" in text
    tables = [pd.read_csv(tmp_path / name / "trials.csv") for name in ("alone", "chief")]
    columns = [name for name in tables[0] if name not in ("seconds", "val_loss", "val_accuracy")]
    pd.testing.assert_frame_equal(tables[0][columns], tables[1][columns])
    assert abs(tables[0]["val_loss"] - tables[1]["val_loss"]).max() < 1e-3
