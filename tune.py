"""Searches the hyperparameters of train.py: `python tune.py --data photos --backbone resnet50 --max-trials 50`.

It also ranks pretrained backbones without training them: `python tune.py --data photos --rank-backbones`.
"""

import app.oldest_python  # noqa: F401

import time
from typing import TYPE_CHECKING

from app.cli import run_command

if TYPE_CHECKING:
    from cluster.pool import Pool
    from tuning.space import TuneConfig


def main() -> None:
    """Parses the flags, checks and decodes the data, and only then loads TensorFlow and searches."""
    started = time.perf_counter()
    from tuning.space import parse_search

    config = parse_search()
    from cluster.pool import open_pool

    with open_pool(config.fixed.run) as pool:
        (_rank if config.search.rank_backbones else _search)(config, pool, started)


def _rank(config: "TuneConfig", pool: "Pool | None", started: float) -> None:
    from app.terminal import import_tensorflow
    from tuning.inputs import load_candidates

    folder, candidates = load_candidates(config)
    import_tensorflow()
    from tuning.ranking import rank

    rank(config, candidates, folder, started, pool)


def _search(config: "TuneConfig", pool: "Pool | None", started: float) -> None:
    from app.terminal import import_tensorflow
    from tuning.inputs import load_search_inputs

    folder, inputs = load_search_inputs(config, pool)
    import_tensorflow()
    from tuning.search import search

    search(config, inputs, folder, started)


if __name__ == "__main__":
    run_command(main)
