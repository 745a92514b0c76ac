"""LiteRT (TensorFlow Lite): one small file for phones and boards, in float32 or with weights of 8 bits."""

import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import tensorflow as tf

from app.terminal import silent_stderr
from exports.class_function import ClassFunction
from inference.load import TrainedRun


def write_litert(compute: ClassFunction, run: TrainedRun, path: Path) -> None:
    """Writes the model with float32 weights. `run` is not used: such a file has no place for labels."""
    _write(compute, path, optimizations=[])


def write_quantized_litert(compute: ClassFunction, run: TrainedRun, path: Path) -> None:
    """Writes the model with weights of 8 bits (dynamic range quantisation): a quarter of the size, not as exact."""
    _write(compute, path, optimizations=[tf.lite.Optimize.DEFAULT])


def open_litert(path: Path) -> Callable[[np.ndarray], dict[str, np.ndarray]]:
    """Opens a file with LiteRT's own runtime, as a function of any number of float32 pictures."""
    with warnings.catch_warnings(action="ignore"), silent_stderr():
        interpreter = tf.lite.Interpreter(str(path))
        interpreter.allocate_tensors()
    answer = interpreter.get_signature_runner()
    return lambda pictures: answer(pictures=pictures)


def _write(compute: ClassFunction, path: Path, optimizations: list[tf.lite.Optimize]) -> None:
    with warnings.catch_warnings(action="ignore"), silent_stderr():
        converter = tf.lite.TFLiteConverter.from_concrete_functions([compute.get_concrete_function()], tf.Module())
        converter.optimizations = optimizations
        path.write_bytes(converter.convert())
