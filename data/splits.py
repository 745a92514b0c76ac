"""Splits examples: train to learn from, val to choose by, test to measure on.

The splits are seeded and stratified by class. Copies of a file and examples that look the same stay on one side; else
the test would measure memory. The split of an example depends only on its content and its look-alikes, so adding a file
without look-alikes moves only the few examples at the borders of its class.
"""

from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import NamedTuple

from app.errors import UsageError
from app.terminal import common_reasons, listed
from data.carve import Bonds, carve
from data.deal import Unit
from data.groups import overlaps
from data.kinds import Kind
from data.preflight import SetAside
from data.sources import SPLITS, Example, Split


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
    bonds = _bonds(examples, digests, looks)
    carved, warnings = carve(kind, units.values(), labels, fractions, seed, bonds, multi_label)
    for digest, split in carved.items():
        for index in copies[digest]:
            assigned[index] = split

    for split in sorted(given | set(fractions)):
        if split not in assigned:
            raise UsageError(f"The {split} split of the data has no readable {kind.nouns}.{_reasons(set_aside)}")
    alike = [unit for unit in units.values() if len(unit) > 1 and len({carved[digest] for digest in unit}) == 1]
    near_duplicates = sum(map(len, alike)) if fractions else 0
    warnings += _warn_of_given(kind, assigned, looks, given, bonds)
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


def missing_classes(
    kind: Kind, examples: Sequence[Example], splits: Mapping[Split, Iterable[int]], classes: Sequence[str]
) -> list[str]:
    """Makes sentences about classes of which val or test has no example; arguments as of `check_classes`."""
    given, warnings = {example.split for example in examples}, []
    members = {split: [examples[index].labels for index in splits[split]] for split in SPLITS}
    counts = {split: Counter(label for labels in members[split] for label in labels) for split in SPLITS}
    for split in ("val", "test"):
        missing = [name for name in classes if not counts[split][name]]
        if missing and members[split]:
            are_few = all(sum(count[name] for count in counts.values()) < len(SPLITS) for name in missing)
            way_out = f"try another --split-seed or a larger --{split}-fraction"
            warnings.append(
                f"{split} has no {kind.noun} of {listed(missing)}, so its figures do not say how well that is "
                f"recognised: {f'add {kind.nouns}' if are_few or split in given else way_out}"
            )
    return warnings


def _bonds(examples: Sequence[Example], digests: Sequence[str], looks: Sequence[int]) -> Bonds:
    """Finds the examples that belong together by the data itself."""
    in_groups = [index for index, example in enumerate(examples) if example.group]
    in_parts = sorted({index for pair in overlaps(examples) for index in pair})
    return Bonds(
        {digests[index] for index in in_groups},
        {digests[index] for index in in_parts},
        [(examples[index].group, examples[index].labels[:1]) for index in in_groups]
        + [(looks[index], examples[index].labels[:1]) for index in in_parts],
    )


def _warn_of_given(
    kind: Kind, assigned: Sequence[Split | None], looks: Sequence[int], given: Collection[Split], bonds: Bonds
) -> list[str]:
    """Makes sentences about examples of the data's own val and test that look like a training example, overlap with
    one, or are in its group."""
    in_train = {look for look, split in zip(looks, assigned, strict=True) if split == "train"}
    counts = Counter(split for look, split in zip(looks, assigned, strict=True) if split in given and look in in_train)
    looks_like, look_like = f"looks like a training {kind.noun}", f"look like a training {kind.noun}"
    if bonds.overlapping:
        looks_like, look_like = f"{looks_like} or overlaps with one", f"{look_like} or overlap with one"
    if bonds.grouped:
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
        names = sorted({label for index in members for label in examples[index].labels})
        reason = f"copies of one {kind.noun} have different labels: {', '.join(names)}"
        if len({examples[index].path for index in members}) == 1:
            reason = f"one path on several lines with different labels, to be joined on one line as {'|'.join(names)}"
        return None, dict.fromkeys(members, reason)
    for split in ("test", "val"):
        kept = [index for index in members if examples[index].split == split]
        if kept:
            reason = f"a copy of {examples[kept[0]].path.name}, which is in the {split} split"
            return split, {index: reason for index in members if index not in kept}
    return None, {}
