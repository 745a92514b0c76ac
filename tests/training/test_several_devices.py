"""One run on one device, several devices and several workers: the same pictures, the same losses, the same result."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from app.interrupts import SIGNALS
from devices import launch
from tests.conftest import draw_photos
from tests.small_network import small_network

REPOSITORY = Path(__file__).parents[2]
TOLERANCE = 1e-4
"""Of the losses: sums of gradients round otherwise in another order."""
SMALL = ["--image-size", "32", "--batch-size", "10", "--head-epochs", "3", "--checkpoint-seconds", "0"]
WHOLE = ["--dropout", "0.3", "--class-weights", "--trainable-layers", "12", "--fine-tune-epochs", "2"]
"""Both phases, with views, and with dropout, which depends on the whole batch."""


def run(arguments: list, *flags: str | Path) -> subprocess.CompletedProcess:
    """Runs a command to its end."""
    command = [sys.executable, *arguments, *map(str, flags)]
    return subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, timeout=500)


@pytest.fixture(scope="module")
def photos(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("several") / "photos"
    draw_photos(folder, ("cat", "dog", "owl"), 31)
    return folder


@pytest.fixture(scope="module")
def alone(photos) -> Path:
    """A run on one device."""
    folder = photos.parent / "alone"
    flags = ["--data", photos, *SMALL, *WHOLE, "--cache-dir", photos.parent / "cache", "--output", folder]
    ended = run(["train.py"], *flags)
    assert ended.returncode == 0, ended.stderr
    return folder


def check_equal(folder: Path, alone: Path) -> None:
    """Makes sure that a run came out like the one on one device."""
    here, there = pd.read_csv(folder / "history.csv"), pd.read_csv(alone / "history.csv")
    assert here[["phase", "epoch"]].equals(there[["phase", "epoch"]])
    for name in ("loss", "accuracy", "val_loss", "val_accuracy"):
        np.testing.assert_allclose(here[name], there[name], atol=TOLERANCE, err_msg=name)
    here, there = pd.read_csv(folder / "predictions.csv"), pd.read_csv(alone / "predictions.csv")
    assert here["path"].equals(there["path"])
    assert not here["path"].duplicated().any()
    probabilities = [name for name in here if name.startswith("probability_")]
    np.testing.assert_allclose(here[probabilities], there[probabilities], atol=10 * TOLERANCE)
    assert (folder / "config.json").read_bytes() == (alone / "config.json").read_bytes()


slow = pytest.mark.slow


@pytest.mark.parametrize("devices", [3, pytest.param(2, marks=slow), pytest.param(4, marks=slow)])
def test_devices_share_a_run(photos, alone, tmp_path, devices):
    flags = ["--data", photos, *SMALL, *WHOLE, "--cache-dir", tmp_path / "cache", "--output", tmp_path / "run"]
    ended = run(["train.py"], *flags, "--devices", str(devices))
    assert ended.returncode == 0, ended.stderr
    assert f"{devices} CPUs, mirrored" in ended.stdout
    assert f"10 pictures per step, {-(-10 // devices)} on each of {devices} replicas" in ended.stdout
    check_equal(tmp_path / "run", alone)


@slow
@pytest.mark.parametrize("workers", [2, 3])
def test_workers_share_a_run(photos, alone, tmp_path, workers):
    flags = ["--data", photos, *SMALL, *WHOLE, "--cache-dir", tmp_path / "cache", "--output", tmp_path / "run"]
    ended = run(["-m", "devices.launch", str(workers)], *flags)
    assert ended.returncode == 0, ended.stderr
    assert f"{workers} workers, {workers} CPUs in all" in ended.stdout
    assert ended.stdout.count("\nhead ") == 1  # the others are silent
    check_equal(tmp_path / "run", alone)
    assert not list((tmp_path / "run").glob(".*"))


def start_workers(*flags: str | Path) -> subprocess.Popen:
    """Starts two workers."""
    command = [sys.executable, "-u", "-m", "devices.launch", "2", *map(str, flags)]
    return subprocess.Popen(command, cwd=REPOSITORY, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def wait_for_checkpoint(folder: Path, after: float) -> None:
    """Waits until the head phase has saved something new."""
    path, deadline = folder / "checkpoints" / "head.npz", time.monotonic() + 120
    while not (path.exists() and path.stat().st_mtime > after):
        assert time.monotonic() < deadline
        time.sleep(0.05)


def second_worker(launcher: subprocess.Popen) -> int:
    """The process of the worker that is not the chief."""
    children = Path(f"/proc/{launcher.pid}/task/{launcher.pid}/children").read_text().split()
    for child in map(int, children):
        if b'"index": 1' in Path(f"/proc/{child}/environ").read_bytes():
            return child
    raise AssertionError(f"no second worker among {children}")


@pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="finds the worker in /proc")
def test_a_run_of_two_workers_is_stopped_loses_one_and_ends_on_three_devices(photos, tmp_path):
    """Ctrl-C, then a kill of one worker, then a resume on other devices: as if nothing had happened."""
    cache, folder = tmp_path / "cache", tmp_path / "run"
    flags = ["--data", photos, *SMALL, "--head-epochs", "150", "--patience", "200", "--fine-tune-epochs", "0"]
    flags += ["--cache-dir", cache, "--backbone", small_network(tmp_path)]
    ended = run(["train.py"], *flags, "--output", tmp_path / "alone")
    assert ended.returncode == 0, ended.stderr

    workers = start_workers(*flags, "--output", folder)
    wait_for_checkpoint(folder, 0)
    workers.send_signal(signal.SIGINT)
    text, _ = workers.communicate(timeout=100)
    assert workers.returncode == 130, text
    assert f"continue with: python train.py --resume {folder}" in text

    started = time.time()
    workers = start_workers("--resume", folder)
    wait_for_checkpoint(folder, started)
    os.kill(second_worker(workers), signal.SIGKILL)
    killed = time.monotonic()
    text, _ = workers.communicate(timeout=100)
    assert time.monotonic() - killed < 100
    assert workers.returncode == 137
    assert "error: Another worker is gone, and this one cannot continue alone." in text
    assert "Traceback" not in text

    ended = run(["train.py"], "--resume", folder, "--devices", "3")
    assert ended.returncode == 0, ended.stderr
    assert "head       resumes after" in ended.stdout
    check_equal(folder, tmp_path / "alone")
    assert json.loads((folder / "metrics.json").read_text())["epochs"]["head"] == 150


def test_workers_that_are_asked_for_the_impossible_end_at_once(tmp_path):
    ended = run(["-m", "devices.launch", "2"], "--data", tmp_path / "nothing", "--output", tmp_path / "run")
    assert ended.returncode == 2
    assert ended.stderr.startswith("error: --data must be")
    assert len(ended.stderr.splitlines()) == 1
    assert not (tmp_path / "run").exists()
    ended = run(["-m", "devices.launch", "2"], "--data", "animals")
    assert ended.returncode == 2
    assert "need --output" in ended.stderr


@pytest.mark.parametrize(
    ("status", "second", "chief", "shown"),
    [
        (
            1,
            "the memory is too small",
            "another worker is gone",
            ["another worker is gone", "worker 1: the memory is too small"],
        ),
        (2, "--epochs is wrong", "--epochs is wrong", ["--epochs is wrong"]),
    ],
)
def test_the_reason_of_the_worker_that_failed_first_is_shown_once(
    tmp_path, monkeypatch, capfd, status, second, chief, shown
):
    """What the chief says afterwards, that another worker is gone, is not the reason; a mistake in the flags is."""
    (tmp_path / "train.py").write_text(f"""
