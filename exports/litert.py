"""LiteRT (TensorFlow Lite): one small file for phones and boards, in float32 or with weights of 8 bits."""

import functools
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import tensorflow as tf

from app.terminal import silent_stderr
from exports.class_function import ROUNDING, ClassFunction, Route
from inference.load import TrainedRun


def write_litert(compute: ClassFunction, run: TrainedRun, path: Path, quantize: bool = False) -> dict[str, Route]:
    """Writes the model, without labels, for which such a file has no place.

    Args:
        compute: the model.
        run: not used.
        path: of the file.
        quantize: weights of 8 bits (dynamic range quantisation): a quarter of the size, not as exact.
    """
    with warnings.catch_warnings(action="ignore"), silent_stderr():
        converter = tf.lite.TFLiteConverter.from_concrete_functions([compute.get_concrete_function()], tf.Module())
        converter.optimizations = [tf.lite.Optimize.DEFAULT] * quantize
        path.write_bytes(converter.convert())
    return {path.name: Route(functools.partial(open_litert, path), 1.0 if quantize else ROUNDING)}


def open_litert(path: Path) -> Callable[..., dict[str, np.ndarray]]:
    """Opens a file with LiteRT's own runtime, as a function of any number of examples."""
    with warnings.catch_warnings(action="ignore"), silent_stderr():
        interpreter = tf.lite.Interpreter(str(path))
        interpreter.allocate_tensors()
    return interpreter.get_signature_runner()
