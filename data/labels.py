"""Names of classes: their order, names that are too similar, and labels that a trained model does not know."""

import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Sequence
from decimal import Decimal

from app.errors import UsageError, did_you_mean, unknown_choice
from app.terminal import counted
from data.sources import Source, natural_order
from tasks.table import Task

LABELS_SHOWN = 5
"""Most labels that a message names."""


def order_classes(source: Source, positive: str | None = None) -> tuple[str, ...]:
    """Orders the names of the classes as the model's outputs; of two classes, the positive one is last.

    Without `positive`, it is the class with fewer examples, or the second of equals.

    Raises:
        UsageError: `positive` is no class, or the task is not to choose between two classes.
    """
    counts = Counter(label for example in source.examples for label in example.labels)
    names = sorted(counts, key=natural_order)
    if len(names) != 2 or source.multi_label:
        if positive is not None:
            several, number = f"several labels per {source.kind.noun}", counted(len(names), "class", "classes")
            found = several if source.multi_label else number
            raise UsageError(f"--positive needs two classes; '{source.name}' has {found}. Leave it out.")
        return tuple(names)
    if positive is None:
        positive = names[0] if counts[names[0]] < counts[names[1]] else names[1]
    if positive not in names:
        raise unknown_choice("--positive", positive, names)
    return tuple(sorted(names, key=lambda name: name == positive))


def check_class_names(source: Source, class_names: Iterable[str]) -> None:
    """Makes sure that no class has two spellings, such as 'Daisy' and 'daisy' or '1' and '1.0'; single letters may
    differ in case.

    Raises:
        UsageError: two names are too similar; the message has both.
    """
    seen: dict[str | Decimal, str] = {}
    for name in class_names:
        plain = " ".join(unicodedata.normalize("NFC", name).casefold().split())
        is_number = re.fullmatch(r"[+-]?\d+(\.\d*)?", plain, re.ASCII)
        other = seen.setdefault(Decimal(plain) if is_number else plain, name)
        if other != name and (len(plain) > 1 or is_number):
            counts = Counter(label for example in source.examples for label in example.labels)
            rarer = min(other, name, key=lambda each: counts[each])
            found = counted(counts[rarer], source.kind.noun, source.kind.nouns)
            differ = (
                "are the same number" if is_number else "differ only in capitals, blanks or how an accent is stored"
            )
            raise UsageError(
                f"The names of classes must be clearly different; '{other}' and '{name}' ('{rarer}' has {found}) "
                f"{differ}. Give both the same name, or rename one."
            )


def check_labels(source: Source, class_names: Sequence[str], task: Task) -> None:
    """Makes sure that the labels of a source can measure a model, given its classes and task.

    Raises:
        UsageError: the source has labels that the model does not know, or several per example for a single-label model.
    """
    labels = {label for example in source.examples for label in example.labels}
    if source.has_boxes != task.has_boxes:
        raise UsageError(
            f"The model finds boxes, and '{source.name}' has none to measure it by."
            if task.has_boxes
            else f"The model gives classes to whole pictures, and '{source.name}' has boxes in them."
        )
    unknown = sorted(labels - set(class_names), key=natural_order)
    if unknown:
        shown = ", ".join(f"'{name}'" for name in unknown[:LABELS_SHOWN]) + (", ..." if unknown[LABELS_SHOWN:] else "")
        hint = did_you_mean(unknown[0], class_names) or (source.doubt and f" {source.doubt}")
        raise UsageError(
            f"Labels must be among the model's classes, {', '.join(class_names)}; '{source.name}' has {shown}.{hint}"
        )
    if source.multi_label and not task.multi_label:
        nouns = f"{source.kind.noun}; {source.kind.nouns} of '{source.name}'"
        raise UsageError(f"The model gives one label per {nouns} have several or none.")
