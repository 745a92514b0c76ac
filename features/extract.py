"""The fast pass through what does not learn: weights folded into the graph as constants, every picture once.

As constants, the weights of a convolution and of the BatchNorm behind it become one, and are laid out for the machine
once instead of in every step: a quarter more pictures per second on a CPU, at the same values but for rounding.
"""

import contextlib
import hashlib
import json
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from importlib import metadata
from typing import Any, Literal

import keras
import numpy as np
import tensorflow as tf

from config import UsageError
from data.pipeline import View, input_batches
from data.rows import ArrayWriter, Writer
from data.store import Description, Store
from features.cuts import Cut

Precision = Literal["float32", "mixed_bfloat16"]
VERSIONS = {name: metadata.version(name) for name in ("tensorflow", "keras")}
BATCH_SIZE = 32
"""Twice as many are no faster, and take a gigabyte more on a network such as EfficientNet."""
ROWS = 16
"""Values of float32 that the widest vector register holds."""
LARGEST_HALF = float(np.finfo(np.float16).max)


def frozen_function(model: keras.Model) -> Callable[[tf.Tensor], list[tf.Tensor]]:
    """Makes a function of a model as it is now, in inference mode: what trains later does not change it.

    Args:
        model: with one input.

    Returns:
        From a float32 batch to the list of the model's outputs.
    """
    trainable = [variable.numpy() for variable in model.trainable_variables]
    others = [variable.numpy() for variable in model.non_trainable_variables]

    @tf.function(input_signature=[tf.TensorSpec(model.input.shape, tf.float32)], autograph=False)
    def compute(batch: tf.Tensor) -> list[tf.Tensor]:
        constants = [tf.constant(values) for values in trainable], [tf.constant(values) for values in others]
        outputs, _ = model.stateless_call(*constants, batch, training=False)
        return keras.tree.flatten(outputs)

    return compute


def apply_model(
    model: keras.Model, batches: Iterable[tf.Tensor], on_progress: Callable[[int], None] = lambda _: None
) -> np.ndarray:
    """Computes a model's output for batches of pictures, in inference mode.

    Args:
        model: with one output.
        batches: float32 (n, height, width, 3) in [0, 255].
        on_progress: called with the number of pictures done since the last call.

    Returns:
        float32 (number of pictures, ...).
    """
    compute = frozen_function(model)
    outputs = [np.zeros((0, *model.output.shape[1:]), np.float32)]
    for batch in batches:
        outputs.append(compute_rows(compute, batch)[0].numpy())
        on_progress(len(batch))
    return np.concatenate(outputs)


def compute_rows(compute: Callable[[tf.Tensor], list[tf.Tensor]], batch: tf.Tensor) -> list[tf.Tensor]:
    """Calls a function with a multiple of `ROWS` rows, and returns those of the batch.

    TensorFlow computes an activation of 16 values at once otherwise than the few that are left over, and a product with
    one row otherwise than with several: the last bit of a result would depend on what else is in the batch.
    """
    missing = -len(batch) % ROWS
    padded = tf.pad(batch, [[0, missing]] + [[0, 0]] * (len(batch.shape) - 1)) if missing else batch
    return [output[: len(batch)] for output in compute(padded)]


