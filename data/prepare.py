"""From `--data` to arrays: find the pictures, decode each once, split them, turn labels into targets."""

import hashlib
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from app.config import Resize, SizedConfig, TrainConfig
from app.errors import UsageError, did_you_mean, unknown_choice
from app.terminal import counted, show_stage
from data.code_digest import code_digest
from data.doubts import check_class_names, find_cautions
from data.images.decode import read_size
from data.images.signature import compared_values
from data.near_duplicates import MOST_COMPARED, Groups, group_near_duplicates
from data.preflight import Preflight, SetAside, check_pictures, decoding
from data.sources import SPLITS, Picture, Source, Split, natural_order, printable
from data.splits import Splits, assign_splits, check_classes
from data.store import Store, Stored, open_store
from tasks.table import Task, choose_task

SIZES_PROBED = 200
"""Pictures whose headers tell how large the pictures of a source are."""
LABELS_SHOWN = 5
"""Labels that a message names."""


class ImageData(NamedTuple):
    """Everything a run knows about its pictures."""

    name: str
    root: Path
    class_names: tuple[str, ...]
    """In the order of the outputs; of two classes, the second is the positive one."""
    task: Task
    pictures: list[Picture]
    pixels: np.ndarray
    """uint8 (num_pictures, image_size, image_size, 3) in [0, 255]."""
    looks: np.ndarray
    """uint8 (num_pictures, SIGNATURE_SIDE, SIGNATURE_SIDE), by which look-alikes are found."""
    targets: np.ndarray
    """float32 (num_pictures, num_outputs): 0 or 1; for two classes one column, 1 for the second."""
    splits: dict[Split, np.ndarray]
    """Positions of the pictures of each split, int64, in order; empty where there is no such split."""
    quarantine: list[SetAside]
    duplicates: int
    """Files that are a byte-for-byte copy of another."""
    near_duplicates: int
    """Pictures that look like another, and are kept on its side where the data leaves the splits open."""
    split_warnings: list[str]
    """Look-alikes made a split other than it was asked for, or are on both sides of the data's own splits."""
    least_score: float
    """From which two of these pictures are taken to look the same."""
    groups: np.ndarray
    """int32 (num_pictures,): the same number for copies, and for pictures that look the same."""
    digests: list[str]
    """SHA-256 of each picture's file."""
    resize: Resize
    cautions: Sequence[str] = ()
    """Why hardly anything can be learnt from these pictures."""

    @property
    def positive(self) -> str | None:
        """Name of the positive class; None if there are not two classes."""
        return self.class_names[1] if self.task.two_classes else None

    def describe(self, positions: np.ndarray) -> dict[str, Any]:
        """Says what the pixels of some pictures were made from, as JSON has it."""
        digests = "".join(self.digests[position] for position in positions)
        return {
            "pictures": hashlib.sha256(digests.encode()).hexdigest(),
            "count": len(positions),
            **decoding(self.pixels.shape[1], self.resize),
        }

    def display_path(self, path: Path) -> str:
        """The path of a picture as tables show it: relative to the data's folder."""
        return printable((path.relative_to(self.root) if path.is_relative_to(self.root) else path).as_posix())


def typical_size(source: Source) -> int | None:
    """Returns the median of the shorter sides of the pictures, pixels, from the headers of some; None if none opens."""
    shorter = _shorter_sides(source)
    return int(np.median(shorter)) if shorter else None


def prepare_data(
    source: Source,
    config: TrainConfig,
    image_size: int,
    on_progress: Callable[[int], None] = lambda _: None,
) -> ImageData:
    """Decodes, splits and encodes the pictures of a source.

    Args:
        source: from `load_source`.
        config: for the fractions, the seed of the split, the positive class and the cache folder.
        image_size: height and width to keep, pixels.
        on_progress: called with the number of pictures decoded since the last call.

    Raises:
        UsageError: no picture can be read, a class has too few, or the classes are hardly those that are meant.
    """
    if source.doubt:
        raise UsageError(source.doubt)
    class_names = order_classes(source, config.positive)
    check_class_names(class_names)
    judged = _read(source, config, image_size, on_progress)
    splits = _assign(judged, config, source)
    set_aside = [*judged.preflight.quarantine, *splits.set_aside]
    check_classes(judged.preflight.pictures, splits.assigned, class_names, set_aside)
    task = choose_task(len(class_names), source.multi_label)
    data = _encode(source, config, judged, splits, class_names, task)
    counts = Counter(label for position in data.splits["train"] for label in data.pictures[position].labels)
    return data._replace(cautions=find_cautions(counts, _shorter_sides(source)))


def order_classes(source: Source, positive: str | None = None) -> tuple[str, ...]:
    """Returns the names of the classes in the order of the model's outputs; of two classes, the positive one is last.

    Args:
        source: from `load_source`.
        positive: name of the positive class; None for the one with fewer pictures, or the second of equals.

    Raises:
        UsageError: there is no such class, or there are not two classes of which a picture has one.
    """
    counts = Counter(label for picture in source.pictures for label in picture.labels)
    names = sorted(counts, key=natural_order)
    if len(names) != 2 or source.multi_label:
        if positive is not None:
            kind = "several labels per picture" if source.multi_label else counted(len(names), "class", "classes")
            raise UsageError(f"--positive needs two classes; '{source.name}' has {kind}. Leave it out.")
        return tuple(names)
    if positive is None:
        positive = names[0] if counts[names[0]] < counts[names[1]] else names[1]
    if positive not in names:
        raise unknown_choice("--positive", positive, names)
    return tuple(sorted(names, key=lambda name: name == positive))


