"""Trains an image classifier on a pretrained backbone: `python train.py --data photos --backbone resnet50`."""

import app.oldest_python  # noqa: F401

import time

from app.cli import run_command
from training.flags import parse_config


def main() -> None:
    """Parses the flags, checks and decodes the data, and only then loads TensorFlow and trains."""
    started = time.perf_counter()
    config = parse_config()
    from app.terminal import import_tensorflow, show_stage
    from cluster.pool import open_pool
    from devices.tf_config import read_worker
    from training.folder import clean_up, is_finished, open_folder
    from training.inputs import load_inputs

    worker = read_worker(config)
    if worker is not None:
        config = config.replace(strategy="multiworker")
    if config.run.resume is not None and is_finished(config.run.resume):
        clean_up(config.run.resume)
        show_stage("done", f"this run is finished: {config.run.resume}")
        return
    with open_folder(config, worker) as config, open_pool(config.run) as pool:
        inputs = load_inputs(config, pool)
        import_tensorflow()
        from training.run import train

        folder = train(inputs)
    show_stage("done", f"{time.perf_counter() - started:.0f} seconds; run folder: {folder}")


if __name__ == "__main__":
    run_command(main)