import contextlib, json, os, pathlib, psutil, sys, time
index, told = json.loads(os.environ["TF_CONFIG"])["task"]["index"], pathlib.Path({str(tmp_path / "told")!r})
if index:
    told.with_suffix(".new").write_text(str(os.getpid()))
    told.with_suffix(".new").rename(told)
else:  # ends as soon as the other has
    while not told.exists():
        time.sleep(0.01)
    with contextlib.suppress(psutil.NoSuchProcess):
        while psutil.Process(int(told.read_text())).status() != psutil.STATUS_ZOMBIE:
            time.sleep(0.001)
print({second!r} if index else {chief!r}, file=sys.stderr)
sys.exit({status})
""")
    monkeypatch.setattr(launch, "TRAIN", tmp_path / "train.py")
    handlers = {number: signal.getsignal(number) for number in SIGNALS}
    assert launch.launch(2, []) == status
    for number, handler in handlers.items():
        signal.signal(number, handler)
    assert capfd.readouterr().err.splitlines() == shown


NAMED = ("vgg16", "vgg19", "resnet50", "inceptionv3", "mobilenet", "efficientnetb0")


@slow
@pytest.mark.parametrize("backbone", NAMED)
def test_the_whole_network_learns_on_two_devices(photos, tmp_path, backbone):
    size = "75" if backbone == "inceptionv3" else "32"
    flags = ["--data", photos, "--backbone", backbone, "--weights", "none", "--image-size", size, "--batch-size", "9"]
    flags += ["--fine-tune-epochs", "1", "--cache-dir", tmp_path / "cache", "--output", tmp_path / "run"]
    ended = run(["train.py"], *flags, "--devices", "2")
    assert ended.returncode == 0, ended.stderr
    (epoch,) = pd.read_csv(tmp_path / "run" / "history.csv").itertuples()
    assert 0 < epoch.loss < 10


@slow
def test_the_scaled_loss_of_two_devices_is_that_of_one(photos, tmp_path):
    """With sgd, whose steps show the size of the gradients; float16 rounds each replica's."""
    flags = ["--data", photos, *SMALL, *WHOLE, "--cache-dir", tmp_path / "cache", "--precision", "mixed_float16"]
    losses = []
    for devices in ("1", "2"):
        folder = tmp_path / devices
        ended = run(["train.py"], *flags, "--optimizer", "sgd", "--devices", devices, "--output", folder)
        assert ended.returncode == 0, ended.stderr
        losses.append(pd.read_csv(folder / "history.csv")["loss"])
    np.testing.assert_allclose(*losses, rtol=2e-3)


