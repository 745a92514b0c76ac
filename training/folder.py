"""The folder of a run: makes it, locks it for one process, and cleans it up when the run is finished.

Nothing here needs TensorFlow.
"""

import contextlib
import datetime
import errno
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from filelock import FileLock, Timeout

from app.config import ModelConfig, TrainConfig
from app.errors import RunError, UsageError, cannot_write
from app.files import FULL_DISK, write_json
from app.run_folder import (
    CHECKPOINTS,
    CONFIG_FILE,
    PLACES_FILE,
    checkpoints_of,
    is_finished,
    is_unfinished,
    resume_command,
)
from app.terminal import show_stage
from data.folder import check_outside

MOST_NAME_BYTES = 100
"""Most bytes of the data's name in the name of a folder: file systems allow 255, also for time and backbone."""
RUNS = Path("runs")
"""Parent folder of runs and searches without --output."""
ASKED_FILE, BEGUN_FILE, LOCK_FILE = "asked.json", "begun.json", "lock"
NEVER = 1e9
"""Seconds after which a worker that is not the chief would save."""
PLACES = ("cache_dir", "cache_gb", "checkpoint_seconds", "strict", "tensorboard")
"""Settings that do not affect the result, recorded for resuming."""


def folder_of(config: TrainConfig) -> Path:
    """Returns the folder of a run that `open_folder` has opened."""
    if config.run.output is None:
        raise ValueError("a run needs a folder: see open_folder")
    return config.run.output


@contextlib.contextmanager
def open_folder(config: TrainConfig, worker: int = 0) -> Iterator[TrainConfig]:
    """Makes a run folder, or opens the folder of an unfinished run, and locks it for this process.

    An error before the run has begun (a mistake of the user, or too little memory or disk) leaves no folder.

    Args:
        config: `output` names the folder, or None for one of its own below runs/; `resume` that of an unfinished run.
        worker: number of this process among several; 0 for the chief, or for a process that works alone.

    Yields:
        The settings, with `output`.

    Raises:
        UsageError: the folder holds something else, is not writable, or another process is using it.
        RunError: the disk is full.
    """
    if config.run.resume is None:
        check_outside(config.data.data, {"--output": config.run.output or RUNS, "--cache-dir": config.run.cache_dir})
    if worker != 0:
        with _beside_the_chief(config) as config:
            yield config
        return
    if config.run.resume is None:
        check_output(config.run.output)
    is_new = config.run.output is None or not config.run.output.exists()
    try:
        folder = config.run.output or _new_folder(config)
        checkpoints_of(folder).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise cannot_write("--output", config.run.output or RUNS, error) from None
    with _locked(folder):
        try:
            write_json(checkpoints_of(folder) / PLACES_FILE, {name: getattr(config.run, name) for name in PLACES})
            if config.run.resume is None:
                write_json(folder / CONFIG_FILE, config.to_json())
                write_json(checkpoints_of(folder) / ASKED_FILE, config.to_json())
            yield config.replace(output=folder)
        except (UsageError, RunError, MemoryError):
            if config.run.resume is None and not (checkpoints_of(folder) / BEGUN_FILE).exists():
                shutil.rmtree(checkpoints_of(folder))
                (folder / CONFIG_FILE).unlink(missing_ok=True)
                if is_new:
                    folder.rmdir()
                    if folder.parent == RUNS and not any(RUNS.iterdir()):
                        RUNS.rmdir()
            elif config.run.resume is None:
                show_stage("stopped", f"continue with: {resume_command(folder)}; to start over, delete '{folder}'")
            raise
        except KeyboardInterrupt:
            if not is_finished(folder):
                show_stage("stopped", f"continue with: {resume_command(folder)}")
            raise
        except OSError as error:
            if error.errno not in FULL_DISK:
                raise
            raise RunError(
                f"The disk of '{error.filename or folder}' is full. What was complete is kept: make room, and continue "
                f"with: {resume_command(folder)}"
            ) from error


