"""Exports a trained model to other formats, and compares each exported file with the model.

A file is kept only if it gives the same answers as the model when the runtime of its format runs it. Nothing else would
show that preprocessing is applied twice, or not at all.
"""

import functools
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import keras
import numpy as np
import tensorflow as tf

from app.errors import RunError, UsageError
from app.escapes import visible
from app.files import write_json, write_text
from app.terminal import show_stage
from exports.class_function import ClassFunction, Route, class_function
from exports.folder import PARITY_FILE, complete_folder
from exports.litert import write_litert
from exports.onnx import write_onnx
from exports.saved_model import write_saved_model
from features.forward_pass import BATCH_SIZE, side_by_side
from inference.load import THRESHOLDS_FILE, TrainedRun, load_model
from inference.predictor import Predictor
from inference.run_record import Sample
from reports.model_card import CARD_FILE, Export, write_card

LABELS_FILE = "labels.txt"
SAME_LABELS = 0.99
"""Least share of examples for which an export must give the model's label."""
BY_CHANCE = 20
"""Fewest compared examples of which one may have another label, as it may lie on the border between two classes."""
TIMED = 9
"""Number of calls for the median time."""


class Artifact(NamedTuple):
    """A file or a folder of a format."""

    name: str
    """Name of the file; '' for the folder of the format itself."""
    write: Callable[..., dict[str, Route]]
    """Writes the artifact, given a `ClassFunction`, the run and a path; returns the ways to call it, by name."""
    quantized: bool = False
    calibrated: bool = False
    """True if it needs examples for `calibration`; these are not used for the comparison."""


FORMATS: dict[str, tuple[Artifact, ...]] = {
    "saved_model": (Artifact("", write_saved_model),),
    "litert": (
        Artifact("model.tflite", write_litert),
        Artifact("model_float16.tflite", functools.partial(write_litert, numbers="float16"), quantized=True),
        Artifact("model_quantized.tflite", functools.partial(write_litert, numbers="dynamic"), quantized=True),
        Artifact("model_int8.tflite", functools.partial(write_litert, numbers="int8"), quantized=True, calibrated=True),
    ),
    "onnx": (Artifact("model.onnx", write_onnx),),
}


class Reference(NamedTuple):
    """Answers of the original model."""

    sample: Sample
    answers: np.ndarray
    """float32 (n, ...): probabilities of classes, or boxes; several outputs joined."""
    labels: np.ndarray
    """Each answer as text: its classes, or the number of boxes of each class."""

    def half(self) -> "Reference":
        """Returns every second example, beginning with the second."""
        return Reference(self.sample.half(), self.answers[1::2], self.labels[1::2])


class Parity(NamedTuple):
    """Agreement of an exported file with the model, as in `parity.json`."""

    n: int
    """Examples compared."""
    refused: int
    """Number of files that the format's own decoder cannot read."""
    largest_difference: float
    """Largest difference of any probability, or of a corner of a box."""
    allowed_difference: float
    same_labels: float
    """Share of the compared examples with the same label."""
    allowed_same_labels: float
    milliseconds: float
    """Milliseconds for one example, in a call of its own, on this machine."""
    bytes: int = 0
    """Size of the file or the folder."""

    @property
    def is_decoded(self) -> bool:
        """Returns True if at least half of the files could be read; with fewer, the comparison says too little."""
        return self.n >= self.refused

    @property
    def passed(self) -> bool:
        """Returns True if the file may be kept."""
        is_near = self.largest_difference <= self.allowed_difference  # False for NaN
        return self.is_decoded and is_near and self.same_labels >= self.allowed_same_labels

    def __str__(self) -> str:
        allowed = f" (at most {self.allowed_difference:g})" if self.allowed_difference < 1 else ""
        text = (
            f"largest difference {self.largest_difference:.2g}{allowed}, "
            f"same label for {self.same_labels:.1%} of {self.n:,} (at least {self.allowed_same_labels:.0%})"
        )
        text += f"; {self.bytes / 2**20:.1f} MiB, {self.milliseconds:.1f} ms each"
        return f"{text}, {self.refused:,} not decoded" if self.refused else text


def export_run(
    run: TrainedRun,
    metrics: dict[str, Any],
    sample: Sample,
    folders: dict[str, Path],
    quantize: bool = True,
    keep_quantized: bool = False,
) -> None:
    """Exports the model of a run.

    Args:
        run: the run.
        metrics: its `metrics.json`.
        sample: examples to compare on.
        folders: folder to create or replace, for each requested name of `FORMATS`.
        quantize: write quantised files as well.
        keep_quantized: keep quantised files that give other answers; their card says so.

    Raises:
        RunError: a file does not answer as the model does; nothing of its format is kept.
    """
    model = load_model(run)
    reference = make_reference(model, run, sample)
    compute = class_function(model, run)
    problems = []
    for name, folder in folders.items():
        try:
            export_format(name, compute, run, metrics, reference, folder, quantize, keep_quantized)
        except (RunError, UsageError) as error:
            problems.append(str(error))
    if problems:
        raise RunError(" ".join(problems))


def make_reference(model: keras.Model, run: TrainedRun, sample: Sample) -> Reference:
    """Computes the model's answers for a sample, in the same steps as the run's own measurement."""
    predictor = Predictor(model, run.cut)
    outputs = [predictor(sample.take(rows)) for rows in _batches(sample, BATCH_SIZE)]
    answers = run.task.exported(np.concatenate(outputs))
    return Reference(sample, answers, np.array(run.task.texts(answers, run.class_names), dtype=object))


