"""A SavedModel with one or two signatures: TensorFlow alone can run it, on tensors or on the bytes of files."""

import functools
from collections.abc import Callable
from pathlib import Path

import numpy as np
import tensorflow as tf

from exports.class_function import ClassFunction, Route
from inference.load import TrainedRun
from tasks.classification import Classification
from tasks.table import classes_of

ENCODED = "serving_default"
"""Name of the signature that takes unprepared files, for servers."""
DECODED_AT_ONCE = 4
"""Most files of a batch that are decoded in parallel; each may have 100 million pixels."""


def write_saved_model(compute: ClassFunction, run: TrainedRun, folder: Path) -> dict[str, Route]:
    """Writes the SavedModel: all signatures return 'labels', string (n,), and 'probabilities', (n, num_classes); or
    boxes as `compute` does."""

    @tf.function(input_signature=compute.input_signature, autograph=False)
    def answer(*inputs: tf.Tensor) -> dict[str, tf.Tensor]:
        found = compute(*inputs)
        if "probabilities" not in found:
            return found
        probabilities = found["probabilities"]
        labels = name_labels(probabilities, run.class_names, classes_of(run.task))
        return {"labels": labels, "probabilities": probabilities}

    signatures, routes = {run.kind.nouns: answer}, {}
    if run.kind.graph_reader is not None:
        read = run.kind.graph_reader().read
        specs = tuple(tf.TensorSpec(spec.shape[1:], spec.dtype) for spec in compute.input_signature)

        @tf.function(input_signature=[tf.TensorSpec((None,), tf.string, name="encoded")], autograph=False)
        def answer_encoded(encoded: tf.Tensor) -> dict[str, tf.Tensor]:
            inputs = tf.map_fn(
                lambda content: read(content, run.config),
                encoded,
                fn_output_signature=specs,
                parallel_iterations=DECODED_AT_ONCE,
            )
            return answer(*inputs)

        signatures = {ENCODED: answer_encoded, **signatures}
        routes[ENCODED] = Route(functools.partial(open_signature, folder, ENCODED), 0.02, encoded=True)
    tf.saved_model.save(tf.Module(), str(folder), signatures=signatures)
    return routes | {run.kind.nouns: Route(functools.partial(open_signature, folder, run.kind.nouns))}


def name_labels(probabilities: tf.Tensor, class_names: tuple[str, ...], task: Classification) -> tf.Tensor:
    """Returns the answers as text, string (n,): the likeliest class, or all classes that reach their thresholds, joined
    by '|'."""
    thresholds = tf.constant(0.5 if task.thresholds is None else task.thresholds, tf.float32)
    if task.two_classes and task.thresholds is not None:
        return tf.gather(tf.constant(class_names), tf.cast(probabilities[:, 1] >= thresholds, tf.int32))
    if not task.multi_label:
        return tf.gather(tf.constant(class_names), tf.argmax(probabilities, axis=1))
    names = tf.constant([f"|{name}" for name in class_names])
    return tf.strings.regex_replace(
        tf.strings.reduce_join(tf.where(probabilities >= thresholds, names, ""), axis=1),
        r"^\|",
        "",
        replace_global=False,
    )


def open_signature(folder: Path, signature: str = ENCODED) -> Callable[..., dict[str, np.ndarray]]:
    """Opens a SavedModel as a function of the 'encoded' contents of files, or of the inputs of another signature."""
    answer = tf.saved_model.load(str(folder)).signatures[signature]

    def call(**inputs: np.ndarray | list[bytes]) -> dict[str, np.ndarray]:
        found = answer(**{name: tf.constant(values) for name, values in inputs.items()})
        arrays = {name: values.numpy() for name, values in found.items()}
        if "labels" in arrays:
            arrays["labels"] = np.array([label.decode() for label in arrays["labels"]], dtype=object)
        return arrays

    return call
