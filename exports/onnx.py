"""ONNX: a file for ONNX Runtime, OpenVINO, TensorRT and others."""

import functools
import json
import logging
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from app.terminal import silent_stderr
from exports.class_function import ClassFunction, Route
from inference.load import TrainedRun


def write_onnx(compute: ClassFunction, run: TrainedRun, path: Path) -> dict[str, Route]:
    """Writes the model, with its class names in the file's metadata."""
    with warnings.catch_warnings(action="ignore"), silent_stderr():
        import onnx
        import tf2onnx

        logging.getLogger("tf2onnx").setLevel(logging.ERROR)
        _teach_erfc()
        model, _ = tf2onnx.convert.from_function(_plain(compute), input_signature=compute.input_signature)
    _keep_zero_padding(model.graph)
    for value in (*model.graph.input, *model.graph.output):
        value.type.tensor_type.shape.dim[0].dim_param = "batch"
    about = {"classes": "\n".join(run.class_names), "task": run.task.name}
    if thresholds := run.task.thresholds_of(run.class_names):
        about["thresholds"] = json.dumps(thresholds)
    onnx.helper.set_model_props(model, about)
    onnx.save(model, path)
    return {path.name: Route(functools.partial(open_onnx, path))}


def open_onnx(path: Path) -> Callable[..., dict[str, np.ndarray]]:
    """Opens a file with ONNX Runtime on the CPU, as a function of any number of examples."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # errors only
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    return lambda **inputs: dict(zip(names, session.run(names, inputs), strict=True))


def _teach_erfc() -> None:
    """Teaches tf2onnx to write Erfc, by which Keras computes the GELU of ConvNeXt, as 1 - Erf."""
    from tf2onnx.handler import tf_op

    @tf_op("Erfc")
    class Erfc:
        @classmethod
        def version_9(cls, graph: Any, node: Any, **_: Any) -> None:
            one = graph.make_const(f"{node.name}/one", np.array(1, np.float32))
            erf = graph.make_node("Erf", node.input, name=f"{node.name}/erf")
            graph.replace_all_inputs(
                node.output[0],
                graph.make_node("Sub", [one.output[0], erf.output[0]], name=f"{node.name}/sub").output[0],
            )
            graph.remove_node(node.name)


def _keep_zero_padding(graph: Any) -> None:
    """Inserts a step without effect between Pad and MaxPool.

    ONNX Runtime fuses the two into one step that pads with minus infinity in place of 0. Answers would differ if
    negative numbers are pooled, as in ResNetV2.
    """
    import onnx

    padded = {node.output[0] for node in graph.node if node.op_type == "Pad"}
    pools = [node for node in graph.node if node.op_type == "MaxPool" and node.input[0] in padded]
    if pools:
        lowest = np.array(np.finfo(np.float32).min)
        graph.initializer.append(onnx.numpy_helper.from_array(lowest, "lowest"))
    for pool in pools:
        source, kept = pool.input[0], f"{pool.input[0]}/kept"
        pool.input[0] = kept
        position = next(index for index, node in enumerate(graph.node) if node.name == pool.name)
        graph.node.insert(position, onnx.helper.make_node("Clip", [source, "lowest"], [kept], name=kept))


def _plain(compute: ClassFunction) -> ClassFunction:
    """Returns the same function in the few operations that tf2onnx knows.

    Some layers, such as Normalization, keep values outside the graph; tf2onnx would take these for further inputs. It
    would also take calls to XLA, by which Keras computes grouped convolutions on a CPU, for operations.
    """
    concrete = compute.get_concrete_function()
    definition = concrete.graph.as_graph_def()
    calls = [node for function in definition.library.function for node in function.node_def]
    for part in (*definition.library.function, *definition.node, *calls):
        part.attr.pop("_XlaMustCompile", None)
    kept = {inside.op.name: outside.numpy() for outside, inside in concrete.graph.captures}

    @tf.function(input_signature=compute.input_signature, autograph=False)
    def plain(*inputs: tf.Tensor) -> dict[str, tf.Tensor]:
        names = [spec.name for spec in compute.input_signature]
        given = dict(zip(names, inputs, strict=True)) | {name: tf.constant(value) for name, value in kept.items()}
        wanted = {name: tensor.name for name, tensor in concrete.structured_outputs.items()}
        return dict(zip(wanted, tf.graph_util.import_graph_def(definition, given, [*wanted.values()]), strict=True))

    return plain
