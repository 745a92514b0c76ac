"""Splits examples: train to learn from, val to choose by, test to measure on.

The splits are seeded and stratified by class. Copies of a file and examples that look the same stay on one side; else
the test would measure memory. The split of an example depends only on its content and its look-alikes, so adding a file
without look-alikes moves only the few examples at the borders of its class.
"""

import hashlib
import itertools
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import NamedTuple, TypeAlias

import numpy as np

from app.errors import UsageError
from app.terminal import common_reasons
from data.kinds import Kind
from data.near_duplicates import merged
from data.preflight import SetAside
from data.sources import SPLITS, Example, Split

Unit: TypeAlias = list[str]
"""Digests of the examples that look the same."""


class Splits(NamedTuple):
    """The split of every example, and the copies set aside."""

    assigned: list[Split | None]
    """Split of each example, in order; None for a copy that is set aside."""
    duplicates: int
    """Number of files that are a byte-for-byte copy of an earlier one."""
    near_duplicates: int
    """Number of examples, without copies, that look like another and stay on its side of carved splits."""
    set_aside: list[SetAside]
    """Copies on both sides of the data's own splits, with the reason."""
    warnings: list[str]
    """Sentences about look-alikes that changed the size of a split, or are on both sides of the data's own splits."""


def assign_splits(
    kind: Kind,
    examples: Sequence[Example],
    digests: Sequence[str],
    looks: Sequence[int],
    *,
    val_fraction: float,
    test_fraction: float,
    seed: int,
    multi_label: bool = False,
    given_splits: Collection[Split | None] = (),
) -> Splits:
    """Assigns every example to train, val or test.

    The data's own splits are kept. Missing splits are carved from its training examples (from all, if it has no
    splits): the given fraction of each class, rounded, and at least one.

    Args:
        kind: kind of the examples.
        examples: the readable examples.
        digests: SHA-256 of each example.
        looks: number of the look-alike group of each example; copies share a group.
        val_fraction: share of the examples for val, if the data has no val; 0 for no val.
        test_fraction: share of the examples for test, if the data has no test; 0 for no test.
        seed: another seed gives other splits.
        multi_label: whether an example may have several labels.
        given_splits: the data's own splits, with or without readable examples.

    Raises:
        UsageError: a class has too few examples for the splits, or a split of the data has no readable example.
    """
    given = {split for split in (*given_splits, *(example.split for example in examples)) if split is not None}
    fractions: dict[Split, float] = {"test": test_fraction, "val": val_fraction}
    fractions = {split: share for split, share in fractions.items() if split not in given and share > 0}
    copies: dict[str, list[int]] = defaultdict(list)
    for index, digest in enumerate(digests):
        copies[digest].append(index)

    assigned: list[Split | None] = [None] * len(examples)
    set_aside: list[SetAside] = []
    units: dict[int, Unit] = defaultdict(list)
    for digest, members in copies.items():
        keeper, rejected = _place_copies(kind, examples, members)
        set_aside += [SetAside(examples[index].path, reason) for index, reason in rejected.items()]
        for index in members:
            if index not in rejected:
                assigned[index] = keeper or "train"
        if keeper is None and not rejected:
            units[looks[members[0]]].append(digest)

    labels = {digest: examples[members[0]].labels for digest, members in copies.items()}
    fewest = len(fractions) + 1 if multi_label else 0
    in_groups = [(example.group, example.labels[:1]) for example in examples if example.group]
    strata = _joined(_strata(units.values(), labels, fewest), in_groups)
    grouped = {digest for digest, example in zip(digests, examples, strict=True) if example.group}
    carved, warnings = _carve(kind, strata, fractions, seed, grouped)
    for digest, split in carved.items():
        for index in copies[digest]:
            assigned[index] = split

    for split in sorted(given | set(fractions)):
        if split not in assigned:
            raise UsageError(f"The {split} split of the data has no readable {kind.nouns}.{_reasons(set_aside)}")
    alike = [unit for unit in units.values() if len(unit) > 1 and len({carved[digest] for digest in unit}) == 1]
    near_duplicates = sum(map(len, alike)) if fractions else 0
    warnings += _warn_of_given(kind, assigned, looks, given, bool(grouped))
    return Splits(assigned, len(examples) - len(copies), near_duplicates, set_aside, warnings)


