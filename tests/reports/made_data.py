"""Pictures, labels and predictions made with numpy, for tests of what a run tells."""

from collections.abc import Sequence
from pathlib import Path

import keras
import numpy as np
import pandas as pd
from PIL import Image

from data.images.decode import make_signature
from data.images.kind import picture_reader
from data.kinds import find_kind
from data.near_duplicates import SURE_SCORE
from data.preflight import SetAside
from data.prepare import Data
from data.sources import SPLITS, Example, Split
from models.heads import build_head
from tasks.classification import BINARY, MULTICLASS
from tasks.table import Task
from tests.conftest import COLOURS, make_picture

HISTORY = pd.DataFrame(
    {
        "phase": ["head", "head", "fine_tune"],
        "epoch": [1, 2, 1],
        "learning_rate": 1e-3,
        "loss": [1.0, 0.5, 0.4],
        "accuracy": [0.5, 0.7, 0.8],
        "val_loss": [0.9, 0.6, 0.5],
        "val_accuracy": [0.6, 0.7, 0.7],
    }
)


def make_data(
    task: Task = BINARY,
    class_names: Sequence[str] = ("cat", "dog"),
    quarantine: Sequence[SetAside] = (),
    names: str = "{}.png",
    **counts: int,
) -> Data:
    """Noisy pictures of 32 pixels, the classes in turn; in a multi-label task each has its class and the next.

    Args:
        task: of the labels.
        class_names: names of the classes.
        quarantine: files that were set aside.
        names: of the pictures, with a place for a number.
        counts: pictures of each split; 12, 6 and 6 by default.
    """
    counts = {"train": 12, "val": 6, "test": 6} | counts
    total = sum(counts.values())
    classes = np.arange(total) % len(class_names)
    pixels = [np.asarray(make_picture(i, COLOURS[c % 4], (32, 32))) for i, c in enumerate(classes)]
    several = range(2) if task.multi_label else range(1)
    labels = [tuple(class_names[(number + more) % len(class_names)] for more in several) for number in classes]
    starts = np.cumsum([0, *counts.values()])
    return Data(
        name="made",
        root=Path("/made"),
        class_names=tuple(class_names),
        task=task,
        kind=find_kind("image"),
        reader=picture_reader(32),
        examples=[Example(Path("/made") / names.format(i), each) for i, each in enumerate(labels)],
        inputs=(np.stack(pixels),),
        signatures=np.stack([make_signature(Image.fromarray(each)) for each in pixels]),
        targets=task.encode(labels, tuple(class_names)),
        splits={split: np.arange(starts[i], starts[i + 1]) for i, split in enumerate(SPLITS)},
        quarantine=list(quarantine),
        duplicates=0,
        near_duplicates=0,
        split_warnings=[],
        least_score=SURE_SCORE,
        groups=np.arange(total, dtype=np.int32),
        digests=[str(i) for i in range(total)],
    )


def make_outputs(data: Data, wrong: int = 1, sure: float = 0.9) -> dict[Split, np.ndarray]:
    """Predictions that are right but for the first of each split, whose labels are moved by one class."""
    outputs = {}
    for split in ("val", "test"):
        targets = data.targets[data.splits[split]].copy()
        if len(targets):
            targets[:wrong] = 1 - targets[:wrong] if data.task.two_classes else np.roll(targets[:wrong], 1, axis=1)
            rest = 1 if data.task != MULTICLASS else len(data.class_names) - 1
            outputs[split] = np.where(targets > 0.5, sure, (1 - sure) / rest).astype(np.float32)
    return outputs


def make_model(data: Data) -> keras.Model:
    """A network of one convolution, with the layers that a classifier has."""
    pictures = keras.Input(data.inputs[0].shape[1:])
    keras.utils.set_random_seed(0)
    maps = keras.layers.Conv2D(4, 5, strides=4, activation="relu")(pictures)
    pooled = keras.layers.GlobalAveragePooling2D(name="pooling")(maps)
    head = build_head(4, data.task, len(data.class_names))
    return keras.Model(pictures, head(pooled))