def prepare_to_judge(
    source: Source,
    config: SizedConfig,
    class_names: tuple[str, ...],
    task: Task,
    *,
    split: bool,
    on_progress: Callable[[int], None] = lambda _: None,
) -> ImageData:
    """Decodes and encodes pictures for a model that is trained already, be it one picture of one of its classes.

    Args:
        source: from `load_source`; its labels must be among the model's, see `check_labels`.
        config: of the run, for the size and, where it is split, for the fractions and the seed of the split.
        class_names: those of the model, in its order.
        task: of the model.
        split: whether to split as `prepare_data` does; if not, all pictures are in test.
        on_progress: called with the number of pictures decoded since the last call.

    Raises:
        UsageError: no picture can be read, or they are too few to be split.
    """
    judged = _read(source, config, config.image_size, on_progress)
    if split:
        splits = _assign(judged, config, source)
    else:
        digests = judged.preflight.digests
        splits = Splits(["test"] * len(digests), len(digests) - len(set(digests)), 0, [], [])
    return _encode(source, config, judged, splits, class_names, task)


def check_labels(source: Source, class_names: Sequence[str], task: Task) -> None:
    """Makes sure that a model can be judged by the labels of a source.

    Args:
        source: from `load_source`.
        class_names: those of the model.
        task: of the model.

    Raises:
        UsageError: it has labels that the model does not know, or several per picture where the model gives one.
    """
    labels = {label for picture in source.pictures for label in picture.labels}
    unknown = sorted(labels - set(class_names), key=natural_order)
    if unknown:
        shown = ", ".join(f"'{name}'" for name in unknown[:LABELS_SHOWN]) + (", ..." if unknown[LABELS_SHOWN:] else "")
        raise UsageError(
            f"Labels must be among the model's classes, {', '.join(class_names)}; '{source.name}' has {shown}."
            f"{did_you_mean(unknown[0], class_names) or (f' {source.doubt}' if source.doubt else '')}"
        )
    if source.multi_label and not task.multi_label:
        raise UsageError(f"The model gives one label per picture; pictures of '{source.name}' have several or none.")


def _shorter_sides(source: Source) -> list[int]:
    """The shorter sides of some pictures, pixels, from the headers that open."""
    step = max(1, len(source.pictures) // SIZES_PROBED)
    sizes = [read_size(picture.path) for picture in source.pictures[::step]]
    return [min(size) for size in sizes if size is not None]


class _Judged(NamedTuple):
    """Pictures that were read and compared."""

    preflight: Preflight
    groups: Groups
    """Of all its pictures."""


def _read(source: Source, config: TrainConfig, image_size: int, on_progress: Callable[[int], None]) -> _Judged:
    store = open_store(config.cache_dir, config.cache_gb)
    arguments = store, config.cache_dir / "scratch", f"{source.name}, pictures", config.resume is None, on_progress
    preflight = check_pictures(source.pictures, image_size, config.resize, *arguments, within=source.within)
    if not preflight.pictures:
        first = preflight.quarantine[0]
        raise UsageError(
            f"None of the {len(source.pictures)} files of '{source.name}' is a readable picture; the first is "
            f"'{first.path}': {first.reason}."
        )
    return _Judged(preflight, _group(preflight, store, source.name))


def _group(preflight: Preflight, store: Store, name: str) -> Groups:
    """Finds the pictures that look the same, or takes from the store what was found before."""
    _, first, numbers = np.unique(preflight.digests, return_index=True, return_inverse=True)
    looks = preflight.looks[first]
    description = {"near_duplicates": _LOOK_ALIKES, "looks": hashlib.sha256(looks.data).hexdigest()}
    with store.locked([description]):
        stored = store.load(description)
        if stored is None:
            if len(looks) > MOST_COMPARED:
                show_stage("warning", f"more than {MOST_COMPARED:,} pictures: look-alikes are not looked for")
            found = group_near_duplicates(looks, compared_values)
            stored = Stored(found.numbers, 0.0, {"least_score": found.least_score})
            if store.make_room(found.numbers.nbytes):
                with store.writing(description, f"{name}, look-alikes", found.numbers.shape, np.int32) as writer:
                    writer.notes |= stored.notes
                    writer.append(found.numbers)
    return Groups(stored.values[numbers], stored.notes["least_score"])


_LOOK_ALIKES = code_digest(group_near_duplicates, compared_values)


def _encode(
    source: Source,
    config: TrainConfig,
    judged: _Judged,
    splits: Splits,
    class_names: tuple[str, ...],
    task: Task,
) -> ImageData:
    preflight, groups = judged
    assigned = np.array([split or "" for split in splits.assigned])
    return ImageData(
        name=source.name,
        root=source.root,
        class_names=class_names,
        task=task,
        pictures=preflight.pictures,
        pixels=preflight.pixels,
        looks=preflight.looks,
        targets=task.encode([picture.labels for picture in preflight.pictures], class_names),
        splits={split: np.flatnonzero(assigned == split) for split in SPLITS},
        quarantine=[SetAside(*item) for item in source.set_aside] + preflight.quarantine + splits.set_aside,
        duplicates=splits.duplicates,
        near_duplicates=splits.near_duplicates,
        split_warnings=splits.warnings,
        least_score=groups.least_score,
        groups=groups.numbers,
        digests=preflight.digests,
        resize=config.resize,
    )


def _assign(judged: _Judged, config: TrainConfig, source: Source) -> Splits:
    return assign_splits(
        judged.preflight.pictures,
        judged.preflight.digests,
        judged.groups.numbers.tolist(),
        val_fraction=config.val_fraction,
        test_fraction=config.test_fraction,
        seed=config.seed_of_split,
        multi_label=source.multi_label,
        given_splits={picture.split for picture in source.pictures},
    )