def check_classes(
    kind: Kind,
    examples: Sequence[Example],
    splits: Mapping[Split, Iterable[int]],
    classes: Sequence[str],
    set_aside: Sequence[SetAside],
    least: int = 2,
) -> None:
    """Raises a UsageError if a class has no training examples, or if there are fewer than `least` classes.

    `splits` has positions of readable examples; the message ends with the reasons why files were set aside.
    """
    if len(classes) < least:
        raise UsageError(
            f"A classifier needs at least two classes; the data has {len(classes)}"
            f"{f' ({classes[0]})' if classes else ''}. Add a folder or a label for each class."
        )
    found = {split: {label for index in splits[split] for label in examples[index].labels} for split in SPLITS}
    for name in classes:
        if name not in found["train"]:
            where = " and ".join(split for split in SPLITS if name in found[split])
            raise UsageError(
                f"Every class needs readable {kind.nouns} to train on; '{name}' has {kind.nouns} "
                f"{f'only in {where}' if where else 'in no split'}.{_reasons(set_aside)}"
            )


def _warn_of_given(
    kind: Kind, assigned: Sequence[Split | None], looks: Sequence[int], given: Collection[Split], grouped: bool
) -> list[str]:
    """Makes sentences about examples of the data's own val and test that look like a training example, or are in its
    group if the data has groups."""
    in_train = {look for look, split in zip(looks, assigned, strict=True) if split == "train"}
    counts = Counter(split for look, split in zip(looks, assigned, strict=True) if split in given and look in in_train)
    looks_like, look_like = f"looks like a training {kind.noun}", f"look like a training {kind.noun}"
    if grouped:
        looks_like, look_like = f"{looks_like} or is in its group", f"{look_like} or are in its group"
    return [
        f"{counts[split]:,} {split} "
        f"{f'{kind.noun} {looks_like}' if counts[split] == 1 else f'{kind.nouns} {look_like}'}; the splits are the "
        f"data's own and stay as they are, so {split} may show better figures than new {kind.nouns} would"
        for split in ("val", "test")
        if counts[split]
    ]


def _reasons(set_aside: Sequence[SetAside]) -> str:
    """Returns the end of an error message: why files are set aside."""
    if not set_aside:
        return ""
    return f" Set aside: {common_reasons(item.reason for item in set_aside)}. Repair or remove these files."


def _place_copies(kind: Kind, examples: Sequence[Example], members: list[int]) -> tuple[Split | None, dict[int, str]]:
    """Decides which copies of one file to use.

    Returns:
        The evaluation split that keeps the file (training copies would be leaks) or None; and positions and reasons
        of the copies to set aside.
    """
    if len({examples[index].labels for index in members}) > 1:
        names = ", ".join(sorted({label for index in members for label in examples[index].labels}))
        return None, dict.fromkeys(members, f"copies of one {kind.noun} have different labels: {names}")
    for split in ("test", "val"):
        kept = [index for index in members if examples[index].split == split]
        if kept:
            reason = f"a copy of {examples[kept[0]].path.name}, which is in the {split} split"
            return split, {index: reason for index in members if index not in kept}
    return None, {}


def _strata(units: Collection[Unit], labels: Mapping[str, tuple[str, ...]], fewest: int) -> dict[str, list[Unit]]:
    """Groups units by class; in a multi-label task by their rarest label, which is hardest to spread evenly.

    Strata with fewer than `fewest` units are joined: other examples have their labels too.
    """
    frequency = Counter(label for unit in units for digest in unit for label in labels[digest])
    strata: dict[str, list[Unit]] = defaultdict(list)
    for unit in units:
        of_unit = {label for digest in unit for label in labels[digest]}
        strata[min(of_unit, key=lambda label: (frequency[label], label), default="")].append(unit)
    small = [name for name, members in strata.items() if sum(map(len, members)) < fewest]
    joined = [unit for name in small for unit in strata.pop(name)]
    if joined and sum(map(len, joined)) < fewest and strata:
        strata[max(strata, key=lambda name: len(strata[name]))] += joined
    elif joined:
        strata["rare labels"] = joined
    return strata


