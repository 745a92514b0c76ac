"""Asks KerasTuner's oracles for several trials at a time, and keeps them from writing files.

The proposals of an oracle follow from its seed and the reports so far, in order. So a resumed search needs no saved
state: it asks again from the beginning and reports the recorded outcomes.
"""

import warnings
from collections.abc import Sequence
from typing import Any

import keras_tuner

from tuning.heads import HEADS_AT_ONCE
from tuning.records import Outcome
from tuning.space import TuneConfig

ALL_AT_ONCE = ("random", "grid")
"""Oracles that do not look at results."""
ORACLES: dict[str, type[keras_tuner.Oracle]] = {
    "random": keras_tuner.oracles.RandomSearchOracle,
    "bayesian": keras_tuner.oracles.BayesianOptimizationOracle,
    "hyperband": keras_tuner.oracles.HyperbandOracle,
    "grid": keras_tuner.oracles.GridSearchOracle,
}


class Proposer:
    """Asks an oracle for batches of trials; each batch is reported before the next."""

    def __init__(self, config: TuneConfig, space: keras_tuner.HyperParameters):
        """Makes the oracle.

        Args:
            config: settings of the search.
            space: search space.
        """
        self._eager = config.search.oracle in ALL_AT_ONCE
        most = config.search.max_trials - 1  # the first trial is what train.py does
        self._at_once = most if self._eager else min(most, HEADS_AT_ONCE)
        settings = {"max_epochs": max(config.space["head_epochs"])} if config.search.oracle == "hyperband" else {}
        self._oracle = ORACLES[config.search.oracle](
            objective=keras_tuner.Objective("objective", "min" if config.search.objective == "val_loss" else "max"),
            hyperparameters=space,
            seed=config.fixed.training.seed + 1,  # the oracle takes 0 for no seed
            max_consecutive_failed_trials=config.search.max_trials + 1,
            **settings,
        )
        self._oracle.max_trials = most
        self._oracle.verbose = 0
        # Oracles overwrite their state on disk at every call; a kill would leave it damaged.
        self._oracle.save = self._oracle._save_trial = lambda *_: None
        self._asked: list[Any] = []

    def propose(self) -> list[tuple[int, dict[str, Any]]]:
        """Returns the numbers of the next trials, from 2, and their values; none when the search is over."""
        first = len(self._oracle.trials) + 2
        self._asked = []
        while len(self._asked) < self._at_once:
            with warnings.catch_warnings(action="ignore"):  # from the optimizer inside the oracle
                trial = self._oracle.create_trial(f"place {len(self._asked)}")
            if trial.status != "RUNNING":
                break
            self._asked.append(trial)
            if self._eager:
                self._end(trial, 0.0)  # grid proposes the next trial only after one has ended
        values = [trial.hyperparameters.values for trial in self._asked]
        return list(enumerate(({name: _plain(value) for name, value in each.items()} for each in values), start=first))

    def report(self, outcomes: Sequence[Outcome]) -> None:
        """Reports the outcomes of the last batch, in order."""
        if not self._eager:
            for trial, outcome in zip(self._asked, outcomes, strict=True):
                self._end(trial, outcome.score if outcome.status == "done" else None)

    def _end(self, trial: Any, score: float | None) -> None:
        if score is not None:
            self._oracle.update_trial(trial.trial_id, {"objective": score})
        trial.status = "FAILED" if score is None else "COMPLETED"
        self._oracle.end_trial(trial)


def _plain(value: Any) -> Any:
    """Returns a NumPy number as one of Python."""
    return value.item() if hasattr(value, "item") else value
