"""Records how a run was begun: a run is resumed with the same settings, inputs and cuts, or not at all.

Nothing here needs TensorFlow.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from app.config import RunConfig, TrainConfig
from app.errors import UsageError
from app.fields import flag_of
from app.files import as_read, newest_beside, read_json, write_json
from app.run_folder import CONFIG_FILE, MORE_DATA_FILE, PLACES_FILE, checkpoints_of, is_finished, is_unfinished
from app.terminal import show_stage
from data.sources import is_same
from training.folder import ASKED_FILE, BEGUN_FILE, LOCK_FILE, PLACES, folder_of

CHOSEN_WITH_DATA = {
    "image_size",
    "resize",
    "max_tokens",
    "clip_seconds",
    "backbone",
    "pooling",
    "split_seed",
    "positive",
}
"""Settings that are chosen when the examples are read, before the recipe runs."""


def read_begun(folder: Path) -> TrainConfig:
    """Reads the settings with which a run was begun.

    Args:
        folder: folder of the run.

    Returns:
        The settings, including its folders.

    Raises:
        UsageError: the folder holds no run, or is damaged.
    """
    if not is_finished(folder) and not is_unfinished(folder):
        hint = "" if folder.is_dir() else newest_beside(folder, is_unfinished)
        raise UsageError(f"--resume must be the folder of an unfinished run; '{folder}' holds none.{hint}")
    config = TrainConfig.from_file(folder / CONFIG_FILE, "--resume")
    return config.replace(**_read_places(folder), output=folder, resume=folder)


def resumed(folder: Path, given: Mapping[str, Any]) -> TrainConfig:
    """Returns the settings of an unfinished run, with those that are given anew; others than the run's are refused.

    Raises:
        UsageError: the folder holds no run, or a setting differs; the message names it.
    """
    begun = read_begun(folder)
    config = begun.replace(**given)
    check_unchanged(config, begun.to_json(), may_be_chosen=False)
    if config.run.output != folder:
        raise UsageError(f"--resume continues in its own folder, '{folder}'; leave out --output.")
    return config


def check_unchanged(config: TrainConfig, begun: dict[str, Any], may_be_chosen: bool = True) -> None:
    """Makes sure that a run is resumed with the settings that it was begun with.

    Args:
        config: the settings now.
        begun: the settings then.
        may_be_chosen: whether settings that were open then may have a value now, as the recipe has chosen them.

    Raises:
        UsageError: a setting differs; the message names it.
    """
    begun = as_read(begun)
    for name, now in as_read(config.to_json()).items():
        before = begun.get(name)
        was_open = may_be_chosen and before in (None, "find")
        if now == before or was_open or (name == "data" and is_same(now, str(before))):
            continue
        then = f"without {flag_of(name)}" if before is None else f"with {flag_of(name)} {_text(before)}"
        raise UsageError(
            f"'{config.run.output}' was begun {then}; received {_text(now)}. Leave it out to continue, or choose "
            "another --output."
        )


def read_begun_with(config: TrainConfig, inputs: str, versions: dict[str, str]) -> dict[str, int] | None:
    """Makes sure that a run is resumed with the inputs that it was begun with.

    Args:
        config: settings, all chosen except those that need features.
        inputs: digest of examples, labels, splits and weights.
        versions: versions of the libraries; different ones are a warning.

    Returns:
        The position of the cut of each phase; None if the run has not begun yet.

    Raises:
        UsageError: something has changed since; the message names it.
    """
    path = checkpoints_of(folder_of(config)) / BEGUN_FILE
    begun = _read_record(path, config=dict, inputs=str, cuts=dict, versions=dict)
    if not begun:
        return None
    check_unchanged(config, begun["config"])
    if begun["inputs"] != inputs:
        raise UsageError(
            f"'{config.run.output}' was begun with other examples, labels or weights, or another custom.py: they have "
            f"changed since. Choose another --output to start anew."
        )
    for name, version in versions.items():
        before = begun["versions"].get(name)
        if before != version:
            show_stage("warning", f"begun with {name} {before}, now {version}: the last digits may differ")
    return begun["cuts"]


def begin(config: TrainConfig, inputs: str, versions: dict[str, str], cuts: dict[str, int]) -> None:
    """Records all that the result depends on; see `read_begun_with`."""
    folder = folder_of(config)
    write_json(folder / CONFIG_FILE, config.to_json())  # first, because --resume reads it
    record = {"config": config.to_json(), "inputs": inputs, "cuts": cuts, "versions": versions}
    write_json(checkpoints_of(folder) / BEGUN_FILE, record)


def as_asked(config: TrainConfig) -> TrainConfig:
    """Returns the settings as the user gave them; --resume reads them with the choices of the recipe."""
    asked = _read_record(checkpoints_of(folder_of(config)) / ASKED_FILE)
    names = config.to_json().keys() - CHOSEN_WITH_DATA
    return config.replace(**{name: asked[name] for name in names if asked.get(name, 0) in (None, "find")})


def forget(folder: Path) -> None:
    """Deletes all that a run has learnt, so that it starts again."""
    for path in checkpoints_of(folder).glob("*"):
        if path.name not in (PLACES_FILE, ASKED_FILE, LOCK_FILE):
            path.unlink()
    (folder / MORE_DATA_FILE).unlink(missing_ok=True)


def _read_places(folder: Path) -> dict[str, Any]:
    path = checkpoints_of(folder) / PLACES_FILE
    record = _read_record(path)
    if not record:
        return {}
    try:
        places = RunConfig.from_json({name: record[name] for name in PLACES})
    except (KeyError, UsageError):
        raise _damaged(path) from None
    return {name: getattr(places, name) for name in PLACES}


def _read_record(path: Path, **kinds: Any) -> dict[str, Any]:
    """Reads a JSON object whose values have the given types; empty if the file is missing."""
    try:
        record = read_json(path)
        if not isinstance(record, dict) or not all(isinstance(record[name], kind) for name, kind in kinds.items()):
            raise ValueError
        return record
    except FileNotFoundError:
        return {}
    except (ValueError, KeyError):
        raise _damaged(path) from None


def _damaged(path: Path) -> UsageError:
    return UsageError(f"'{path}' is damaged. Choose another --output to start anew.")


def _text(value: Any) -> str:
    return " ".join(map(str, value)) if isinstance(value, list) else str(value)
