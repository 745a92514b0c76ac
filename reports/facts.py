"""Facts that a run's page is made from."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import keras
import numpy as np
import pandas as pd
from markupsafe import Markup
from matplotlib.figure import Figure

from app.config import TrainConfig
from data.near_duplicates import NearDuplicate
from data.prepare import Data
from data.sources import Split
from reports.curves import ClassCurves
from reports.page import inline_svg
from reports.suspects import LabelError
from reports.writer import write_figure, write_table


class Beside(NamedTuple):
    """Answers for a picture matched with its true boxes."""

    truth: np.ndarray
    """float64 (boxes, 6): corners in pixels, number of the class, 1 if it is ignored."""
    answers: np.ndarray
    """float64 (answers, 6): corners in pixels, probability, number of the class; only those that reach thresholds."""
    found_by: np.ndarray
    """int (boxes,): the answer that matches each true box, -1 for a missed one."""
    is_right: np.ndarray
    """bool (answers,): whether an answer matches a true box."""
    to_ignored: np.ndarray
    """bool (answers,): whether an answer is at an ignored box, and does not count."""

    @property
    def missed(self) -> np.ndarray:
        """bool (boxes,): true boxes that no answer matches."""
        return (self.found_by < 0) & (self.truth[:, 5] == 0)

    @property
    def false_alarms(self) -> np.ndarray:
        """bool (answers,): answers that match no true box."""
        return ~self.is_right & ~self.to_ignored


class Findings(NamedTuple):
    """Facts about the answers of a run; a task leaves out those that it does not have."""

    label_errors: dict[Split, list[LabelError]] | None = None
    """Labels that may be wrong, by measured split; None if the task does not look for them."""
    class_curves: Mapping[int, ClassCurves] = {}
    """Curves on the split of the page, by the number of the class."""
    right: np.ndarray | None = None
    """bool (n,): whether each example of the split of the page is right; None for boxes, which are right one by one."""
    compared: Sequence[Beside] = ()
    """Answers on the split of the page matched with its true boxes, by picture."""


class Leaks(NamedTuple):
    """Measured pictures that look like a training picture."""

    near_duplicates: int = 0
    """Number of such pictures in the measured split."""
    accuracy_without: float | None = None
    """Accuracy without these pictures, a fraction; None if there are none."""
    val_near_duplicates: int = 0
    """Number of such pictures in val, if test was measured."""


class Facts(NamedTuple):
    """All facts about a finished run for its page."""

    folder: Path
    data: Data
    outputs: dict[Split, np.ndarray]
    """float32 (n, num_outputs) for each measured split, in the order of `data.splits`; may be empty."""
    record: dict[str, Any]
    """Content of `metrics.json`."""
    model: keras.Model
    config: TrainConfig
    history: pd.DataFrame
    """Table of `history.csv`; may be empty."""
    split: Split
    """Split of the page: test, or val without test. It has no outputs if nothing was measured."""
    near_duplicates: list[NearDuplicate]
    leaks: Leaks
    found: Findings

    def write_table(self, name: str, table: pd.DataFrame) -> None:
        """Writes a table into the folder."""
        write_table(self.folder / name, table)

    def draw(self, name: str, figure: Figure) -> Markup:
        """Writes a figure into the folder, and returns it as a part of the page."""
        write_figure(self.folder / "figures" / f"{name}.png", figure)
        return inline_svg(figure, name.replace("_", " "))


Content = dict[str, Any] | None
"""Variables of the template of a section; None leaves the section out."""


class Section(NamedTuple):
    """A section of the page."""

    title: str
    make: Callable[[Facts], Content]
