"""What the commands show on the terminal: one line per stage, progress bars for what takes long, tables at the end."""

import contextlib
from collections.abc import Callable, Iterator

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

console = Console(highlight=False, soft_wrap=True)
if not console.is_terminal:
    console.width = 120  # a log has no width of its own


def show_stage(stage: str, text: str) -> None:
    """Prints the line of a stage."""
    console.print(f"[bold]{stage:<10}[/bold] ", end="")
    console.print(text, markup=False)


@contextlib.contextmanager
def progress_bar(stage: str, total: int) -> Iterator[Callable[..., None]]:
    """Shows a bar while a block runs; gone afterwards. Where there is no terminal, such as in a log, there is none.

    Yields:
        A function to call with the number of steps done since the last call, and optionally a text to show beside.
    """
    columns = (
        TextColumn("[bold]{task.description:<10}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[text]}"),
    )
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task(stage, total=total, text="")
        yield lambda steps=1, text="": progress.update(task, advance=steps, text=text)
