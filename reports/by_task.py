"""The part of a report that depends on the task: a module for each."""

from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np
import pandas as pd
from rich.table import Table

from app.config import TrainConfig
from app.decision import Rule
from data.kinds import Kind
from data.prepare import Data
from data.sources import Split
from reports import classification, detection
from reports.facts import Facts, Findings
from reports.verdict import Verdict
from tasks.classification import Classification
from tasks.detection import Detection
from tasks.detection_metrics import BoxMetric
from tasks.metrics import Metric
from tasks.table import Task


class Reporting(Protocol):
    """Functions that the module of each task has."""

    def metrics(self) -> Mapping[str, Metric | BoxMetric]:
        """Returns the metrics that a page shows, by their names in `metrics.json`."""

    def measure(self, data: Data, split: Split, outputs: np.ndarray) -> dict[str, Any] | None:
        """Returns the record M of `metrics.json` for a split; None without examples."""

    def decide(self, data: Data, outputs: dict[Split, np.ndarray], rule: Rule | None) -> Data:
        """Returns the data with a task that decides by thresholds chosen on val, if the task or a rule wants some."""

    def own_record(
        self, data: Data, config: TrainConfig, outputs: dict[Split, np.ndarray], temperature: float
    ) -> dict[str, Any]:
        """Returns the part of `metrics.json` that depends on the task."""

    def examine(self, data: Data, outputs: Mapping[Split, np.ndarray], split: Split | None) -> Findings:
        """Finds what a page shows of the answers, above all of those for `split`; None if nothing is measured."""

    def reach_verdict(self, record: dict[str, Any], task: Task, kind: Kind, facts: Facts | None = None) -> Verdict:
        """Sums up a run by `metrics.json`; for its own page, also by the facts of that page."""

    def predictions_table(self, data: Data, outputs: Mapping[Split, np.ndarray]) -> pd.DataFrame:
        """Makes the table of `predictions.csv`."""

    def results_table(self, measured: Mapping[str, dict[str, Any]], nouns: str) -> Table:
        """Makes a table for the terminal with a row for each measured split."""


MODULES: dict[type[Task], Reporting] = {Classification: classification, Detection: detection}


def reporting(task: Task) -> Reporting:
    """Returns the functions for a task."""
    return MODULES[type(task)]
