"""Finds the user's own parts in `custom.py` by name, with a digest of the file."""

import contextlib
import functools
import hashlib
import importlib
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from app.decision import rule_of
from app.errors import RunError, UsageError, unknown_choice
from app.fields import flag_of
from app.terminal import quiet_tensorflow, shortened

FILE = "custom.py"


class Choice(NamedTuple):
    """Parts that one setting may name."""

    table: str
    """Table of `custom.py`."""
    names: tuple[str, ...]
    """Names of this project's own parts."""


CHOICES: dict[str, Choice] = {
    "head": Choice("HEADS", ("dense",)),
    "pooling": Choice("POOLINGS", ("avg", "max", "first", "last", "both", "own")),
    "vary": Choice("AUGMENTATIONS", ("mild", "flip", "vertical", "rotate", "medical", "randaugment", "specaugment")),
    "loss": Choice("LOSSES", ("cross_entropy",)),
}
"""Parts that a setting may name, by the name of the setting."""
OBJECTIVES = (
    *("val_accuracy", "val_loss", "val_balanced_accuracy", "val_macro_f1", "val_roc_auc"),
    *("val_sensitivity_at_specificity_95", "val_specificity_at_sensitivity_95"),
)
"""Metrics of this project that a search can optimise; in place of 95, any percentage."""
BOX_OBJECTIVES = ("val_ap", "val_ap50")
"""Metrics that a search can optimise for boxes, in addition to val_loss; the first is the default."""


class CustomFile(NamedTuple):
    """The imported `custom.py`, with a digest of its text."""

    module: Any
    digest: str
    """SHA-256 of the text of the file."""

    def table(self, name: str) -> Mapping[str, Any]:
        """Returns one of its tables, by the name of the variable."""
        return getattr(self.module, name, {})


@functools.cache
def custom_file() -> CustomFile:
    """Imports `custom.py`, once.

    Raises:
        UsageError: the file cannot be imported.
    """
    try:
        with quiet_tensorflow():  # the file may import TensorFlow
            module = importlib.import_module(Path(FILE).stem)
        return CustomFile(module, hashlib.sha256(Path(module.__file__ or FILE).read_bytes()).hexdigest())
    except Exception as error:  # the user's code may raise any exception
        raise UsageError(f"{FILE} cannot be imported ({type(error).__name__}: {error}). Correct it.") from error


def find_custom(setting: str, name: str | None) -> Any | None:
    """Finds a part of `custom.py`; returns None for a part of this project, and for a name that is None.

    Args:
        setting: setting of `CHOICES` that names the part.
        name: name of the part.

    Raises:
        UsageError: there is no part of this name.
    """
    table, known = CHOICES[setting]
    if name is None or name in known:
        return None
    own = custom_file().table(table)
    if name not in own:
        raise unknown_choice(flag_of(setting), name, [*known, *own])
    return own[name]


@contextlib.contextmanager
def blamed(setting: str, name: str | None) -> Iterator[None]:
    """Turns an exception in a block that calls a part of `custom.py` into a sentence.

    Args:
        setting: setting of `CHOICES` that names the part.
        name: name of the part; exceptions of this project's own parts stay as they are.

    Raises:
        UsageError: the part raised an exception.
    """
    try:
        yield
    except Exception as error:  # the user's code may raise any exception
        if find_custom(setting, name) is None:
            raise
        raise UsageError(f"{flag_of(setting)} {name} of {FILE} failed ({shortened(error)}). Correct it.") from error


def uses_custom(settings: Mapping[str, Any]) -> bool:
    """Returns True if settings, by name, name a part of `custom.py`.

    Raises:
        UsageError: a setting names a part that does not exist.
    """
    found = [find_custom(setting, settings[setting]) for setting in CHOICES]
    return any(part is not None for part in found)


def check_objective(objective: str) -> None:
    """Raises a UsageError for a metric that a search cannot optimise: neither in `OBJECTIVES` nor in `custom.py`."""
    if rule_of(objective) is not None:
        return
    known = [*OBJECTIVES, *BOX_OBJECTIVES, *(f"val_{name}" for name in custom_file().table("METRICS"))]
    if objective not in known:
        raise unknown_choice("--objective", objective, known)


def custom_metrics() -> dict[str, Any]:
    """Returns the metrics of `custom.py`, by name."""
    return {
        name: functools.partial(_measure, name, compute) for name, compute in custom_file().table("METRICS").items()
    }


def _measure(name: str, compute: Any, answers: Any) -> float | None:
    try:
        value = compute(answers)
        value = None if value is None else float(value)
        return value if value is not None and math.isfinite(value) else None
    except Exception as error:
        raise RunError(
            f"The metric '{name}' of {FILE} failed ({type(error).__name__}: {error}). Correct it."
        ) from error
