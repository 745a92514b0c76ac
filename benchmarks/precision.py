"""The precisions against each other: seconds of the frozen layers and of the phases, and how often they agree.

`python -m benchmarks.precision --backbone resnet50` runs `train.py` with an empty cache in every precision, in turn,
and compares the labels of val and test with those of float32. Its flags are those of `train.py`.
"""

import argparse
import sys
import tempfile
from pathlib import Path

import pandas as pd

from app.cli import run_command
from benchmarks.processes import ROOT, train_timed

PRECISIONS = ("float32", "auto", "mixed_bfloat16")


def main() -> None:
    """Runs all precisions, as often as asked for, and prints the best time of each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=2)
    flags, rest = parser.parse_known_args()
    seconds: dict[str, list[dict[str, float]]] = {precision: [] for precision in PRECISIONS}
    labels, records = {}, {}
    for _ in range(flags.rounds):
        for precision in PRECISIONS:
            with tempfile.TemporaryDirectory() as scratch:
                folder = Path(scratch) / "run"
                command = [sys.executable, str(ROOT / "train.py"), *rest, "--precision", precision]
                records[precision], _ = train_timed(command, folder, Path(scratch) / "cache")
                chosen = records[precision]["config"]["precision"]
                labels[precision] = pd.read_csv(folder / "predictions.csv")["predicted"]
                seconds[precision].append(records[precision]["seconds"])
                print(f"{precision} ({chosen}): {seconds[precision][-1]}", flush=True)
    for precision in PRECISIONS:
        best = {stage: min(each[stage] for each in seconds[precision]) for stage in ("features", "head", "fine_tune")}
        texts = [f"{stage} {value:7.1f} s" for stage, value in best.items()]
        agreement = (labels[precision] == labels["float32"]).mean()
        accuracy = records[precision]["test"]["accuracy"]
        print(f"{precision:<15} {'  '.join(texts)}  test {accuracy:.2%}  {agreement:.2%} of labels as in float32")


if __name__ == "__main__":
    run_command(main)
