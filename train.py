"""Trains a model on a pretrained backbone: `python train.py --data photos --backbone resnet50`."""

import app.oldest_python  # noqa: F401

import time

from app.cli import run_command
from training.flags import parse_config


def main() -> None:
    """Parses the flags, checks and decodes the data, and only then loads TensorFlow and trains."""
    started = time.perf_counter()
    config = parse_config()
    from app.run_folder import is_finished
    from app.terminal import show_stage
    from headstart import train

    is_over = config.run.resume is not None and is_finished(config.run.resume)
    run = train(config)
    how = "this run is finished" if is_over else f"{time.perf_counter() - started:.0f} seconds; run folder"
    show_stage("done", f"{how}: {run.folder}")


if __name__ == "__main__":
    run_command(main)
