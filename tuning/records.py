"""Records of trials: their outcomes in `trials.csv`, a line each, and the settings of the search in `search.json`.

A line is all that is stored of a trial, and enough to resume after a kill. Repeats of the best are in `finalists.csv`.
"""

import contextlib
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from app.errors import UsageError
from app.fields import flag_of
from app.files import as_read, read_json, write_json
from data.csv_cells import read_table
from reports.search_plots import Hyperparameters
from reports.writer import write_table
from training.inputs import RunInputs, inputs_digest
from training.plan import Plan
from tuning.space import SPACE, TuneConfig

COLUMNS = ("trial", "status", "score", "val_accuracy", "val_loss", "seconds", "seed", *SPACE, "message")
"""Columns of `trials.csv` and `finalists.csv`."""
TEXTS = ("status", "backbone", "optimizer", "head_units", "message")
"""Columns without numbers."""


Numbered = tuple[int, Plan]
"""A trial: its number, from 1, and its plan."""
Job = Sequence[Numbered]
"""Trials that run together."""


class Outcome(NamedTuple):
    """Outcome of a trial."""

    status: str
    """'done' or 'failed'."""
    score: float
    """Value of the objective; if the trial failed, this and the other numbers are NaN."""
    val_accuracy: float
    """Fraction."""
    val_loss: float
    seconds: float
    """Seconds of the trial; heads that were trained together have equal shares."""
    message: str = ""
    """Why it failed."""


def failed(message: str) -> Outcome:
    """Makes the outcome of a failed trial."""
    return Outcome("failed", math.nan, math.nan, math.nan, 0.0, message)


def checked(outcomes: Sequence[tuple[int, Outcome]], numbers: Sequence[int]) -> Iterator[tuple[int, Outcome]]:
    """Checks outcomes from another process: returns one for each number, failures for impossible or missing ones.

    Args:
        outcomes: number and outcome of each trial.
        numbers: numbers of the trials that the process was given.
    """
    reported = dict(outcomes)
    for number in numbers:
        outcome = reported.get(number)
        yield number, outcome if outcome and _is_possible(outcome) else failed(f"impossible result: {outcome}")


class TrialFile:
    """A file of trials: number, settings and outcome of each, in a line. A number may have a line for each seed."""

    def __init__(self, file: Path):
        """Reads the file, if there is one.

        Raises:
            UsageError: it is damaged.
        """
        self._file = file
        self._rows = {(row["trial"], row["seed"]): row for row in _read(file)} if file.exists() else {}

    @property
    def table(self) -> pd.DataFrame:
        """Returns the table of the file, in the order of the trials."""
        return pd.DataFrame([self._rows[key] for key in sorted(self._rows)], columns=list(COLUMNS))

    def known(self, number: int, plan: Plan) -> Outcome | None:
        """Returns the recorded outcome of a trial; None if there is none.

        Raises:
            UsageError: the record has other settings for this number.
        """
        settings = _settings(plan)
        row = self._rows.get((number, settings["seed"]))
        if row is None:
            return None
        for name, value in settings.items():
            if row[name] != value and not (row[name] != row[name] and value != value):  # NaN is not equal to itself
                raise UsageError(
                    f"Trial {number} of '{self._file}' had {name} {row[name]}, and now has {value}: the versions of "
                    f"libraries differ. Choose another --output."
                )
        return Outcome(*(row[name] for name in Outcome._fields))

    def add(self, number: int, plan: Plan, outcome: Outcome) -> None:
        """Records a trial."""
        settings = _settings(plan)
        self._rows[number, settings["seed"]] = {"trial": number, **settings, **outcome._asdict()}
        write_table(self._file, self.table)


