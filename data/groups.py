"""Joins examples that belong together whatever they look like: groups of the data, overlapping parts of a recording."""

import os
from collections import defaultdict
from collections.abc import Sequence

import numpy as np

from data.kinds import Part
from data.near_duplicates import merged
from data.sources import Example


def join_groups(numbers: np.ndarray, examples: Sequence[Example]) -> np.ndarray:
    """Joins the groups of examples that share a group of the source, or seconds of a recording.

    Args:
        numbers: int (n,), the group of each example so far.
        examples: the n examples.
    """
    names = [example.group or index for index, example in enumerate(examples)]
    first: dict[str | int, int] = {}
    firsts = [first.setdefault(name, index) for index, name in enumerate(names)]
    joined = merged(numbers, np.array(firsts), np.arange(len(names)))
    pairs = overlaps(examples)
    return merged(joined, *np.array(pairs).T) if pairs else joined


def overlaps(examples: Sequence[Example]) -> list[tuple[int, int]]:
    """Finds parts of one file that share a moment; a whole file shares one with each of its parts.

    Returns:
        Pairs of positions that connect, directly or through others, all that overlap.
    """
    cut = {os.path.normpath(part.path) for example in examples if isinstance(part := example.content, Part)}
    spans: dict[str, list[tuple[float, float, int]]] = defaultdict(list)
    for index, example in enumerate(examples if cut else ()):
        if isinstance(part := example.content, Part):
            spans[os.path.normpath(part.path)].append((part.start, part.end, index))
        elif (path := os.path.normpath(example.path)) in cut:
            spans[path].append((0.0, float("inf"), index))
    pairs = []
    for of_file in spans.values():
        _, latest, holder = min(of_file)
        for start, end, index in sorted(of_file)[1:]:
            if start < latest:
                pairs.append((holder, index))
            if end > latest:
                latest, holder = end, index
    return pairs
