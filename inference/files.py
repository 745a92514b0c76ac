"""Finds files of examples, and reads them as a stream, a few batches ahead of the computation."""

import contextlib
import glob
import itertools
import os
from collections import deque
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple, TypeVar

from joblib import cpu_count

from app.errors import RunError, UsageError, did_you_mean_path
from app.terminal import listed
from data import csv_table
from data.content import UnreadableError, content_of, open_file
from data.folder import files_below, is_leftover
from data.kinds import Content, Inputs, Kind, ManyInputs, Part, Reader, promised_kind
from data.sources import natural_order

MOST_OF_NAME = 80
"""Characters of a typed example that serve as its name."""
BATCHES_AHEAD = 2
"""Number of batches that are read ahead."""
NO_FILE, NO_MATCH = "no such file or folder", "no file matches"
"""Reasons of places that name nothing."""
Item = TypeVar("Item")
Made = TypeVar("Made")


class FoundFile(NamedTuple):
    """A requested file."""

    path: Path
    reason: str | None = None
    """Reason why it holds no example; None while it may hold one."""
    within: Path | None = None
    """Real path of the folder that links must not leave; None if the user named the file itself."""
    content: bytes | Part | None = None
    """The example itself, if it has no file or is a part of one; `path` is then only its name."""
    columns: Mapping[str, str] = {}
    """Other columns of the CSV file that names it."""

    @property
    def place(self) -> Content:
        """File or bytes to read."""
        return self.path if self.content is None else self.content


class Batch(NamedTuple):
    """Some files, in order, and their tensors."""

    files: list[FoundFile]
    inputs: ManyInputs
    """Tensors (n, ...) of the files that could be read."""


def find_files(
    places: Sequence[str],
    outside: bool = False,
    kind: Kind | None = None,
    text_column: str | None = None,
    columns: bool = True,
) -> list[FoundFile]:
    """Finds files.

    Args:
        places: files, folders (all their files except leftovers), patterns such as 'photos/*.jpg', CSV files with a
            column of paths or examples; and typed examples, if the kind allows it.
        outside: whether to follow paths and links out of a folder.
        kind: kind of the examples.
        text_column: column of a CSV file with the text, if any.
        columns: whether to keep the other columns of CSV files.

    Returns:
        Every file once, but once for each row of a CSV file whose other columns differ; a place without files is listed
        with the reason.

    Raises:
        UsageError: there is no file at all, or a CSV file names none.
    """
    if "" in places:
        raise UsageError("A path must not be empty; '.' is this folder.")
    found = [file for place in places for file in _files_of(place, outside, kind, text_column)]
    if not columns:
        found = [file._replace(columns={}) for file in found]
    files = list({(os.path.abspath(file.path), file.content, *file.columns.items()): file for file in found}.values())
    if not files:
        raise UsageError("There is no file to answer for: name files, folders, patterns or a .csv file.")
    if all(file.reason for file in files):
        path, reason = files[0].path, files[0].reason
        hint = "" if path.exists() else did_you_mean_path(path)
        raise UsageError(f"Files are named by their paths, folders, patterns or a .csv file; '{path}': {reason}.{hint}")
    return files


def check_places(files: Sequence[FoundFile]) -> None:
    """Raises a RunError if some of the places named nothing, after the others are answered."""
    missing = [f"'{file.path}'" for file in files if file.reason in (NO_FILE, NO_MATCH)]
    if missing:
        match = "matches" if len(missing) == 1 else "match"
        raise RunError(f"{listed(missing)} {match} no file; the others are answered.")


def in_windows(files: Sequence[FoundFile], kind: Kind, reader: Reader) -> list[FoundFile]:
    """Replaces files much longer than an input, such as an hour of sound, by consecutive parts."""
    if kind.windows is None or kind.cut is None:
        return list(files)
    found = []
    for file in files:
        parts = []
        if file.reason is None and file.content is None:
            # An unreadable file stays whole, and gets its reason when it is read.
            with contextlib.suppress(UnreadableError), open_file(file.path, file.within) as opened:
                parts = [Part(file.path, *times, kind.cut) for times in kind.windows(opened, reader)]
        found += [file._replace(path=part.name, content=part) for part in parts] or [file]
    return found


