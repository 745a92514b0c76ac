"""All of a ranking that needs no TensorFlow: which backbones it compares, and at which size of input."""

from pathlib import Path

from app.config import TrainConfig
from app.errors import UsageError
from app.terminal import show_stage
from data.folder import check_outside
from data.prepare import useful_size
from data.sources import load_source
from models.backbones import TABLE, check_kind, check_size, find
from models.weights import at_hand, check_available
from training.folder import check_output
from training.recipe import choose_size
from tuning.inputs import search_folder
from tuning.space import SPACE, TuneConfig


def load_candidates(config: TuneConfig) -> tuple[Path, list[TrainConfig]]:
    """Chooses what is ranked: the backbones of `--backbone`; by default all whose weights are on this machine.

    Args:
        config: as the user gave it.

    Returns:
        The folder of the ranking, not made yet, and settings for each backbone with the input size that `train.py`
        would choose, the smallest first. A backbone that cannot run is passed over, with a line that says why.

    Raises:
        UsageError: for a mistake that concerns all of them.
    """
    folder = search_folder(config)
    check_outside(config.fixed.data.data, {"--output": folder, "--cache-dir": config.fixed.run.cache_dir})
    if not (folder / "ranking.csv").exists():
        check_output(folder)
    backbones = [find(name) for name in _names(config)]
    source = load_source(config.fixed.data.data, config.fixed.run.cache_dir, config.fixed.data.outside)
    useful = useful_size(source)
    candidates = []
    for backbone in backbones:
        candidate = choose_size(config.of_run(backbone=backbone.name), backbone, useful)
        try:
            check_kind(backbone, source.kind.name, source.kind.nouns)
            check_size(backbone, candidate)
            check_available(backbone, config.fixed.model.weights)
        except UsageError as error:
            pass_over(backbone.name, error, len(backbones))
            continue
        candidates.append(candidate)
    if not candidates:
        raise UsageError("None of the backbones can be ranked, for the reasons above.")
    return folder, sorted(candidates, key=lambda candidate: candidate.data.chosen_size)


def pass_over(backbone: str, error: Exception, num_backbones: int) -> None:
    """Says why a backbone is left out; where it is the only one, that is an error."""
    if num_backbones == 1:
        raise error
    show_stage("left out", f"{backbone}: {(str(error).strip().splitlines() or [type(error).__name__])[0]}")


def _names(config: TuneConfig) -> list[str]:
    """Names of the backbones asked for, each once."""
    if config.fixed.model.weights == "none":
        raise UsageError("--rank-backbones compares pretrained networks: --weights none has nothing to compare.")
    names = list(dict.fromkeys(config.space["backbone"]))
    if config.fixed.model.weights != "imagenet":
        if len(names) > 1:
            raise UsageError(f"--weights FILE fits one backbone; received {len(names)}. Choose one by --backbone.")
    elif config.space["backbone"] == SPACE["backbone"].values:
        names = [backbone.name for backbone in TABLE if at_hand(backbone)]
    return names
