"""Makes tables of answers, and writes them to a CSV file batch by batch."""

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


def answer_table(files: Sequence[FoundFile], answers: pd.DataFrame) -> pd.DataFrame:
    """Makes a row per file: path, predicted, probability, status, reason, and the probability of each class.

    Args:
        files: the files, in order; unreadable ones have a reason, and no probabilities.
        answers: answers to the readable files, from `answers_to`.
    """
    table = pd.DataFrame(
        {"path": [printable(str(file.path)) for file in files], "reason": [file.reason or "" for file in files]}
    )
    readable = pd.Index([row for row, file in enumerate(files) if file.reason is None], dtype=int)
    table = table.join(answers.set_index(readable)).fillna({"predicted": "", "status": "unreadable"})
    return table[["path", "predicted", "probability", "status", "reason", *answers.columns[3:]]]


def answers_to(
    outputs: np.ndarray,
    class_names: Sequence[str],
    task: Classification,
    unknown_below: float | None = None,
    is_unknown: np.ndarray | None = None,
) -> pd.DataFrame:
    """Makes a row per example: predicted, probability, status, and the probability of each class.

    Args:
        outputs: probabilities, float32 (n, num_outputs).
        class_names: names in the order of the classes.
        task: task, which defines the meaning of outputs.
        unknown_below: the answer is 'unknown' if no class has this probability.
        is_unknown: bool (n,), examples that are unknown for another reason; None if there are none.

    Returns:
        The table. `probability` is that of the likeliest class, also in a multi-label task; if a threshold decides
        between two classes, that of the answer. `status` is 'answered' or 'unknown'.
    """
    probabilities = task.probabilities(outputs)
    best, predicted = probabilities.max(axis=1), task.predicted(probabilities)
    labels = np.array(label_texts(predicted, class_names), dtype=object)
    unknown = (best < (unknown_below or 0.0)) | (False if is_unknown is None else is_unknown)
    if task.two_classes:
        best = probabilities[predicted]  # one per row
    answers = {
        "predicted": np.where(unknown, "unknown", labels),
        "probability": best.astype(np.float64),
        "status": np.where(unknown, "unknown", "answered").astype(object),
    }
    # As float64, which is written with the same digits as in predictions.csv.
    columns = [f"{PROBABILITY}{name}" for name in class_names]
    return pd.DataFrame(answers).join(pd.DataFrame(probabilities.astype(np.float64), columns=columns))


def labels_of(predicted: str, task: Classification) -> list[str]:
    """Returns the classes of an answer in a table; `NO_LABEL` if there are none."""
    return [name for name in predicted.split("|") if name] or [NO_LABEL] if task.multi_label else [predicted]


@contextlib.contextmanager
def csv_writer(path: Path | None) -> Iterator[Callable[[pd.DataFrame], None]]:
    """Yields a function that appends the rows of a table to a CSV file, or does nothing if `path` is None.

    After the block, the file is complete or absent. Ctrl-C and SIGTERM leave the rows so far, with a note on stderr.
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
            file.truncate(complete)  # the interrupt may have come in the middle of a row
            interrupt = received
    if interrupt is not None:
        answers = counted(rows, "answer is", "answers are")
        print(f"The first {answers} in '{visible(str(path))}'; the other files are not answered.", file=sys.stderr)
        raise interrupt
