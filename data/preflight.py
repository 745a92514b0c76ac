"""Reads every example once before training, so that broken ones can neither be learnt from nor end the run.

Readable examples are stored for this run and later ones; the others are set aside with the reason.
"""

import functools
import hashlib
import itertools
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple, TypeAlias

import numpy as np
from joblib import cpu_count

from app.errors import RunError
from cluster.pool import SHARD_BYTES, Pool
from data.arrays import Ragged, temporary_array
from data.code_digest import code_digest
from data.content import UnreadableError, UnreadableNowError, content_of
from data.kinds import Inputs, ManyInputs, Part, Reader
from data.rows import ArrayWriter, Writer
from data.sources import Example, Source
from data.store import Description, Store, Stored

CHUNK = 1_000
"""Examples that the workers get at a time."""


class SetAside(NamedTuple):
    """An example that is not used."""

    path: Path
    reason: str


Result: TypeAlias = tuple[np.ndarray, str] | UnreadableError
"""The row of an example and its digest; or the reason why it is set aside."""


class Preflight(NamedTuple):
    """The examples that can be read, in the order of the source, and those that cannot."""

    examples: list[Example]
    inputs: ManyInputs
    """Tensors (num_examples, ...) of the reader: memory-mapped files, or ragged in memory."""
    signatures: np.ndarray
    """(num_examples, ...), to recognise look-alikes."""
    digests: list[str]
    """SHA-256 of each example's bytes, to recognise copies."""
    quarantine: list[SetAside]


def check_examples(
    source: Source,
    reader: Reader,
    store: Store,
    scratch_dir: Path,
    retry: bool = True,
    on_progress: Callable[[int], None] = lambda _: None,
    pool: Pool | None = None,
) -> Preflight:
    """Reads every example, in parallel; or takes the inputs of the same files from the store.

    Args:
        source: the examples.
        reader: how they are read.
        store: keeps the inputs for later runs.
        scratch_dir: keeps the inputs during this run if the store has no room for them.
        retry: whether to read files again that the system could not read before.
        on_progress: called with the number of examples done since the last call.
        pool: workers that read; None for the threads of this process.

    Raises:
        UsageError: neither `store` nor `scratch_dir` is writable and has room.
    """
    examples = source.examples
    shape, row = (len(examples),), _row(reader)
    description = {**reading(reader), "files": _digest_of_files(examples), "outside": source.within is None}
    read = functools.partial(_read_chunks, reader, source.within, pool)
    with store.locked([description]):
        stored = store.load(description)
        again = (
            [examples[index] for index, _, passing in stored.notes["set_aside"] if passing] if stored and retry else []
        )
        if stored is not None and not _readable_now(again, source.within):
            on_progress(len(examples))
        elif store.make_room(len(examples) * row.itemsize, [description]):
            store.remove(description)
            title = f"{source.name}, {source.kind.nouns}, {reader.title}"
            with store.writing(description, title, shape, row) as writer:
                _read_all(examples, read, writer, on_progress)
                writer.end_here()
            stored = Stored(writer.values, 0.0, writer.notes)
        else:
            array = ArrayWriter(temporary_array(shape, row, scratch_dir))
            _read_all(examples, read, array, on_progress)
            stored = Stored(array.values[: array.rows], 0.0, array.notes)
    set_aside, values = {index: reason for index, reason, _ in stored.notes["set_aside"]}, stored.values
    readable = [example for index, example in enumerate(examples) if index not in set_aside]
    quarantine = [SetAside(examples[index].path, reason) for index, reason in set_aside.items()]
    inputs: ManyInputs = tuple(values[f"input_{index}"] for index in range(len(reader.inputs)))
    if reader.ragged:
        inputs = tuple(Ragged.from_padded(rows, values["length"]) for rows in inputs)  # type: ignore[arg-type]
    return Preflight(readable, inputs, values["signature"], stored.notes["digests"], quarantine)


def reading(reader: Reader) -> Description:
    """Describes how the bytes of an example become inputs, as a JSON value."""
    return {**reader.description, "preflight": _CODE}


def _row(reader: Reader) -> np.dtype:
    """Returns the dtype of a stored example; ragged tensors are padded."""
    inputs = [(f"input_{index}", dtype) for index, dtype in enumerate(reader.inputs)]
    lengths = [("length", np.int32)] if reader.ragged else []
    return np.dtype([*inputs, *lengths, ("signature", reader.signature)])