class FrozenPart:
    """What lies before some cuts of a network, computed once for every picture and kept in the store."""

    def __init__(self, model: keras.Model, cuts: Sequence[Cut], store: Store, precision: Precision, title: str):
        """Prepares the pass; later changes of the model's weights do not change it.

        Args:
            model: whose cuts they are.
            cuts: where tensors are kept.
            store: where to.
            precision: 'mixed_bfloat16' lets a CPU compute convolutions in bfloat16.
            title: of data and network, for the list of entries.
        """
        self.cuts = cuts
        self._compute = frozen_function(keras.Model(model.inputs[0], [cut.tensor for cut in cuts]))
        self._networks = [
            {"network": _fingerprint(keras.Model(model.inputs[0], cut.tensor)), "precision": precision, **VERSIONS}
            for cut in cuts
        ]
        self._store = store
        self._precision = precision
        self._title = title

    def load_or_compute(
        self,
        view: View,
        draws: np.ndarray | None,
        description: Description,
        half: bool = False,
        on_progress: Callable[[int], None] = lambda _: None,
    ) -> tuple[list[np.ndarray], float]:
        """Returns what crosses each cut, from the store or by one pass for all that is missing there.

        Args:
            view: the pictures.
            draws: how each is varied; None leaves them as they are.
            description: says which pictures these are and how they are varied.
            half: keep feature maps as float16, unless a value of them is too large for it.
            on_progress: called with the number of pictures done since the last call.

        Returns:
            An array (number of pictures, ...) for each cut, mapped from the store where that has room for it and in
            memory where not; and the seconds that the store saved, 0 if anything was computed.
        """
        dtypes = [cut.dtype(half) for cut in self.cuts]
        descriptions = [
            {**description, **network, "dtype": dtype} for network, dtype in zip(self._networks, dtypes, strict=True)
        ]
        with self._store.locked(descriptions):
            stored = [self._store.load(each) for each in descriptions]
            missing = [index for index, entry in enumerate(stored) if entry is None]
            if not missing:
                on_progress(len(view.rows))
                return [entry.values for entry in stored], max(entry.seconds for entry in stored)
            arguments = descriptions, missing, view, draws, on_progress
            try:
                computed = self._run(dtypes, *arguments)
            except _TooLargeError:
                computed = self._run(["float32"] * len(self.cuts), *arguments)
        arrays = dict(zip(missing, computed, strict=True))
        return [arrays[index] if entry is None else entry.values for index, entry in enumerate(stored)], 0.0

    def _run(
        self,
        dtypes: Sequence[str],
        descriptions: Sequence[Description],
        chosen: Sequence[int],
        view: View,
        draws: np.ndarray | None,
        on_progress: Callable[[int], None],
    ) -> list[np.ndarray]:
        """One pass over the pictures for the cuts that are chosen."""
        shapes = {index: (len(view.rows), *self.cuts[index].tensor.shape[1:]) for index in chosen}
        needed = sum(math.prod(shapes[index]) * np.dtype(dtypes[index]).itemsize for index in chosen)
        room = self._store.make_room(needed, [descriptions[index] for index in chosen])
        if not room and any(len(shape) > 2 for shape in shapes.values()):
            raise UsageError(
                f"'{self._store.folder}' has no room for {needed / 2**20:,.0f} MiB. Raise --cache-gb, or free disk."
            )
        with contextlib.ExitStack() as stack:
            writers: dict[int, Writer | ArrayWriter] = {}
            for index, shape in shapes.items():
                title = f"{self._title}, {self.cuts[index].layer}"
                writers[index] = (
                    stack.enter_context(self._store.writing(descriptions[index], title, shape, dtypes[index]))
                    if room
                    else ArrayWriter(np.empty(shape, dtypes[index]))
                )
            stack.enter_context(convolutions_in(self._precision))
            done = min(writer.rows for writer in writers.values())  # by a process that had to stop
            for writer in writers.values():
                if writer.rows > done:
                    writer.rewind(done)
            on_progress(done)
            rest = View(view.values, view.rows[done:])
            for batch in input_batches(rest, BATCH_SIZE, None if draws is None else draws[done:]):
                outputs = self._compute(batch)
                for index, writer in writers.items():
                    values = outputs[index].numpy()
                    if dtypes[index] == "float16" and np.abs(values).max() > LARGEST_HALF:
                        raise _TooLargeError
                    writer.append(values)
                on_progress(len(batch))
        if not room:
            return [writer.values for writer in writers.values()]
        return [self._store.load(descriptions[index], check=False).values for index in chosen]


class _TooLargeError(Exception):
    """A value does not fit into float16."""


def structure(network: keras.Model) -> str:
    """What a network computes, but for its weights, as text; whatever its layers are named."""
    numbers: dict[str, str] = {}

    def without_names(part: Any) -> Any:
        if isinstance(part, dict):
            if isinstance(part.get("name"), str):
                numbers.setdefault(part["name"], str(len(numbers)))
            return {key: without_names(value) for key, value in part.items()}
        if isinstance(part, list | tuple):
            return [without_names(value) for value in part]
        return numbers.get(part, part) if isinstance(part, str) else part

    return json.dumps(without_names(network.get_config()), sort_keys=True)


def _fingerprint(network: keras.Model) -> str:
    """SHA-256 of everything a network computes with."""
    digest = hashlib.sha256(structure(network).encode())
    for variable in network.variables:
        digest.update(variable.numpy().tobytes())
    return digest.hexdigest()


@contextlib.contextmanager
def convolutions_in(precision: Precision) -> Iterator[None]:
    """Lets TensorFlow rewrite graphs to bfloat16 while a block runs (oneDNN; Keras' own policy is slower on CPUs)."""
    options = {"auto_mixed_precision_onednn_bfloat16": precision == "mixed_bfloat16"}
    tf.config.optimizer.set_experimental_options(options)
    try:
        yield
    finally:
        tf.config.optimizer.set_experimental_options(dict.fromkeys(options, False))
