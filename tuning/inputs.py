"""The part of a search or of a ranking of backbones that needs no TensorFlow: folder, examples and settings."""

import hashlib
import json
from pathlib import Path

from app.config import TrainConfig
from app.decision import check_rule, rule_of
from app.errors import UsageError
from app.terminal import show_stage
from cluster.pool import Pool
from data.folder import check_outside
from data.prepare import Data, useful_size
from data.sources import source_of
from models.backbones import all_backbones, check_fits, check_kind, find
from models.weights import at_hand, check_available
from training.folder import RUNS, backbone_names, check_output, data_name
from training.inputs import RunInputs, load_inputs
from training.recipe import choose_size
from tuning.space import SPACE, TuneConfig


def load_search_inputs(config: TuneConfig, pool: Pool | None = None) -> tuple[Path, list[RunInputs]]:
    """Checks all that can be checked without TensorFlow, and decodes and splits the examples.

    Args:
        config: settings from the user.
        pool: workers that share the work; None if there are none.

    Returns:
        The search folder, not created yet, and examples and settings for each backbone.

    Raises:
        UsageError: any mistake that shows without building a network.
    """
    folder = _check_folder(config, "search.json")
    inputs = load_all(config, pool)
    check_val_split(inputs[0].data)
    data = inputs[0].data
    config.of_task(data.task)
    check_rule(rule_of(config.search.objective), len(data.class_names), data.task.multi_label)
    return folder, inputs


def load_all(config: TuneConfig, pool: Pool | None = None) -> list[RunInputs]:
    """Returns examples and settings for each backbone."""
    return [load_inputs(config.of_run(backbone=name), pool) for name in config.space["backbone"]]


def load_candidates(config: TuneConfig) -> tuple[Path, list[TrainConfig]]:
    """Chooses the backbones to rank: those of `--backbone`; by default all whose weights are on this machine.

    Args:
        config: settings from the user.

    Returns:
        The folder of the ranking, not created yet, and settings for each backbone with the input size that `train.py`
        would choose, the smallest first. A backbone that cannot run is skipped, with a line that says why.

    Raises:
        UsageError: a mistake that concerns all backbones.
    """
    folder = _check_folder(config, "ranking.csv")
    named = [find(name) for name in _named(config)]
    source = source_of(config.fixed.data, config.fixed.run.cache_dir)
    if source.has_boxes:
        raise UsageError("--rank-backbones is for models of classes, and this data has boxes: search among backbones.")
    backbones = named or [each for each in all_backbones() if each.kind == source.kind.name and at_hand(each)]
    useful = useful_size(source)
    candidates = []
    for backbone in backbones:
        candidate = choose_size(config.of_run(backbone=backbone.name), backbone, useful)
        try:
            check_kind(backbone, source.kind.name, source.kind.nouns)
            check_fits(backbone, candidate)
            check_available(backbone, config.fixed.model.weights)
            candidates.append(candidate)
        except UsageError as error:
            pass_over(backbone.name, error, len(backbones))
    if not candidates:
        raise UsageError("None of the backbones can be ranked, for the reasons above.")
    return folder, sorted(candidates, key=lambda candidate: candidate.data.chosen_size)


def pass_over(backbone: str, error: Exception, num_backbones: int) -> None:
    """Shows why a backbone is left out; raises the error if it is the only one."""
    if num_backbones == 1:
        raise error
    show_stage("left out", f"{backbone}: {(str(error).strip().splitlines() or [type(error).__name__])[0]}")


def check_val_split(data: Data) -> None:
    """Raises a UsageError if there is no val split to choose by."""
    if not len(data.splits["val"]):
        nouns = data.kind.nouns
        raise UsageError(f"A search chooses by the val split, and these {nouns} leave none. Raise --val-fraction.")


def search_folder(config: TuneConfig) -> Path:
    """Returns the folder of a search or a ranking: `--output`, or one named by its settings, so that the same command
    finds it again."""
    if config.fixed.run.output is not None:
        return config.fixed.run.output
    digest = hashlib.sha256(json.dumps(config.to_json(), sort_keys=True).encode()).hexdigest()
    kind = ["ranking"] if config.search.rank_backbones else ["search", *backbone_names(*config.space["backbone"][:3])]
    return RUNS / "-".join([*kind, data_name(config.fixed.data.data), digest[:8]])


def _check_folder(config: TuneConfig, record: str) -> Path:
    """Returns the folder; raises a UsageError if it holds files but no record of an earlier start."""
    folder = search_folder(config)
    check_outside(config.fixed.data.data, {"--output": folder, "--cache-dir": config.fixed.run.cache_dir})
    if not (folder / record).exists():
        check_output(folder)
    return folder


def _named(config: TuneConfig) -> list[str]:
    """Returns the names of the backbones to rank; [] for all whose weights are on this machine."""
    weights, names = config.fixed.model.weights, list(config.space["backbone"])
    if weights == "none":
        raise UsageError("--rank-backbones compares pretrained networks: --weights none has nothing to compare.")
    if weights != "imagenet" and len(names) > 1:
        raise UsageError(f"--weights FILE fits one backbone; received {len(names)}. Choose one by --backbone.")
    if weights == "imagenet" and config.space["backbone"] == SPACE["backbone"].values:
        return []
    return names
