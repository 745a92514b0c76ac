"""Output on the terminal: a line per stage, progress bars for long work, and no messages of libraries."""

import contextlib
import gc
import os
import re
import sys
import textwrap
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TypeVar

from rich import box
from rich.console import Console, ConsoleOptions, RenderableType
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TextColumn,
    TimeRemainingColumn,
)
from rich.segment import Segment
from rich.table import Column, Table
from rich.text import Text

from app.errors import RunError, UsageError
from app.escapes import visible

NAMES_SHOWN = 5
REASONS_SHOWN = 3
"""Number of reasons for setting examples aside that are shown, the most frequent first."""
SECONDS_BETWEEN_LINES = 60.0
"""Seconds between lines about the progress of long work, where there is no terminal for a bar."""
SIGNIFICANT = 12
"""Significant decimals of a number; later ones are rounding errors of sums."""
LONGEST_ERROR = 200
"""Most characters of a library's error that are shown."""
REPOSITORY = Path(__file__).parent.parent
Made = TypeVar("Made")


class VisibleConsole(Console):
    """A console that escapes control characters: names from others may hold commands to a terminal."""

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterator[Segment]:
        """Renders as Rich does, with texts escaped; Rich's own control codes stay."""
        for segment in super().render(renderable, options):
            lines = segment.text if segment.control else "\n".join(map(visible, segment.text.split("\n")))
            yield segment._replace(text=lines)

    def on_broken_pipe(self) -> None:
        """Leaves the end to `app.cli.run_command`; Rich would end the process with status 1."""
        raise BrokenPipeError


# A notebook gets plain lines; Jupyter asks for colours as if it were a terminal.
_in_notebook = "ipykernel" in sys.modules
console = VisibleConsole(
    highlight=False,
    emoji=False,
    soft_wrap=True,
    force_jupyter=False,
    force_terminal=False if _in_notebook else None,
)
if not console.is_terminal:
    console.width = 120  # a log has no width of its own


def show_stage(stage: str, text: str) -> None:
    """Prints the line of a stage."""
    console.print(f"[bold]{stage:<10}[/bold] ", end="")
    console.print(visible(text), markup=False)


def make_table(*columns: Column, title: str | None = None, caption: str | None = None) -> Table:
    """Makes an empty table with few lines, because tables of results must fit into 80 characters."""
    return Table(
        *columns,
        title=title,
        caption=caption,
        title_justify="left",
        caption_justify="left",
        box=box.SIMPLE_HEAD,
        show_edge=False,
        pad_edge=False,
    )


def silence() -> None:
    """Silences this process except for errors: of several workers, only the chief prints."""
    console.quiet = True


@contextlib.contextmanager
def quiet_console() -> Iterator[None]:
    """Shows nothing while a block runs."""
    before, console.quiet = console.quiet, True
    try:
        yield
    finally:
        console.quiet = before


def attempt(part: str, make: Callable[[], Made]) -> Made | str:
    """Makes an optional part of a result; an error costs only that part.

    Args:
        part: name of the part, as the beginning of a sentence.
        make: function that makes the part.

    Returns:
        The part; or, after an error, a sentence that says why it is missing, which was also shown.

    Raises:
        UsageError, RunError, OSError: errors that concern the whole result, such as a full disk.
    """
    try:
        return make()
    except (UsageError, RunError, OSError):
        raise
    except Exception as error:
        said = shortened(error)
        own = [frame for frame in traceback.extract_tb(error.__traceback__) if _is_own_code(frame.filename)]
        place = f"{Path(own[-1].filename).relative_to(REPOSITORY)}, line {own[-1].lineno}"
        sentence = f"{part} could not be made: {said} ({place})"
        show_stage("warning", sentence)
        return sentence


def shortened(error: Exception) -> str:
    """Returns the type of an exception and what it says, on one line: 'ValueError: not a number'."""
    return textwrap.shorten("".join(traceback.format_exception_only(error)), LONGEST_ERROR, placeholder=" ...")


def _is_own_code(file: str) -> bool:
    return Path(file).is_relative_to(REPOSITORY) and "site-packages" not in file


def counted(number: int, one: str, many: str) -> str:
    """Returns a number with its noun: '1 copy', '1,200 copies'."""
    return f"{number:,} {one if number == 1 else many}"


