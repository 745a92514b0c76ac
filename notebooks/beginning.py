"""Functions that notebooks share: a temporary folder, some of the pictures, rows of pictures, hidden output."""

import atexit
import contextlib
import io
import os
import tempfile
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from IPython import display

from data.sources import Example, load_source

ROOT = Path(__file__).resolve().parents[1]
"""Folder of the project."""


def make_work_folder() -> Path:
    """Makes a temporary folder for runs and caches; it is deleted when the notebook is closed."""
    folder = tempfile.TemporaryDirectory(prefix="headstart-")
    atexit.register(folder.cleanup)
    return Path(folder.name)


def locate(data: str) -> str:
    """Finds data also in the project's folder, since a notebook runs in `notebooks/`.

    Args:
        data: as in `--data`; a leading `~` is the home folder, as in a terminal.

    Returns:
        The absolute path if the data is only in the project's folder; otherwise `data`.
    """
    data = os.path.expanduser(data)
    in_root = ROOT / data
    is_in_root_only = data != "animals" and not Path(data).exists() and in_root.exists()
    return str(in_root) if is_in_root_only else data


def some_pictures(data: str, count: int | None, folder: Path) -> Path:
    """Lists some of the pictures in a CSV file, with their labels, and their splits and groups, if any.

    Args:
        data: as in `--data`; see `locate`.
        count: approximate number: the same share of every class in every split, at least one picture. None takes all.
        folder: where the CSV file is written. Its paths are absolute, so reading it needs `outside=True`.

    Returns:
        The path of the CSV file.

    Raises:
        UsageError: the data does not exist.
    """
    pictures = load_source(locate(data), folder / "cache").examples
    groups: dict[tuple, list[Example]] = defaultdict(list)
    for picture in pictures:
        groups[picture.split, picture.labels[:1]].append(picture)
    total, wanted = len(pictures), min(count or len(pictures), len(pictures))
    chosen = [
        group[number * total // wanted]  # every k-th: neighbours are often alike
        for group in groups.values()
        for number in range(-(-len(group) * wanted // total))
    ]
    table = pd.DataFrame(
        [(each.path.absolute(), "|".join(each.labels), each.split or "", each.group) for each in chosen],
        columns=["path", "label", "split", "group"],
    )
    unused = [] if any(table["group"]) else ["group"]
    table.drop(columns=unused).to_csv(folder / "some.csv", index=False)
    return folder / "some.csv"


def show_pictures(
    pictures: Sequence[np.ndarray],
    titles: Sequence[str],
    columns: int = 6,
    colours: Sequence[str] | None = None,
    width: float = 1.5,
) -> None:
    """Shows pictures in rows, as a JPEG, in which photos take little room.

    Args:
        pictures: uint8 (height, width, 3), or floats in [0, 1].
        titles: of each picture; may be empty.
        columns: pictures in a row.
        colours: of each title; None for dark grey.
        width: of a picture, inches of 72 pixels.
    """
    rows = -(-len(pictures) // columns)
    height = width * pictures[0].shape[0] / pictures[0].shape[1] + 0.4
    figure, axes = plt.subplots(
        rows, columns, figsize=(width * columns, height * rows), squeeze=False, layout="constrained"
    )
    for each in axes.ravel():
        each.axis("off")
    colours = colours or ["0.2"] * len(titles)
    for each, picture, title, colour in zip(axes.ravel(), pictures, titles, colours, strict=False):
        each.imshow(picture)
        each.set_title(title, fontsize=9, color=colour)
    content = io.BytesIO()
    figure.savefig(content, format="jpeg", dpi=72)
    plt.close(figure)
    display.display(display.Image(content.getvalue()))


@contextlib.contextmanager
def quietly() -> Iterator[None]:
    """Hides what the block prints."""
    with contextlib.redirect_stdout(io.StringIO()):
        yield


@contextlib.contextmanager
def shown_without(folder: Path) -> Iterator[None]:
    """Prints the output of the block at its end, with `...` in place of a folder."""
    with contextlib.redirect_stdout(io.StringIO()) as said:
        yield
    print(said.getvalue().replace(str(folder), "..."), end="")
