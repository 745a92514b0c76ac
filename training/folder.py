"""The folder of an unfinished run: who is at work on it, how it was begun, and how it is gone on with.

Nothing here needs TensorFlow.
"""

import contextlib
import datetime
import errno
import os
import re
import shlex
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from app.config import RunConfig, TrainConfig
from app.errors import RunError, UsageError, cannot_write
from app.fields import flag_of
from app.files import FULL_DISK, as_read, newest_beside, read_json, write_json
from app.terminal import show_stage
from data.folder import check_outside
from devices.tf_config import Worker

CONFIG_FILE = "config.json"
MOST_NAME_BYTES = 100
"""Part that the data has in the name of a folder: file systems take 255, and time and backbone are in it too."""
RUNS = Path("runs")
"""Folder of runs and searches without an --output."""
CHOSEN_WITH_DATA = {"image_size", "split_seed", "positive"}
"""Settings that are chosen when the examples are read, before the recipe."""
CHECKPOINTS = "checkpoints"
"""Folder of a run that holds what it needs to go on; gone when the run is finished."""
_PLACES_FILE, _ASKED_FILE, _BEGUN_FILE, _LOCK = "places.json", "asked.json", "begun.json", "lock"
_PLACES = ("cache_dir", "cache_gb", "checkpoint_seconds", "strict", "tensorboard")
"""Settings beside the result that a run goes on with."""


def checkpoints_of(folder: Path) -> Path:
    """The folder of a run's checkpoints."""
    return folder / CHECKPOINTS


def folder_of(config: TrainConfig) -> Path:
    """The folder of a run that `open_folder` has opened."""
    if config.run.output is None:
        raise ValueError("a run needs a folder: see open_folder")
    return config.run.output


def is_finished(folder: Path) -> bool:
    """Returns True if a run folder is complete: its `metrics.json` is written last."""
    return (folder / "metrics.json").exists()


def resume_command(folder: Path) -> str:
    """The command that goes on with a run."""
    return f"python train.py --resume {shlex.quote(str(folder))}"


def read_begun(folder: Path) -> TrainConfig:
    """Reads how a run was begun.

    Args:
        folder: of the run.

    Returns:
        Its settings, with the places it was begun in.

    Raises:
        UsageError: it holds none, or is damaged.
    """
    if not is_finished(folder) and not _is_unfinished(folder):
        hint = "" if folder.is_dir() else newest_beside(folder)
        raise UsageError(f"--resume must be the folder of an unfinished run; '{folder}' holds none.{hint}")
    config = TrainConfig.from_file(folder / CONFIG_FILE, "--resume")
    return config.replace(**_read_places(folder), output=folder, resume=folder)


def check_unchanged(config: TrainConfig, begun: dict[str, Any]) -> None:
    """Makes sure that a run goes on with the settings that it was begun with.

    Args:
        config: as it is now.
        begun: the settings then; those that were open may be set now.

    Raises:
        UsageError: naming a setting that differs.
    """
    begun = as_read(begun)
    for name, now in as_read(config.to_json()).items():
        before = begun.get(name)
        if now != before and before not in (None, "find"):
            raise UsageError(
                f"'{config.run.output}' was begun with {flag_of(name)} {_text(before)}; received {_text(now)}. Leave "
                f"it out to go on, or choose another --output."
            )


