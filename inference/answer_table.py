"""Answers as a table, and the CSV file that is written while they come."""

import contextlib
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from app.escapes import visible
from app.files import written_aside
from app.terminal import counted
from data.csv_cells import table_text
from data.sources import printable
from inference.files import FoundFile
from tasks.answers import NO_LABEL, label_texts
from tasks.classification import Classification

PROBABILITY = "probability_"
"""Prefix of a class name in the name of its column."""


def answer_table(
    files: Sequence[FoundFile],
    outputs: np.ndarray,
    class_names: Sequence[str],
    task: Classification,
    unknown_below: float | None = None,
    is_unknown: np.ndarray | None = None,
) -> pd.DataFrame:
    """Makes a row per file: path, predicted, probability, status, reason, and the probability of each class.

    Args:
        files: in order.
        outputs: float32 (n, num_outputs), the model's probabilities for those that are pictures.
        class_names: names in the order of the classes.
        task: decides what the outputs mean.
        unknown_below: where no class is as likely as this, the answer is 'unknown'.
        is_unknown: bool (n,), where it is 'unknown' for another reason; None for nowhere.

    Returns:
        `probability` is that of the likeliest class, in a multi-label task as well; where a threshold decides between
        two classes, of the answer. `status` is 'answered', 'unknown'
        or 'unreadable'; the last has a reason and no probabilities.
    """
    probabilities = task.probabilities(outputs)
    best, predicted = probabilities.max(axis=1), task.predicted(probabilities)
    labels = np.array(label_texts(predicted, class_names), dtype=object)
    unknown = (best < (unknown_below or 0.0)) | (False if is_unknown is None else is_unknown)
    if task.two_classes:
        best = probabilities[predicted]  # one of a row
    table = pd.DataFrame(
        {"path": [printable(str(file.path)) for file in files], "reason": [file.reason or "" for file in files]}
    )
    readable = [row for row, file in enumerate(files) if file.reason is None]
    answers = {
        "predicted": np.where(unknown, "unknown", labels),
        "probability": best.astype(np.float64),
        "status": np.where(unknown, "unknown", "answered").astype(object),
    }
    columns = [f"{PROBABILITY}{name}" for name in class_names]
    # As float64, which is written with the digits that predictions.csv has.
    of_classes = pd.DataFrame(probabilities.astype(np.float64), readable, columns)
    table = table.join(pd.DataFrame(answers, readable)).join(of_classes)
    table = table.fillna({"predicted": "", "status": "unreadable"})
    return table[["path", "predicted", "probability", "status", "reason", *columns]]


def labels_of(predicted: str, task: Classification) -> list[str]:
    """Returns the classes of an answer, as it stands in a table; at least `NO_LABEL`."""
    return [name for name in predicted.split("|") if name] or [NO_LABEL] if task.multi_label else [predicted]


@contextlib.contextmanager
def csv_writer(path: Path | None) -> Iterator[Callable[[pd.DataFrame], None]]:
    """Yields a function that appends the rows of a table to a CSV file, or does nothing where `path` is None.

    The file is complete at the end of the block, or absent. Ctrl-C and SIGTERM leave the rows of the tables so far, and
    say so on stderr.
    """
    if path is None:
        yield lambda table: None
        return
    rows = complete = 0  # rows, and their bytes
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