def _read_all(
    examples: Sequence[Example],
    read: Callable[[Sequence[Example]], Iterable[Iterable[Result]]],
    writer: Writer | ArrayWriter,
    on_progress: Callable[[int], None],
) -> None:
    """Writes the readable examples, and records their digests and why the others are set aside."""
    digests, set_aside = writer.notes.setdefault("digests", []), writer.notes.setdefault("set_aside", [])
    del digests[writer.rows :]
    done = writer.rows + len(set_aside)  # by an interrupted process
    on_progress(done)
    for index, result in enumerate(itertools.chain.from_iterable(read(examples[done:])), done):
        if isinstance(result, UnreadableError):
            set_aside.append((index, str(result), isinstance(result, UnreadableNowError)))
        else:
            row, digest = result
            digests.append(digest)
            writer.append(row)
        on_progress(1)


def _read_chunks(
    reader: Reader, within: Path | None, pool: Pool | None, examples: Sequence[Example]
) -> Iterator[Iterable[Result]]:
    """Reads examples chunk by chunk, which bounds memory."""
    size = CHUNK if pool is None else max(1, min(CHUNK, SHARD_BYTES // _row(reader).itemsize))
    chunks = [examples[start : start + size] for start in range(0, len(examples), size)]
    if pool is not None:
        results = pool.in_order(functools.partial(make_worker, reader, within, _CODE), chunks)
        for chunk, read in zip(chunks, results, strict=True):
            _check_machine(chunk, read, within)
            yield read
        return
    with ThreadPoolExecutor(cpu_count()) as threads:  # decoders and hashlib release the GIL
        for chunk in chunks:
            yield threads.map(functools.partial(_read, reader=reader, row=_row(reader), within=within), chunk)


def make_worker(reader: Reader, within: Path | None, code: str) -> Callable[[Sequence[Example]], list[Result]]:
    """Makes the function by which a worker reads a chunk.

    Raises:
        RunError: this machine has other code than the command.
    """
    if code != _CODE:
        raise RunError("A worker's machine has other code than this one, and may read files differently.")
    read = functools.partial(_read, reader=reader, row=_row(reader), within=within)
    threads = ThreadPoolExecutor(cpu_count())
    return lambda examples: list(threads.map(read, examples))


def _check_machine(examples: Sequence[Example], results: Sequence[Result], within: Path | None) -> None:
    """Raises a RunError if a worker's machine cannot read a file that this one can: it may lack all the data."""
    for example, result in zip(examples, results, strict=True):
        if isinstance(result, UnreadableNowError) and _readable_now([example], within):
            raise RunError(
                f"A worker's machine cannot read '{example.path}', which this machine can read: {result}. All machines "
                f"need the data at the same path."
            )


def _read(example: Example, reader: Reader, row: np.dtype, within: Path | None) -> Result:
    """Returns the row of an example, and its digest."""
    try:
        with content_of(example.place, within) as content:
            inputs, signature = reader.read_with_signature(content)
            return _kept(inputs, signature, reader.ragged, row), hashlib.sha256(content).hexdigest()
    except UnreadableError as error:
        return error


def _kept(inputs: Inputs, signature: np.ndarray, ragged: bool, row: np.dtype) -> np.ndarray:
    """Returns the stored row of an example, (1,)."""
    if not ragged:
        return np.array([(*inputs, signature)], row)
    kept = np.zeros(1, row)
    for index, values in enumerate(inputs):
        kept[f"input_{index}"][0, : len(values)] = values
    kept["length"], kept["signature"] = len(inputs[0]), signature
    return kept


def _readable_now(examples: Sequence[Example], within: Path | None) -> bool:
    """Says whether a file that the system could not read, perhaps for a failing disk or network, is readable now."""
    for example in examples:
        try:
            with content_of(example.place, within):
                return True
        except UnreadableNowError:
            continue
        except UnreadableError:  # the system can read it, though it is no example
            return True
    return False


def _digest_of_files(examples: Sequence[Example]) -> str:
    """Returns the SHA-256 of paths, sizes and times, which show changed files without reading them."""
    digest = hashlib.sha256()
    for example in examples:
        place = example.place
        if isinstance(place, bytes):
            digest.update(hashlib.sha256(place).digest())
            continue
        path, times = (place.path, (place.start, place.end)) if isinstance(place, Part) else (place, ())
        try:
            status = os.stat(path)
            state: tuple[int, ...] | str = status.st_size, status.st_mtime_ns, status.st_ctime_ns
        except (OSError, ValueError) as error:
            state = type(error).__name__
        digest.update(repr((os.path.abspath(path), state, *times)).encode(errors="surrogateescape"))
    return digest.hexdigest()


_CODE = code_digest(check_examples)
