"""A search on several machines or processes finds what one process does, whatever becomes of them."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import pandas as pd
import psutil
import pytest

from tests.conftest import draw_photos
from tests.faults.kills import REPOSITORY

FLAGS = ["--image-size", "32", "--batch-size", "4", "8", "--head-epochs", "2", "5", "--head-units", "0", "4"]
FLAGS += ["--fine-tune-epochs", "1", "2", "--val-fraction", "0.3", "--test-fraction", "0.2", "--max-trials", "10"]


def start(folder: Path, *flags: str) -> subprocess.Popen:
    """Begins a search in a process group of its own, as a shell does."""
    command = [sys.executable, "tune.py", "--data", folder.parent / "photos", *FLAGS, *flags]
    command += ["--cache-dir", folder / "cache", "--output", folder / "search"]
    streams = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    return subprocess.Popen(list(map(str, command)), cwd=REPOSITORY, start_new_session=True, **streams)


def end(process: subprocess.Popen, status: int = 0) -> str:
    """Waits for a search; returns what it printed."""
    output, _ = process.communicate(timeout=600)
    assert process.returncode == status, output
    return output


def wait_for_trials(folder: Path, process: subprocess.Popen) -> None:
    """Returns as soon as a trial is on record."""
    while not (folder / "search" / "trials.csv").exists():
        assert process.poll() is None, process.communicate()[0]
        time.sleep(0.1)


def trials(folder: Path) -> pd.DataFrame:
    """All of the table but what differs each time, as it is written."""
    return pd.read_csv(folder / "search" / "trials.csv", dtype=str).drop(columns="seconds")


def started_by(marker: str) -> list[psutil.Process]:
    found = psutil.process_iter(["environ"])
    return [each for each in found if (each.info["environ"] or {}).get("STARTED_BY") == marker]


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    """A folder with pictures, and the search of one process in 'alone'."""
    root = tmp_path_factory.mktemp("searches")
    draw_photos(root / "photos", ("cat", "dog"), 15)
    end(start(root / "alone"))
    return root


@pytest.mark.slow
def test_two_machines_find_what_one_process_finds(place, two_nodes):
    nodes, _ = two_nodes
    output = end(start(place / "two", "--cluster", nodes.address, "--workers", "2"))
    assert "2 workers with 1 cpus each" in output
    pd.testing.assert_frame_equal(trials(place / "two"), trials(place / "alone"))


def remove_a_node(two_nodes: Sequence) -> None:
    nodes, (first, _) = two_nodes
    nodes.remove_node(first, allow_graceful=False)


def kill_a_worker(_: Sequence) -> None:
    workers: list[psutil.Process] = []
    until = time.monotonic() + 60
    while not workers and time.monotonic() < until:
        children = psutil.Process().children(recursive=True)
        workers = [each for each in children if each.name().startswith("ray::Worker.run")]
    workers[0].kill()


@pytest.mark.slow
@pytest.mark.parametrize("lose", [remove_a_node, kill_a_worker])
def test_what_is_lost_in_the_middle_loses_no_trial(place, two_nodes, lose: Callable[[Sequence], None]):
    nodes, _ = two_nodes
    folder = place / lose.__name__
    process = start(folder, "--cluster", nodes.address)
    wait_for_trials(folder, process)
    lose(two_nodes)
    assert "a worker died" in end(process)
    pd.testing.assert_frame_equal(trials(folder), trials(place / "alone"))


@pytest.mark.slow
@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGKILL, -9)])
def test_a_search_that_is_stopped_goes_on_and_leaves_no_process(place, monkeypatch, number, status):
    folder, alone = place / number.name, trials(place / "alone")
    monkeypatch.setenv("STARTED_BY", str(folder))
    process = start(folder, "--workers", "2")
    wait_for_trials(folder, process)
    if number == signal.SIGINT:
        os.killpg(process.pid, number)  # as a terminal does
    else:
        process.send_signal(number)
    end(process, status)
    # What is left of a Ray whose driver is killed tries for a minute to reach the rest of it.
    _, alive = psutil.wait_procs(started_by(str(folder)), timeout=120)
    assert alive == []
    kept = trials(folder)
    assert 0 < len(kept) < len(alone)
    same = alone[alone["trial"].isin(kept["trial"])].reset_index(drop=True)
    pd.testing.assert_frame_equal(kept, same)
    output = end(start(folder, "--workers", "2"))
    assert "of an earlier start taken over" in output
    pd.testing.assert_frame_equal(trials(folder), alone)
