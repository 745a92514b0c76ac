"""Writes a trained model in other formats, and keeps a file only if its own runtime answers with it as the model does.

An export that was never run is a guess: a preprocessing step applied twice or not at all shows nowhere else.
"""

import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Literal, NamedTuple

import keras
import numpy as np
import tensorflow as tf

from app.errors import RunError
from app.escapes import visible
from app.terminal import show_stage
from exports.class_function import ClassFunction, class_function
from exports.decode_ops import KINDS
from exports.folder import PARITY_FILE, complete_folder
from exports.litert import open_litert, write_litert, write_quantized_litert
from exports.model_card import CARD_FILE, write_card
from exports.onnx import open_onnx, write_onnx
from exports.saved_model import ENCODED, PICTURES, open_encoded, open_pictures, write_saved_model
from features.extract import BATCH_SIZE
from inference.answers import class_probabilities, label_texts, predicted_labels
from inference.load import TrainedRun, load_model
from inference.predictor import Predictor
from inference.run_record import Sample

LABELS_FILE = "labels.txt"
SAME_LABELS = 0.99
"""Least share of pictures that an export has to give the same label as the model."""
BY_CHANCE = 20
"""Pictures of which one may be so near a border that it gets another label; of fewer, none may."""
ROUNDING = 1e-3
"""Largest difference of a probability that the order of computing can explain."""
ANSWERED = 0.5
"""Least share of the files that a SavedModel has to be able to decode, or the comparison says too little."""


class Route(NamedTuple):
    """One way to be answered by an exported file."""

    takes: Literal["pictures", "encoded"]
    open: Callable[[Path], Callable[[Any], dict[str, np.ndarray]]]
    """From the file to a function of a batch to 'probabilities', and 'labels' where the format has them."""
    largest_difference: float
    """That a probability may have."""


class Artifact(NamedTuple):
    """A file, or a folder, of a format."""

    name: str
    """'' for the folder of the format itself."""
    write: Callable[[ClassFunction, TrainedRun, Path], None]
    routes: dict[str, Route]
    """By name."""
    quantized: bool = False


FORMATS: dict[str, tuple[Artifact, ...]] = {
    "saved_model": (
        Artifact(
            "",
            write_saved_model,
            {
                ENCODED: Route("encoded", open_encoded, 0.02),
                PICTURES: Route("pictures", open_pictures, ROUNDING),
            },
        ),
    ),
    "litert": (
        Artifact("model.tflite", write_litert, {"model.tflite": Route("pictures", open_litert, ROUNDING)}),
        Artifact(
            "model_quantized.tflite",
            write_quantized_litert,
            {"model_quantized.tflite": Route("pictures", open_litert, 1.0)},
            quantized=True,
        ),
    ),
    "onnx": (Artifact("model.onnx", write_onnx, {"model.onnx": Route("pictures", open_onnx, ROUNDING)}),),
}


class NotTheSameError(Exception):
    """A file does not answer as the model does."""


class Reference(NamedTuple):
    """What the model itself says of the sample."""

    sample: Sample
    probabilities: np.ndarray
    """float32 (n, num_classes)."""
    labels: np.ndarray
    """object (n,), as in `predictions.csv`."""


class Parity(NamedTuple):
    """How far an exported file agrees with the model."""

    n: int
    """Pictures compared."""
    refused: int
    """Files that the format's own decoder does not read."""
    largest_difference: float
    """Of any probability."""
    allowed_difference: float
    same_labels: float
    """Share of the pictures compared."""
    allowed_same_labels: float

    @property
    def passed(self) -> bool:
        return (
            self.n >= ANSWERED * (self.n + self.refused)
            and self.largest_difference <= self.allowed_difference  # false for nan
            and self.same_labels >= self.allowed_same_labels
        )

    def __str__(self) -> str:
        allowed = f" (at most {self.allowed_difference:g})" if self.allowed_difference < 1 else ""
        text = (
            f"largest difference {self.largest_difference:.2g}{allowed}, "
            f"same label for {self.same_labels:.1%} of {self.n:,} (at least {self.allowed_same_labels:.0%})"
        )
        return f"{text}, {self.refused:,} not decoded" if self.refused else text


def export_run(
    run: TrainedRun, metrics: dict[str, Any], sample: Sample, folders: dict[str, Path], quantize: bool = True
) -> None:
    """Exports a run's model.

    Args:
        run: what to export.
        metrics: its `metrics.json`.
        sample: pictures to compare on.
        folders: for each name of `FORMATS` that is asked for, the folder to make or replace.
        quantize: write quantised files as well.

    Raises:
        RunError: a file does not answer as the model does; nothing of its format is kept.
    """
    model = load_model(run)
    reference = make_reference(model, run, sample)
    compute = class_function(model, run.task)
    problems = []
    for name, folder in folders.items():
        try:
            export_format(name, compute, run, metrics, reference, folder, quantize)
        except RunError as error:
            problems.append(str(error))
    if problems:
        raise RunError(" ".join(problems))


