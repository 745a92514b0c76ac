"""Which pictures are learnt from, chosen by, and measured on.

The splits are seeded and stratified by class. Copies of one file stay on one side, or the test would be of memory. A
picture's place depends on its content alone, so adding a file moves at most one other over each border of its class.
"""

import hashlib
from collections import Counter, defaultdict
from collections.abc import Sequence
from typing import NamedTuple

from config import UsageError
from data.preflight import SetAside
from data.sources import SPLITS, Picture, Split


class Splits(NamedTuple):
    """The split of every picture, and the copies that could not be used."""

    assigned: list[Split | None]
    """One per picture, in order; None for a copy that another split already has."""
    duplicates: int
    """Files that are byte for byte a copy of an earlier one."""
    set_aside: list[SetAside]
    """Copies on both sides of splits that the data itself makes, with the reason."""


def assign_splits(
    pictures: Sequence[Picture],
    digests: Sequence[str],
    *,
    val_fraction: float,
    test_fraction: float,
    seed: int,
    multi_label: bool = False,
) -> Splits:
    """Assigns every picture to train, val or test.

    Splits that the data makes are kept. What it lacks is carved from its training pictures (or from all, if it makes
    none): of each class the given fraction, rounded, and at least one.

    Args:
        pictures: readable pictures.
        digests: SHA-256 of each.
        val_fraction: share of the pictures for val, where the data has none; 0 for no val.
        test_fraction: likewise for test.
        seed: another seed gives other splits.
        multi_label: whether a picture may have several labels.

    Raises:
        UsageError: a class has too few pictures for that; the message names it.
    """
    given = {picture.split for picture in pictures}
    groups: dict[str, list[int]] = defaultdict(list)
    for index, digest in enumerate(digests):
        groups[digest].append(index)

    assigned: list[Split | None] = [None] * len(pictures)
    set_aside: list[SetAside] = []
    to_carve: list[str] = []
    for digest, members in groups.items():
        claims = {pictures[index].split for index in members} - {None}
        # A copy in an evaluation split wins: the training copy would be a leak.
        keeper = next((split for split in ("test", "val") if split in claims), None)
        if keeper is None:
            to_carve.append(digest)
            continue
        original = next(index for index in members if pictures[index].split == keeper)
        for index in members:
            if pictures[index].split == keeper:
                assigned[index] = keeper
            else:
                reason = f"a copy of {pictures[original].path.name}, which is in the {keeper} split"
                set_aside.append(SetAside(pictures[index].path, reason))

    wanted = {"test": 0.0 if "test" in given else test_fraction, "val": 0.0 if "val" in given else val_fraction}
    for class_name, digests_of_class in _strata(pictures, groups, to_carve).items():
        order = sorted(digests_of_class, key=lambda digest: hashlib.sha256(f"{seed}:{digest}".encode()).digest())
        sizes = {split: max(1, round(fraction * len(order))) for split, fraction in wanted.items() if fraction > 0}
        if len(order) <= sum(sizes.values()):
            if not multi_label:
                raise _too_few(class_name, len(order), sizes)
            sizes = {}  # its label is in other strata too; `check_classes` has the last word
        taken = 0
        for split, size in [*sizes.items(), ("train", len(order))]:
            for digest in order[taken : taken + size]:
                for index in groups[digest]:
                    assigned[index] = split
            taken += size
    return Splits(assigned, len(pictures) - len(groups), set_aside)


def check_classes(pictures: Sequence[Picture], assigned: Sequence[Split | None], classes: Sequence[str]) -> None:
    """Makes sure that every class can be learnt, and that no class is only in val or test.

    Raises:
        UsageError: naming the class.
    """
    if len(classes) < 2:
        raise UsageError(
            f"A classifier needs at least two classes; the data has {len(classes)}"
            f"{f' ({classes[0]})' if classes else ''}. Add a folder or a label for each class."
        )
    counts: dict[Split, Counter] = {split: Counter() for split in SPLITS}
    for picture, split in zip(pictures, assigned, strict=True):
        if split is not None:
            counts[split].update(picture.labels)
    for name in classes:
        if not counts["train"][name]:
            elsewhere = [split for split in ("val", "test") if counts[split][name]]
            where = f"only in {' and '.join(elsewhere)}" if elsewhere else "in no split"
            raise UsageError(f"Every class needs readable pictures to train on; '{name}' has pictures {where}.")


def _strata(pictures: Sequence[Picture], groups: dict[str, list[int]], digests: Sequence[str]) -> dict[str, list[str]]:
    """Groups pictures by class; in a multi-label task by their rarest label, which is the hardest to spread evenly."""
    frequency = Counter(label for digest in digests for label in pictures[groups[digest][0]].labels)
    strata: dict[str, list[str]] = defaultdict(list)
    for digest in digests:
        labels = pictures[groups[digest][0]].labels
        strata[min(labels, key=lambda label: (frequency[label], label), default="")].append(digest)
    return strata


def _too_few(class_name: str, available: int, sizes: dict[Split, int]) -> UsageError:
    return UsageError(
        f"The class '{class_name}' has too few readable pictures: {available}, not counting copies, where "
        f"{' and '.join(['train', *sizes])} need at least one each. Add pictures, or set --val-fraction 0 or "
        f"--test-fraction 0."
    )
