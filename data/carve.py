"""Carves val and test out of training examples: seeded, by class, whole units at a time; see `data.splits`."""

from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from app.errors import UsageError
from app.terminal import listed
from data.deal import Unit, deal, far_off, place, told
from data.kinds import Kind
from data.near_duplicates import merged
from data.sources import Split

FEW = 5
"""Numbers of examples of a class below this are uneven by chance, of which no warning is given."""
CLASSES_TOLD = 3
"""Most classes of which a warning is given one by one."""


class Bonds(NamedTuple):
    """Examples that belong together whatever they look like."""

    grouped: Collection[str]
    """Digests of examples in a group of the data; these groups are never divided."""
    overlapping: Collection[str]
    """Digests of overlapping parts of recordings; they stay together if there are enough recordings for all splits."""
    pairs: Sequence[tuple[str | int, tuple[str, ...]]]
    """Groups, by name or number, and the classes in them."""


def carve(
    kind: Kind,
    units: Collection[Unit],
    labels: Mapping[str, tuple[str, ...]],
    fractions: Mapping[Split, float],
    seed: int,
    bonds: Bonds,
    multi_label: bool,
) -> tuple[dict[str, Split], list[str]]:
    """Deals units to train and the lacking splits; see `data.splits.assign_splits`.

    Args:
        kind: kind of the examples.
        units: the examples, by digest.
        labels: labels of each digest.
        fractions: share of each lacking split.
        seed: another seed gives other splits.
        bonds: examples that belong together.
        multi_label: whether an example may have several labels.

    Returns:
        The split of each digest, and sentences about classes that are not split as asked for.

    Raises:
        UsageError: classes have too few examples, or are in too few groups.
    """
    strata = _joined(_strata(units, labels, len(fractions) + 1 if multi_label else 0), bonds.pairs)
    sizes = {name: _sizes(stratum, fractions) for name, stratum in strata.items()}
    _check_enough(kind, strata, sizes, fractions)
    carved: dict[str, Split] = {}
    warnings: list[str] = []
    for name, stratum in strata.items():
        digests = {digest for unit in stratum for digest in unit}
        has_groups, has_parts = (not digests.isdisjoint(held) for held in (bonds.grouped, bonds.overlapping))
        if has_groups and len(stratum) <= len(fractions):
            ways = _ways_out(len(stratum), dict.fromkeys(fractions, 1), fractions)
            raise UsageError(
                f"Groups of {kind.nouns} stay on one side of a split, and '{name}' is in {len(stratum)} of them, where "
                f"{_need(fractions)}. Set {ways}."
            )
        keep_whole = has_groups or (has_parts and len(stratum) > len(fractions))
        dealt, problem = deal(stratum, sizes[name], seed, keep_whole)
        carved |= dealt
        cause = f"groups of '{name}' are so uneven" if keep_whole else f"so many {kind.nouns} of '{name}' look the same"
        if has_parts and not keep_whole:
            cause, problem = f"{cause} or overlap", problem and f"{problem} (--group-by path never divides a recording)"
        warnings += [f"{cause} that {problem}"] if problem else []
    is_bound = bool(bonds.grouped or bonds.overlapping)
    to_cover: list[Split] = ["train", *(fractions if is_bound else ())]
    if not _covers(labels, carved, to_cover):
        carved = _cover(units, labels, carved, seed, to_cover)
    if bonds.grouped and not warnings:
        warnings = _uneven_classes(labels, carved, fractions)
    return carved, warnings


def _uneven_classes(
    labels: Mapping[str, tuple[str, ...]], carved: Mapping[str, Split], fractions: Mapping[Split, float]
) -> list[str]:
    """Says of which classes a split has less than half or more than twice of its share, though its size is right."""
    counts = Counter((split, label) for digest, split in carved.items() for label in labels[digest])
    totals = Counter(label for digest in carved for label in labels[digest])
    warnings = []
    for label, total in totals.items():
        wanted = {split: max(1, round(share * total)) for split, share in fractions.items()}
        got = {split: counts[split, label] for split in fractions}
        if any(far_off(got[split], size) and max(got[split], size) >= FEW for split, size in wanted.items()):
            uneven = f"groups of '{label}' are so uneven that {told(got, wanted)}"
            warnings.append(f"{uneven}; another --split-seed divides them otherwise")
    if len(warnings) > CLASSES_TOLD:
        warnings[CLASSES_TOLD:] = [f"the same holds for {len(warnings) - CLASSES_TOLD:,} more classes"]
    return warnings


def _sizes(stratum: Sequence[Unit], fractions: Mapping[Split, float]) -> dict[Split, int]:
    count = sum(map(len, stratum))
    return {split: max(1, round(share * count)) for split, share in fractions.items()}


