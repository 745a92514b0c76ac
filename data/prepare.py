"""Turns a source into arrays: reads each example once, makes the splits, encodes labels as targets."""

import hashlib
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from app.config import TrainConfig
from app.decision import check_rule
from app.errors import UsageError
from app.terminal import show_stage
from cluster.pool import Pool
from data.arrays import Ragged, row_of
from data.boxes.targets import encode, frames
from data.code_digest import code_digest
from data.doubts import find_cautions, half_lost
from data.groups import join_groups
from data.kinds import Content, Kind, ManyInputs, Reader, Shown
from data.labels import check_class_names, order_classes
from data.near_duplicates import Groups, group_near_duplicates
from data.preflight import Preflight, SetAside, check_examples, reading
from data.sources import SPLITS, Example, Source, Split, printable
from data.splits import Splits, assign_splits, check_classes, missing_classes
from data.store import Store, Stored, open_store
from tasks.table import Task, choose_task, classes_of

SIZES_PROBED = 200
"""Number of examples that are measured to estimate the sizes of a source."""


class Data(NamedTuple):
    """Everything a run knows about its examples."""

    name: str
    root: Path
    class_names: tuple[str, ...]
    """Names of the classes, in the order of the outputs; of two classes, the second is the positive one."""
    task: Task
    kind: Kind
    reader: Reader
    """Reader of the examples."""
    examples: list[Example]
    inputs: ManyInputs
    """Tensors (num_examples, ...) of the reader."""
    signatures: np.ndarray
    """Signatures (num_examples, ...), by which look-alikes are found."""
    targets: np.ndarray
    """float32 (num_examples, ...), in the form of the task."""
    splits: dict[Split, np.ndarray]
    """Positions of the examples of each split, int64, in order; empty where there is no such split."""
    quarantine: list[SetAside]
    duplicates: int
    """Files that are a byte-for-byte copy of another."""
    near_duplicates: int
    """Number of examples that look like another and stay on its side, unless the data has its own splits."""
    split_warnings: list[str]
    """Sentences about look-alikes or groups that changed the size of a split, look-alikes on both sides of the data's
    own splits, and classes that val or test lacks."""
    least_score: float
    """Threshold: examples with a higher score count as look-alikes."""
    groups: np.ndarray
    """int32 (num_examples,): the same number for copies, look-alikes, and examples of one group of the source."""
    digests: list[str]
    """SHA-256 of each example's bytes."""
    cautions: Sequence[str] = ()
    """Warnings, in sentences, about too few examples of a class and about sizes that are hardly usable."""
    half_lost: Sequence[str] = ()
    """Classes of which more than half of the examples are set aside."""
    frames: np.ndarray | None = None
    """Place of each picture in the network's input, float64 (num_examples, 6), see `data.boxes.targets.frames`; None
    without boxes."""

    @property
    def positive(self) -> str | None:
        """Name of the positive class; None if there are not two classes."""
        return self.class_names[1] if self.task.two_classes else None

    def describe(self, positions: np.ndarray) -> dict[str, Any]:
        """Describes the bytes of some examples and how they are read, as a JSON value for keys of the store."""
        digests = "".join(self.digests[position] for position in positions)
        return {
            "examples": hashlib.sha256(digests.encode()).hexdigest(),
            "count": len(positions),
            **reading(self.reader),
        }

    def show(self, position: int, title: str) -> Shown:
        """Shows an example for pages and figures."""
        one = tuple(row_of(values, position) for values in self.inputs)
        return self.kind.show(one, self.examples[position].place, title)

    @property
    def contents(self) -> list[Content]:
        """Files or bytes of the examples."""
        return [example.place for example in self.examples]

    def display_path(self, path: Path) -> str:
        """Returns the path of an example as tables show it: relative to the data's folder."""
        return printable((path.relative_to(self.root) if path.is_relative_to(self.root) else path).as_posix())