@contextlib.contextmanager
def open_folder(config: TrainConfig, worker: Worker | None = None) -> Iterator[TrainConfig]:
    """Makes a run folder, or opens that of an unfinished run, for this process alone.

    What goes wrong before the run has begun (a mistake of the user, or too little memory or disk) leaves no folder.

    Args:
        config: `output` names the folder, or None for one of its own below runs/; `resume` that of an unfinished run.
        worker: which of several this process is; None if it works alone.

    Yields:
        The settings, with `output`.

    Raises:
        UsageError: the folder holds something else, cannot be written, or another process is at work on it.
        RunError: the disk is full.
    """
    if config.run.resume is None:
        check_outside(config.data.data, {"--output": config.run.output or RUNS, "--cache-dir": config.run.cache_dir})
    if worker is not None and not worker.is_chief:
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
            write_json(checkpoints_of(folder) / _PLACES_FILE, {name: config.flat()[name] for name in _PLACES})
            if config.run.resume is None:
                write_json(folder / CONFIG_FILE, config.to_json())
                write_json(checkpoints_of(folder) / _ASKED_FILE, config.to_json())
            yield config.replace(output=folder)
        except (UsageError, RunError, MemoryError):
            if config.run.resume is None and not (checkpoints_of(folder) / _BEGUN_FILE).exists():
                shutil.rmtree(checkpoints_of(folder))
                (folder / CONFIG_FILE).unlink(missing_ok=True)
                if is_new:
                    folder.rmdir()
            elif config.run.resume is None:
                show_stage("stopped", f"go on with: {resume_command(folder)}; to start over, delete '{folder}'")
            raise
        except KeyboardInterrupt:
            if not is_finished(folder):
                show_stage("stopped", f"go on with: {resume_command(folder)}")
            raise
        except OSError as error:
            if error.errno not in FULL_DISK:
                raise
            raise RunError(
                f"The disk of '{error.filename or folder}' is full. What was complete is kept: make room, and go on "
                f"with: {resume_command(folder)}"
            ) from error


@contextlib.contextmanager
def _beside_the_chief(config: TrainConfig) -> Iterator[TrainConfig]:
    """Makes a folder for what a worker writes that is not the chief, with a copy of what an unfinished run has learnt.

    So each does the same, and nothing of what it writes is ever seen.
    """
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        if config.run.resume is not None:
            checkpoints_of(folder).mkdir()
            for path in checkpoints_of(config.run.resume).glob("[!.]*"):
                if path.suffix == ".npz" or path.name == _BEGUN_FILE:
                    shutil.copy(path, checkpoints_of(folder))
        yield config.replace(output=folder, checkpoint_seconds=float("inf"), tensorboard=False)


