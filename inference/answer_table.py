"""Answers as a table, and the CSV file of them that is written while they come."""

import contextlib
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from app.config import Task
from app.escapes import visible
from app.files import written_aside
from app.terminal import counted
from data.csv_cells import table_text
from data.sources import printable
from inference.answers import class_probabilities, label_texts, predicted_labels
from inference.files import FoundFile

PROBABILITY = "probability_"
"""Before the name of a class, the name of its column."""


def answer_table(
    files: Sequence[FoundFile],
    outputs: np.ndarray,
    class_names: Sequence[str],
    task: Task,
    unknown_below: float | None = None,
) -> pd.DataFrame:
    """One row per file: path, predicted, probability, status, reason, and the probability of each class.

    Args:
        files: in order.
        outputs: float32 (n, num_outputs), the model's probabilities for those that are pictures.
        class_names: names in the order of the classes.
        task: what the outputs mean.
        unknown_below: where no class is as likely as this, the answer is 'unknown'.

    Returns:
        `probability` is that of the likeliest class, in a multi-label task as well. `status` is 'answered', 'unknown'
        or 'unreadable'; the last has a reason and no probabilities.
    """
    probabilities = class_probabilities(outputs, task)
    best = probabilities.max(axis=1)
    labels = np.array(label_texts(predicted_labels(probabilities, task), class_names), dtype=object)
    unknown = best < (unknown_below or 0.0)
    readable = np.array([file.reason is None for file in files], bool)
    names = [f"{PROBABILITY}{name}" for name in class_names]
    table = pd.DataFrame(
        {
            "path": [printable(str(file.path)) for file in files],
            "predicted": _placed(readable, np.where(unknown, "unknown", labels), ""),
            "probability": _placed(readable, best, np.nan),
            "status": _placed(readable, np.where(unknown, "unknown", "answered"), "unreadable"),
            "reason": [file.reason or "" for file in files],
        }
    )
    # As float64, which is written with the digits that predictions.csv has.
    every = np.full((len(files), len(names)), np.nan)
    every[readable] = probabilities
    return table.join(pd.DataFrame(every, columns=names))


@contextlib.contextmanager
def csv_writer(path: Path | None) -> Iterator[Callable[[pd.DataFrame], None]]:
    """Opens a CSV file for rows that come one table after the other; complete at the end of the block, or absent.

    Ctrl-C and SIGTERM leave the rows of the tables so far, and say so on stderr.

    Args:
        path: of the file; None writes nothing.

    Yields:
        A function that appends the rows of a table.
    """
    if path is None:
        yield lambda table: None
        return
    rows, complete = 0, 0  # how many, and their bytes
    interrupt: KeyboardInterrupt | None = None
    with written_aside(path) as temporary, temporary.open("wb") as file:

        def write(table: pd.DataFrame) -> None:
            nonlocal rows, complete
            file.write(table_text(table, header=complete == 0).encode())
            rows, complete = rows + len(table), file.tell()

        try:
            yield write
        except KeyboardInterrupt as received:
            if not rows:
                raise
            file.truncate(complete)  # it may have come in the middle of a row
            interrupt = received
    if interrupt is not None:
        answers = counted(rows, "answer is", "answers are")
        print(f"The first {answers} in '{visible(str(path))}'; the other files are not answered.", file=sys.stderr)
        raise interrupt


def _placed(readable: np.ndarray, values: np.ndarray, otherwise: object) -> np.ndarray:
    """Values of the readable files at their places among all."""
    placed = np.full(len(readable), otherwise, object if isinstance(otherwise, str) else np.float64)
    placed[readable] = values
    return placed
