"""Examples in a folder: `root/CLASS/file`, or `root/{train,val,test}/CLASS/file`."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from app.errors import UsageError
from data.doubts import doubt_layout
from data.kinds import kind_of, promised_kind
from data.sources import (
    LINK_OUT,
    SOURCES,
    SPLIT_FOLDERS,
    Example,
    Source,
    Split,
    is_within,
    natural_order,
    printable,
)

LEFTOVERS = {
    *("__macosx", "icon\r"),
    *("thumbs.db", "ehthumbs.db", "desktop.ini", "$recycle.bin", "system volume information"),
    "@eadir",
}
"""Names of files and folders that macOS, Windows and network drives leave behind, in lower case."""
NO_CLASS = "not in a folder of a class"
"""Reason for not using a file."""


def accepts(data: str) -> bool:
    """Says whether `--data` names a folder."""
    return bool(data) and Path(data).is_dir()


def load(data: str, cache_dir: Path, outside: bool = False) -> Source:
    """Finds every file below the class folders; reading decides later which are examples.

    Raises:
        UsageError: there are no class folders, or a class has no files.
    """
    root, doubt = Path(data), ""
    walk = _Walk(root, outside)
    folders = walk.subfolders(root)
    splits = {folder: SPLIT_FOLDERS[folder.name.lower()] for folder in folders if folder.name.lower() in SPLIT_FOLDERS}
    if "train" in splits.values() or (splits and len(splits) == len(folders)):
        _check_split_folders(root, splits, [folder for folder in folders if folder not in splits], walk)
        examples = [each for folder in splits for each in _load_classes(walk, folder, splits[folder])]
    else:
        examples = _load_classes(walk, root, None, folders)
        doubt = doubt_layout(root, examples, kind_of(example.path for example in examples))
    kind = kind_of(example.path for example in examples)
    walk.set_aside += [(path, NO_CLASS) for path in walk.loose if promised_kind(path) == kind]
    return Source(root.resolve().name, root, examples, kind, set_aside=walk.set_aside, doubt=doubt)


def check_outside(data: str, places: Mapping[str, Path]) -> None:
    """Makes sure that nothing is written into the folder of the examples: the next run would take it for a class.

    Raises:
        UsageError: one of the places (flag to path) is inside.
    """
    if data in SOURCES or not accepts(data):
        return
    for flag, place in places.items():
        if is_within(place, os.path.realpath(data)):
            raise UsageError(
                f"{flag} must be outside the folder of --data, which holds nothing but data; '{place}' is inside "
                f"'{data}'. Name another {flag}."
            )


def files_below(folder: Path, outside: bool) -> tuple[list[Path], list[tuple[Path, str]]]:
    """Finds every file below a folder except leftovers; follows links out of it if `outside`.

    Returns:
        The files, and the paths that are not used, with the reason.
    """
    walk = _Walk(folder, outside)
    return walk.files_below(folder), walk.set_aside


def is_leftover(name: str) -> bool:
    """Says whether a file or folder of this name was left behind, such as '.DS_Store'."""
    return name.startswith(".") or name.lower() in LEFTOVERS


class _Walk:
    """A walk through the folder of the data; it follows allowed links and enters no folder twice."""

    def __init__(self, root: Path, outside: bool):
        self.set_aside: list[tuple[Path, str]] = []
        """Files and folders that are not used, with the reason."""
        self.loose: list[Path] = []
        """Files beside folders of classes or splits."""
        self._root = os.path.realpath(root)
        self._outside = outside
        self._entered = {self._root}

    def subfolders(self, folder: Path) -> list[Path]:
        """Returns the subfolders of a folder, in order, and records the files beside them."""
        folders = []
        for entry in _entries(folder):
            if _is_folder(entry):
                folders += [Path(entry.path)] if self._enter(entry) else []
            elif self._is_used(entry):
                self.loose.append(Path(entry.path))
        return folders

    def files_below(self, folder: Path) -> list[Path]:
        """Returns every file in a folder and its subfolders, examples or not, in order."""
        files, waiting = [], [folder]
        while waiting:
            inner = []
            for entry in _entries(waiting.pop()):
                if not _is_folder(entry):
                    files += [Path(entry.path)] if self._is_used(entry) else []
                elif self._enter(entry):
                    inner.append(Path(entry.path))
            waiting += reversed(inner)
        return sorted(files, key=lambda path: natural_order(str(path)))

    def hint(self) -> str:
        """Returns the end of an error message: a link that was not followed, or ''."""
        found = next((path for path, reason in self.set_aside if reason == LINK_OUT), None)
        return f" '{found}' is {LINK_OUT}." if found else ""

    def _is_used(self, entry: os.DirEntry) -> bool:
        """Says whether to use a file, and records a link out of the folder; reading reports broken links."""
        if not entry.is_symlink() or self._outside or is_within(entry.path, self._root):
            return True
        if leads_out := os.path.exists(entry.path):
            self.set_aside.append((Path(entry.path), LINK_OUT))
        return not leads_out

    def _enter(self, entry: os.DirEntry) -> bool:
        """Says whether to enter a folder, and records it."""
        real = os.path.realpath(entry.path)
        reason = None
        if entry.is_symlink() and (real in self._entered or is_within(real, self._root)):
            reason = "a link to a folder of the same data"
        elif entry.is_symlink() and not self._outside:
            reason = LINK_OUT
        elif real in self._entered:
            reason = "a folder already reached by another link"
        if reason:
            self.set_aside.append((Path(entry.path), reason))
        self._entered.add(real)
        return reason is None


def _load_classes(walk: _Walk, root: Path, split: Split | None, folders: Sequence[Path] | None = None) -> list[Example]:
    folders = walk.subfolders(root) if folders is None else folders
    if not folders:
        nouns = kind_of(walk.loose if split else ()).nouns
        without = f" If its {nouns} have no labels, move it elsewhere: predict.py takes it." if split else ""
        raise UsageError(
            f"--data must be a folder with one folder of {nouns} per class; '{root}' has no folder in it."
            f"{walk.hint() or without}"
        )
    examples = []
    for folder in folders:
        set_aside = len(walk.set_aside)
        files = walk.files_below(folder)
        if not files:
            why = [f"has none: '{path}' is {reason}." for path, reason in walk.set_aside[set_aside:]]
            why.append("is empty. Fill it or remove it.")
            raise UsageError(f"Every class needs files; the folder '{folder}' {why[0]}")
        examples += [Example(path, (printable(folder.name),), split) for path in files]
    return examples


def _check_split_folders(root: Path, splits: Mapping[Path, Split], others: Sequence[Path], walk: _Walk) -> None:
    names = ", ".join(folder.name for folder in splits)
    if "train" not in splits.values():
        raise UsageError(f"--data needs a folder train/ beside {names}; '{root}' has none.{walk.hint()}")
    walk.set_aside += [(folder, "an empty folder") for folder in others if not _entries(folder)]
    if mixed := ", ".join(folder.name for folder in others if _entries(folder)):
        raise UsageError(
            f"--data must hold either class folders or train/, val/ and test/; '{root}' mixes {names} with {mixed}. "
            f"If {names} is meant as a class, list the files in a .csv file."
        )


def _entries(folder: Path) -> list[os.DirEntry]:
    """Returns the entries of a folder, in order, without leftovers."""
    with os.scandir(folder) as entries:
        return sorted((entry for entry in entries if not is_leftover(entry.name)), key=lambda e: natural_order(e.name))


def _is_folder(entry: os.DirEntry) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself, or to a place that may not be read
        return False
