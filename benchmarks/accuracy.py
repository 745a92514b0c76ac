"""How good a backbone is on some pictures, and how much of that is chance: the same run with several seeds.

`python -m benchmarks.accuracy --data photos --backbone mobilenet --weights FILE` runs `train.py` with another head and
another order each time, on one split, and prints a row of the table in this folder's README. Its other flags are those
of `train.py`.
"""

import argparse
import statistics
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.processes import ROOT, train_timed


def main() -> None:
    """Runs all seeds and prints mean, standard deviation and range of the accuracy on test."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=5, help="at least 2")
    parser.add_argument("--split-seed", type=int, default=0, help="of the one split that all seeds have")
    flags, rest = parser.parse_known_args()
    accuracies: list[float] = []
    record: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as scratch:
        for seed in range(flags.seeds):
            record, _ = train_timed(
                our_command(rest, seed, flags.split_seed), Path(scratch) / f"run{seed}", Path(scratch) / "cache"
            )
            accuracies.append(record["test"]["accuracy"])
            print(f"seed {seed}: {accuracies[-1]:.2%}", flush=True)
    config = record["config"]
    print(
        f"| {Path(config['data']).stem} | `{config['backbone']}` | {config['image_size']} | {flags.seeds} "
        f"| {_percent(statistics.mean(accuracies))} ± {_percent(statistics.stdev(accuracies))} "
        f"| {_percent(min(accuracies))}, {_percent(max(accuracies))} |"
    )


def our_command(flags: Sequence[str], seed: int, split_seed: int) -> list[str]:
    """The command of one seed; the split is that of all seeds."""
    return [sys.executable, str(ROOT / "train.py"), *flags, "--seed", str(seed), "--split-seed", str(split_seed)]


def _percent(fraction: float) -> str:
    return f"{fraction:.1%}".replace("%", " %")


if __name__ == "__main__":
    main()
