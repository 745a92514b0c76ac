"""Pictures with boxes in a COCO file: `instances.json` with `images`, `annotations` and `categories`.

Pictures are looked for beside the file and in the folder above, and in `images/` in both; those of
`annotations/instances_train2017.json` also in `train2017/` or `images/train2017/`, the layout of COCO itself. If the
file is in `train/` and the neighbours `valid/` or `test/` have a file of the same name, all are read as splits: the
layout of Roboflow.
"""

import json
import os
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from app.errors import UsageError
from data.boxes.annotated import Annotated, Box, find_folder, make_source, read_annotations
from data.csv_table import without_backslashes
from data.sources import SPLIT_FOLDERS, Source, Split, printable

PARTS = ("images", "annotations", "categories")


def accepts(data: str) -> bool:
    """Says whether `--data` names a JSON file, there or not."""
    return Path(data).suffix.lower() == ".json" and not Path(data).is_dir()


def load(data: str, cache_dir: Path, outside: bool = False) -> Source:
    """Reads the file; pictures that are missing, or outside its folder, are noticed later, when they are read.

    Raises:
        UsageError: the file is damaged, or is not a COCO file.
    """
    path = Path(data)
    files: list[tuple[Path, Split | None]] = [(path, None)]
    if path.parent.name.lower() in SPLIT_FOLDERS:
        folders = sorted(path.parent.parent.iterdir())
        around = [(folder / path.name, SPLIT_FOLDERS.get(folder.name.lower())) for folder in folders]
        around = [(file, split) for file, split in around if split and file.is_file()]
        files = around if len(around) > 1 else files
    annotated: list[Annotated] = []
    set_aside: list[tuple[Path, str]] = []
    for file, split in files:
        _read(file, split, annotated, set_aside)
    root = path.parent if len(files) == 1 else path.parent.parent
    if annotated and not annotated[0].path.is_relative_to(root):
        root = root.parent
    return make_source(path.stem if len(files) == 1 else root.resolve().name, root, annotated, set_aside)


def _read(file: Path, split: Split | None, annotated: list[Annotated], set_aside: list[tuple[Path, str]]) -> None:
    content = read_annotations(file, json.loads, "a COCO file")
    parts: list[Any] = [content.get(name) if isinstance(content, dict) else None for name in PARTS]
    if not all(isinstance(part, list) and all(isinstance(each, dict) for each in part) for part in parts):
        raise UsageError(f"'{file}' must be a COCO file with the lists {', '.join(PARTS)}.")
    images, annotations, categories = parts
    names = _class_names(categories, file)
    boxes: dict[str, list[Box]] = {}
    for each in images:
        if (key := _key(each.get("id"))) in boxes:
            raise UsageError(f"'{file}' must give each image an id of its own; {printable(key)[:40]} is there twice.")
        boxes[key] = []
    for number, each in enumerate(annotations, 1):
        mine = boxes.get(_key(each.get("image_id")))
        if mine is None:
            set_aside.append((file, f"annotation {number} names a picture that is not listed"))
            continue
        name, crowd = names.get(_key(each.get("category_id"))), each.get("iscrowd") in (1, "1")
        mine.append(Box(name, _corners(each.get("bbox")), crowd))
    _add_pictures(file, split, images, boxes, annotated, set_aside)


def _class_names(categories: Sequence[Mapping[str, Any]], file: Path) -> dict[str, Any]:
    """Returns the name of each category by its id."""
    names: dict[str, Any] = {}
    for each in categories:
        key, name = _key(each.get("id")), each.get("name")
        if names.setdefault(key, name) != name:
            both = " and ".join(f"'{printable(str(one))[:40]}'" for one in (names[key], name))
            raise UsageError(
                f"'{file}' must give each category an id of its own; {printable(key)[:40]} is that of {both}."
            )
    return names


def _add_pictures(
    file: Path,
    split: Split | None,
    images: Sequence[Mapping[str, Any]],
    boxes: Mapping[str, Sequence[Box]],
    annotated: list[Annotated],
    set_aside: list[tuple[Path, str]],
) -> None:
    """Finds the file of each picture; a file that is listed twice is one picture with the boxes of both entries."""
    entries: dict[str, list[Any]] = defaultdict(list)
    for each in images:
        name = without_backslashes(file.parent, str(each.get("file_name", "")))
        entries[os.path.normpath(name)].append(each)
    part = file.stem.rpartition("_")[2]
    places = [above / below for above in file.parents[:2] for below in ("", "images", part, f"images/{part}")]
    folder = find_folder(list(entries), places)
    for name, of_file in entries.items():
        sizes = {_size(each) for each in of_file} - {None}
        if len(sizes) > 1:
            set_aside.append((folder / name, "listed twice, with different sizes"))
            continue
        merged: list[Box] = []
        for each in of_file:
            merged += [box for box in boxes[_key(each.get("id"))] if box not in merged]
        annotated.append(Annotated(folder / name, merged, split, next(iter(sizes), None)))


def _size(image: Mapping[str, Any]) -> tuple[float, float] | None:
    """Returns width and height of an entry; None if it has none."""
    try:
        width, height = float(image["width"]), float(image["height"])
    except (LookupError, TypeError, ValueError, OverflowError):
        return None
    return (width, height) if 1 < width < 1e6 and 1 < height < 1e6 else None


def _corners(bbox: Any) -> list[Any]:
    """Returns the corners of a box that is given by x, y, width and height; what is not four numbers stays as it is,
    and is told later."""
    if not isinstance(bbox, list):
        return []
    try:
        x, y, width, height = map(float, bbox)
    except (TypeError, ValueError, OverflowError):
        return bbox
    return [x, y, x + width, y + height]


def _key(identifier: Any) -> str:
    """Returns an id as a text: 1, 1.0 and '1' are the same."""
    if isinstance(identifier, float) and identifier.is_integer():
        identifier = int(identifier)
    return str(identifier)
