"""LiteRT (TensorFlow Lite): one small file for phones and boards, in float32, float16, or with 8 bits."""

import functools
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Literal

import numpy as np
import tensorflow as tf

from app.errors import RunError, UsageError
from app.terminal import silent_stderr
from data.kinds import Inputs
from exports.class_function import ROUNDING, ClassFunction, Route
from inference.load import TrainedRun

Numbers = Literal["float32", "float16", "dynamic", "int8"]
"""Number formats of a file: 'dynamic' has weights of 8 bits and computes in float32, 'int8' computes in 8 bits."""
LARGEST_DIFFERENCE: dict[Numbers, float] = {"float32": ROUNDING, "float16": 0.02, "dynamic": 1.0, "int8": 1.0}
"""Largest difference of a probability that the number format can explain; with 8 bits, only labels must agree."""


def write_litert(
    compute: ClassFunction, run: TrainedRun, path: Path, calibration: Inputs = (), numbers: Numbers = "float32"
) -> dict[str, Route]:
    """Writes the model, without labels, which such a file cannot hold.

    Args:
        compute: the model.
        run: not used.
        path: path of the file.
        calibration: examples that define the ranges of 'int8'.
        numbers: number format; inputs and outputs are float32.
    """

    def examples() -> Iterator[list[np.ndarray]]:
        specs = compute.input_signature
        for row in range(len(calibration[0])):
            yield [
                each[row : row + 1].astype(spec.dtype.as_numpy_dtype)
                for spec, each in zip(specs, calibration, strict=True)
            ]

    with warnings.catch_warnings(action="ignore"), silent_stderr():
        converter = tf.lite.TFLiteConverter.from_concrete_functions([compute.get_concrete_function()], tf.Module())
        converter.optimizations = [tf.lite.Optimize.DEFAULT] * (numbers != "float32")
        if numbers == "float16":
            converter.target_spec.supported_types = [tf.float16]
        if numbers == "int8":
            converter.representative_dataset = examples
            # The few operations that do not exist in 8 bits stay in float32.
            converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8, tf.lite.OpsSet.TFLITE_BUILTINS]
        try:
            path.write_bytes(converter.convert())
        except Exception as error:  # its type is in a private module
            if "TF Select ops" not in str(error):
                raise
            missing = str(error).partition("TF Select ops: ")[2].partition("\n")[0]
            raise UsageError(
                f"LiteRT cannot compute {missing}, which this network needs; export it to saved_model or onnx."
            ) from None
    return {path.name: Route(functools.partial(open_litert, path), LARGEST_DIFFERENCE[numbers])}


def open_litert(path: Path) -> Callable[..., dict[str, np.ndarray]]:
    """Opens a file with LiteRT's own runtime, as a function of any number of examples."""
    with warnings.catch_warnings(action="ignore"), silent_stderr():
        interpreter = tf.lite.Interpreter(str(path))
        interpreter.allocate_tensors()
    if not interpreter.get_signature_list():
        raise RunError(
            f"LiteRT's converter lost a part of '{path.name}', as it does where the disk of temporary files is full. "
            "Make room, or let TMPDIR name another folder."
        )
    return interpreter.get_signature_runner()