def _carve(
    kind: Kind,
    strata: Mapping[str, Sequence[Unit]],
    fractions: Mapping[Split, float],
    seed: int,
    grouped: Collection[str],
) -> tuple[dict[str, Split], list[str]]:
    """Deals every class to the splits that are lacking; see `assign_splits`. Digests that are grouped stay together.

    Returns:
        The split of each digest, and sentences about classes that are not split as asked for.
    """
    carved: dict[str, Split] = {}
    warnings: list[str] = []
    need = f"{' and '.join(['train', *fractions])} need at least one each"
    flags = " or ".join(f"--{split}-fraction 0" for split in fractions)
    for class_name, stratum in strata.items():
        count = sum(map(len, stratum))
        sizes = {split: max(1, round(share * count)) for split, share in fractions.items()}
        if count <= sum(sizes.values()):
            raise UsageError(
                f"The class '{class_name}' has too few readable {kind.nouns}: {count}, not counting copies, where "
                f"{need}. Add {kind.nouns}, remove the class, or set {flags}."
            )
        keep_whole = any(digest in grouped for unit in stratum for digest in unit)
        if keep_whole and len(stratum) <= len(sizes):
            raise UsageError(
                f"Groups of {kind.nouns} stay on one side of a split, and '{class_name}' is in {len(stratum)} of them, "
                f"where {need}. Set {flags}."
            )
        dealt, problem = _deal(stratum, sizes, seed, keep_whole)
        carved |= dealt
        warnings += [f"so many {kind.nouns} of '{class_name}' look the same that {problem}"] if problem else []
    return carved, warnings


def _joined(strata: dict[str, list[Unit]], in_groups: Iterable[tuple[str, tuple[str, ...]]]) -> dict[str, list[Unit]]:
    """Joins the strata of classes that share a group of the data, such as the words of one speaker."""
    numbers = {name: number for number, name in enumerate(strata)}
    first_of_group: dict[str, int] = {}
    pairs = [
        (first_of_group.setdefault(group, numbers[name]), numbers[name])
        for group, labels in in_groups
        for name in labels
        if name in numbers
    ]
    joined = merged(np.arange(len(strata)), *np.array(pairs, int).reshape(-1, 2).T).tolist()
    first_name: dict[int, str] = {}
    together: dict[str, list[Unit]] = defaultdict(list)
    for (name, units), number in zip(strata.items(), joined, strict=True):
        together[first_name.setdefault(number, name)] += units
    return together


def _deal(
    units: Sequence[Unit], sizes: dict[Split, int], seed: int, keep_whole: bool = False
) -> tuple[dict[str, Split], str]:
    """Deals the units of a class to splits; returns the problem too, if sizes could not be kept, or ''.

    In the order of their hashes, the first units are test, the next val, the rest train; at a border, the middle
    of a unit decides. A unit larger than a split goes to train.
    """

    def place(unit: Unit) -> bytes:
        return min(hashlib.sha256(f"{seed}:{digest}".encode()).digest() for digest in unit)

    most, problem = min(sizes.values(), default=0), ""
    small, large = [unit for unit in units if len(unit) <= most], [unit for unit in units if len(unit) > most]
    room, wanted = sum(map(len, small)), sum(sizes.values())
    if room < len(sizes) and keep_whole:  # all groups are larger than a split: one for each
        typical = sorted(map(len, units))[len(units) // 2]
        ordered = sorted(units, key=lambda unit: (len(unit) > typical, place(unit)))
        whole: dict[str, Split] = dict.fromkeys((digest for unit in units for digest in unit), "train")
        for chosen, unit in zip(sizes, ordered, strict=False):
            whole.update(dict.fromkeys(unit, chosen))
        return whole, ""
    if room < len(sizes):
        problem = "some are on both sides of the split"
        small, large = small + [[digest] for unit in large for digest in unit], []
    elif large and room < wanted:
        problem = "val and test get fewer than they should"
        sizes = {split: max(1, size * room // wanted) for split, size in sizes.items()}

    dealt: dict[str, Split] = dict.fromkeys((digest for unit in large for digest in unit), "train")
    borders = list(itertools.accumulate(sizes.values()))
    before = 0
    for unit in sorted(small, key=place):
        middle = before + len(unit) / 2
        split: Split = next((split for split, border in zip(sizes, borders, strict=True) if middle <= border), "train")
        dealt.update(dict.fromkeys(unit, split))
        before += len(unit)
    return dealt, problem
