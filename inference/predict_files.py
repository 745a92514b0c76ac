"""From picture files to answers: read, compute, tell, in batches, so that any number of them fits into memory."""

import contextlib
import time
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from app.errors import UsageError
from app.terminal import progress_bar, show_stage
from features.extract import BATCH_SIZE
from inference.answer_summary import Summary
from inference.answer_table import answer_table, csv_writer
from inference.answering import AnsweringModel
from inference.files import Batch, FoundFile, read_batches
from models.heads import num_outputs


def predict_files(
    network: AnsweringModel,
    files: Sequence[FoundFile],
    *,
    csv: Path | None = None,
    top: int = 3,
    unknown_below: float | None = None,
) -> float:
    """Answers for every file, on the terminal and in a CSV file.

    Args:
        network: what answers.
        files: from `find_files`.
        csv: file of all answers; see `inference.answer_table.answer_table`.
        top: how many classes the terminal shows for a picture.
        unknown_below: where no class is as likely as this, the answer is 'unknown'.

    Returns:
        Seconds that the pictures took, without those of loading the model.

    Raises:
        UsageError: none of the files is a picture; the answers, which say why, are shown and written all the same.
    """
    model = network.load()
    nothing = np.zeros((0, num_outputs(network.task, len(network.class_names))), np.float32)

    def predict(pixels: np.ndarray) -> np.ndarray:
        return model(pixels) if len(pixels) else nothing

    summary = Summary(network.task, top)
    started = time.perf_counter()
    with csv_writer(csv) as write, progress_bar("predict", len(files)) as advance:
        batches = read_batches(files, network.image_size, network.resize, BATCH_SIZE)
        with contextlib.closing(_computed(batches, predict)) as computed:
            for batch, outputs in computed:
                table = answer_table(batch.files, outputs, network.class_names, network.task, unknown_below)
                write(table)
                summary.add(table)
                advance(len(table))
    seconds = time.perf_counter() - started
    summary.show(seconds)
    if csv is not None:
        show_stage("table", str(csv))
    if not summary.pictures:
        files_are = "The file is no" if len(files) == 1 else f"None of the {len(files):,} files is a"
        raise UsageError(f"{files_are} readable picture. Name pictures, or folders of them.")
    return seconds


def _computed(
    batches: Generator[Batch], predict: Callable[[np.ndarray], np.ndarray]
) -> Generator[tuple[Batch, np.ndarray]]:
    """Computes batches in a thread of its own, which begins with the next while the caller works on the one before."""
    with contextlib.closing(batches), ThreadPoolExecutor(1) as worker:
        before = None
        for batch in batches:
            now = batch, worker.submit(predict, batch.pixels)
            if before:
                yield before[0], before[1].result()
            before = now
        if before:
            yield before[0], before[1].result()
