"""Writes epochs for TensorBoard."""

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import tensorflow as tf


class Board:
    """The folder tensorboard/ of a run, in which training and validation share the charts."""

    def __init__(self, folder: Path):
        """Opens the folder without the files of an earlier process; writes nothing before the first epoch.

        Args:
            folder: folder of the run.
        """
        self._folder = folder / "tensorboard"
        shutil.rmtree(self._folder, ignore_errors=True)
        self._writers: dict[str, tf.summary.SummaryWriter] = {}

    def log_epoch(self, step: int, result: Mapping[str, Any]) -> None:
        """Writes the numbers of an epoch.

        Args:
            step: number of the epoch over all phases, from 1.
            result: values by name.
        """
        for name, value in result.items():
            if isinstance(value, float):
                split, chart = ("validation", name[4:]) if name.startswith("val_") else ("training", name)
                if split not in self._writers:
                    self._writers[split] = tf.summary.create_file_writer(str(self._folder / split))
                with self._writers[split].as_default(step):
                    tf.summary.scalar(chart, value)
        for writer in self._writers.values():
            writer.flush()

    def close(self) -> None:
        """Closes its files."""
        for writer in self._writers.values():
            writer.close()
        self._writers.clear()
