"""Runs that take seconds, on pictures of a few colours: for tests of what is done with a finished run."""

import functools
from pathlib import Path
from typing import Any

from app.config import TrainConfig
from inference.answering import AnsweringModel, of_run
from inference.load import read_run
from inference.predictor import Predictor
from tests.conftest import draw_photos
from training.inputs import load_inputs
from training.run import train

PICTURES = 12
"""Of each class."""
_ROWS = [f"{name}/{i}.jpg,{name}{'|even' if i % 2 == 0 else ''}" for name in ("cat", "dog") for i in range(PICTURES)]
_TUNED = {"fine_tune_epochs": 1, "fine_tune_learning_rate": 1e-3}

SMALL_RUNS: dict[str, dict[str, Any]] = {
    "binary": {"classes": ("cat", "dog")},
    "fine_tuned": {"classes": ("blue, dark", "green", "red"), "trainable_layers": 6, "resize": "pad", **_TUNED},
    "uncut": {"classes": ("blue", "green", "red"), "trainable_layers": "all", "augment": "fresh", **_TUNED},
    "multi_label": {"classes": ("cat", "dog"), "labels": "\n".join(["path,label", *_ROWS])},
}
"""The kinds: a head alone, the last layers too, the whole network without a cut, and several labels of a picture."""


def make_run(root: Path, classes: tuple[str, ...], labels: str | None = None, **settings: Any) -> Path:
    """Draws pictures in `root/photos`, trains on them and returns the run folder, `root/run`.

    Args:
        root: an empty folder.
        classes: a folder of pictures each.
        labels: content of a CSV file that names the pictures, instead of their folders.
        settings: of `app.config.TrainConfig`.
    """
    photos = root / "photos"
    draw_photos(photos, classes, PICTURES)
    data = photos
    if labels:
        data = photos / "labels.csv"
        data.write_text(labels)
    quick = {"image_size": 32, "head_epochs": 2, "fine_tune_epochs": 0}
    config = TrainConfig.of(data=str(data), output=root / "run", cache_dir=root / "cache", **quick | settings)
    return train(load_inputs(config))


@functools.cache
def predictor_of(folder: Path) -> Predictor:
    return of_run(read_run(folder)).load()


def network_of(folder: Path) -> AnsweringModel:
    """The model of a run, loaded once for all tests."""
    return of_run(read_run(folder))._replace(load=lambda: predictor_of(folder))
