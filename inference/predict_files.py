"""Answers for files: reads, computes and shows in batches, so that any number of files fits into memory."""

import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from rich.table import Column
from rich.text import Text

from app.terminal import common_reasons, console, counted, make_table, progress_bar, show_stage
from data.kinds import Kind
from inference.answer_table import PROBABILITY, answer_table, csv_writer, labels_of
from inference.answering import AnsweringModel
from inference.batches import check_readable, computed_batches, show_rate
from inference.files import Batch, FoundFile, in_windows
from tasks.classification import Classification
from tasks.table import classes_of

ROWS_SHOWN = 20
CLASSES_SHOWN = 10
"""Number of answers that are counted by name, the most frequent ones."""


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
        files: from `find_files`; of one that is much longer than an input, each part is answered.
        csv: file of all answers; see `inference.answer_table.answer_table`. Examples that were typed, or are in a table
            themselves, stand in one more column, and so does what a table has besides.
        top: how many classes the terminal shows for a picture.
        unknown_below: where no class is as likely as this, the answer is 'unknown'.
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
    summary = Summary(task, kind, top)
    names = _other_columns(files, kind)
    started = time.perf_counter()
    with (
        csv_writer(csv) as write,
        progress_bar("predict", len(files)) as advance,
        computed_batches(files, network.reader, predict) as computed,
    ):
        for batch, outputs, unknown in computed:
            table = answer_table(batch.files, outputs, network.class_names, task, unknown_below, unknown)
            rows = _with_columns(table, batch.files, names, kind)
            write(rows)
            on_answers(rows)
            summary.add(table)
            advance(len(table))
    seconds = time.perf_counter() - started
    summary.show(seconds)
    if csv is not None:
        show_stage("table", str(csv))
    check_readable(summary.answered, files, kind)


def _other_columns(files: Sequence[FoundFile], kind: Kind) -> list[str]:
    """Returns the columns that stand behind the answers: examples without files, and what CSV files have besides."""
    typed = [kind.column] if kind.column and any(isinstance(file.content, bytes) for file in files) else []
    return list(dict.fromkeys([*typed, *(name for file in files for name in file.columns)]))


def _with_columns(table: pd.DataFrame, files: Sequence[FoundFile], names: Sequence[str], kind: Kind) -> pd.DataFrame:
    """Returns answers with columns behind them; one that has the name of another is called NAME_given."""
    for name in names:
        values = [
            file.content.decode(errors="replace")
            if name == kind.column and isinstance(file.content, bytes)
            else file.columns.get(name, "")
            for file in files
        ]
        table = table.assign(**{f"{name}_given" if name in table.columns else name: values})
    return table


class Summary:
    """Collects the first answers, and counts of all, for the terminal."""

    def __init__(self, task: Classification, kind: Kind, top: int):
        """Starts without answers; `top` is how many classes are shown for a file, the answer included."""
        self._task = task
        self._kind = kind
        self._top = top
        self._first: list[tuple[str, ...]] = []
        self._count = self._unknown = 0
        self._answers: Counter[str] = Counter()
        self._reasons: Counter[str] = Counter()

    @property
    def answered(self) -> int:
        """Number of files that could be read."""
        return self._count - self._reasons.total()

    def add(self, table: pd.DataFrame) -> None:
        """Adds answers; see `inference.answer_table.answer_table`."""
        self._count += len(table)
        for _, row in table[: ROWS_SHOWN - len(self._first)].iterrows():
            self._first.append(tuple(self._cells(row)))
        for predicted in table["predicted"][table["status"] == "answered"]:
            self._answers.update(labels_of(predicted, self._task))
        self._unknown += int((table["status"] == "unknown").sum())
        self._reasons.update(table["reason"][table["status"] == "unreadable"])

    def show(self, seconds: float) -> None:
        """Prints the first answers as a table, and the counts of all."""
        columns = [Column(name, overflow="fold") for name in ("file", "answer", "probability", "runners-up")]
        shown = make_table(*columns)
        for cells in self._first:
            shown.add_row(*map(Text, cells))
        console.print(shown)
        if self._count > len(self._first):
            show_stage("", f"and {counted(self._count - len(self._first), 'file', 'files')} more")
        counts = [f"{count:,} {name}" for name, count in self._answers.most_common(CLASSES_SHOWN)]
        if len(self._answers) > CLASSES_SHOWN:
            counts.append(counted(len(self._answers) - CLASSES_SHOWN, "other answer", "other answers"))
        if self._unknown:
            counts.append(f"{self._unknown:,} unknown")
        if counts:
            show_stage("answers", ", ".join(counts))
        if self._reasons:
            unreadable = counted(self._reasons.total(), "file", "files")
            show_stage("unreadable", f"{unreadable}: {common_reasons(self._reasons)}")
        show_rate(self.answered, seconds, self._kind)

    def _cells(self, row: pd.Series) -> Iterator[str]:
        """Yields file, answer, probability and runners-up as text."""
        yield row["path"]
        if row["status"] == "unreadable":
            yield from ("unreadable", "", row["reason"])
            return
        answered = labels_of(row["predicted"], self._task) if row["status"] == "answered" else []
        yield ", ".join(answered) or "unknown"
        yield f"{row['probability']:.1%}" if answered else ""  # of no class that was answered
        of_class = row.filter(regex=f"^{PROBABILITY}").astype(float).sort_values(ascending=False, kind="stable")
        of_class.index = of_class.index.str.removeprefix(PROBABILITY)
        others = of_class[~of_class.index.isin(answered)][: self._top - 1]
        yield ", ".join(f"{name} {probability:.1%}" for name, probability in others.items())