@contextlib.contextmanager
def alone_in(folder: Path, lock_file: Path) -> Iterator[None]:
    """Keeps other processes from a folder while a block runs; the lock dies with the process, however that ends.

    Raises:
        UsageError: another process is at work on it.
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


def read_begun_with(config: TrainConfig, inputs: str, versions: dict[str, str]) -> dict[str, int] | None:
    """Makes sure that a run goes on with what it was begun with.

    Args:
        config: with every setting chosen but those that need features.
        inputs: digest of examples, labels, splits and weights.
        versions: of the libraries; others are told on the terminal.

    Returns:
        The position of the cut of each phase; None if the run has not begun yet.

    Raises:
        UsageError: naming what has changed since.
    """
    path = checkpoints_of(folder_of(config)) / _BEGUN_FILE
    begun = _read_record(path, config=dict, inputs=str, cuts=dict, versions=dict)
    if not begun:
        return None
    check_unchanged(config, begun["config"])
    if begun["inputs"] != inputs:
        raise UsageError(
            f"'{config.run.output}' was begun with other examples, labels or weights: they have changed since. Choose "
            f"another --output to start anew."
        )
    for name, version in versions.items():
        before = begun["versions"].get(name)
        if before != version:
            show_stage("warning", f"begun with {name} {before}, now {version}: the last digits may differ")
    return begun["cuts"]


def begin(config: TrainConfig, inputs: str, versions: dict[str, str], cuts: dict[str, int]) -> None:
    """Records what decides the result; see `read_begun_with`."""
    folder = folder_of(config)
    write_json(folder / CONFIG_FILE, config.to_json())  # first: it is what --resume reads
    record = {"config": config.to_json(), "inputs": inputs, "cuts": cuts, "versions": versions}
    write_json(checkpoints_of(folder) / _BEGUN_FILE, record)


def as_asked(config: TrainConfig) -> TrainConfig:
    """Opens again what was left open when a run was begun; --resume reads it as it was chosen then."""
    asked = _read_record(checkpoints_of(folder_of(config)) / _ASKED_FILE)
    names = config.to_json().keys() - CHOSEN_WITH_DATA
    return config.replace(**{name: asked[name] for name in names if asked.get(name, 0) in (None, "find")})


def forget(folder: Path) -> None:
    """Deletes what a run has learnt: it has to start again."""
    for path in checkpoints_of(folder).glob("*"):
        if path.name not in (_PLACES_FILE, _ASKED_FILE, _LOCK):
            path.unlink()


def clean_up(folder: Path) -> None:
    """Deletes what only an unfinished run needs."""
    shutil.rmtree(checkpoints_of(folder), ignore_errors=True)


def check_output(output: Path | None) -> None:
    """Makes sure that a run folder can be made, without making it.

    Args:
        output: the folder asked for; None for one of its own below runs/.

    Raises:
        UsageError: the folder holds something already, or its place cannot be written.
    """
    folder = RUNS if output is None else output
    if output is not None and output.is_dir() and any(path.name != CHECKPOINTS for path in output.iterdir()):
        if _is_unfinished(output):
            with _locked(output):
                raise UsageError(
                    f"'{output}' holds an unfinished run. Go on with: {resume_command(output)}; to start over, delete "
                    f"it or choose another --output."
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
    """A short name for `--data`, for folders."""
    if data.startswith("tfds:"):
        return re.sub(r"\W+", "-", data.removeprefix("tfds:"))
    name = re.sub(r"[^\w.-]+", "-", Path(data).resolve().name.removesuffix(".csv"))
    return name.encode()[:MOST_NAME_BYTES].decode(errors="ignore")


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Keeps other processes from a run folder."""
    checkpoints_of(folder).mkdir(exist_ok=True)
    with alone_in(folder, checkpoints_of(folder) / _LOCK):
        yield
    if is_finished(folder):
        clean_up(folder)


def _is_unfinished(folder: Path) -> bool:
    begun = (checkpoints_of(folder) / _PLACES_FILE).is_file() and (folder / CONFIG_FILE).is_file()
    return begun and not is_finished(folder)


def _new_folder(config: TrainConfig) -> Path:
    """Makes a folder below runs/, which no other process has made."""
    now = datetime.datetime.now().strftime("%Y%m%d-%H%M%S")
    name = f"{now}-{config.model.backbone}-{data_name(config.data.data)}"
    for folder in (RUNS / each for each in (name, *(f"{name}-{number}" for number in range(2, 1000)))):
        with contextlib.suppress(FileExistsError):
            folder.mkdir(parents=True)
            return folder
    raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), name)


def _read_places(folder: Path) -> dict[str, Any]:
    path = checkpoints_of(folder) / _PLACES_FILE
    record = _read_record(path)
    try:
        places = RunConfig.from_json({name: record[name] for name in _PLACES} if record else {}).flat()
    except (KeyError, UsageError):
        raise UsageError(f"'{path}' is damaged. Choose another --output to start anew.") from None
    return {name: places[name] for name in _PLACES} if record else {}


def _read_record(path: Path, **kinds: Any) -> dict[str, Any]:
    """Reads a file of names and values of these kinds; empty if it is not there."""
    try:
        record = read_json(path)
        if not isinstance(record, dict) or not all(isinstance(record[name], kind) for name, kind in kinds.items()):
            raise ValueError
        return record
    except FileNotFoundError:
        return {}
    except (ValueError, KeyError):
        raise UsageError(f"'{path}' is damaged. Choose another --output to start anew.") from None


def _text(value: Any) -> str:
    return " ".join(map(str, value)) if isinstance(value, list) else str(value)
