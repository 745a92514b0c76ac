"""Pictures with boxes in a COCO file: `instances.json` with `images`, `annotations` and `categories`.

Pictures are looked for beside the file, in `images/` beside it, and in the folder above. If the file is in `train/` and
the neighbours `valid/` or `test/` have a file of the same name, all are read as splits: the layout of Roboflow.
"""

import json
from collections import defaultdict
from pathlib import Path
from typing import Any

from app.errors import UsageError
from data.boxes.annotated import Annotated, Box, find_folder, make_source, read_annotations
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
    names = {_key(each.get("id")): each.get("name") for each in categories}
    boxes: dict[Any, list[Box]] = defaultdict(list)
    known: set[Any] = set()
    for each in images:
        if (key := _key(each.get("id"))) in known:
            raise UsageError(
                f"'{file}' must give each image an id of its own; {printable(str(key))[:40]} is there twice."
            )
        known.add(key)
    for number, each in enumerate(annotations, 1):
        picture = _key(each.get("image_id"))
        if picture not in known:
            set_aside.append((file, f"annotation {number} names a picture that is not listed"))
            continue
        crowd = each.get("iscrowd") in (1, True)
        name = names.get(_key(each.get("category_id")))
        boxes[picture].append(Box(name, _corners(each.get("bbox")), crowd))
    listed = [str(each.get("file_name", "")) for each in images]
    above = file.parent.parent
    folder = find_folder(listed, [file.parent, file.parent / "images", above, above / "images"])
    for name, each in zip(listed, images, strict=True):
        size: Any = (each.get("width"), each.get("height"))
        known_size = all(isinstance(one, int | float) and 1 < one < 1e6 for one in size)
        mine = boxes.get(_key(each.get("id")), [])
        annotated.append(Annotated(folder / name, mine, split, size if known_size else None))


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


def _key(value: Any) -> Any:
    """Returns an id as a key of a dictionary: whole numbers and texts, anything else by its representation."""
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return value if isinstance(value, int | str) else repr(value)