@contextlib.contextmanager
def _beside_the_chief(config: TrainConfig) -> Iterator[TrainConfig]:
    """Makes a folder for a worker that is not the chief, with a copy of the checkpoints of an unfinished run.

    So each worker does the same, and does not see the files of the others.
    """
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        if config.run.resume is not None:
            checkpoints_of(folder).mkdir()
            for path in checkpoints_of(config.run.resume).glob("[!.]*"):
                if path.suffix == ".npz" or path.name == BEGUN_FILE:
                    shutil.copy(path, checkpoints_of(folder))
        yield config.replace(output=folder, checkpoint_seconds=NEVER, tensorboard=False)


@contextlib.contextmanager
def alone_in(folder: Path, lock_file: Path) -> Iterator[None]:
    """Keeps other processes from a folder while a block runs; the lock ends with the process, even after a kill.

    Raises:
        UsageError: another process is using it.
    """
    lock = FileLock(lock_file)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        text = f"Another process is at work on '{folder}'. Wait for it, or choose another --output."
        raise UsageError(text) from None
    try:
        yield
    finally:
        lock.release()


def clean_up(folder: Path) -> None:
    """Deletes the files that only an unfinished run needs."""
    shutil.rmtree(checkpoints_of(folder), ignore_errors=True)


def check_output(output: Path | None) -> None:
    """Makes sure that a run folder can be created, without creating it.

    Args:
        output: the requested folder; None for a new one in runs/.

    Raises:
        UsageError: the folder holds files already, or its parent is not writable.
    """
    folder = RUNS if output is None else output
    if output is not None and output.is_dir() and any(path.name != CHECKPOINTS for path in output.iterdir()):
        if is_unfinished(output):
            with _locked(output):
                raise UsageError(
                    f"'{output}' holds an unfinished run. Continue with: {resume_command(output)}; to start over, "
                    f"delete it or choose another --output."
                )
        raise UsageError(f"--output must be a new or empty folder; '{output}' holds files. Choose another.")
    existing = next(parent for parent in (folder, *folder.absolute().parents) if parent.exists())
    try:
        tempfile.TemporaryDirectory(dir=existing).cleanup()
    except OSError:
        raise UsageError(
            f"--output must be a folder that can be written; '{folder}' cannot be made in '{existing}'."
        ) from None


def data_name(data: str) -> str:
    """Returns a short name for `--data`, for folders."""
    if data.startswith("tfds:"):
        return re.sub(r"\W+", "-", data.removeprefix("tfds:"))
    name = re.sub(r"[^\w.-]+", "-", Path(data).resolve().name.removesuffix(".csv"))
    return name.encode()[:MOST_NAME_BYTES].decode(errors="ignore")


def backbone_names(*backbones: str) -> list[str]:
    """Returns short names of backbones for the name of a folder.

    A file has its own name. The default has none: the kind of the data may replace it.
    """
    return [re.sub(r"[^\w-]+", "-", Path(each).stem) for each in backbones if each != ModelConfig().backbone]


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Keeps other processes from a run folder while a block runs; cleans it up afterwards if the run has finished."""
    checkpoints_of(folder).mkdir(exist_ok=True)
    with alone_in(folder, checkpoints_of(folder) / LOCK_FILE):
        yield
    if is_finished(folder):
        clean_up(folder)


def _new_folder(config: TrainConfig) -> Path:
    """Makes a new folder in runs/."""
    now = datetime.datetime.now().strftime("%Y%m%d-%H%M%S")
    name = "-".join([now, *backbone_names(config.model.backbone), data_name(config.data.data)])
    for folder in (RUNS / each for each in (name, *(f"{name}-{number}" for number in range(2, 1000)))):
        with contextlib.suppress(FileExistsError):
            folder.mkdir(parents=True)
            return folder
    raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), name)
