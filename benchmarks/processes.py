"""Parts that the comparisons share: the same pictures and split for all sides, and each side timed as a process."""

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from app.config import TrainConfig
from app.errors import UsageError
from training.inputs import RunInputs, load_inputs

ROOT = Path(__file__).parent.parent
OF_KERAS = (".bmp", ".gif", ".jpeg", ".jpg", ".png")
"""Names' endings that `keras.utils.image_dataset_from_directory` takes; it leaves out all others."""


def comparison_parser(description: str | None) -> argparse.ArgumentParser:
    """Makes a parser with the flags that say on what all sides are compared."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="animals")
    parser.add_argument("--backbone", default="mobilenet", help="one of keras.applications")
    parser.add_argument("--weights", default="imagenet")
    parser.add_argument("--image-size", type=int)
    return parser


def shared_pictures(
    flags: argparse.Namespace, scratch: Path, *, test_fraction: float = 0.0, split_seed: int = 0
) -> tuple[RunInputs, Path]:
    """Splits the pictures, leaves out what cannot be read, and links them as folders of classes for each split, so that
    all sides have the same ones.

    Args:
        flags: from `comparison_parser`.
        scratch: folder that is thrown away afterwards, so that no side finds these decoded pictures.
        test_fraction: share of the pictures for test, where the data has none; 0 where all sides are compared on val.
        split_seed: of the splits that the data does not make.

    Returns:
        The pictures, with an absolute path of a file of weights, and the folder of the links.
    """
    inputs = load_inputs(
        TrainConfig.of(
            data=flags.data,
            backbone=flags.backbone,
            weights=str(Path(flags.weights).absolute()) if Path(flags.weights).is_file() else flags.weights,
            image_size=flags.image_size,
            test_fraction=test_fraction,
            split_seed=split_seed,
            cache_dir=scratch / "prepare",
        )
    )
    folder = scratch / Path(flags.data).stem
    for split, positions in inputs.data.splits.items():
        for name in inputs.data.class_names if len(positions) else ():  # a class without pictures has a number as well
            (folder / split / name).mkdir(parents=True)
        for position in positions:
            picture = inputs.data.examples[position]
            if picture.path.suffix.lower() not in OF_KERAS:
                raise UsageError(f"--data must hold pictures that Keras reads, {', '.join(OF_KERAS)}; '{picture.path}'")
            place = folder / split / picture.labels[0] / f"{position}{picture.path.suffix}"
            place.symlink_to(picture.path.absolute())
    return inputs, folder


def peer_command(module: str, inputs: RunInputs, folder: Path, seed: int, *more: str) -> list[str]:
    """The command of a peer, a module of this folder that works on linked pictures."""
    backbone, config = inputs.backbone, inputs.config
    command = [sys.executable, "-m", f"benchmarks.{module}", str(folder)]
    command += ["--backbone", backbone.builder, "--module", backbone.module, "--weights", config.model.weights]
    return [*command, "--image-size", str(config.data.image_size), "--seed", str(seed), *more]


def our_command(script: str, inputs: RunInputs, folder: Path, seed: int) -> list[str]:
    """The command of one of our scripts on the same pictures, with their split."""
    config = inputs.config
    command = [sys.executable, str(ROOT / script), "--data", str(folder), "--backbone", config.model.backbone]
    command += ["--weights", config.model.weights, "--image-size", str(config.data.image_size)]
    return [*command, "--outside", "--test-fraction", "0", "--seed", str(seed)]  # where the linked pictures are


def train_timed(command: list[str], folder: Path, cache: Path) -> tuple[dict[str, Any], float]:
    """Runs a command of `train.py` and returns its `metrics.json`, with the settings as 'config', and its seconds.

    Args:
        command: without the places.
        folder: of the run.
        cache: where it keeps what the next run may take.
    """
    _, seconds = timed([*command, "--cache-dir", str(cache), "--output", str(folder)])
    record = json.loads((folder / "metrics.json").read_text())
    record["config"] = json.loads((folder / "config.json").read_text())
    return record, seconds


def timed(command: list[str]) -> tuple[str, float]:
    """Runs a command and returns its output and its seconds; what it says besides is shown if it fails."""
    started = time.perf_counter()
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"})
    if done.returncode:
        sys.exit(f"{' '.join(command)} failed:\n{done.stderr[-2000:]}")
    return done.stdout, time.perf_counter() - started


def timed_peer(command: list[str]) -> tuple[dict[str, Any], float]:
    """Runs the command of a peer and returns what its last line says as JSON, and its seconds."""
    output, seconds = timed(command)
    return json.loads(output.splitlines()[-1]), seconds


def import_seconds() -> float:
    """Seconds until a new process has TensorFlow and Keras: part of every contender's time, whatever it does then."""
    return timed([sys.executable, "-c", "import tensorflow, keras"])[1]
