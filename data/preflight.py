"""Decodes every picture once, before anything is learnt, so that no run trains on a broken one or dies of it.

What can be read is kept as small uint8 pictures for this run and the next; what cannot is set aside with the reason.
"""

import contextlib
import functools
import hashlib
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from importlib import metadata
from pathlib import Path
from typing import NamedTuple

import numpy as np
from joblib import cpu_count

from app.config import Resize
from data.arrays import temporary_array
from data.code_digest import code_digest
from data.content import UnreadableError, UnreadableNowError, content_of
from data.images.decode import decode_with_signature
from data.images.signature import SIGNATURE_SIDE
from data.rows import ArrayWriter, Writer
from data.sources import Picture
from data.store import Description, Store, Stored

CHUNK = 1_000
"""Pictures handed to the workers at once."""


class SetAside(NamedTuple):
    """A picture that is not used."""

    path: Path
    reason: str
    retry: bool = False
    """Whether another try may be worth it."""


class Preflight(NamedTuple):
    """The pictures that can be read, in the order they came, and those that cannot."""

    pictures: list[Picture]
    pixels: np.ndarray
    """uint8 (num_pictures, image_size, image_size, 3) in [0, 255]; a file mapped to memory."""
    looks: np.ndarray
    """uint8 (num_pictures, SIGNATURE_SIDE, SIGNATURE_SIDE), to recognise look-alikes."""
    digests: list[str]
    """SHA-256 of each file, to recognise copies."""
    quarantine: list[SetAside]


def check_pictures(
    pictures: Sequence[Picture],
    image_size: int,
    resize: Resize,
    store: Store,
    scratch_dir: Path,
    title: str,
    retry: bool = True,
    on_progress: Callable[[int], None] = lambda _: None,
    *,
    within: Path | None = None,
) -> Preflight:
    """Reads every file, upright and in RGB, in parallel; or takes what the store has of the same files.

    Args:
        pictures: what the source found.
        image_size: height and width to keep, pixels.
        resize: how a picture becomes a square.
        store: where the pixels stay for the next run: `image_size`^2 x 3 bytes for each picture.
        scratch_dir: where they are kept during this run if the store has no room for them.
        title: of the pictures, for the list of what is in the store.
        retry: whether to try again what the system could not read before.
        on_progress: called with the number of pictures done since the last call.
        within: folder that links may not lead out of; None follows all links.

    Returns:
        What can be read, and what is wrong with the rest.

    Raises:
        UsageError: neither `store` nor `scratch_dir` can be written, or has room.
    """
    shape, row = (len(pictures),), _row(image_size)
    description = {**decoding(image_size, resize), "files": _digest_of_files(pictures)}
    read = functools.partial(_read, image_size=image_size, resize=resize, within=within)
    with store.locked([description]):
        stored = store.load(description)
        again = [pictures[index] for index in stored.notes["retry"]] if stored and retry else []
        if stored is not None and not _readable_now(again, within):
            on_progress(len(pictures))
        elif store.make_room(len(pictures) * row.itemsize, [description]):
            store.remove(description)
            with store.writing(description, f"{title}, {image_size} px", shape, row) as writer:
                _decode(pictures, read, writer, on_progress)
                writer.end_here()
            stored = Stored(writer.values, 0.0, writer.notes)
        else:
            array = ArrayWriter(temporary_array(shape, row, scratch_dir))
            _decode(pictures, read, array, on_progress)
            stored = Stored(array.values[: array.rows], 0.0, array.notes)
    set_aside = dict(stored.notes["set_aside"])
    readable = [picture for index, picture in enumerate(pictures) if index not in set_aside]
    quarantine = [SetAside(pictures[index].path, reason) for index, reason in set_aside.items()]
    return Preflight(readable, stored.values["pixels"], stored.values["look"], stored.notes["digests"], quarantine)


def decoding(image_size: int, resize: Resize) -> Description:
    """Says how a file becomes pixels, as JSON has it."""
    decoder = f"{_DECODER}, pillow {metadata.version('pillow')}"
    return {"image_size": image_size, "resize": resize, "decoder": decoder}


_DECODER = code_digest(decode_with_signature, check_pictures)


def _row(image_size: int) -> np.dtype:
    """What is kept of a picture."""
    return np.dtype(
        [("pixels", np.uint8, (image_size, image_size, 3)), ("look", np.uint8, (SIGNATURE_SIDE, SIGNATURE_SIDE))]
    )


def _decode(
    pictures: Sequence[Picture],
    read: Callable[[Picture], tuple[np.ndarray, str] | SetAside],
    writer: Writer | ArrayWriter,
    on_progress: Callable[[int], None],
) -> None:
    """Writes the pixels of what can be read, and notes the digests of these files and what is wrong with the others."""
    notes = writer.notes
    if not notes:
        notes |= {"digests": [], "set_aside": [], "retry": []}
    del notes["digests"][writer.rows :]
    done = writer.rows + len(notes["set_aside"])  # by a process that had to stop
    on_progress(done)

    # Threads suffice: Pillow and hashlib let go of the interpreter while they work. Chunks bound what waits in memory.
    with ThreadPoolExecutor(cpu_count()) as workers:
        for start in range(done, len(pictures), CHUNK):
            chunk = pictures[start : start + CHUNK]
            for index, result in enumerate(workers.map(read, chunk), start):
                if isinstance(result, SetAside):
                    notes["set_aside"].append((index, result.reason))
                    notes["retry"] += [index] if result.retry else []
                else:
                    row, digest = result
                    notes["digests"].append(digest)
                    writer.append(row)
                on_progress(1)


def _read(picture: Picture, image_size: int, resize: Resize, within: Path | None) -> tuple[np.ndarray, str] | SetAside:
    """Returns the row of a file, and its digest."""
    try:
        with content_of(picture.path, within) as content:
            row = np.array([decode_with_signature(content, image_size, resize)], _row(image_size))
            return row, hashlib.sha256(content).hexdigest()
    except UnreadableError as error:
        return SetAside(picture.path, str(error), isinstance(error, UnreadableNowError))


def _readable_now(pictures: Sequence[Picture], within: Path | None) -> bool:
    """Whether the system reads a file that it could not read before, when a disk or a network may have failed."""
    for picture in pictures:
        with contextlib.suppress(UnreadableNowError), content_of(picture.path, within):
            return True
    return False


def _digest_of_files(pictures: Sequence[Picture]) -> str:
    """SHA-256 of what tells, without reading them, whether files are those of before: path, size, and times."""
    digest = hashlib.sha256()
    for picture in pictures:
        try:
            status = os.stat(picture.path)
            state: tuple[int, int, int] | str = status.st_size, status.st_mtime_ns, status.st_ctime_ns
        except (OSError, ValueError) as error:
            state = type(error).__name__
        digest.update(repr((os.path.abspath(picture.path), state)).encode(errors="surrogateescape"))
    return digest.hexdigest()
