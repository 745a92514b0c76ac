"""Parts that all formats of annotation share: checks boxes against their pictures and makes a source of them."""

import math
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

from joblib import cpu_count

from app.errors import UsageError
from data.images.decode import read_orientation
from data.images.kind import KIND
from data.sources import Boxes, Example, Source, Split, printable

MOST_BYTES = 2**30
"""Largest file of annotations that is read."""
FRACTIONS = (1.0, 1.0)
"""Size of an upright picture in fractions of itself; YOLO's tools turn pictures as EXIF says before they count."""
SAME_SHAPE = 0.01
"""Largest relative difference in proportions between a picture and its annotated size."""
TURNED: dict[int, Callable[[float, float, float, float], tuple[float, float]]] = {
    2: lambda x, y, width, height: (width - x, y),
    3: lambda x, y, width, height: (width - x, height - y),
    4: lambda x, y, width, height: (x, height - y),
    5: lambda x, y, width, height: (y, x),
    6: lambda x, y, width, height: (height - y, x),
    7: lambda x, y, width, height: (height - y, width - x),
    8: lambda x, y, width, height: (y, width - x),
}
"""Maps from a point of the stored picture to the same point of the upright one, by EXIF orientation."""


class Box(NamedTuple):
    """A box as the file of annotations has it."""

    label: Any
    """Name of its class; None for one that has no name."""
    corners: Sequence[Any]
    """x1, y1, x2, y2, not checked yet."""
    ignored: bool = False
    """True for a crowd or a difficult object: neither learnt nor measured."""


class Annotated(NamedTuple):
    """A picture and its annotations."""

    path: Path
    boxes: Sequence[Box]
    split: Split | None = None
    size: tuple[float, float] | None = None
    """Size of the picture in the unit of the corners: width and height when it was annotated (stored or upright), or
    `FRACTIONS`. None if the corners are pixels of the stored picture."""


class MisfitError(Exception):
    """A box or a picture cannot be used; the message completes a sentence about it."""


def make_source(
    name: str, root: Path, annotated: Sequence[Annotated], set_aside: Sequence[tuple[Path, str]] = ()
) -> Source:
    """Makes a source of pictures with boxes; reads the headers of the pictures.

    Boxes are turned as EXIF turns their picture, and cut at its border. Boxes that cannot be used are set aside with
    the reason, and so are pictures whose boxes belong to a picture of another size.

    Raises:
        UsageError: there is no box at all.
    """
    examples: list[Example] = []
    wrong = list(set_aside)
    with ThreadPoolExecutor(cpu_count()) as threads:
        headers = list(threads.map(lambda each: read_orientation(each.path), annotated))
    for each, header in zip(annotated, headers, strict=True):
        try:
            boxes, reasons = fit_boxes(each, header)
        except MisfitError as error:
            wrong.append((each.path, str(error)))
            continue
        wrong += [(each.path, reason) for reason in reasons]
        examples.append(Example(each.path, tuple(sorted(set(boxes.labels))), each.split, boxes=boxes))
    if not any(example.labels for example in examples):
        why = f" The first set aside: {wrong[0][1]}." if wrong else ""
        raise UsageError(f"--data must have pictures with boxes; '{root}' has {len(annotated):,} without any.{why}")
    return Source(name, root, examples, KIND, multi_label=True, set_aside=wrong, has_boxes=True)


