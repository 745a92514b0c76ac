"""The display of a running search: the best trials so far, how many are done, and the time left."""

import contextlib
import time
from collections.abc import Callable, Iterator
from typing import Any

import pandas as pd
from rich.console import Group
from rich.live import Live
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Column, Table

from app.config import Objective
from app.terminal import console, counted, make_table, show_stage
from reports.search_plots import ranked
from tuning.space import SPACE

BEST_SHOWN = 5


def as_drawn(trials: pd.DataFrame) -> pd.DataFrame:
    """Replaces settings without effect by NaN: those of fine-tuning for frozen backbones, else those of the head."""
    is_frozen = trials["trainable_layers"].astype(str) == "0"
    unused = {"learning_rate": ~is_frozen, "head_epochs": ~is_frozen}
    unused |= {"fine_tune_learning_rate": is_frozen, "fine_tune_epochs": is_frozen}
    return trials.assign(**{name: trials[name].astype(float).mask(rows) for name, rows in unused.items()})


def varied_in(trials: pd.DataFrame) -> list[str]:
    """Returns the hyperparameters that differ between trials."""
    return [name for name in SPACE if trials[name].nunique(dropna=False) > 1]


def best_trials(trials: pd.DataFrame, objective: Objective) -> Table:
    """Makes a table of the best trials, with the settings that differ between trials."""
    varied, best = varied_in(trials), ranked(trials, objective).head(BEST_SHOWN)
    title = f"the best {len(best)} of {counted(len(trials), 'trial', 'trials')} done"
    columns = [Column(name, justify="right", no_wrap=True) for name in ("trial", "val accuracy", "val loss")]
    table = make_table(*columns, Column("what differs"), title=title)
    for row in as_drawn(best).to_dict("records"):
        settings = [f"{name.replace('_', ' ')} {_short(row[name])}" for name in varied if row[name] == row[name]]
        measured = f"{row['val_accuracy']:.2%}", f"{row['val_loss']:.4f}"
        table.add_row(str(row["trial"]), *measured, ", ".join(settings))
    return table


@contextlib.contextmanager
def live_board(total: int, objective: Objective) -> Iterator[Callable[[pd.DataFrame], None]]:
    """Keeps a table and a progress bar up to date while a block runs; a log gets a line for each new best instead.

    Yields:
        A function to call with all trials so far.
    """
    columns = ("{task.description}", BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(), "left")
    progress = Progress(*(TextColumn(column) if isinstance(column, str) else column for column in columns))
    task = progress.add_task("[bold]trials    ", total=total)
    best, shown = -1, time.monotonic()

    def update(trials: pd.DataFrame) -> None:
        nonlocal best, shown
        progress.update(task, completed=len(trials))
        if console.is_terminal:
            live.update(Group(best_trials(trials, objective), progress))
            return
        order = ranked(trials, objective)
        if len(order) and order.iloc[0]["trial"] != best and time.monotonic() - shown > 1:
            best, shown = order.iloc[0]["trial"], time.monotonic()
            row = order.iloc[0]
            text = f"trial {best} with val accuracy {row['val_accuracy']:.2%}, val loss {row['val_loss']:.4f}"
            # Trials that share graphs run together, so the best may have a number above the count.
            show_stage("trials", f"{len(trials)} of {total} done, in any order; the best is {text}")

    with Live(progress, console=console, transient=True, auto_refresh=console.is_terminal) as live:
        if not console.is_terminal:
            live.stop()
        yield update


def _short(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)