def export_format(
    name: str,
    compute: ClassFunction,
    run: TrainedRun,
    metrics: dict[str, Any],
    reference: Reference,
    folder: Path,
    quantize: bool = True,
    keep_quantized: bool = False,
) -> None:
    """Writes one format to a temporary folder, compares it with the model, and only then moves it to its place.

    Raises:
        RunError: a file does not answer as the model does. A quantised file is only left out, or kept on request.
    """
    parities: dict[str, Parity] = {}
    with complete_folder(folder) as aside:
        for artifact in FORMATS[name]:
            if artifact.quantized and not quantize:
                continue
            path = aside / artifact.name
            found = _write(name, artifact, compute, run, reference, path)
            problem = next((_problem(name, *item, run) for item in found.items() if not item[1].passed), None)
            if problem and not artifact.quantized:
                raise RunError(f"{problem} Nothing of it was kept.")
            if problem:
                show_stage("warning", f"{problem} It was {'kept all the same' if keep_quantized else 'left out'}.")
            if problem and not keep_quantized:
                path.unlink()
                continue
            parities |= found
            for route_name, parity in found.items():
                show_stage("", f"{route_name}: {parity}")
        write_text(aside / LABELS_FILE, "".join(f"{visible(name)}\n" for name in run.class_names))
        for file_name, content in run.reader.files.items():
            (aside / file_name).write_bytes(content)
        if thresholds := run.task.thresholds_of(run.class_names):
            write_json(aside / THRESHOLDS_FILE, thresholds)
        record = {"format": name, "routes": {route: parity._asdict() for route, parity in parities.items()}}
        write_json(aside / PARITY_FILE, record)
        texts = {
            route: str(parity) if parity.passed else f"**does not answer as the model does**: {parity}"
            for route, parity in parities.items()
        }
        write_card(aside / CARD_FILE, run, metrics, Export(name, texts, compute.input_signature))
    show_stage(name, f"in {folder}")


def _write(
    name: str, artifact: Artifact, compute: ClassFunction, run: TrainedRun, reference: Reference, path: Path
) -> dict[str, Parity]:
    """Writes an artifact, and compares each way to call it with the model."""
    started, more = time.perf_counter(), {}
    if artifact.calibrated:
        more["calibration"] = reference.sample.take(np.arange(0, len(reference.labels), 2))
        reference = reference.half()
    routes = artifact.write(compute, run, path, **more)
    files = [file for file in path.rglob("*") if file.is_file()] if path.is_dir() else [path]
    size = sum(file.stat().st_size for file in files)
    shown = f"{artifact.name or 'the folder'}: {size / 2**20:.1f} MiB"
    show_stage(name, f"{shown}, written in {time.perf_counter() - started:.1f} seconds")
    return {
        route_name: _compare(route, compute, run, reference)._replace(bytes=size)
        for route_name, route in routes.items()
    }


def _compare(route: Route, compute: ClassFunction, run: TrainedRun, reference: Reference) -> Parity:
    """Compares the answers of an exported file, in its own runtime, with those of the model."""
    answer, sample = route.open(), reference.sample
    rows: list[int] = []
    answers = [reference.answers[:0]]
    labels: list[str] = []

    def ask(batch: np.ndarray) -> dict[str, np.ndarray]:
        if route.encoded:
            return answer(encoded=[sample.paths[row].read_bytes() for row in batch])
        specs = zip(compute.input_signature, sample.take(batch), strict=True)
        return answer(**{spec.name: each.astype(spec.dtype.as_numpy_dtype) for spec, each in specs})

    for batch in _batches(sample, 1 if route.encoded else BATCH_SIZE):  # the decoder may refuse any single file
        try:
            found = ask(batch)
        except tf.errors.InvalidArgumentError:  # a file that TensorFlow cannot decode
            continue
        except RuntimeError:  # LiteRT cannot run it, as where 8 bits turn a divisor into 0
            continue
        rows.extend(batch)
        answers.append(side_by_side([found[name] for name in run.task.outputs]))
        labels.extend(found.get("labels", run.task.texts(answers[-1], run.class_names)))
    n, apart = len(rows), run.task.differences(np.concatenate(answers), reference.answers[rows])
    return Parity(
        n=n,
        refused=len(reference.labels) - n,
        largest_difference=float(apart.max(initial=0.0)),
        allowed_difference=route.largest_difference,
        same_labels=float(np.sum(np.array(labels, dtype=object) == reference.labels[rows])) / max(n, 1),
        allowed_same_labels=min(SAME_LABELS, 1 - 1 / n) if n >= BY_CHANCE else SAME_LABELS,
        milliseconds=_milliseconds(ask, rows[0]) if rows else 0.0,
    )


def _milliseconds(ask: Callable[[np.ndarray], object], row: int) -> float:
    """Returns the median milliseconds of calls for one example, after a first call that does not count."""
    seconds = []
    for _ in range(1 + TIMED):
        started = time.perf_counter()
        ask(np.array([row]))
        seconds.append(time.perf_counter() - started)
    return 1000 * float(np.median(seconds[1:]))


def _problem(name: str, route_name: str, parity: Parity, run: TrainedRun) -> str:
    text = f"The export to {name} ({route_name}) does not answer as the model does: {parity}."
    if parity.is_decoded or run.kind.graph_reader is None:
        return text
    formats = ", ".join(run.kind.graph_reader().formats)
    return f"{text} TensorFlow decodes {formats}: name such {run.kind.nouns} as --sample."


def _batches(sample: Sample, batch_size: int) -> list[np.ndarray]:
    """Returns the positions in a sample, batch by batch."""
    rows = np.arange(len(sample.paths))
    return [rows[start : start + batch_size] for start in range(0, len(rows), batch_size)]
