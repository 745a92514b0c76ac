"""Pictures with boxes in YOLO's format: `data.yaml` names the classes, and each `images/NAME.jpg` has a file
`labels/NAME.txt` (or `NAME.txt` beside it) with lines `class x y width height`, as fractions of the upright picture, or
`class` and the points of an outline. If `data.yaml` has `kpt_shape`, keypoints follow the box. A picture without such a
file has no boxes. A split is a folder of pictures, or a `.txt` file with a path on each line."""

import functools
import os
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from app.errors import UsageError
from app.terminal import counted
from data.boxes.annotated import FRACTIONS, Annotated, Box, make_source, read_annotations
from data.content import UnreadableError, content_of
from data.csv_table import without_backslashes
from data.encoding import encoding_of
from data.folder import files_below
from data.images.kind import KIND
from data.sources import SPLIT_FOLDERS, Source, Split, printable

NAMES = ("data.yaml", "data.yml", "dataset.yaml")
CLASSES = re.compile(r"""(?:^|[{,]\s*)["']?(?:names|nc)["']?\s*:""", re.MULTILINE)
"""Matches the names of the classes or their number in a `data.yaml`."""


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
    read_line = functools.partial(_box, names=names, has_keypoints=about.get("kpt_shape") is not None)
    annotated: list[Annotated] = []
    set_aside: list[tuple[Path, str]] = []
    places = {key: about[key] for key in SPLIT_FOLDERS if isinstance(about.get(key), str | list)}
    if not places:
        places = {"": "images"}
    base = file.parent / about["path"] if isinstance(about.get("path"), str) else file.parent
    within = None if outside else Path(os.path.realpath(file.parent))
    for key, named in places.items():
        split: Split | None = SPLIT_FOLDERS.get(key) if len(places) > 1 else None
        for name in [named] if isinstance(named, str) else named:
            place = _find(str(name), base, file.parent)
            pictures, wrong = (
                files_below(place, outside) if place.is_dir() else _listed(place, within, base, file.parent)
            )
            set_aside += wrong
            for picture in pictures:
                if picture.suffix.lower() in KIND.endings:
                    try:
                        boxes = _read_boxes(picture, file.parent, within, read_line)
                    except UnreadableError as error:
                        set_aside.append((picture, f"its boxes cannot be read: {error}"))
                    else:
                        annotated.append(Annotated(picture, boxes, split, FRACTIONS))
    return make_source(file.parent.resolve().name, file.parent, annotated, set_aside)


def _description(folder: Path) -> Path | None:
    """Returns the file that describes a folder of YOLO; None if none mentions classes."""
    return next((file for file in (folder / name for name in NAMES) if file.is_file() and _has_classes(file)), None)


def _has_classes(file: Path) -> bool:
    try:
        content = file.read_bytes()
    except OSError:
        return True  # `load` says that it cannot be read
    return bool(CLASSES.search(content.decode(encoding_of(content), errors="replace")))


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


def _find(name: str, *bases: Path) -> Path:
    """Finds the folder or the list of a split; Roboflow writes '../train/images' for 'train/images'."""
    trimmed = name.removeprefix("../")
    candidates = [base / part for base in bases for part in (name, trimmed)]
    found = next((place for place in candidates if place.is_dir() or _is_list(place)), None)
    if found is None:
        raise UsageError(
            f"--data must have the folders of pictures, or the .txt files with their paths, that its data.yaml names; "
            f"there is no '{name}'."
        )
    return found


def _is_list(place: Path) -> bool:
    return place.suffix.lower() == ".txt" and place.is_file()


def _listed(file: Path, within: Path | None, *bases: Path) -> tuple[list[Path], list[tuple[Path, str]]]:
    """Reads a list of pictures, whose paths are relative to the folder of the list or to one of the bases.

    Pictures that are missing, or outside the folder `within`, are noticed later, when they are read.

    Returns:
        The paths of pictures, each once, and the file with a reason if it names something else.

    Raises:
        UsageError: the file cannot be read.
    """
    try:
        lines = [line.strip() for line in _lines(file, within)]
    except UnreadableError as error:
        raise UsageError(f"'{file}' must be a list of pictures; it cannot be read: {error}.") from None
    others = [line for line in lines if Path(line).suffix.lower() not in KIND.endings]
    found: dict[Path, None] = {}
    for line in lines:
        candidates = [base / without_backslashes(base, line) for base in (file.parent, *bases)]
        found[Path(os.path.normpath(next((place for place in candidates if place.is_file()), candidates[0])))] = None
    if not others:
        return list(found), []
    what = counted(len(others), "file that is not a picture", "files that are not pictures")
    return list(found), [(file, f"names {what}, the first '{printable(others[0])[:60]}'")]


def _lines(file: Path, within: Path | None) -> list[str]:
    """Reads the lines of a text that are not blank.

    Raises:
        UnreadableError: the file is not a text, or leads out of the folder `within`.
    """
    with content_of(file, within) as content:
        try:
            return [line for line in content.decode(encoding_of(content)).splitlines() if line.strip()]
        except UnicodeDecodeError:
            raise UnreadableError(f"'{file.name}' is not a text") from None


def _read_boxes(picture: Path, root: Path, within: Path | None, read_line: Callable[[list[str]], Box]) -> Sequence[Box]:
    """Reads the boxes of a picture.

    The path of their file has `labels` in place of the last `images` below `root`, or it is beside the picture.

    Raises:
        UnreadableError: the file is not a text, or leads out of the folder `within`.
    """
    parts = picture.parts
    start = len(root.parts) if picture.is_relative_to(root) else 0
    places = [index for index, part in enumerate(parts[:-1]) if part == "images" and index >= start]
    candidates = [Path(*parts[:index], "labels", *parts[index + 1 :]) for index in places[-1:]] + [picture]
    files = (candidate.with_suffix(".txt") for candidate in candidates)
    file = next((file for file in files if file.is_file()), None)
    if file is None or not file.stat().st_size:
        return []
    return [read_line(line.split()) for line in _lines(file, within)]


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
