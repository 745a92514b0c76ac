"""Deals the examples of a class to train, val and test: look-alikes by their hashes, large groups also by size."""

import hashlib
import itertools
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TypeAlias

from data.sources import Split

Unit: TypeAlias = list[str]
"""Digests of the examples that stay together."""
FAR_OFF = 2.0
"""Factor between the wanted and the true size of a split from which groups are moved, or a warning is given."""


def deal(units: Sequence[Unit], sizes: dict[Split, int], seed: int, keep_whole: bool) -> tuple[dict[str, Split], str]:
    """Deals the units of a class to splits; returns the problem too, if sizes could not be kept, or ''.

    In the order of their hashes, the first units are test, the next val, the rest train; at a border, the middle
    of a unit decides. A unit larger than a split goes to train, unless it is a group to keep whole.
    """
    most, problem = min(sizes.values(), default=0), ""
    small, large = [unit for unit in units if len(unit) <= most], [unit for unit in units if len(unit) > most]
    room, wanted = sum(map(len, small)), sum(sizes.values())
    if room < wanted and keep_whole:
        return _deal_whole(units, sizes, seed)
    if room < len(sizes):
        problem = "some are on both sides of the split"
        small, large = small + [[digest] for unit in large for digest in unit], []
    elif large and room < wanted:
        problem = "val and test get fewer than they should"
        sizes = {split: max(1, size * room // wanted) for split, size in sizes.items()}

    dealt: dict[str, Split] = dict.fromkeys((digest for unit in large for digest in unit), "train")
    borders = list(itertools.accumulate(sizes.values()))
    before = 0
    for unit in sorted(small, key=lambda unit: place(unit, seed)):
        middle = before + len(unit) / 2
        split: Split = next((split for split, border in zip(sizes, borders, strict=True) if middle <= border), "train")
        dealt.update(dict.fromkeys(unit, split))
        before += len(unit)
    return dealt, problem


def place(unit: Unit, seed: int) -> bytes:
    """Returns the sort key of a unit: a random place that depends only on its content and the seed."""
    return min(hashlib.sha256(f"{seed}:{digest}".encode()).digest() for digest in unit)


def _deal_whole(units: Sequence[Unit], sizes: Mapping[Split, int], seed: int) -> tuple[dict[str, Split], str]:
    """Deals large groups, see `deal`: each split gets at least one.

    Each split takes groups in the order of their hashes, but the largest last; the middle of a group decides. If this
    leaves a split far from its size, groups are moved one by one.
    """
    typical = sorted(map(len, units))[len(units) // 2]
    ordered = sorted(units, key=lambda unit: (len(unit) > typical, place(unit, seed)))
    of_use = sum(len(unit) for unit in units if len(unit) <= 2 * max(sizes.values()))
    share = min(1.0, of_use / sum(sizes.values()))
    dealt: list[Split] = ["train"] * len(ordered)
    for later, (split, size) in zip(range(len(sizes), 0, -1), sizes.items(), strict=True):
        free = [index for index, each in enumerate(dealt) if each == "train"]
        total = 0
        for taken, index in enumerate(free[:-later]):  # each later split and train get one
            if taken == 0 and not any(len(ordered[each]) / 2 <= share * size for each in free[:-later]):
                dealt[index] = split
                break
            if total + len(ordered[index]) / 2 <= share * size:
                dealt[index] = split
                total += len(ordered[index])
    targets = {**sizes, "train": sum(map(len, units)) - sum(sizes.values())}
    _even_out([len(unit) for unit in ordered], dealt, targets)
    totals = _totals([len(unit) for unit in ordered], dealt)
    problem = told(totals, sizes) if any(far_off(totals[split], size) for split, size in sizes.items()) else ""
    return {digest: split for unit, split in zip(ordered, dealt, strict=True) for digest in unit}, problem


def told(totals: Mapping[Split, int], sizes: Mapping[Split, int]) -> str:
    """Tells the true and the wanted sizes of splits."""
    got = " and ".join(f"{split} gets {totals[split]:,}" for split in sizes)
    return f"{got}, where the fractions ask for {' and '.join(f'{size:,}' for size in sizes.values())}"


def far_off(total: int, target: int) -> bool:
    """Says whether a split is less than half of its wanted size, or more than twice."""
    return not target <= FAR_OFF * total <= FAR_OFF**2 * target


def _totals(lengths: Sequence[int], dealt: Sequence[Split]) -> Counter[Split]:
    totals: Counter[Split] = Counter()
    for length, split in zip(lengths, dealt, strict=True):
        totals[split] += length
    return totals


def _even_out(lengths: Sequence[int], dealt: list[Split], targets: Mapping[Split, int]) -> None:
    """Moves groups one by one, in place, while a split is far from its target and a move brings all splits nearer."""
    totals = _totals(lengths, dealt)

    def distance(moved: int = 0, source: Split = "train", split: Split = "train") -> float:
        after = totals + Counter({split: moved})
        after[source] -= moved
        return sum(abs(math.log(max(after[each], 0.1) / max(target, 1))) for each, target in targets.items())

    while any(far_off(totals[split], target) for split, target in targets.items()):
        alike: dict[tuple[int, Split], int] = {}
        for index, (length, split) in enumerate(zip(lengths, dealt, strict=True)):
            if totals[split] > length:
                alike.setdefault((length, split), index)
        moves = [
            (distance(length, source, split), index, split)
            for (length, source), index in alike.items()
            for split in targets
            if split != source
        ]
        best, index, split = min(moves, default=(math.inf, 0, "train"))
        if best >= distance() - 1e-9:
            return
        totals[dealt[index]] -= lengths[index]
        totals[split] += lengths[index]
        dealt[index] = split
