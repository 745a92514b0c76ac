"""A disk that is full ends a run with a sentence; what was complete is kept, and the run goes on when there is room."""

import contextlib
import resource
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from app.run_folder import resume_command
from data.store import Store
from tests.faults.kills import REPOSITORY, Ended, Kill, differences, train

MIB = 2**20


def assert_full(ended: Ended, run: Path) -> None:
    """The process ended with one sentence that says how to go on."""
    assert ended.status == 1, ended.lines
    errors = [line for line in ended.lines if line.startswith("error: ")]
    assert ended.lines[-1:] == errors
    assert "is full" in errors[0]
    assert resume_command(run) in errors[0]
    assert not [line for line in ended.lines if "Traceback" in line]


@pytest.mark.slow
def test_a_run_goes_on_after_a_file_could_not_grow(undisturbed, tmp_path):
    run = tmp_path / "run"
    small_files = lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (4 * MIB, 4 * MIB))  # noqa: E731
    flags = [*undisturbed.flags, "--cache-dir", tmp_path / "cache", "--output", run]
    assert_full(train(flags, before=small_files), run)
    assert train(["--resume", run]).status == 0
    assert differences(undisturbed.folder, run) == []


def test_a_run_goes_on_after_the_disk_was_full(undisturbed, tmp_path):
    with small_disk(tmp_path / "disk", 200 * MIB) as disk:
        run = disk / "run"
        flags = [*undisturbed.flags, "--cache-dir", tmp_path / "cache", "--output", run]
        train(flags, Kill("features", 0.5))
        filler = disk / "filler"
        with contextlib.suppress(OSError), filler.open("wb") as file:
            while True:
                file.write(bytes(MIB))
        refused = train(["--resume", run])
        assert_full(refused, run)
        filler.unlink()
        assert train(["--resume", run]).status == 0
        assert differences(undisturbed.folder, run) == []


def test_a_disk_that_is_too_small_is_named_before_anything_is_computed(undisturbed, tmp_path):
    with small_disk(tmp_path / "disk", 40 * MIB) as disk:
        flags = [*undisturbed.flags, "--cache-dir", tmp_path / "cache", "--output", disk / "run"]
        ended = train(flags)
        assert ended.status == 1
        assert "MiB left. Make room, or choose another --output" in ended.lines[-1]
        assert "features" not in ended.times
        assert not (disk / "run").exists()


def test_a_cache_without_room_ends_a_run_before_it_computes(undisturbed, tmp_path):
    with small_disk(tmp_path / "disk", 20 * MIB) as disk:
        run = tmp_path / "run"
        ended = train([*undisturbed.flags, "--cache-dir", disk, "--output", run])
        assert ended.status == 1
        assert "GB left for what the frozen layers make of 108 pictures" in ended.lines[-1]
        assert "choose another --cache-dir, --views 1, --trainable-layers 0" in ended.lines[-1]
        assert not run.exists()
        assert not [path for path in disk.rglob("*") if path.is_file() and path.suffix != ".lock"]


def test_clearing_the_cache_of_a_read_only_disk_says_that_it_remains(tmp_path):
    with small_disk(tmp_path / "disk", MIB) as disk:
        store = Store(disk / "store", limit=10**9)
        with store.locked([{}]), store.writing({}, "title", (10, 10), "float32") as writer:
            writer.append(np.ones((10, 10), np.float32))
        command = [sys.executable, "cache.py", "--clear", "--cache-dir", str(disk)]
        subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
        refused = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True)
        assert refused.returncode == 1
        assert "0 entries, 0.0 MiB, deleted from" in refused.stdout
        assert refused.stderr.startswith(f"error: 1 entry remains in '{store.folder}': Read-only file system.")
        assert len(store.entries()) == 1


@contextlib.contextmanager
def small_disk(folder: Path, size: int) -> Iterator[Path]:
    """A disk of some bytes, where the tests may mount one."""
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)]
    try:
        subprocess.run(command, check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("needs the right to mount a disk")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)