def read_batches(files: Iterable[FoundFile], reader: Reader, batch_size: int) -> Generator[Batch]:
    """Reads files in threads while the caller works on earlier ones.

    Args:
        files: files in order; only those of the batches ahead are accessed.
        reader: reader of the examples.
        batch_size: files per batch; the last may have fewer.
    """

    def read(file: FoundFile) -> "tuple[FoundFile, Inputs | None]":
        if file.reason:
            return file, None
        try:
            with content_of(file.place, file.within) as content:
                return file, reader.read(content)
        except UnreadableError as error:
            return file._replace(reason=str(error)), None

    # Threads suffice: decoders release the GIL.
    with contextlib.closing(map_ahead(read, files, cpu_count(), 1 + BATCHES_AHEAD * batch_size)) as results:
        while batch := list(itertools.islice(results, batch_size)):
            found = [inputs for _, inputs in batch if inputs is not None]
            yield Batch([file for file, _ in batch], reader.join(found))


def map_ahead(compute: Callable[[Item], Made], items: Iterable[Item], threads: int, ahead: int) -> Generator[Made]:
    """Yields results for all items in order, computed in threads, at most `ahead` items early."""
    remaining = iter(items)
    waiting: deque[Future[Made]] = deque()
    with ThreadPoolExecutor(threads) as workers:
        try:
            while True:
                started = itertools.islice(remaining, ahead - len(waiting))
                waiting.extend(workers.submit(compute, item) for item in started)
                if not waiting:
                    return
                yield waiting.popleft().result()
        finally:
            workers.shutdown(cancel_futures=True)


def _files_of(place: str, outside: bool, kind: Kind | None, text_column: str | None) -> list[FoundFile]:
    if kind is not None and kind.column and not _may_be_path(place):
        return [FoundFile(Path(place[:MOST_OF_NAME]), content=place.encode(errors="surrogateescape"))]
    if not (csv_table.accepts(place) and os.path.exists(place)):
        found = []
        for file in _files_at(place, outside):
            if file.reason or not csv_table.accepts(str(file.path)):
                found.append(file)
            elif not os.path.isdir(place):  # a pattern
                found += _files_of(str(file.path), outside, kind, text_column)
            else:  # it would be read as one text
                found.append(file._replace(reason="a table: name it by itself" if kind and kind.column else None))
        return found
    source = csv_table.load(place, Path(), outside, labelled=False, text_column=text_column, kind=kind)
    within = None if outside else Path(os.path.realpath(source.root))
    names = list(source.columns)
    rows = zip(*source.columns.values(), strict=True) if names else [()] * len(source.examples)
    found = [
        FoundFile(example.path, None, within, example.content, dict(zip(names, row, strict=True)))
        for example, row in zip(source.examples, rows, strict=True)
    ]
    return found + [FoundFile(*item) for item in source.set_aside]


def _may_be_path(place: str) -> bool:
    """Says whether a place may be a path, not a typed example: the file exists, or its name has a known ending."""
    with contextlib.suppress(ValueError, OSError):  # a name that no file can have
        if os.path.lexists(place) or (glob.has_magic(place) and glob.glob(place, recursive=True)):
            return True
    return csv_table.accepts(place) or promised_kind(Path(place)) is not None


def _files_at(place: str, outside: bool) -> list[FoundFile]:
    path = Path(place)
    if path.is_dir():
        within = None if outside else Path(os.path.realpath(path))
        files, set_aside = files_below(path, outside)
        found = [FoundFile(file, within=within) for file in files] + [FoundFile(*item) for item in set_aside]
        return found or [FoundFile(path, "no files in this folder")]
    if path.exists():
        return [FoundFile(path)]
    if not glob.has_magic(place):
        return [FoundFile(path, NO_FILE)]
    matches = [match for match in glob.glob(place, recursive=True) if not is_leftover(Path(match).name)]
    if "**" in place and not outside:
        matches = [match for match in matches if not _is_through_link(match, place)]
    found = [file for match in sorted(matches, key=natural_order) for file in _files_at(match, outside)]
    return found or [FoundFile(path, NO_MATCH)]


def _is_through_link(match: str, pattern: str) -> bool:
    """Says whether a folder that '**' entered is a link, which may lead out, or in circles."""
    before = len(Path(pattern.split("**")[0]).parts)
    return any(folder.is_symlink() for folder in Path(match).parents if len(folder.parts) > before)
