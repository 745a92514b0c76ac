"""What the terminal shows of answers: the first of them as a table, and counts of all."""

from collections import Counter
from collections.abc import Iterator

import pandas as pd
from rich.table import Column
from rich.text import Text

from app.config import Task
from app.terminal import common_reasons, console, counted, make_table, show_stage
from inference.answer_table import PROBABILITY
from inference.answers import NO_LABEL

ROWS_SHOWN = 20
CLASSES_SHOWN = 10
"""Most frequent answers that are counted by name."""


class Summary:
    """Keeps what will be shown, while the answers come."""

    def __init__(self, task: Task, top: int):
        """Starts without answers.

        Args:
            task: of the model.
            top: how many classes are shown for a picture, the answer included.
        """
        self._task = task
        self._top = top
        self._first = pd.DataFrame()
        self._count = 0
        self._answers: Counter[str] = Counter()
        self._unknown = 0
        self._reasons: Counter[str] = Counter()

    def add(self, table: pd.DataFrame) -> None:
        """Takes some answers in; see `inference.answer_table.answer_table`."""
        self._count += len(table)
        if len(self._first) < ROWS_SHOWN:
            self._first = pd.concat([self._first, table[: ROWS_SHOWN - len(self._first)]], ignore_index=True)
        for labels in table["predicted"][table["status"] == "answered"]:
            self._answers.update(self._labels(labels) or [NO_LABEL])
        self._unknown += int((table["status"] == "unknown").sum())
        self._reasons.update(table["reason"][table["status"] == "unreadable"])

    @property
    def pictures(self) -> int:
        """How many of the files are pictures."""
        return self._count - self._reasons.total()

    def show(self, seconds: float) -> None:
        """Prints the first answers as a table, and the counts of all.

        Args:
            seconds: that they took.
        """
        columns = [Column(name, overflow="fold") for name in ("file", "answer", "probability", "runners-up")]
        shown = make_table(*columns)
        for _, row in self._first.iterrows():
            shown.add_row(*map(Text, self._cells(row)))
        console.print(shown)
        if self._count > len(self._first):
            show_stage("", f"and {counted(self._count - len(self._first), 'file', 'files')} more")
        counts = [f"{count:,} {name}" for name, count in self._answers.most_common(CLASSES_SHOWN)]
        if len(self._answers) > CLASSES_SHOWN:
            counts.append(f"{counted(len(self._answers) - CLASSES_SHOWN, 'other answer', 'other answers')}")
        if self._unknown:
            counts.append(f"{self._unknown:,} unknown")
        if counts:
            show_stage("answers", ", ".join(counts))
        unreadable, pictures = self._reasons.total(), self.pictures
        if unreadable:
            show_stage("unreadable", f"{counted(unreadable, 'file', 'files')}: {common_reasons(self._reasons)}")
        rate = f", {pictures / seconds:,.0f} per second" if pictures > 1 else ""
        show_stage("done", f"{counted(pictures, 'picture', 'pictures')} in {seconds:.1f} seconds{rate}")

    def _labels(self, predicted: str) -> list[str]:
        return [name for name in predicted.split("|") if name] if self._task == "multilabel" else [predicted]

    def _cells(self, row: pd.Series) -> Iterator[str]:
        """File, answer, probability and runners-up as text."""
        yield row["path"]
        if row["status"] == "unreadable":
            yield from ("unreadable", "", row["reason"])
            return
        answered = self._labels(row["predicted"]) if row["status"] == "answered" else []
        yield ", ".join(answered) or (NO_LABEL if row["status"] == "answered" else "unknown")
        yield f"{row['probability']:.1%}"
        of_class = row.filter(regex=f"^{PROBABILITY}").astype(float).sort_values(ascending=False, kind="stable")
        others = [(name.removeprefix(PROBABILITY), probability) for name, probability in of_class.items()]
        others = [(name, probability) for name, probability in others if name not in answered]
        yield ", ".join(f"{name} {probability:.1%}" for name, probability in others[: self._top - 1])
