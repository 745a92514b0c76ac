"""The part of a run that needs no TensorFlow: checks the settings, the examples and the output folder.

So a mistake is reported within a second or two, before any memory is allocated.
"""

import hashlib
import time
from collections import Counter
from typing import NamedTuple

import numpy as np

from app.config import TrainConfig
from app.custom_parts import custom_file, uses_custom
from app.decision import Rule, check_rule
from app.errors import UsageError
from app.fields import flag_of
from app.terminal import common_reasons, counted, listed, progress_bar, show_stage
from cluster.pool import Pool
from data.kinds import Part, check_vary, promised_kind
from data.prepare import Data, draw_part, prepare_data, useful_size
from data.sources import Split, source_of
from models.backbones import Backbone, check_fits, check_kind, find
from models.preset_folder import weight_files
from models.weights import check_available
from tasks.classification import Classification
from tasks.detection_metrics import check_pycocotools
from training.recipe import choose_size, with_backbone_of

UNEVEN = 10
"""Ratio of the largest class to the smallest, in training examples, that is worth a warning."""
FOR_CLASSES = (
    *("pooling", "head", "dropout", "loss", "class_weights", "folds", "positive"),
    *("sensitivity", "specificity", "precision_at_least", "cost", "threshold"),
)
"""Settings that do not apply to detection."""
DETECTION_SIZE = 320
"""Height and width of a detector's input, pixels; the input of a classifier may be smaller."""
FEW_GROUPS = 2
"""Groups up to which a measured split says little about others."""
MUCH_SET_ASIDE = 0.1
"""Share of the examples set aside that is worth a warning."""
SET_ASIDE_SHOWN = 20
"""Most files that --strict names."""


class RunInputs(NamedTuple):
    """Checked settings and prepared data for a run."""

    config: TrainConfig
    backbone: Backbone
    data: Data
    started: float
    """Value of `time.perf_counter` when the run began, seconds."""
    seconds: float
    """Duration of the preparation, seconds."""
    pool: Pool | None = None
    """Workers that share the work; None if there are none."""


def load_inputs(config: TrainConfig, pool: Pool | None = None) -> RunInputs:
    """Checks all that can be checked without TensorFlow, and decodes and splits the examples.

    Args:
        config: settings from the user.
        pool: workers that share the work; None if there are none.

    Returns:
        The examples, the backbone, and the settings with the size of inputs and the positive class chosen.

    Raises:
        UsageError: any mistake that shows without building the network.
    """
    started = time.perf_counter()
    custom_file()  # a mistake in it shows before anything is computed
    uses_custom({**config.flat(), "vary": None})  # its names depend on the kind
    find(config.model.backbone)  # reports a wrong name at once
    source = source_of(config.data, config.run.cache_dir)
    says_how = "vary" in config.changed()
    if says_how and source.kind.vary is None:
        raise UsageError(f"--vary is for pictures and recordings; {source.kind.nouns} are not varied. Leave it out.")
    if says_how and config.training.augment == "none":
        raise UsageError("--vary says how examples are varied, and --augment none varies none. Leave out one of them.")
    check_vary(config.training.vary, source.kind)
    config = with_backbone_of(config, source.kind)
    backbone = find(config.model.backbone)
    check_fits(backbone, config)
    check_available(backbone, config.model.weights)
    source = draw_part(source, config.data.max_pictures, config.seed_of_split)
    check_kind(backbone, source.kind.name, source.kind.nouns)
    if source.has_boxes:
        config = settings_for_boxes(config, backbone)
    sized = choose_size(config, backbone, useful_size(source))
    with progress_bar(source.kind.nouns, len(source.examples)) as advance:
        data = prepare_data(source, sized, advance, pool)
    if isinstance(data.task, Classification):
        data = data._replace(task=data.task.with_loss(config.training.loss))
    sized = sized.replace(positive=data.positive)
    chosen_on: Split = "train" if config.data.folds else "val"
    check_rule(config.decision.rule, len(data.class_names), data.task.multi_label, len(data.splits[chosen_on]))
    if config.data.folds is not None:
        from data.folds import folds_of  # a second to import

        folds_of(data, sized)  # raises if there are too few examples
    _show(data, config.training.class_weights)
    if config.decision.rule is not None:
        _warn_of_few(config.decision.rule, data, chosen_on)
    if config.run.strict:
        _check_nothing_set_aside(data)
    return RunInputs(sized, backbone, data, started, time.perf_counter() - started, pool)


