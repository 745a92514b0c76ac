"""Pictures with boxes in YOLO's format: `data.yaml` names the classes, and each `images/NAME.jpg` has a file
`labels/NAME.txt` with lines `class x y width height`, as fractions of the upright picture, or `class` and the points of
an outline. If `data.yaml` has `kpt_shape`, keypoints follow the box. A picture without such a file has no boxes."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from app.errors import UsageError
from data.boxes.annotated import FRACTIONS, Annotated, Box, make_source, read_annotations
from data.content import UnreadableError, content_of
from data.encoding import encoding_of
from data.folder import files_below
from data.images.kind import KIND
from data.sources import SPLIT_FOLDERS, Source, Split

NAMES = ("data.yaml", "data.yml", "dataset.yaml")


def accepts(data: str) -> bool:
    """Says whether `--data` names a folder with a `data.yaml`, or that file."""
    path = Path(data)
    return path.suffix.lower() in (".yaml", ".yml") or (path.is_dir() and _description(path) is not None)


def load(data: str, cache_dir: Path, outside: bool = False) -> Source:
    """Reads the classes, finds the pictures of each split, and reads their boxes.

    Raises:
        UsageError: `data.yaml` is damaged, or names no pictures.
    """
    path = Path(data)
    file = _description(path) if path.is_dir() else path
    if file is None:
        raise UsageError(f"--data names '{path}', and there is no such file.")
    about = read_annotations(file, _parse_yaml, "a data.yaml of YOLO")
    names = _class_names(about, file)
    has_keypoints = about.get("kpt_shape") is not None
    annotated: list[Annotated] = []
    set_aside: list[tuple[Path, str]] = []
    places = {key: about[key] for key in SPLIT_FOLDERS if isinstance(about.get(key), str | list)}
    if not places:
        places = {"": "images"}
    base = file.parent / about["path"] if isinstance(about.get("path"), str) else file.parent
    within = None if outside else Path(os.path.realpath(file.parent))
    for key, folders in places.items():
        split: Split | None = SPLIT_FOLDERS.get(key) if len(places) > 1 else None
        for name in [folders] if isinstance(folders, str) else folders:
            folder = _folder(str(name), base, file.parent)
            files, wrong = files_below(folder, outside)
            set_aside += wrong
            for picture in files:
                if picture.suffix.lower() in KIND.endings:
                    try:
                        boxes = _read_boxes(picture, names, within, has_keypoints)
                    except UnreadableError as error:
                        set_aside.append((picture, f"its boxes cannot be read: {error}"))
                    else:
                        annotated.append(Annotated(picture, boxes, split, FRACTIONS))
    return make_source(file.parent.resolve().name, file.parent, annotated, set_aside)


def _description(folder: Path) -> Path | None:
    return next((folder / name for name in NAMES if (folder / name).is_file()), None)


def _parse_yaml(content: bytes) -> Any:
    try:
        import yaml
    except ImportError:
        raise UsageError("YOLO folders need PyYAML: pip install -r requirements-boxes.txt") from None
    return yaml.safe_load(content)


def _class_names(about: Any, file: Path) -> dict[int, str]:
    """Returns the name of each class by its number."""
    names = about.get("names") if isinstance(about, dict) else None
    found = dict(enumerate(names)) if isinstance(names, list) else names
    if not isinstance(found, dict) or not all(_is_class(*item) for item in found.items()) or not found:
        raise UsageError(f"'{file}' must name the classes: 'names: [cat, dog]'.")
    return {key: str(name) for key, name in found.items()}


def _is_class(number: Any, name: Any) -> bool:
    return isinstance(number, int) and isinstance(name, str | int | float)


def _folder(name: str, *bases: Path) -> Path:
    """Finds the folder of a split; Roboflow writes '../train/images' for 'train/images'."""
    trimmed = name.removeprefix("../")
    candidates = [base / part for base in bases for part in (name, trimmed)]
    found = next((place for place in candidates if place.is_dir()), None)
    if found is None:
        raise UsageError(f"--data must have the folders of pictures that its data.yaml names; there is no '{name}'.")
    return found


def _read_boxes(picture: Path, names: dict[int, str], within: Path | None, has_keypoints: bool) -> Sequence[Box]:
    """Reads the boxes of a picture; the path of their file has `labels` in place of the last `images`.

    Raises:
        UnreadableError: the file is not a text, or leads out of the folder `within`.
    """
    parts = list(picture.parts)
    places = [index for index, part in enumerate(parts[:-1]) if part == "images"]
    if places:
        parts[places[-1]] = "labels"
    file = Path(*parts).with_suffix(".txt")
    if not file.is_file() or not file.stat().st_size:
        return []
    with content_of(file, within) as content:
        try:
            lines = content.decode(encoding_of(content)).splitlines()
        except UnicodeDecodeError:
            raise UnreadableError(f"'{file.name}' is not a text") from None
    return [_box(line.split(), names, has_keypoints) for line in lines if line.strip()]


def _box(words: list[str], names: dict[int, str], has_keypoints: bool) -> Box:
    try:
        number, *values = map(float, words)
    except ValueError:
        return Box("", words)
    label = names.get(int(number)) if number.is_integer() else None
    if has_keypoints:
        values = values[:4]
    if len(values) >= 6 and len(values) % 2 == 0:  # an outline
        x, y = values[::2], values[1::2]
        return Box(label, [min(x), min(y), max(x), max(y)])
    if len(values) != 4:
        return Box(label, values)
    middle_x, middle_y, width, height = values
    return Box(label, [middle_x - width / 2, middle_y - height / 2, middle_x + width / 2, middle_y + height / 2])
