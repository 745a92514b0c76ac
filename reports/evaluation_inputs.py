"""Loads the examples for measuring a trained model: those of its run, or new ones. Nothing here needs TensorFlow."""

import functools
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from app.config import TrainConfig
from app.errors import UsageError
from app.terminal import common_reasons, counted, progress_bar, show_stage
from data.folder import check_outside
from data.labels import check_labels
from data.prepare import Data, draw_part, prepare_to_evaluate
from data.sources import SPLITS, Source, Split, has_columns, is_name, is_same, load_source, source_of
from inference.load import TrainedRun
from inference.run_record import are_copies

UNLIMITED_GB = 1e9
"""Limit of the cache, GB; a smaller one would delete entries of training."""
ALL = "all"
"""Name of the split if all examples are measured together."""


class EvaluationInputs(NamedTuple):
    """A run, and examples to measure it on."""

    run: TrainedRun
    data: Data
    """The examples; `splits` has only the measured ones."""
    splits: dict[Split, np.ndarray]
    """Splits of all examples, measured or not."""
    own: bool
    """True if the examples should be those of the run."""


def load_evaluation(
    run: TrainedRun,
    data: str | None,
    splits: Sequence[Split],
    cache_dir: Path,
    outside: bool = False,
    group_by: str | None = None,
) -> EvaluationInputs:
    """Finds, reads and splits the examples.

    Args:
        run: the run whose model is measured.
        data: new examples with labels; None for those of the run.
        splits: splits to measure; new examples are then split as by `train.py`. Empty for val and test of the run's own
            examples, or for all new examples together.
        cache_dir: folder for decoded examples and unpacked data sets.
        outside: whether new examples may be outside the folder of `data`; for examples of the run, its setting applies.
        group_by: column or pattern that defines groups of new examples; None for that of the run, where they have such.

    Raises:
        UsageError: the examples are missing, too few, or of classes that the model does not know.
    """
    check_outside(data or run.config.data.data, {"--cache-dir": cache_dir})
    config = run.config.replace(cache_dir=cache_dir, cache_gb=UNLIMITED_GB)
    if data is None:
        source = _own_source(run, config)
    else:
        config = config.replace(folds=None)
        source = _new_source(run, data, cache_dir, outside, group_by)
    source = source._replace(kind=run.kind)  # whatever its files are called
    check_labels(source, run.class_names, run.task)
    together = data is not None and not splits
    if not together and _has_splits(source, splits):
        config = config.replace(val_fraction=0.0, test_fraction=0.0)
    with progress_bar(source.kind.nouns, len(source.examples)) as advance:
        prepared = prepare_to_evaluate(
            source, config, run.reader, run.class_names, run.task, split=not together, on_progress=advance
        )
    found = {split: prepared.splits[split] for split in SPLITS}
    if together:
        found = {ALL: prepared.splits["test"]}  # type: ignore[dict-item]  # no split, and shown in the place of one
    chosen = {split: found[split] for split in (splits or found) if len(found[split]) and (splits or split != "train")}
    missing = [split for split in splits if split not in chosen] or ([] if chosen else ["val", "test"])
    if missing:
        raise UsageError(
            f"There are no {run.kind.nouns} in {' and '.join(missing)} of '{source.name}'. Name another --split, or "
            f"other {run.kind.nouns} with --data."
        )
    whole, prepared = prepared.splits, prepared._replace(splits=chosen)
    _show(prepared)
    known = are_copies(run.folder, [prepared.digests[row] for rows in chosen.values() for row in rows])
    if known is None and ("train" in chosen if data is None else is_same(data, run.config.data.data)):
        show_stage("warning", f"the model was trained on some of these {run.kind.nouns}: expect less on new ones")
    elif known and any(known):
        show_stage(
            "warning", f"the model was trained on {sum(known):,} of these {run.kind.nouns}: expect less on new ones"
        )
    return EvaluationInputs(run, prepared, whole, data is None)


def _new_source(run: TrainedRun, data: str, cache_dir: Path, outside: bool, group_by: str | None) -> Source:
    about = run.config.data
    column = about.text_column if has_columns(data) else None
    load = functools.partial(load_source, data, cache_dir, outside, run.kind.name, text_column=column)
    try:
        return load(group_by=group_by or about.group_by)
    except UsageError:
        if group_by is not None or about.group_by is None:
            raise
    source = load()  # raises if it is not the groups that are missing
    show_stage(
        "warning",
        f"these {run.kind.nouns} have no groups by --group-by {about.group_by}, as those of the run have: the "
        "intervals take each of them as independent",
    )
    return source


def _own_source(run: TrainedRun, config: TrainConfig) -> Source:
    if not is_name(config.data.data) and not Path(config.data.data).exists():
        raise UsageError(
            f"The {run.kind.nouns} of this run, '{config.data.data}', are not found; a relative path starts in the "
            f"folder where train.py was called: start this command there. --data names new ones."
        )
    source = source_of(config.data, config.run.cache_dir)
    return draw_part(source, config.data.max_pictures, config.seed_of_split)


def _has_splits(source: Source, splits: Sequence[Split]) -> bool:
    """Returns whether the source itself has all these splits; its train split may still be divided."""
    made = {example.split for example in source.examples} - {"train"}
    return bool(splits) and set(splits) <= made


def _show(data: Data) -> None:
    counts = ", ".join(f"{len(positions):,} {split}" for split, positions in data.splits.items())
    show_stage("data", f"{data.name}: {counts}")
    if data.duplicates:
        show_stage("", f"{counted(data.duplicates, 'copy', 'copies')} of other {data.kind.nouns}")
    if data.quarantine:
        show_stage("", f"{len(data.quarantine):,} set aside: {common_reasons(item.reason for item in data.quarantine)}")