def listed(names: Sequence[str]) -> str:
    """Lists names in a sentence, the first few of many: 'cat and dog', 'a, b, c, d, e and 2 more'."""
    rest = len(names) - NAMES_SHOWN
    *others, last = [*names[:NAMES_SHOWN], *([f"{rest:,} more"] if rest > 0 else [])]
    return f"{', '.join(others)} and {last}" if others else last


def share_text(share: float, decimals: int = 1) -> str:
    """Formats a fraction: '98.6%'; '100.0%' only for exactly 1, since less is never rounded up to that."""
    share = round(share, SIGNIFICANT)
    return f"{share if share == 1 else min(share, 1 - 10 ** -(decimals + 2)):.{decimals}%}"


def common_reasons(reasons: Iterable[str]) -> str:
    """Returns the most frequent reasons with their counts: '8 x truncated; 2 x a box has no area', whichever boxes."""
    alike = Counter(re.sub(r"^(\w+) \d+ ", r"a \1 ", reason) for reason in reasons)
    return "; ".join(f"{count:,} x {reason}" for reason, count in alike.most_common(REASONS_SHOWN))


class RateColumn(ProgressColumn):
    """Steps per second."""

    def render(self, task: Task) -> Text:
        return Text(f"{task.speed:,.0f}/s" if task.speed else "")


@contextlib.contextmanager
def progress_bar(stage: str, total: int) -> Iterator[Callable[..., None]]:
    """Shows a progress bar while a block runs; without a terminal, such as in a log, a line every minute.

    Yields:
        A function to call with the number of steps done since the last call, and optionally a text to show beside.
    """
    if not console.is_terminal:
        yield _progress_lines(stage, total)
        return
    columns = (
        TextColumn("[bold]{task.description:<10}"),
        BarColumn(bar_width=16),  # leaves room for the rest in 80 characters
        MofNCompleteColumn(),
        RateColumn(),
        TimeRemainingColumn(),
        TextColumn("left  {task.fields[text]}"),
    )
    with Progress(*columns, console=console, transient=True) as progress:
        task = progress.add_task(stage, total=total, text="")
        yield lambda steps=1, text="": progress.update(task, advance=steps, text=text)


def _progress_lines(stage: str, total: int) -> Callable[..., None]:
    """Returns a function like that of `progress_bar`, which prints a line when a minute has passed since the last."""
    done, started = 0, time.monotonic()
    shown = started

    def advance(steps: int = 1, text: str = "") -> None:
        nonlocal done, shown
        done, now = done + steps, time.monotonic()
        if now - shown >= SECONDS_BETWEEN_LINES and 0 < done < total:
            shown = now
            show_stage("", f"{stage}: {done:,} of {total:,} after {now - started:,.0f} s{text and f'; {text}'}")

    return advance


def import_tensorflow() -> None:
    """Imports TensorFlow without its start-up messages, some of which ignore all log levels."""
    collects = gc.isenabled()
    gc.disable()  # garbage collection takes a quarter of the import, and finds none
    try:
        with quiet_tensorflow():
            import keras  # noqa: F401
            import tensorflow as tf

            tf.config.list_physical_devices()  # not logical devices, which could not be split any more
    finally:
        if collects:
            gc.enable()
    if not gc.get_freeze_count():
        gc.freeze()  # else each collection would visit a million objects of the libraries
    tf.get_logger().setLevel("ERROR")


@contextlib.contextmanager
def quiet_tensorflow() -> Iterator[None]:
    """Lets a block import TensorFlow quietly."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # what ends a command is a Python exception as well
    os.environ.setdefault("TF_FORCE_GPU_ALLOW_GROWTH", "true")  # several processes may share a GPU
    with silent_stderr():
        yield


@contextlib.contextmanager
def silent_stderr() -> Iterator[None]:
    """Discards the process's standard error, also that of C++; a Python exception is still raised afterwards."""
    sys.stderr.flush()
    saved = os.dup(2)
    with open(os.devnull, "w") as nowhere:
        os.dup2(nowhere.fileno(), 2)
    try:
        yield
    finally:
        sys.stderr.flush()
        os.dup2(saved, 2)
        os.close(saved)
