"""What views, strides, fine-tuning and pretrained weights bring to finding boxes: a table of runs that differ in one.

`python -m benchmarks.boxes --data bccd/instances.json --split-seed 0` trains once by the recipe and once for every row
of `ROWS`, and prints AP of the test split. Its other flags are those of `train.py`.
"""

import argparse
import json
import tempfile
from pathlib import Path

import keras

from app.cli import run_command
from app.config import TrainConfig
from models import detector
from models.backbones import find
from models.weights import build_backbone
from training.flags import parse_config
from training.inputs import load_inputs
from training.run import train

RANDOM = "frozen random weights"
STRIDES = {"stride 8 alone": (8,), "strides 16 and 32": (16, 32), "stride 32 alone": (32,)}
ROWS = {
    "the recipe": [],
    "without the mirror image": ["--effort", "quick"],
    "1 view": ["--views", "1"],
    "2 views": ["--views", "2"],
    "8 views": ["--views", "8"],
    **{name: [] for name in STRIDES},
    "then the last 75 layers": ["--trainable-layers", "75"],
    RANDOM: [],
}
"""Flags of each row; some change more than flags."""


def main() -> None:
    """Runs all rows, or those that are named, and prints a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", nargs="+", default=list(ROWS), choices=list(ROWS))
    flags, rest = parser.parse_known_args()
    print("\n| what differs | AP50 | AP | AP75 | seconds |\n|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as scratch:
        for number, name in enumerate(flags.rows):
            given = [*rest, *ROWS[name], "--output", str(Path(scratch) / f"run_{number}")]
            config = parse_config([*given, "--cache-dir", str(Path(scratch) / "cache"), "--val-fraction", "0"])
            record = measure(name, config, Path(scratch))
            shares = " | ".join(f"{record['test'][figure]:.1%}" for figure in ("ap50", "ap", "ap75"))
            print(f"| {name} | {shares} | {record['seconds']['total']:.0f} |", flush=True)


def measure(name: str, config: TrainConfig, scratch: Path) -> dict:
    """Trains a row, and returns its `metrics.json`."""
    detector.STRIDES = STRIDES.get(name, (8, 16, 32))
    if name == RANDOM:
        keras.utils.set_random_seed(config.training.seed)
        file = scratch / "random.weights.h5"
        build_backbone(find(config.model.backbone), 224, "none").model.save_weights(file)
        config = config.replace(weights=str(file))
    folder = train(load_inputs(config))
    keras.backend.clear_session()
    return json.loads((folder / "metrics.json").read_text())


if __name__ == "__main__":
    run_command(main)