def test_a_search_on_two_devices_finds_what_one_finds(photos, tmp_path):
    search = ["--data", photos, "--image-size", "32", "--max-trials", "4", "--trainable-layers", "0", "8"]
    search += ["--backbone", small_network(tmp_path)]
    search += ["--cache-dir", tmp_path / "cache", "--batch-size", "10"]
    trials = []
    for devices in ("1", "2"):
        folder = tmp_path / devices
        ended = run(["tune.py"], *search, "--devices", devices, "--output", folder)
        assert ended.returncode == 0, ended.stderr
        assert (folder / "best" / "metrics.json").exists()
        trials.append(pd.read_csv(folder / "trials.csv"))
    assert (trials[0]["trainable_layers"] == 8).any()
    np.testing.assert_allclose(*(each["val_loss"] for each in trials), atol=10 * TOLERANCE)


@slow
@pytest.mark.parametrize("precision", ["mixed_bfloat16", "mixed_float16"])
def test_precisions_learn_on_two_devices(photos, alone, tmp_path, precision):
    flags = ["--data", photos, *SMALL, *WHOLE, "--cache-dir", tmp_path / "cache", "--output", tmp_path / "run"]
    ended = run(["train.py"], *flags, "--devices", "2", "--precision", precision)
    assert ended.returncode == 0, ended.stderr
    losses = [pd.read_csv(folder / "history.csv")["val_loss"] for folder in (tmp_path / "run", alone)]
    np.testing.assert_allclose(*losses, rtol=0.1)
