"""Folds of cross-validation over the training examples, for data too small to choose settings by a val split."""

import numpy as np
from sklearn.model_selection import StratifiedGroupKFold

from app.config import DataConfig, TrainConfig
from app.errors import UsageError
from app.terminal import counted
from data.prepare import Data
from data.sources import Split


def folds_of(data: Data, config: TrainConfig) -> np.ndarray | None:
    """Deals the training examples into folds, stratified by class (or combination of labels), with look-alikes in the
    same fold.

    Returns:
        The fold of each example, int64 (n,); None without cross-validation.

    Raises:
        UsageError: there are more folds than examples of a class, or than groups, or a fraction is set for val.
    """
    folds, train = config.data.folds, data.splits["train"]
    if folds is None:
        return None
    if config.data.val_fraction != DataConfig().val_fraction:
        raise UsageError("--folds takes the place of a val split; leave out --val-fraction.")
    _, codes, counts = np.unique(data.targets[train], axis=0, return_inverse=True, return_counts=True)
    least = int(data.targets[train].sum(axis=0).min() if data.task.multi_label else counts.min())
    if least < folds:
        few = f"the rarest class has {counted(least, data.kind.noun, data.kind.nouns)} to learn from"
        raise UsageError(f"--folds must be at most {least}, as {few}; received {folds}.")
    codes = np.where(counts[codes] >= folds, codes, -1)  # rare combinations of labels are dealt together
    groups = len(np.unique(data.groups[train]))
    if groups < folds:
        few = f"the {data.kind.nouns} to learn from are in {groups} groups, each of which is in one fold"
        raise UsageError(f"--folds must be at most {groups}, as {few}; received {folds}.")
    numbers = np.zeros(len(train), np.int64)
    dealer = StratifiedGroupKFold(folds, shuffle=True, random_state=config.seed_of_split)
    for number, (_, held_out) in enumerate(dealer.split(codes, codes, data.groups[train])):
        numbers[held_out] = number
    return numbers


def with_out_of_fold(
    data: Data, outputs: dict[Split, np.ndarray], out_of_fold: np.ndarray | None
) -> tuple[Data, dict[Split, np.ndarray]]:
    """Uses the predictions of cross-validation as those of val.

    Args:
        data: the examples, none of them in val.
        outputs: float32 (n, num_outputs) by measured split.
        out_of_fold: predictions of the training examples; None changes nothing.
    """
    if out_of_fold is None:
        return data, outputs
    return data._replace(splits={**data.splits, "val": data.splits["train"]}), {"val": out_of_fold, **outputs}
