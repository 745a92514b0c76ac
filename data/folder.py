"""Pictures in a folder: `root/CLASS/picture`, or `root/{train,val,test}/CLASS/picture`."""

import os
from pathlib import Path

from config import UsageError
from data.sources import Picture, Source, Split, natural_order, printable

SPLIT_FOLDERS: dict[str, Split] = {
    "train": "train",
    "training": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "test": "test",
    "testing": "test",
}
LEFTOVERS = {"__macosx", "thumbs.db", "desktop.ini", "@eadir"}
"""What file managers and archives leave behind, in lower case."""


def accepts(data: str) -> bool:
    """Says whether `--data` names a folder."""
    return bool(data) and Path(data).is_dir()


def load(data: str, cache_dir: Path) -> Source:
    """Finds every file below the class folders; whether it is a picture is found out by decoding it.

    Args:
        data: the value of `--data`.
        cache_dir: not used: the files stay where they are.

    Raises:
        UsageError: there are no class folders, or a class has no files.
    """
    root = Path(data)
    folders = _subfolders(root)
    splits = {folder: SPLIT_FOLDERS[folder.name.lower()] for folder in folders if folder.name.lower() in SPLIT_FOLDERS}
    has_train = "train" in splits.values()
    if has_train or (splits and len(splits) == len(folders)):
        _check_split_folders(root, folders, list(splits), has_train)
        pictures = [picture for folder, split in splits.items() for picture in _load_classes(folder, split)]
    else:
        pictures = _load_classes(root, None)
    return Source(name=root.resolve().name, root=root, pictures=pictures)


def files_below(folder: Path) -> list[Path]:
    """Every file in a folder and the folders in it, pictures or not, in order; without leftovers."""
    files = []
    for parent, subfolders, names in os.walk(folder, onerror=_raise):
        subfolders[:] = [name for name in subfolders if not is_leftover(name)]
        files += [Path(parent, name) for name in names if not is_leftover(name)]
    return sorted(files, key=lambda path: natural_order(str(path)))


def is_leftover(name: str) -> bool:
    """Says whether a file or folder of this name was left behind, such as '.DS_Store'."""
    return name.startswith(".") or name.lower() in LEFTOVERS


def _load_classes(root: Path, split: Split | None) -> list[Picture]:
    folders = _subfolders(root)
    if not folders:
        raise UsageError(
            f"--data must be a folder with one folder of pictures per class; '{root}' has no folder in it."
        )
    pictures = []
    for folder in folders:
        files = files_below(folder)
        if not files:
            raise UsageError(f"Every class needs pictures; the folder '{folder}' is empty. Fill it or remove it.")
        pictures += [Picture(path, (printable(folder.name),), split) for path in files]
    return pictures


def _check_split_folders(root: Path, folders: list[Path], split_folders: list[Path], has_train: bool) -> None:
    names = ", ".join(folder.name for folder in split_folders)
    others = ", ".join(folder.name for folder in folders if folder not in split_folders)
    if not has_train:
        raise UsageError(f"--data needs a folder train/ beside {names}; '{root}' has none.")
    if others:
        raise UsageError(
            f"--data must hold either class folders or train/, val/ and test/; '{root}' mixes {names} with {others}. "
            f"If {names} is meant as a class, list the pictures in a .csv file."
        )


def _subfolders(root: Path) -> list[Path]:
    found = [Path(entry.path) for entry in os.scandir(root) if entry.is_dir() and not is_leftover(entry.name)]
    return sorted(found, key=lambda path: natural_order(path.name))


def _raise(error: OSError) -> None:
    raise error
