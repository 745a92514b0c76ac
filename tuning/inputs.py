"""All of a search that needs no TensorFlow: its folder, and the examples for each backbone."""

import hashlib
import json
from pathlib import Path

from app.errors import UsageError
from cluster.connection import check_ray
from data.folder import check_outside
from data.prepare import Data
from training.folder import RUNS, check_output, data_name
from training.inputs import RunInputs, load_inputs
from tuning.space import TuneConfig


def load_search_inputs(config: TuneConfig) -> tuple[Path, list[RunInputs]]:
    """Checks everything that can be checked, and decodes and splits the examples.

    Args:
        config: as the user gave it.

    Returns:
        The search folder, not made yet, and examples and settings for each backbone.

    Raises:
        UsageError: for every mistake that can be known without building a network.
    """
    if config.search.has_workers:
        check_ray("--workers" if config.search.cluster is None else "--cluster")
    folder = search_folder(config)
    check_outside(config.fixed.data.data, {"--output": folder, "--cache-dir": config.fixed.run.cache_dir})
    if not (folder / "search.json").exists():
        check_output(folder)
    inputs = load_all(config)
    check_val_split(inputs[0].data)
    return folder, inputs


def load_all(config: TuneConfig) -> list[RunInputs]:
    """Returns examples and settings for each backbone."""
    return [load_inputs(config.of_run(backbone=name)) for name in config.space["backbone"]]


def check_val_split(data: Data) -> None:
    """Raises a UsageError if there is nothing to choose by."""
    if not len(data.splits["val"]):
        nouns = data.kind.nouns
        raise UsageError(f"A search chooses by the val split, and these {nouns} leave none. Raise --val-fraction.")


def search_folder(config: TuneConfig) -> Path:
    """The folder of a search, or of a ranking: `--output`, or one named by its settings, so that the same command finds
    it again."""
    if config.fixed.run.output is not None:
        return config.fixed.run.output
    digest = hashlib.sha256(json.dumps(config.to_json(), sort_keys=True).encode()).hexdigest()
    kind = "ranking" if config.search.rank_backbones else f"search-{'-'.join(config.space['backbone'][:3])}"
    return RUNS / f"{kind}-{data_name(config.fixed.data.data)}-{digest[:8]}"