def settings_for_boxes(config: TrainConfig, backbone: Backbone) -> TrainConfig:
    """Returns the settings for detection: pictures are padded, as cropping would lose boxes.

    Raises:
        UsageError: a setting or the network is for the classes of whole pictures, or the package for measuring is not
            installed.
    """
    check_pycocotools()
    changed = config.changed()
    if changed.get("pooling") == backbone.family.pooling[0]:  # the default, as in the `config.json` of a run
        del changed["pooling"]
    for name in FOR_CLASSES:
        if name in changed:
            raise UsageError(
                f"{flag_of(name)} is for classes of whole pictures, and this data has boxes. Leave it out."
            )
    if len(config.model.head_units) > 1:
        raise UsageError("--head-units takes one number where boxes are found: the channels of the feature pyramid.")
    if backbone.family.pooling == ("own",):
        raise UsageError(
            f"--backbone {backbone.name} pools its pictures itself, and boxes need their places: take another."
        )
    size = config.data.image_size or -(-DETECTION_SIZE // backbone.step) * backbone.step
    resize = "pad" if config.data.resize == "crop" else config.data.resize
    return config.replace(image_size=size, resize=resize)


def inputs_digest(inputs: RunInputs) -> str:
    """Returns the SHA-256 of all inputs besides the settings: examples, labels, splits, weight files, custom parts."""
    data = inputs.data
    digest = hashlib.sha256()
    digest.update(repr([[data.digests[position] for position in rows] for rows in data.splits.values()]).encode())
    digest.update(np.concatenate([data.targets[positions] for positions in data.splits.values()]).tobytes())
    for file in (*weight_files(inputs.config.model.weights), inputs.backbone.file):
        if file is not None and file.is_file():
            with file.open("rb") as content:
                digest.update(hashlib.file_digest(content, "sha256").digest())
    for kept in data.reader.files.values():
        digest.update(kept)
    own_function = inputs.backbone.is_own and inputs.backbone.file is None
    if own_function or uses_custom(inputs.config.flat()):
        digest.update(custom_file().digest.encode())
    return digest.hexdigest()


def _show(data: Data, class_weights: bool) -> None:
    counts = ", ".join(f"{len(positions):,} {split}" for split, positions in data.splits.items() if len(positions))
    show_stage("data", f"{data.name}: {counted(len(data.class_names), 'class', 'classes')}; {counts}")
    if data.positive is not None:
        show_stage("", f"'{data.positive}' is the positive class, the one to find; --positive names another")
    made = {example.split for example in data.examples}
    carved = [split for split in ("val", "test") if len(data.splits[split]) and split not in made]
    if carved and made != {None}:
        show_stage(
            "", f"{' and '.join(carved)} taken from the training {data.kind.nouns}: the data has none of its own"
        )
    if data.frames is not None:
        _show_without_boxes(data)
    _show_imbalance(data, class_weights)
    if data.duplicates:
        copies = f"{counted(data.duplicates, 'copy', 'copies')} of other {data.kind.nouns}"
        show_stage("", f"{copies}; no copy is on both sides of a split")
    if data.near_duplicates:
        side = "of a split as well" if made == {None} else f"of {' and '.join(carved)}"
        names = {example.group for example in data.examples if example.group}
        grouped = f" or share one of {counted(len(names), 'group', 'groups')}" if names else ""
        overlap = " or overlap with one" if any(isinstance(example.content, Part) for example in data.examples) else ""
        alike = f"{data.near_duplicates:,} {data.kind.nouns} look like another{overlap}{grouped}"
        show_stage("", f"{alike}; they stay on one side {side}")
    for split in ("val", "test"):
        of_groups = {data.examples[position].group for position in data.splits[split]}
        if 0 < len(of_groups) <= FEW_GROUPS and all(of_groups):
            groups = counted(len(of_groups), "group", "groups")
            show_stage("warning", f"all of {split} are of {groups}: what is measured there may not hold for others")
    for warning in (*data.split_warnings, *data.cautions):
        show_stage("warning", warning)
    if data.quarantine:
        reasons = common_reasons(item.reason for item in data.quarantine)
        lost = sum(promised_kind(item.path) in (None, data.kind) for item in data.quarantine)
        is_much = lost > MUCH_SET_ASIDE * (lost + sum(map(len, data.splits.values())))
        classes = [f"'{name}'" for name in data.half_lost]
        of_classes = f"; more than half of {listed(classes)}" if classes else ""
        text = f"{len(data.quarantine):,} set aside, see quarantine.csv: {reasons}{of_classes}"
        show_stage("warning" if is_much or of_classes else "", text)


def _warn_of_few(rule: Rule, data: Data, chosen_on: Split) -> None:
    """Warns if the splits that choose and measure a threshold have too few examples to confirm the promise of the rule.

    The warning names the class with the fewest. Examples that look alike, or share a group, count as fewer.
    """
    from tasks.decision import fewest, needed  # scikit-learn takes half a second

    measured = {split: rows for split in (chosen_on, "test") if len(rows := data.splits[split])}
    found = {split: fewest(rule, data.targets[rows], data.groups[rows]) for split, rows in measured.items()}
    few = {split: each for split, each in found.items() if each is not None and each[1] < needed(rule.value)}
    if not few:
        return
    column, _ = min(few.values(), key=lambda each: each[1])
    name = data.class_names[-data.targets.shape[1] :][column]
    are = "are" if rule.name == "sensitivity" else "are not"
    have = [f"{'the folds have' if split == 'train' else f'{split} has'} {round(few[split][1]):,}" for split in few]
    show_stage(
        "warning",
        f"to show {rule.flag} at 95 % confidence takes {needed(rule.value):,} independent {data.kind.nouns} that {are} "
        f"'{name}', all right; {' and '.join(have)}",
    )


def _show_without_boxes(data: Data) -> None:
    """Tells how many pictures have no box, and warns if a split has none at all: annotations may be missing."""
    counts = {split: len(positions) for split, positions in data.splits.items() if len(positions)}
    without = {split: sum(not data.examples[position].labels for position in data.splits[split]) for split in counts}
    if total := sum(without.values()):
        have = "has no box; it counts" if total == 1 else "have no box; they count"
        show_stage("", f"{total:,} of {sum(counts.values()):,} {data.kind.nouns} {have} as background")
    for split, count in counts.items():
        if without[split] == count:
            show_stage(
                "warning", f"no {data.kind.noun} of {split} has a box, so {split} measures nothing: add its annotations"
            )


def _show_imbalance(data: Data, class_weights: bool) -> None:
    """Warns about classes so uneven that the larger one may dominate."""
    train = [label for position in data.splits["train"] for label in data.examples[position].labels]
    counts = Counter(train).most_common()
    (most, many), (least, few) = counts[0], counts[-1]
    if many >= UNEVEN * few and not class_weights:
        advice = "consider --class-weights, and trust the balanced accuracy more than the accuracy"
        if data.frames is not None:
            advice = "look at the AP of each class in the report"
        show_stage("warning", f"'{most}' has {many:,} training {data.kind.nouns} and '{least}' {few:,}: {advice}")


def _check_nothing_set_aside(data: Data) -> None:
    """Raises a UsageError if files are set aside, after showing the first of them with their reasons."""
    for item in data.quarantine[:SET_ASIDE_SHOWN]:
        show_stage("", f"{data.display_path(item.path)}: {item.reason}")
    if data.quarantine:
        first = data.quarantine[0]
        raise UsageError(
            f"--strict lets no {data.kind.noun} be set aside; of '{data.name}' {len(data.quarantine):,} would be, the "
            f"first '{data.display_path(first.path)}': {first.reason}. Repair or remove them, or leave --strict out."
        )
