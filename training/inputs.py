"""All of a run that needs no TensorFlow: checks of the settings, the pictures and the place to write.

So a mistake is answered within a second or two, and before anything is allocated.
"""

import os
import time
from pathlib import Path
from typing import NamedTuple

from config import TrainConfig, UsageError
from data.prepare import ImageData, prepare_data, typical_size
from data.sources import load_source
from models.backbones import Backbone, check_image_size, find
from models.weights import check_available
from terminal import counted, progress_bar, show_stage
from training.recipe import choose_image_size


class RunInputs(NamedTuple):
    """What a run starts from."""

    config: TrainConfig
    """With the image size set."""
    row: Backbone
    data: ImageData
    started: float
    """Value of `time.perf_counter` when the run began, seconds."""
    seconds: float
    """How long the preparation took."""


def load_inputs(config: TrainConfig) -> RunInputs:
    """Checks everything that can be checked, and decodes and splits the pictures.

    Args:
        config: as the user gave it.

    Returns:
        The pictures, the backbone's row, and the settings with the image size chosen.

    Raises:
        UsageError: for every mistake that can be known without building the network.
    """
    started = time.perf_counter()
    row = find(config.backbone)
    if config.image_size is not None:
        check_image_size(row, config.image_size)
    check_output(config.output)
    check_available(row, config.weights)
    source = load_source(config.data, config.cache_dir)
    config = choose_image_size(config, row, typical_size(source))
    with progress_bar("pictures", len(source.pictures)) as advance:
        data = prepare_data(source, config, config.image_size, advance)
    _show(data)
    return RunInputs(config, row, data, started, time.perf_counter() - started)


def check_output(output: Path | None) -> None:
    """Makes sure that a run folder can be made, without making it.

    Args:
        output: the folder asked for; None for one of its own below runs/.

    Raises:
        UsageError: the folder holds something already, or its place cannot be written.
    """
    folder = Path("runs") if output is None else output
    if output is not None and output.is_dir() and any(output.iterdir()):
        raise UsageError(f"--output must be a new or empty folder; '{output}' holds files. Choose another.")
    existing = next(parent for parent in (folder, *folder.absolute().parents) if parent.exists())
    if not existing.is_dir() or not os.access(existing, os.W_OK):
        raise UsageError(f"--output must be a folder that can be written; '{folder}' cannot be made in '{existing}'.")


def _show(data: ImageData) -> None:
    counts = ", ".join(f"{len(positions):,} {split}" for split, positions in data.splits.items() if len(positions))
    show_stage("data", f"{data.name}: {len(data.class_names)} classes; {counts}")
    if data.duplicates:
        show_stage("", f"{counted(data.duplicates, 'copy', 'copies')} of other files, kept on one side of the splits")
    if data.quarantine:
        first = data.quarantine[0]
        example = f"{data.display_path(first.path)}: {first.reason}"
        show_stage("", f"{len(data.quarantine):,} set aside (quarantine.csv), the first: {example}")
