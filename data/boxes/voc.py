"""Pictures with boxes in Pascal VOC's format: an XML file for each picture, in `Annotations/` with the pictures in
`JPEGImages/` (or `images/`), or beside the pictures. `ImageSets/Main/train.txt`, `val.txt` and `test.txt` define the
splits, or folders `train/`, `valid/` and `test/`."""

from collections.abc import Collection
from pathlib import Path
from xml.etree import ElementTree

from app.terminal import counted
from data.boxes.annotated import Annotated, Box, make_source
from data.encoding import encoding_of_file
from data.folder import files_below
from data.images.kind import KIND
from data.sources import SPLIT_FOLDERS, Source, Split, printable

PICTURE_FOLDERS = ("JPEGImages", "images", "Images", "")
MOST_BYTES = 10_000_000
DAMAGED = (ElementTree.ParseError, LookupError, ValueError, OSError)
"""Errors that a file of annotations may raise."""


def accepts(data: str) -> bool:
    """Says whether `--data` names a folder with annotations in XML."""
    root = Path(data)
    if not data or not root.is_dir():
        return False
    places = [root / "Annotations", root, *(root / name for name in SPLIT_FOLDERS)]
    return any(_is_annotation(file) for place in places for file in place.glob("*.xml"))


def load(data: str, cache_dir: Path, outside: bool = False) -> Source:
    """Reads every XML file, and finds its picture.

    Raises:
        UsageError: no file has a box.
    """
    root = Path(data)
    files, set_aside = files_below(root, outside)
    by_name = {file.relative_to(root): file for file in files}
    given = _listed_splits(root, {file.stem for file in files}, set_aside)
    annotated: list[Annotated] = []
    seen: set[Path] = set()
    for relative, file in by_name.items():
        if relative.suffix.lower() != ".xml":
            continue
        picture = _picture_of(relative, by_name)
        if picture is None:
            set_aside.append((file, "has no picture beside it"))
            continue
        seen.add(picture)
        try:
            boxes, size = _read(file)
        except DAMAGED as error:
            set_aside.append((file, f"is damaged: {str(error)[:100]}"))
            continue
        annotated.append(Annotated(picture, boxes, given.get(file.stem) or _split_of(relative), size))
    known = {path.parent for path in seen}
    for relative, file in by_name.items():  # pictures without an XML file have no boxes
        if file.suffix.lower() in KIND.endings and file.parent in known and file not in seen:
            annotated.append(Annotated(file, [], given.get(file.stem) or _split_of(relative)))
    return make_source(root.resolve().name, root, annotated, set_aside)


def _is_annotation(file: Path) -> bool:
    """Says whether the first element of an XML file is `annotation`, even if it is damaged further on."""
    if not file.is_file():
        return False
    try:
        with file.open("rb") as content:
            _, first = next(ElementTree.iterparse(content, events=("start",)))
    except DAMAGED:
        return False
    return first.tag == "annotation"


def _split_of(relative: Path) -> Split | None:
    return SPLIT_FOLDERS.get(relative.parts[0].lower()) if len(relative.parts) > 1 else None


def _listed_splits(root: Path, names: Collection[str], set_aside: list[tuple[Path, str]]) -> dict[str, Split]:
    """Reads from `ImageSets/Main` the split of each picture, by its name without ending; tells of names that no file
    has."""
    found: dict[str, Split] = {}
    for name, split in SPLIT_FOLDERS.items():
        file = root / "ImageSets" / "Main" / f"{name}.txt"
        if file.is_file():
            lines = file.read_text(encoding=encoding_of_file(file), errors="replace").splitlines()
            listed = [line.strip() for line in lines if line.strip()]
            known = {line: next((form for form in _forms(line) if form in names), None) for line in listed}
            found |= {form: split for form in known.values() if form is not None}
            lost = [line for line, form in known.items() if form is None]
            if lost:
                what = counted(len(lost), "picture that is not there", "pictures that are not there")
                set_aside.append((file, f"names {what}, the first '{printable(lost[0])[:60]}'"))
    return found


def _forms(line: str) -> list[str]:
    """Returns what a line of such a list may name: all of it, with or without an ending, or its first word."""
    words = line.split()
    return [form.removesuffix(ending) for form in (line, words[0]) for ending in ("", Path(form).suffix)]


def _picture_of(relative: Path, by_name: dict[Path, Path]) -> Path | None:
    above = relative.parent.parent if relative.parent.name == "Annotations" else relative.parent
    for folder in PICTURE_FOLDERS:
        for ending in KIND.endings:
            for spelt in (ending, ending.upper()):
                picture = by_name.get(above / folder / f"{relative.stem}{spelt}")
                if picture is not None:
                    return picture
    return None


def _read(file: Path) -> tuple[list[Box], tuple[float, float] | None]:
    """Reads boxes and size; VOC counts pixels from 1, and x2 and y2 are still inside the box."""
    if file.stat().st_size > MOST_BYTES:
        raise ValueError(f"more than {MOST_BYTES:,} bytes")
    tree = ElementTree.fromstring(file.read_bytes())
    boxes = []
    for each in tree.iter("object"):
        corners = [each.findtext(f"bndbox/{name}", "") for name in ("xmin", "ymin", "xmax", "ymax")]
        moved = [_number(corners[0], 1), _number(corners[1], 1), *(_number(corner) for corner in corners[2:])]
        boxes.append(Box(each.findtext("name"), moved, each.findtext("difficult", "0").strip() == "1"))
    width, height = _number(tree.findtext("size/width", "")), _number(tree.findtext("size/height", ""))
    known = isinstance(width, float) and isinstance(height, float) and width > 1 and height > 1
    return boxes, (float(width), float(height)) if known else None


def _number(text: str, less: int = 0) -> float | str:
    try:
        return float(text) - less
    except ValueError:
        return text
