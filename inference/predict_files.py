"""Answers for files, read and computed in batches, so that any number of files fits into memory."""

import itertools
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from app.terminal import progress_bar, share_text, show_stage
from data.kinds import Kind
from inference.answer_table import PROBABILITY, answer_table, answers_to, csv_writer, labels_of
from inference.answering import AnsweringModel
from inference.batches import Summary, check_readable, computed_batches, show_rate
from inference.files import Batch, FoundFile, in_windows
from tasks.classification import Classification
from tasks.table import classes_of


def predict_files(
    network: AnsweringModel,
    files: Sequence[FoundFile],
    *,
    csv: Path | None = None,
    top: int = 3,
    unknown_below: float | None = None,
    on_answers: Callable[[pd.DataFrame], None] = lambda _: None,
) -> None:
    """Answers for every file; shows the answers and writes them to a CSV file.

    Args:
        network: the model that answers.
        files: from `find_files`; a file much longer than an input is answered in parts.
        csv: file of all answers; see `inference.answer_table.answer_table`. More columns have the examples that were
            typed or are cells of a CSV file, and the other columns of that file.
        top: number of classes that the terminal shows for an example.
        unknown_below: the answer is 'unknown' if no class has this probability.
        on_answers: called with the rows of `csv`, batch by batch.

    Raises:
        UsageError: none of the files is an example; the answers with the reasons are shown and written anyway.
    """
    task = classes_of(network.task)
    model = network.load()
    nothing = np.zeros((0, task.num_outputs(len(network.class_names))), np.float32)

    def predict(batch: Batch) -> tuple[Batch, np.ndarray, np.ndarray | None]:
        found = network.ask(model, batch.inputs) if len(batch.inputs[0]) else (nothing, None)
        return batch, *found

    kind = network.kind
    files = in_windows(files, kind, network.reader)
    summary = Summary(
        ("file", "answer", "probability", "runners-up"),
        lambda row: _cells(row, task, top),
        lambda predicted: labels_of(predicted, task),
    )
    names = _other_columns(files, kind)
    started = time.perf_counter()
    with (
        csv_writer(csv) as write,
        progress_bar("predict", len(files)) as advance,
        computed_batches(files, network.reader, predict) as computed,
    ):
        for batch, outputs, unknown in computed:
            answers = answers_to(outputs, network.class_names, task, unknown_below, unknown)
            table = answer_table(batch.files, answers)
            rows = _with_columns(table, batch.files, names, kind)
            write(rows)
            on_answers(rows)
            summary.add(table)
            advance(len(table))
    seconds = time.perf_counter() - started
    summary.show("file", "files")
    show_rate(summary.answered, seconds, kind)
    if csv is not None:
        show_stage("table", str(csv))
    check_readable(summary.answered, files, kind, summary.reason)


def _other_columns(files: Sequence[FoundFile], kind: Kind) -> list[str]:
    """Returns the columns to add to the answers: examples without files, and the other columns of CSV files."""
    typed = [kind.column] if kind.column and any(isinstance(file.content, bytes) for file in files) else []
    return list(dict.fromkeys([*typed, *(name for file in files for name in file.columns)]))


def _with_columns(table: pd.DataFrame, files: Sequence[FoundFile], names: Sequence[str], kind: Kind) -> pd.DataFrame:
    """Adds columns to the answers; a column whose name is taken is called NAME_given."""
    taken = {*table.columns, *names}
    for name in names:
        values = [
            file.content.decode(errors="replace")
            if name == kind.column and isinstance(file.content, bytes)
            else file.columns.get(name, "")
            for file in files
        ]
        free = name
        if name in table.columns:
            free = next(each for number in itertools.count(1) if (each := name + number * "_given") not in taken)
        table = table.assign(**{free: values})
    return table


def _cells(row: pd.Series, task: Classification, top: int) -> Iterator[str]:
    """Yields file, answer, probability and runners-up as text; `top` classes, the answer included."""
    yield row["path"]
    if row["status"] == "unreadable":
        yield from ("unreadable", "", row["reason"])
        return
    answered = labels_of(row["predicted"], task) if row["status"] == "answered" else []
    yield ", ".join(answered) or "unknown"
    yield share_text(row["probability"]) if answered else ""  # 'unknown' is no class
    of_class = row.filter(regex=f"^{PROBABILITY}").astype(float).sort_values(ascending=False, kind="stable")
    of_class.index = of_class.index.str.removeprefix(PROBABILITY)
    others = of_class[~of_class.index.isin(answered)][: top - 1]
    yield ", ".join(f"{name} {share_text(probability)}" for name, probability in others.items())