def _need(fractions: Collection[Split]) -> str:
    return f"{' and '.join(['train', *fractions])} need at least one each"


def _ways_out(count: int, sizes: Mapping[Split, int], fractions: Collection[Split]) -> str:
    """Names the flags that leave enough for the other splits: one of them if that is enough, else all."""
    enough = [split for split in fractions if count > sum(sizes.values()) - sizes[split]]
    return (" or " if enough else " and ").join(f"--{split}-fraction 0" for split in enough or fractions)


def _check_enough(
    kind: Kind,
    strata: Mapping[str, Sequence[Unit]],
    sizes: Mapping[str, Mapping[Split, int]],
    fractions: Collection[Split],
) -> None:
    """Raises a UsageError that names all classes with too few examples for the splits."""
    counts = {name: sum(map(len, stratum)) for name, stratum in strata.items()}
    small = [name for name, count in counts.items() if count <= sum(sizes[name].values())]
    if not small:
        return
    least = min(small, key=lambda name: counts[name])
    few, most = counts[least], max(counts[name] for name in small)
    found = f"{few}" if few == most else f"{few} to {most}"
    classes = f"class '{least}' has" if len(small) == 1 else f"classes {listed(small)} have"
    raise UsageError(
        f"The {classes} too few readable {kind.nouns}: {found}, not counting copies, where {_need(fractions)}. Add "
        f"{kind.nouns}, remove the {'class' if len(small) == 1 else 'classes'}, or set "
        f"{_ways_out(few, sizes[least], fractions)}."
    )


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


def _joined(
    strata: dict[str, list[Unit]], in_groups: Iterable[tuple[str | int, tuple[str, ...]]]
) -> dict[str, list[Unit]]:
    """Joins the strata of classes that share a group of the data, such as the words of one speaker."""
    numbers = {name: number for number, name in enumerate(strata)}
    first_of_group: dict[str | int, int] = {}
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


def _covers(labels: Mapping[str, tuple[str, ...]], carved: Mapping[str, Split], splits: Collection[Split]) -> bool:
    """Says whether every label is in each of `splits`."""
    found: dict[Split, set[str]] = defaultdict(set)
    for digest, split in carved.items():
        found[split].update(labels[digest])
    everything = set().union(*found.values())
    return all(found[split] == everything for split in splits)


def _cover(
    units: Iterable[Unit],
    labels: Mapping[str, tuple[str, ...]],
    carved: Mapping[str, Split],
    seed: int,
    splits: Sequence[Split],
) -> dict[str, Split]:
    """Moves units so that every label is in each of `splits`, the first of which matter most, if it has enough units.

    For each unit moved, the split gives one back whose labels it has twice, if there is such.
    """
    pieces = sorted((piece for unit in units for piece in _pieces(unit, carved)), key=lambda unit: place(unit, seed))
    found = [{label for digest in piece for label in labels[digest]} for piece in pieces]
    where = [carved[piece[0]] for piece in pieces]
    counts = Counter((split, label) for split, of_piece in zip(where, found, strict=True) for label in of_piece)
    numbers = Counter(where)
    holders: dict[str, list[int]] = defaultdict(list)
    for index, of_piece in enumerate(found):
        for label in of_piece:
            holders[label].append(index)

    def move(index: int, split: Split) -> Split:
        source, where[index] = where[index], split
        numbers.subtract([source])
        numbers.update([split])
        counts.subtract((source, label) for label in found[index])
        counts.update((split, label) for label in found[index])
        return source

    def is_spare(index: int) -> bool:
        return numbers[where[index]] > 1 and all(counts[where[index], label] > 1 for label in found[index])

    for rank, split in enumerate(splits):
        returned: Iterator[int] = iter(range(len(pieces)))
        for label in sorted(holders, key=lambda label: (len(holders[label]), label)):
            if counts[split, label]:
                continue
            others = [index for index in holders[label] if where[index] not in splits[:rank] or is_spare(index)]
            if not others:
                continue
            chosen = min(others, key=lambda index: (len(pieces[index]), index))
            source = move(chosen, split)
            largest = 2 * len(pieces[chosen])
            back = (i for i in returned if where[i] == split and len(pieces[i]) < largest and i != chosen)
            swapped = next((index for index in back if is_spare(index)), None)
            if swapped is not None:
                move(swapped, source)
            elif not numbers[source]:
                move(chosen, source)
        if rank == 0 and not all(counts[split, label] for label in holders):
            return dict(carved)  # some classes are too rare anyway
    return {digest: split for piece, split in zip(pieces, where, strict=True) for digest in piece}


def _pieces(unit: Unit, carved: Mapping[str, Split]) -> list[Unit]:
    """Returns a unit as it is, or its single examples if they are in several splits."""
    return [unit] if len({carved[digest] for digest in unit}) == 1 else [[digest] for digest in unit]
