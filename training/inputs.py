"""All of a run that needs no TensorFlow: checks of the settings, the pictures and the place to write.

So a mistake is answered within a second or two, and before anything is allocated.
"""

import tempfile
import time
from pathlib import Path
from typing import NamedTuple

from config import TrainConfig, UsageError
from data.prepare import ImageData, prepare_data, typical_size
from data.sources import load_source
from models.backbones import Backbone, check_image_size, find
from models.weights import check_available
from terminal import common_reasons, counted, progress_bar, show_stage
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
        UsageError: the folder holds something else than an unfinished run, or its place cannot be written.
    """
    folder = Path("runs") if output is None else output
    unfinished = (folder / "config.json").exists() and not (folder / "metrics.json").exists()
    if output is not None and output.is_dir() and any(output.iterdir()) and not unfinished:
        raise UsageError(f"--output must be a new or empty folder; '{output}' holds files. Choose another.")
    existing = next(parent for parent in (folder, *folder.absolute().parents) if parent.exists())
    try:
        tempfile.TemporaryDirectory(dir=existing).cleanup()
    except OSError:
        raise UsageError(
            f"--output must be a folder that can be written; '{folder}' cannot be made in '{existing}'."
        ) from None


def _show(data: ImageData) -> None:
    counts = ", ".join(f"{len(positions):,} {split}" for split, positions in data.splits.items() if len(positions))
    show_stage("data", f"{data.name}: {len(data.class_names)} classes; {counts}")
    if data.duplicates:
        show_stage(
            "", f"{counted(data.duplicates, 'copy', 'copies')} of other files; no copy is on both sides of a split"
        )
    if data.quarantine:
        reasons = common_reasons(item.reason for item in data.quarantine)
        show_stage("", f"{len(data.quarantine):,} set aside, see quarantine.csv: {reasons}")