class Records:
    """The record of a search in its folder: its settings, its trials, their repeats, and the result once it has one."""

    def __init__(self, folder: Path, search: dict[str, Any]):
        """Opens the folder, and takes over what an earlier process has recorded there.

        Args:
            folder: folder of the search.
            search: description of the search, from `asked`.

        Raises:
            UsageError: the folder holds another search, or other files.
        """
        self.folder = folder
        self.search = search
        self.result: dict[str, Any] = {}
        """Result of an earlier start that finished."""
        if (folder / "search.json").exists():
            self._continue()
        else:
            write_json(folder / "search.json", self.search)
        self.trials = TrialFile(folder / "trials.csv")
        self.repeats = TrialFile(folder / "finalists.csv")
        """Repeats of the best trials with other seeds."""

    def finish(self, result: Mapping[str, Any]) -> None:
        """Adds the result to `search.json`."""
        write_json(self.folder / "search.json", {**self.search, **result})

    def _continue(self) -> None:
        try:
            record = read_json(self.folder / "search.json")
            before, of_before = record["config"], record["inputs"]
            self.result = {name: value for name, value in record.items() if name not in self.search}
        except (ValueError, KeyError, TypeError):
            raise UsageError(f"'{self.folder / 'search.json'}' is damaged. Choose another --output.") from None
        changed = [name for name, value in self.search["config"].items() if before.get(name) != value]
        if changed:
            flags = ", ".join(map(flag_of, changed))
            raise UsageError(f"'{self.folder}' holds a search with another {flags}. Choose another --output.")
        if of_before != self.search["inputs"]:
            raise UsageError(
                f"'{self.folder}' holds a search on other examples, labels or weights, or with another custom.py: they "
                f"have changed since. Choose another --output."
            )


def asked(config: TuneConfig, inputs: Sequence[RunInputs]) -> dict[str, Any]:
    """Returns all that the trials depend on: the settings, as JSON values, and a digest of examples and weights."""
    return {"config": as_read(config.to_json()), "inputs": [inputs_digest(each) for each in inputs]}


def as_drawn(trials: pd.DataFrame) -> pd.DataFrame:
    """Replaces settings without effect by NaN: those of fine-tuning for frozen backbones, else those of the head."""
    is_frozen = trials["trainable_layers"].astype(str) == "0"
    unused = {"learning_rate": ~is_frozen, "head_epochs": ~is_frozen}
    unused |= {"fine_tune_learning_rate": is_frozen, "fine_tune_epochs": is_frozen}
    return trials.assign(**{name: trials[name].astype(float).mask(rows) for name, rows in unused.items()})


def varied_in(trials: pd.DataFrame) -> Hyperparameters:
    """Returns the hyperparameters that differ between trials where they have an effect, and the scale of each."""
    drawn = as_drawn(trials)
    return {name: each.sampling for name, each in SPACE.items() if drawn[name].nunique(dropna=False) > 1}


def trial_text(trials: pd.DataFrame, number: int) -> str:
    """Describes a trial: its number, and the settings in which trials differ."""
    row = as_drawn(trials).set_index("trial").loc[number, list(varied_in(trials))].dropna()
    shown = (f"{value:.3g}" if isinstance(value, float) else value for value in row)
    pairs = zip(row.index, shown, strict=True)
    return ", ".join([f"trial {number}", *(f"{name.replace('_', ' ')} {value}" for name, value in pairs)])


def _read(file: Path) -> list[dict[str, Any]]:
    """Reads the rows of a file of trials; raises a UsageError if it is damaged."""
    try:
        rows = read_table(file)[list(COLUMNS)].to_dict("records")
        return [{name: text if name in TEXTS else _number(text) for name, text in row.items()} for row in rows]
    except (ValueError, KeyError):
        raise UsageError(f"'{file}' is damaged. Choose another --output.") from None


def _settings(plan: Plan) -> dict[str, Any]:
    """Returns the columns of a trial's settings."""
    given = plan.config.flat()
    settings = {name: math.nan if given[name] is None else given[name] for name in SPACE}
    settings["head_units"] = " ".join(map(str, given["head_units"])) or "none"
    if plan.trainable_layers == 0:
        settings["fine_tune_learning_rate"] = math.nan
    return {**settings, "seed": given["seed"]}


def _number(text: str) -> int | float | str:
    """Parses a number exactly as written; '' is NaN, and 'all' stays."""
    for kind in (int, float):
        with contextlib.suppress(ValueError):
            return kind(text or "nan")
    return text


def _is_possible(outcome: Outcome) -> bool:
    measured: Sequence[object] = outcome[1:5]
    if outcome.status != "done" or not all(isinstance(value, float) and math.isfinite(value) for value in measured):
        return outcome.status == "failed"
    return 0 <= outcome.val_accuracy <= 1 and outcome.seconds >= 0
