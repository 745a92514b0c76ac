"""KerasTuner's oracles, asked for several trials at a time and kept from writing files.

What an oracle proposes follows from its seed and from what was reported to it, in order. So a search that goes on
after a kill asks again from the beginning and reports what it has on record, and needs no saved state.
"""

import warnings
from collections.abc import Sequence
from typing import Any, NamedTuple

import keras_tuner

from tuning.heads import HEADS_AT_ONCE
from tuning.space import TuneConfig, hyperband_epochs

ALL_AT_ONCE = ("random", "grid")
"""Oracles that do not look at results."""


class Proposal(NamedTuple):
    """A trial that an oracle proposes."""

    number: int
    """Number of the trial, from 1."""
    values: dict[str, Any]


class _WithoutFiles:
    """Oracles write themselves to disk in place at every call, where a kill leaves them torn."""

    def save(self, *_: Any) -> None:
        """Writes nothing."""

    def _save_trial(self, _: Any) -> None:
        """Writes nothing."""


class _Random(_WithoutFiles, keras_tuner.oracles.RandomSearchOracle):
    pass


class _Bayesian(_WithoutFiles, keras_tuner.oracles.BayesianOptimizationOracle):
    pass


class _Hyperband(_WithoutFiles, keras_tuner.oracles.HyperbandOracle):
    pass


class _Grid(_WithoutFiles, keras_tuner.oracles.GridSearchOracle):
    pass


ORACLES: dict[str, type[keras_tuner.Oracle]] = {
    "random": _Random,
    "bayesian": _Bayesian,
    "hyperband": _Hyperband,
    "grid": _Grid,
}


class Proposer:
    """Asks an oracle for trials in batches, each of which is reported before the next."""

    def __init__(self, config: TuneConfig, space: keras_tuner.HyperParameters):
        """Makes the oracle.

        Args:
            config: of the search.
            space: what it draws from.
        """
        self._eager = config.search.oracle in ALL_AT_ONCE
        self._at_once = config.search.max_trials if self._eager else HEADS_AT_ONCE
        self._direction = "max" if config.search.objective == "val_accuracy" else "min"
        settings = {"max_epochs": hyperband_epochs(config)} if config.search.oracle == "hyperband" else {}
        self._oracle = ORACLES[config.search.oracle](
            objective=keras_tuner.Objective("objective", self._direction),
            hyperparameters=space,
            seed=config.fixed.training.seed + 1,  # it takes 0 for none
            max_consecutive_failed_trials=config.search.max_trials + 1,
            **settings,
        )
        self._oracle.max_trials = config.search.max_trials
        self._oracle.verbose = 0
        self._asked: list[Any] = []

    def propose(self) -> list[Proposal]:
        """Returns the next trials; none when the search is over."""
        first = len(self._oracle.trials)
        self._asked = []
        while len(self._asked) < self._at_once:
            with warnings.catch_warnings(action="ignore"):  # of the optimizer inside the oracle
                trial = self._oracle.create_trial(f"place {len(self._asked)}")
            if trial.status != "RUNNING":
                break
            self._asked.append(trial)
            if self._eager:
                self._end(trial, 0.0)  # grid waits for an end before it proposes the next
        return [
            Proposal(first + place + 1, {name: _plain(value) for name, value in trial.hyperparameters.values.items()})
            for place, trial in enumerate(self._asked)
        ]

    def report(self, scores: Sequence[float | None]) -> None:
        """Reports the objectives of the trials that were proposed last, in order; None where one failed."""
        if not self._eager:
            for trial, score in zip(self._asked, scores, strict=True):
                self._end(trial, score)

    def _end(self, trial: Any, score: float | None) -> None:
        if score is not None:
            self._oracle.update_trial(trial.trial_id, {"objective": score})
        trial.status = "FAILED" if score is None else "COMPLETED"
        self._oracle.end_trial(trial)


def _plain(value: Any) -> Any:
    """A number of Python's own."""
    return value.item() if hasattr(value, "item") else value
