"""The library that computes the frozen layers: TensorFlow, or OpenVINO, which is faster on CPUs for many networks.

OpenVINO computes one example per thread, with all threads in parallel. So its result for an example depends neither on
the rest of the batch nor on the number of cores.
"""

import functools
import importlib.util
import os
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Literal

import joblib
import keras
import numpy as np
import tensorflow as tf

from app.config import TrainConfig
from app.errors import UsageError
from data.batches import View
from data.pipeline import Varied, input_batches
from devices.precision import Precision, has_accelerator, is_rewritten
from devices.replicas import is_shared
from features.cuts import find_cuts
from features.forward_pass import frozen_function, inputs_of
from models.backbones import find

Runtime = Literal["tensorflow", "openvino"]
PRECISIONS: dict[Precision, str] = {"float32": "f32", "mixed_bfloat16": "bf16"}
"""Precisions that OpenVINO supports, and its names for them."""
LARGEST_DIFFERENCE: dict[Precision, float] = {"float32": 1e-3, "mixed_bfloat16": 0.1}
"""Largest difference from TensorFlow's result in float32, relative to it (ratio of Euclidean norms)."""
EXAMPLES_COMPARED = 8
SMALLEST = 1e-30
NO_FASTER = {
    *("vgg16", "vgg19", "resnet_v2", "inception_v3", "inception_resnet_v2", "xception", "nasnet"),
    *("text_encoder", "text_folder", "causal_text_folder"),
}
"""Families for which OpenVINO is not faster: 0.7 to 1.06 times TensorFlow's rate in float32, and no better in bfloat16,
because most of their computation is dense convolutions. For texts, one at a time, its rate is half; for other families
it is 1.2 to 2 times the rate."""
LEAST_WORK = 5e11
"""Least multiply-adds in total (ten seconds on two cores) that are worth one to three seconds of conversion."""


class RefusedError(Exception):
    """OpenVINO cannot convert a network, or computes other values; the message continues a sentence about OpenVINO."""


def choose_runtime(config: TrainConfig, model: keras.Model, examples: int, strategy: tf.distribute.Strategy) -> Runtime:
    """Resolves 'auto' by what is installed, not by timing, so that the same command always decides the same.

    Args:
        config: the settings.
        model: the network.
        examples: number of examples to learn from.
        strategy: strategy whose replicas compute.

    Raises:
        UsageError: the user asked for OpenVINO, which is not installed or does not support the settings.
    """
    asked_for, half = config.training.runtime, config.training.precision == "mixed_float16"
    installed = importlib.util.find_spec("openvino") is not None
    possible = not is_shared(strategy) and not half
    if asked_for == "openvino" and not installed:
        raise UsageError("--runtime openvino needs OpenVINO: pip install -r requirements-fast.txt")
    if asked_for == "openvino" and not possible:
        raise UsageError("--runtime openvino computes on one CPU, in float32 or bfloat16; take --runtime auto.")
    if asked_for != "auto":
        return asked_for
    if not installed or not possible or has_accelerator() or config.run.cluster is not None:  # may have GPUs
        return "tensorflow"
    if find(config.model.backbone).module in NO_FASTER:
        return "tensorflow"
    return "openvino" if find_cuts(model)[-1].macs_before * examples >= LEAST_WORK else "tensorflow"


def runtime_function(model: keras.Model, precision: Precision, runtime: Runtime) -> Callable[..., list]:
    """Makes a function of a model in inference mode, with its current weights; see `forward_pass.frozen_function`."""
    if runtime == "openvino":
        return OpenVino(model, precision)
    return frozen_function(model, "float32" if is_rewritten(precision) else precision)


class OpenVino:
    """A function that OpenVINO computes, converted at its first call; see `forward_pass.frozen_function`."""

    def __init__(self, model: keras.Model, precision: Precision):
        """Args:

        model: model, whose current weights are used.
        precision: precision of its layers.
        """
        self._frozen: Any = frozen_function(model)
        self._precision = precision

    def __call__(self, *inputs: tf.Tensor) -> list[np.ndarray]:
        """Computes the outputs for a batch.

        Raises:
            RefusedError: OpenVINO cannot convert the model.
        """
        queue, sources = self._converted
        arrays = [np.asarray(each) for each in inputs]
        shapes = [tuple(output.shape)[1:] for output in queue[0].model_outputs]
        outputs = [np.empty((len(arrays[0]), *shape), np.float32) for shape in shapes]

        def keep(request: Any, row: int) -> None:
            for place, output in enumerate(outputs):
                output[row] = request.get_output_tensor(place).data[0]

        queue.set_callback(keep)
        for row in range(len(arrays[0])):
            rows = {source: array[row : row + 1] for source, array in zip(sources, arrays, strict=True)}
            queue.start_async(rows, row)
        queue.wait_all()
        return outputs

    def check(self, view: View, varied: Varied | None, names: Sequence[str]) -> None:
        """Compares the outputs for the first examples with TensorFlow's.

        Args:
            view: the examples.
            varied: random variation of the examples.
            names: names of the output layers.

        Raises:
            RefusedError: OpenVINO cannot convert the model, or an output differs by more than rounding.
        """
        first = view._replace(rows=view.rows[:EXAMPLES_COMPARED])
        draws = varied and varied._replace(draws=varied.draws[:EXAMPLES_COMPARED])
        inputs = inputs_of(next(iter(input_batches(first, EXAMPLES_COMPARED, draws))))
        for name, one, other in zip(names, self(*inputs), self._frozen(*inputs), strict=True):
            difference = np.linalg.norm(one - other.numpy()) / max(float(np.linalg.norm(other)), SMALLEST)
            if not difference <= LARGEST_DIFFERENCE[self._precision]:
                raise RefusedError(f"differs from it in layer '{name}' by {difference:.1%}")

    @functools.cached_property
    def _converted(self) -> tuple[Any, list[str]]:
        """Converts the model; returns the queue of requests, and the names of the inputs."""
        sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]  # else it reports to its makers
        import openvino

        function = self._frozen.get_concrete_function()
        specs = self._frozen.input_signature
        sources = [tensor.op.name for tensor in function.inputs[: len(specs)]]  # large weights follow
        threads = int(os.environ.get("TF_NUM_INTRAOP_THREADS") or joblib.cpu_count())
        settings = {
            "INFERENCE_PRECISION_HINT": PRECISIONS[self._precision],
            "INFERENCE_NUM_THREADS": threads,
            "NUM_STREAMS": threads,
            "ENABLE_CPU_PINNING": False,  # another process may be using the core
            "CPU_DENORMALS_OPTIMIZATION": True,  # TensorFlow treats them as 0, too
        }
        try:
            converted = openvino.convert_model(function)
            # Gradients of activations would be further outputs, with which the network is three times as slow.
            outputs = [converted.output(tensor.name) for tensor in function.outputs]
            network = openvino.Model(outputs, converted.get_parameters())
            network.reshape({name: [1, *spec.shape[1:]] for name, spec in zip(sources, specs, strict=True)})
            # In a thread of its own: from then on, it treats the smallest floats as 0, also in Python and numpy.
            with ThreadPoolExecutor(1) as thread:
                compiled = thread.submit(openvino.Core().compile_model, network, "CPU", settings).result()
        except Exception as error:  # OpenVINO may raise any exception
            raise RefusedError(f"cannot take this network ({str(error).strip()[-200:]})") from error
        return openvino.AsyncInferQueue(compiled, threads), sources
