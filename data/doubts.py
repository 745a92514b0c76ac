"""Doubts about the data: folders that are probably not the classes, too few examples to learn from."""

import os
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path

from app.config import TrainConfig
from app.terminal import listed
from data.kinds import Kind, promised_kind
from data.sources import SPLIT_FOLDERS, Example, Source, natural_order

FEW_TRAIN_EXAMPLES = 5
"""Training examples of a class below which a network learns their accidental details."""


def doubt_layout(root: Path, examples: Sequence[Example], kind: Kind) -> str:
    """Says why the folders of `root` are probably not the intended classes, and what to do; '' if they seem to be.

    Paths of examples are `root/CLASS/example`, or deeper.
    """
    folders = Counter(example.path.parent for example in examples if example.path.suffix.lower() in kind.endings)
    inside: dict[str, Counter[str]] = defaultdict(Counter)
    """Number of examples by folder and subfolder; '' counts those directly in the folder."""
    for folder, count in folders.items():
        name, below, *_ = (*folder.relative_to(root).parts, "")
        inside[name][below] += count
    expected = f"--data must be a folder with one folder of {kind.nouns} per class; "
    if len(inside) == 1:
        common = Path(os.path.commonpath(folders))
        if len({folder.relative_to(common).parts[0] for folder in folders.keys() - {common}}) < 2:
            tables = sorted([*root.glob("*.json"), *root.glob("*.csv")], key=lambda path: natural_order(path.name))
            alone = f"{expected}'{root}' has the folder '{min(inside)}' alone"
            return f"{alone}, and a table beside it: --data {tables[0]}" if tables else ""
        return (
            f"{expected}'{root}' has the folder '{min(inside)}' alone, and the classes are further in. Name the folder "
            f"above them: --data {common}"
        )

    # Several collections of the same classes, such as originals/CLASS and resized/CLASS, or CLASS and pets/CLASS.
    counts = Counter(name for folder, below in inside.items() for name in {folder, *below} if name)
    shared = sorted((name for name, count in counts.items() if count > 1), key=natural_order)
    holders = sorted((name for name in inside if inside[name].keys() & set(shared) - {name}), key=natural_order)
    if sum(inside[name][""] for name in holders) > sum(inside[name][below] for name in holders for below in shared):
        return ""
    splits = [name for name in shared if name.lower() in SPLIT_FOLDERS]
    if "train" in (SPLIT_FOLDERS[name.lower()] for name in splits):
        return (
            f"A split must be above the classes, as in '{root / splits[-1] / holders[0]}'; there is "
            f"'{root / holders[0] / splits[-1]}'. Move the folders, or list the {kind.nouns} and their splits in a "
            ".csv file."
        )
    if len(shared) < 2:
        return ""
    return (
        f"{expected}in '{root}', {listed(holders)} have folders of the same names in them ({listed(shared)}). "
        f"Name one: --data {root / holders[0]} (or, if they are classes, move all folders into '{root / 'train'}')"
    )


def half_lost(source: Source, used: Iterable[Example], class_names: Sequence[str]) -> list[str]:
    """Returns the classes of which more than half of the examples of a source are not used.

    Files whose names promise another kind, such as notes beside pictures, do not count.
    """
    examples = (each for each in source.examples if promised_kind(each.path) in (None, source.kind))
    found, left = (Counter(label for each in those for label in each.labels) for those in (examples, used))
    return [name for name in class_names if 2 * left[name] < found[name]]


def find_cautions(kind: Kind, train_counts: dict[str, int], sizes: Sequence[int], config: TrainConfig) -> list[str]:
    """Warns, in sentences, of too few training examples per class and of sizes that are hardly usable.

    `sizes` are the argument of `Kind.cautions`.
    """
    found = kind.cautions(sizes, config)
    few = {name: count for name, count in train_counts.items() if count < FEW_TRAIN_EXAMPLES}
    if few:
        least = sorted(few, key=lambda name: (few[name], natural_order(name)))
        shown = listed([f"{name} ({few[name]:,})" for name in least])
        found.append(f"Fewer than {FEW_TRAIN_EXAMPLES} training {kind.nouns} are of {shown}: too few to learn from.")
    return found