def make_reference(model: keras.Model, run: TrainedRun, sample: Sample) -> Reference:
    """Lets the model answer a sample, in the steps in which the run measured itself."""
    predictor = Predictor(model, run.cut)
    outputs = [
        predictor(sample.pixels[start : start + BATCH_SIZE]) for start in range(0, len(sample.paths), BATCH_SIZE)
    ]
    probabilities = class_probabilities(np.concatenate(outputs), run.task)
    return Reference(sample, probabilities, _labels(probabilities, run))


def export_format(
    name: str,
    compute: ClassFunction,
    run: TrainedRun,
    metrics: dict[str, Any],
    reference: Reference,
    folder: Path,
    quantize: bool = True,
) -> None:
    """Writes one format beside its place, compares it with the model, and only then moves it there.

    Args:
        name: in `FORMATS`.
        compute: what is written.
        run: whose classes and settings go with it.
        metrics: the run's `metrics.json`.
        reference: what the written files have to answer.
        folder: to make, or to replace.
        quantize: write quantised files as well.

    Raises:
        RunError: a file does not answer as the model does. A quantised one is left out then, and the others are kept.
    """
    artifacts = [artifact for artifact in FORMATS[name] if quantize or not artifact.quantized]
    with complete_folder(folder) as aside:
        parities: dict[str, Parity] = {}
        for artifact in artifacts:
            try:
                parities |= _write_and_compare(name, artifact, compute, run, reference, aside)
            except NotTheSameError as error:
                if not artifact.quantized:
                    raise RunError(f"{error} Nothing of it was kept.") from None
                (aside / artifact.name).unlink()
                show_stage("warning", f"{error} It was left out.")
        _write_text(aside / LABELS_FILE, "".join(f"{visible(name)}\n" for name in run.class_names))
        record = {"format": name, "routes": {route: parity._asdict() for route, parity in parities.items()}}
        _write_text(aside / PARITY_FILE, json.dumps(record, indent=2) + "\n")
        write_card(aside / CARD_FILE, name, run, metrics, {route: str(parity) for route, parity in parities.items()})
    show_stage(name, f"in {folder}")


def _write_and_compare(
    name: str, artifact: Artifact, compute: ClassFunction, run: TrainedRun, reference: Reference, folder: Path
) -> dict[str, Parity]:
    started = time.perf_counter()
    path = folder / artifact.name
    artifact.write(compute, run, path)
    size = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file() and file.is_relative_to(path))
    written = f"{size / 2**20:.1f} MiB, written in {time.perf_counter() - started:.1f} seconds"
    show_stage(name, f"{artifact.name}: {written}" if artifact.name else written)
    found = {}
    for route_name, route in artifact.routes.items():
        started = time.perf_counter()
        found[route_name] = parity = compare(route, path, run, reference)
        if not parity.passed:
            advice = ""
            if parity.n < ANSWERED * (parity.n + parity.refused):
                advice = f" TensorFlow decodes {', '.join(KINDS)}: name such pictures as --sample."
            raise NotTheSameError(
                f"The export to {name} ({route_name}) does not answer as the model does: {parity}.{advice}"
            )
        show_stage("", f"{route_name}: {parity}, in {time.perf_counter() - started:.1f} seconds")
    return found


def compare(route: Route, path: Path, run: TrainedRun, reference: Reference) -> Parity:
    """Lets an exported file answer the sample in its own runtime, and compares.

    Args:
        route: how to ask it.
        path: of the file or folder.
        run: for the classes.
        reference: the sample, and what the model says of it.
    """
    answer = route.open(path)
    rows: list[int] = []
    probabilities: list[np.ndarray] = []
    labels: list[str] = []
    for batch, content in _batches(route, reference.sample):
        try:
            found = answer(content)
        except tf.errors.InvalidArgumentError:  # a picture that TensorFlow cannot decode
            continue
        rows.extend(batch)
        probabilities.append(found["probabilities"])
        labels.extend(found.get("labels", _labels(found["probabilities"], run)))
    if not rows:
        return Parity(0, len(reference.labels), np.nan, route.largest_difference, 0.0, SAME_LABELS)
    difference = np.abs(np.concatenate(probabilities) - reference.probabilities[rows]).max()
    return Parity(
        n=len(rows),
        refused=len(reference.labels) - len(rows),
        largest_difference=float(difference),
        allowed_difference=route.largest_difference,
        same_labels=float(np.mean(np.array(labels, dtype=object) == reference.labels[rows])),
        allowed_same_labels=min(SAME_LABELS, 1 - 1 / len(rows)) if len(rows) >= BY_CHANCE else SAME_LABELS,
    )


def _batches(route: Route, sample: Sample) -> Iterator[tuple[range, Any]]:
    """The positions in the sample of each batch, and the batch; files come one by one, as any may be refused."""
    if route.takes == "encoded":
        for row, path in enumerate(sample.paths):
            yield range(row, row + 1), [path.read_bytes()]
        return
    for start in range(0, len(sample.paths), BATCH_SIZE):
        pixels = sample.pixels[start : start + BATCH_SIZE]
        yield range(start, start + len(pixels)), pixels.astype(np.float32)


def _labels(probabilities: np.ndarray, run: TrainedRun) -> np.ndarray:
    texts = label_texts(predicted_labels(probabilities, run.task), run.class_names)
    return np.array(texts, dtype=object)


def _write_text(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8", newline="")
