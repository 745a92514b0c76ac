"""Answers for any number of files in batches, and the summary at the end."""

import contextlib
from collections import Counter
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence

import pandas as pd
from rich.table import Column
from rich.text import Text

from app.errors import UsageError
from app.terminal import common_reasons, console, counted, make_table, show_stage
from data.kinds import Kind, Reader
from features.forward_pass import BATCH_SIZE
from inference.files import Batch, FoundFile, Made, map_ahead, read_batches

ROWS_SHOWN = 20
CLASSES_SHOWN = 10
"""Number of answers that are counted by name, the most frequent ones."""
ANSWERED = ("answered", "found")
"""Values of the column `status` of answers that name a class."""


@contextlib.contextmanager
def computed_batches(
    files: Sequence[FoundFile], reader: Reader, compute: Callable[[Batch], Made]
) -> Iterator[Generator[Made]]:
    """Computes batches of files; the next batch is computed while the caller writes the results of this one."""
    with (
        contextlib.closing(read_batches(files, reader, BATCH_SIZE)) as batches,
        contextlib.closing(map_ahead(compute, batches, threads=1, ahead=2)) as computed,
    ):
        yield computed


class Summary:
    """Collects the first answers, and counts of all, for the terminal."""

    def __init__(
        self,
        columns: Sequence[str],
        cells: Callable[[pd.Series], Iterable[str]],
        labels: Callable[[str], Iterable[str]],
    ):
        """Starts without answers.

        Args:
            columns: titles of the table on the terminal.
            cells: makes a row of it from a row of the answers.
            labels: returns the classes of an answer, to be counted.
        """
        self._columns, self._cells, self._labels = columns, cells, labels
        self._first: list[list[str]] = []
        self._count = self._unknown = 0
        self._answers: Counter[str] = Counter()
        self._reasons: Counter[str] = Counter()

    @property
    def answered(self) -> int:
        """Number of answers without those for unreadable files."""
        return self._count - self._reasons.total()

    @property
    def reason(self) -> str | None:
        """First reason why a file is unreadable; None if none is."""
        return next(iter(self._reasons), None)

    def add(self, table: pd.DataFrame) -> None:
        """Adds answers with the columns predicted, status and reason."""
        self._count += len(table)
        self._first += [list(self._cells(row)) for _, row in table[: ROWS_SHOWN - len(self._first)].iterrows()]
        for predicted in table["predicted"][table["status"].isin(ANSWERED)]:
            self._answers.update(self._labels(predicted))
        self._unknown += int((table["status"] == "unknown").sum())
        self._reasons.update(table["reason"][table["status"] == "unreadable"])

    def show(self, row: str, rows: str) -> None:
        """Prints the first answers as a table, and the counts of all."""
        shown = make_table(*(Column(name, overflow="fold") for name in self._columns))
        for cells in self._first:
            shown.add_row(*map(Text, cells))
        console.print(shown)
        if self._count > len(self._first):
            show_stage("", f"and {counted(self._count - len(self._first), row, rows)} more")
        counts = [f"{count:,} {name}" for name, count in self._answers.most_common(CLASSES_SHOWN)]
        if len(self._answers) > CLASSES_SHOWN:
            counts.append(counted(len(self._answers) - CLASSES_SHOWN, "other answer", "other answers"))
        if self._unknown:
            counts.append(f"{self._unknown:,} unknown")
        if counts:
            show_stage("answers", ", ".join(counts))
        if self._reasons:
            unreadable = counted(self._reasons.total(), "file", "files")
            show_stage("unreadable", f"{unreadable}: {common_reasons(self._reasons.elements())}")


def check_readable(count: int, files: Sequence[FoundFile], kind: Kind, reason: str | None) -> None:
    """Raises a UsageError if none of the files is an example; `reason` says why the only one is not."""
    if not count:
        said = f"None of the {len(files):,} files is a readable {kind.noun}"
        if len(files) == 1:
            said = f"'{files[0].path}' is no readable {kind.noun}: {reason}"
        raise UsageError(f"{said}. Name {kind.nouns}, or folders of them.")


def show_rate(count: int, seconds: float, kind: Kind) -> None:
    """Shows the number of examples, and how long they took."""
    rate = f", {count / seconds:,.0f} per second" if count > max(1, seconds) else ""
    show_stage("done", f"{counted(count, kind.noun, kind.nouns)} in {seconds:.1f} seconds{rate}")
