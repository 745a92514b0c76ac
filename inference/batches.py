"""Answers for any number of files in batches, and the summary at the end."""

import contextlib
from collections.abc import Callable, Generator, Iterator, Sequence

from app.errors import UsageError
from app.terminal import counted, show_stage
from data.kinds import Kind, Reader
from features.forward_pass import BATCH_SIZE
from inference.files import Batch, FoundFile, Made, map_ahead, read_batches


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


def check_readable(count: int, files: Sequence[FoundFile], kind: Kind) -> None:
    """Raises a UsageError if none of the files is an example."""
    if not count:
        files_are = "The file is no" if len(files) == 1 else f"None of the {len(files):,} files is a"
        raise UsageError(f"{files_are} readable {kind.noun}. Name {kind.nouns}, or folders of them.")


def show_rate(count: int, seconds: float, kind: Kind) -> None:
    """Shows the number of examples, and how long they took."""
    rate = f", {count / seconds:,.0f} per second" if count > 1 else ""
    show_stage("done", f"{counted(count, kind.noun, kind.nouns)} in {seconds:.1f} seconds{rate}")