def typical_size(source: Source) -> int | None:
    """Returns the median size of some examples, in the unit of their kind; None if it is unknown."""
    sizes = _some_sizes(source)
    return int(np.median(sizes)) if sizes else None


def useful_size(source: Source) -> int | None:
    """Returns the largest useful size of inputs for a source; None if the sizes of its examples are unknown."""
    typical = typical_size(source)
    return None if typical is None else source.kind.useful_size(typical)


def draw_part(source: Source, most: int | None, seed: int) -> Source:
    """Draws examples at random; keeps the shares of labels and of the source's own splits.

    Args:
        source: from `load_source`.
        most: examples to keep; None keeps all.
        seed: another seed draws others.

    Raises:
        UsageError: a class would have no examples left.
    """
    count = len(source.examples)
    if most is None or most >= count:
        return source
    strata = [(example.split or "", example.labels) for example in source.examples]
    mixed = np.random.default_rng(seed).permutation(count)
    ordered = sorted(mixed, key=lambda position: strata[position])
    # Every k-th example along the sorted strata: each stratum gives its share, rounded.
    kept = sorted(ordered[(2 * number + 1) * count // (2 * most)] for number in range(most))
    part = source._replace(examples=[source.examples[position] for position in kept])
    before, after = ({label for each in one.examples for label in each.labels} for one in (source, part))
    if before != after:
        raise UsageError(
            f"--max-pictures {most} leaves no {source.kind.noun} of the class '{min(before - after)}'. Raise it."
        )
    show_stage("data", f"{most:,} of {count:,} {source.kind.nouns}, drawn at random (--max-pictures)")
    return part


def prepare_data(
    source: Source,
    config: TrainConfig,
    on_progress: Callable[[int], None] = lambda _: None,
    pool: Pool | None = None,
) -> Data:
    """Reads, splits and encodes the examples of a source for training.

    Raises:
        UsageError: no example can be read, a class has too few, or the folders are probably not the classes.
    """
    if source.doubt:
        raise UsageError(source.doubt)
    class_names = order_classes(source, config.data.positive)
    check_class_names(source, class_names)
    check_rule(config.decision.rule, len(class_names), source.multi_label)
    task = choose_task(len(class_names), source.multi_label, source.has_boxes)
    reader = source.kind.reader(config, None)
    data = prepare_to_evaluate(
        source, config, reader, class_names, task, split=True, on_progress=on_progress, pool=pool
    )
    check_classes(source.kind, data.examples, data.splits, class_names, data.quarantine, task.least_classes)
    missing = missing_classes(source.kind, data.examples, data.splits, class_names)
    counts = Counter(label for position in data.splits["train"] for label in data.examples[position].labels)
    lengths = [tensor.lengths.tolist() for tensor in data.inputs if isinstance(tensor, Ragged)]
    sizes = lengths[0] if lengths else _some_sizes(source)
    cautions = find_cautions(source.kind, counts, sizes, config)
    cautions += source.kind.look_cautions(data.signatures, data.contents) if source.kind.look_cautions else []
    used = [data.examples[position] for positions in data.splits.values() for position in positions]
    lost = half_lost(source, used, class_names)
    return data._replace(split_warnings=data.split_warnings + missing, cautions=cautions, half_lost=lost)


def prepare_to_evaluate(
    source: Source,
    config: TrainConfig,
    reader: Reader,
    class_names: tuple[str, ...],
    task: Task,
    *,
    split: bool,
    on_progress: Callable[[int], None] = lambda _: None,
    pool: Pool | None = None,
) -> Data:
    """Reads and encodes examples for a trained model; a single example of one of its classes is enough.

    Args:
        source: from `load_source`; its labels must be among the model's, see `check_labels`.
        config: settings of the run: the cache and, with `split`, the fractions and the seed.
        reader: reader of the model.
        class_names: classes of the model, in its order.
        task: task of the model.
        split: whether to split as `prepare_data` does; otherwise all examples are in test.
        on_progress: called with the number of examples read since the last call.
        pool: workers that read; None for this process.

    Raises:
        UsageError: no example can be read, or there are too few to split.
    """
    store, kind = open_store(config.run.cache_dir, config.run.cache_gb), source.kind
    retry = config.run.resume is None
    read = check_examples(source, reader, store, config.run.cache_dir / "scratch", retry, on_progress, pool)
    if not read.examples:
        first = read.quarantine[0]
        raise UsageError(
            f"None of the {len(source.examples)} files of '{source.name}' is a readable {kind.noun}; the first is "
            f"'{first.path}': {first.reason}."
        )
    groups = _group(read, store, source)
    if split:
        splits = assign_splits(
            kind,
            read.examples,
            read.digests,
            groups.numbers.tolist(),
            val_fraction=config.data.val_fraction,
            test_fraction=config.data.test_fraction,
            seed=config.seed_of_split,
            multi_label=source.multi_label,
            given_splits={example.split for example in source.examples},
        )
    else:
        splits = Splits(["test"] * len(read.digests), len(read.digests) - len(set(read.digests)), 0, [], [])
    assigned = np.array([each or "" for each in splits.assigned])
    if config.data.folds is not None:
        assigned[assigned == "val"] = "train"
    places = _frames(read.examples, config) if source.has_boxes else None
    return Data(
        name=source.name,
        root=source.root,
        class_names=class_names,
        task=task,
        kind=kind,
        reader=reader,
        examples=read.examples,
        inputs=read.inputs,
        signatures=read.signatures,
        targets=_encode(read.examples, class_names, task, places),
        splits={each: np.flatnonzero(assigned == each) for each in SPLITS},
        quarantine=[SetAside(*item) for item in source.set_aside] + read.quarantine + splits.set_aside,
        duplicates=splits.duplicates,
        near_duplicates=splits.near_duplicates,
        split_warnings=splits.warnings,
        least_score=groups.least_score,
        groups=groups.numbers,
        digests=read.digests,
        frames=places,
    )


def _frames(examples: Sequence[Example], config: TrainConfig) -> np.ndarray:
    sizes = np.array([(0, 0) if example.boxes is None else example.boxes.size for example in examples])
    return frames(sizes, config.data.chosen_size, config.data.resize)


def _encode(
    examples: Sequence[Example], class_names: tuple[str, ...], task: Task, places: np.ndarray | None
) -> np.ndarray:
    """Turns labels or boxes into targets."""
    if places is not None:
        return encode(examples, class_names, places)
    return classes_of(task).encode([example.labels for example in examples], class_names)


def _some_sizes(source: Source) -> list[int]:
    """Returns the known sizes of a sample of the examples, in the unit of their kind."""
    step = max(1, len(source.examples) // SIZES_PROBED)
    sizes = [source.kind.size(example.place) for example in source.examples[::step]]
    return [size for size in sizes if size is not None]


def _group(read: Preflight, store: Store, source: Source) -> Groups:
    """Finds the examples that look the same, or takes the groups from the store."""
    kind = source.kind
    _, first, numbers = np.unique(read.digests, return_index=True, return_inverse=True)
    signatures = read.signatures[first]
    digest = hashlib.sha256(signatures.data).hexdigest()
    description = {"near_duplicates": [_CODE, kind.comparison], "signatures": digest}
    with store.locked([description]):
        stored = store.load(description)
        if stored is None:
            found = group_near_duplicates(signatures, kind.compared_values)
            stored = Stored(found.numbers, 0.0, {"least_score": found.least_score})
            if store.make_room(found.numbers.nbytes):
                title = f"{source.name}, look-alikes"
                with store.writing(description, title, found.numbers.shape, np.int32) as writer:
                    writer.notes |= stored.notes
                    writer.append(found.numbers)
    return Groups(join_groups(stored.values[numbers], read.examples), stored.notes["least_score"])


_CODE = code_digest(group_near_duplicates)