def fit_boxes(annotated: Annotated, header: tuple[int, int, int] | None) -> tuple[Boxes, list[str]]:
    """Turns boxes into pixels of the upright picture.

    Args:
        annotated: a picture with its boxes.
        header: its width and height as stored, and its EXIF orientation; None if it cannot be read.

    Returns:
        The boxes that can be used, and the reasons why others cannot.

    Raises:
        MisfitError: the boxes are from a picture of other proportions.
    """
    width, height, orientation = header or (0, 0, 1)
    is_turned = orientation in TURNED
    upright = (height, width) if orientation >= 5 and is_turned else (width, height)
    scale, turn = _scale(annotated.size, (width, height), upright) if header else ((1.0, 1.0), False)
    kept: list[tuple[str, tuple[float, ...], bool]] = []
    reasons = []
    for number, box in enumerate(annotated.boxes, 1):
        try:
            x1, y1, x2, y2 = _numbers(box)
            points = [(x1 * scale[0], y1 * scale[1]), (x2 * scale[0], y2 * scale[1])]
            if turn and is_turned:
                points = [TURNED[orientation](*point, width, height) for point in points]
            xs, ys = zip(*points, strict=True)
            corners: tuple[float, ...] = (min(xs), min(ys), max(xs), max(ys))
            if header:
                corners = _cut(corners, upright)
            kept.append((printable(str(box.label).strip()), corners, box.ignored))
        except MisfitError as error:
            reasons.append(f"box {number} {error}")
    labels, boxes, ignored = zip(*kept, strict=True) if kept else ((), (), ())
    return Boxes(tuple(labels), tuple(boxes), tuple(ignored), upright), reasons


def _numbers(box: Box) -> list[float]:
    try:
        corners = [float(corner) for corner in box.corners]
    except (TypeError, ValueError, OverflowError):
        corners = []
    if len(corners) != 4 or not all(map(math.isfinite, corners)):
        raise MisfitError(f"is not four numbers: {printable(', '.join(map(str, box.corners))[:60])}")
    if box.label is None or not str(box.label).strip():
        raise MisfitError("has an unknown class")
    if corners[2] <= corners[0] or corners[3] <= corners[1]:
        raise MisfitError("has no area")
    return corners


def _cut(corners: tuple[float, ...], size: tuple[int, int]) -> tuple[float, ...]:
    """Cuts a box at the border of its picture; at least half a pixel must remain."""
    x1, y1, x2, y2 = corners
    width, height = size
    cut = max(0.0, x1), max(0.0, y1), min(float(width), x2), min(float(height), y2)
    if cut[2] - cut[0] < 0.5 or cut[3] - cut[1] < 0.5:
        outside = x1 >= width or y1 >= height or x2 <= 0 or y2 <= 0
        raise MisfitError("is outside the picture" if outside else "is smaller than half a pixel")
    return cut


def _scale(
    size: tuple[float, float] | None, stored: tuple[int, int], upright: tuple[int, int]
) -> tuple[tuple[float, float], bool]:
    """Returns the factors that turn corners into pixels, and whether the corners must be turned upright."""
    if size is None:
        return (1.0, 1.0), True
    if size == FRACTIONS:
        return (float(upright[0]), float(upright[1])), False
    for pixels, turn in ((stored, True), (upright, False)):
        if abs(size[0] * pixels[1] / (size[1] * pixels[0]) - 1) <= SAME_SHAPE:
            return (pixels[0] / size[0], pixels[1] / size[1]), turn
    raise MisfitError(
        f"annotated as {size[0]:g} x {size[1]:g} pixels, and the picture has {upright[0]:,} x {upright[1]:,}"
    )


def find_folder(names: Sequence[str], places: Sequence[Path]) -> Path:
    """Returns the first folder that has one of the first files of a list; the first of all if none has."""
    return next((place for place in places if any((place / name).is_file() for name in names[:20])), places[0])


def read_annotations(path: Path, parse: Callable[[bytes], Any], what: str) -> Any:
    """Reads a file of annotations.

    Raises:
        UsageError: the file cannot be read, or has another format.
    """
    try:
        if path.stat().st_size > MOST_BYTES:
            raise ValueError(f"more than {MOST_BYTES:,} bytes")
        return parse(path.read_bytes())
    except UsageError:
        raise
    except FileNotFoundError:
        raise UsageError(f"--data names '{path}', and there is no such file.") from None
    except Exception as error:  # a parser may raise any exception on a damaged file
        said = " ".join(str(error).split())[:200] or type(error).__name__
        raise UsageError(f"'{path}' must be {what}; it cannot be read: {said}.") from None
