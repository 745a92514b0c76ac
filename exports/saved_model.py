"""A SavedModel with a signature or two: TensorFlow alone answers with it, from tensors or from the bytes of files."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from exports.class_function import ClassFunction
from exports.decode_ops import decode_picture
from inference.load import TrainedRun
from tasks.table import Task

ENCODED = "serving_default"
"""Signature that takes files as they are, so that a server has nothing to prepare."""
PICTURES = "pictures"
DECODERS = {"image": decode_picture}
"""Kinds of input that TensorFlow can read, and how; other models have no signature that takes files."""
DECODED_AT_ONCE = 4
"""Files of a batch that are decoded in parallel; each may have 100 million pixels."""


def write_saved_model(compute: ClassFunction, run: TrainedRun, folder: Path) -> None:
    """Writes the SavedModel: all signatures return 'labels', string (n,), and 'probabilities', (n, num_classes)."""
    size, resize = run.config.data.chosen_size, run.config.data.resize
    shape = run.kind.reader(run.config).inputs[0].shape

    @tf.function(input_signature=[tf.TensorSpec((None, *shape), tf.float32, name="pictures")], autograph=False)
    def answer_pictures(pictures: tf.Tensor) -> dict[str, tf.Tensor]:
        probabilities = compute(pictures)["probabilities"]
        return {"labels": name_labels(probabilities, run.class_names, run.task), "probabilities": probabilities}

    @tf.function(input_signature=[tf.TensorSpec((None,), tf.string, name="encoded")], autograph=False)
    def answer_encoded(encoded: tf.Tensor) -> dict[str, tf.Tensor]:
        pictures = tf.map_fn(
            lambda content: DECODERS[run.kind.name](content, size, resize),
            encoded,
            fn_output_signature=tf.TensorSpec(shape, tf.float32),
            parallel_iterations=DECODED_AT_ONCE,
        )
        return answer_pictures(pictures)

    signatures = {ENCODED: answer_encoded} if run.kind.name in DECODERS else {}
    tf.saved_model.save(tf.Module(), str(folder), signatures={**signatures, PICTURES: answer_pictures})


def name_labels(probabilities: tf.Tensor, class_names: tuple[str, ...], task: Task) -> tf.Tensor:
    """Returns the answers as text, string (n,): the likeliest class, or all classes of at least 0.5, joined by '|'."""
    if not task.multi_label:
        return tf.gather(tf.constant(class_names), tf.argmax(probabilities, axis=1))
    names = tf.constant([f"|{name}" for name in class_names])
    return tf.strings.regex_replace(
        tf.strings.reduce_join(tf.where(probabilities >= 0.5, names, ""), axis=1), r"^\|", "", replace_global=False
    )


def open_pictures(folder: Path) -> Callable[[np.ndarray], dict[str, np.ndarray]]:
    """Opens a SavedModel as a function of float32 pictures (n, image_size, image_size, 3) in [0, 255]."""
    return _open(folder, PICTURES, "pictures")


def open_encoded(folder: Path) -> Callable[[list[bytes]], dict[str, np.ndarray]]:
    """Opens a SavedModel as a function of the contents of picture files."""
    return _open(folder, ENCODED, "encoded")


def _open(folder: Path, signature: str, argument: str) -> Callable[[Any], dict[str, np.ndarray]]:
    answer = tf.saved_model.load(str(folder)).signatures[signature]

    def call(values: Any) -> dict[str, np.ndarray]:
        found = answer(**{argument: tf.constant(values)})
        labels = [label.decode() for label in found["labels"].numpy()]
        return {"labels": np.array(labels, dtype=object), "probabilities": found["probabilities"].numpy()}

    return call
