"""Decodes every picture once, before anything is learnt, so that no run trains on a broken one or dies of it.

What can be read is kept as small uint8 pictures for the rest of the run; what cannot is set aside with the reason.
"""

import hashlib
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import numpy as np

from config import Resize
from data.arrays import release, temporary_array
from data.decode import UnreadablePictureError, decode_picture, read_content
from data.sources import Picture

CHUNK = 1_000
"""Pictures handed to the workers at once."""


class SetAside(NamedTuple):
    """A picture that is not used."""

    path: Path
    reason: str


class Preflight(NamedTuple):
    """The pictures that can be read, in the order they came, and those that cannot."""

    pictures: list[Picture]
    pixels: np.ndarray
    """uint8 (num_pictures, image_size, image_size, 3) in [0, 255]; a file mapped to memory, gone with the process."""
    digests: list[str]
    """SHA-256 of each file, to recognise copies."""
    quarantine: list[SetAside]


def check_pictures(
    pictures: Sequence[Picture],
    image_size: int,
    resize: Resize,
    scratch_dir: Path,
    on_progress: Callable[[int], None] = lambda _: None,
) -> Preflight:
    """Reads every file, upright and in RGB, in parallel.

    Args:
        pictures: what the source found.
        image_size: height and width to keep, pixels.
        resize: how a picture becomes a square.
        scratch_dir: where the pixels are kept during the run: `image_size`^2 x 3 bytes for each picture.
        on_progress: called with the number of pictures done since the last call.

    Raises:
        UsageError: `scratch_dir` cannot be written.
    """
    pixels = temporary_array((len(pictures), image_size, image_size, 3), scratch_dir)
    digests, readable, quarantine = [], [], []

    def read(picture: Picture) -> tuple[np.ndarray, str] | SetAside:
        try:
            content = read_content(picture.path)
            return decode_picture(content, image_size, resize), hashlib.sha256(content).hexdigest()
        except UnreadablePictureError as error:
            return SetAside(picture.path, str(error))

    # Threads suffice: Pillow and hashlib let go of the interpreter while they work. Chunks bound what waits in memory.
    with ThreadPoolExecutor(os.cpu_count()) as workers:
        for start in range(0, len(pictures), CHUNK):
            chunk = pictures[start : start + CHUNK]
            for picture, result in zip(chunk, workers.map(read, chunk), strict=True):
                if isinstance(result, SetAside):
                    quarantine.append(result)
                else:
                    pixels[len(readable)], digest = result
                    digests.append(digest)
                    readable.append(picture)
                on_progress(1)
            release(pixels)
    return Preflight(readable, pixels[: len(readable)], digests, quarantine)
