"""The fast pass through what does not learn: weights folded into the graph as constants, every example once.

As constants, the weights of a convolution and of the BatchNorm behind it become one, and are laid out for the machine
once instead of in every step: a quarter more examples per second on a CPU, at the same values but for rounding.
"""

import contextlib
import functools
import math
from collections.abc import Callable, Iterator, Sequence

import keras
import numpy as np
import tensorflow as tf

from app.errors import RunError, UsageError
from data.code_digest import code_digest
from data.images.augment import augment_pictures
from data.pipeline import View, input_batches
from data.rows import ArrayWriter, Writer
from data.store import Description, Store, Stored
from devices.precision import Precision, computing_in, is_rewritten
from devices.replicas import chief_decides, distribute, is_chief, is_shared, wait_for_workers
from features.cuts import Cut
from features.fingerprint import VERSIONS, fingerprint

BATCH_SIZE = 32
"""Twice as many are no faster, and take a gigabyte more on a network such as EfficientNet."""
MOST_FOLDED = 2**28
"""Bytes of weights that become constants, which takes twenty times their memory: 7.1 GiB for ConvNeXtBase, where 2.6
will do. Of the networks that have more, ConvNeXt gains nothing by it."""
ROWS = 16
"""Values of float32 that the widest vector register holds."""
LARGEST_HALF = float(np.finfo(np.float16).max)
LARGEST_FEATURE = 1e15
"""Adam and norms add squares: a hundred million squares of larger values are no float32 any more."""


def frozen_function(model: keras.Model, precision: Precision = "float32") -> Callable[[tf.Tensor], list[tf.Tensor]]:
    """Makes a function of a model as it is now, in inference mode: what trains later does not change it.

    Args:
        model: with one input.
        precision: in which its layers compute.

    Returns:
        From a float32 batch to the list of the model's outputs.
    """
    is_folded = sum(4 * math.prod(variable.shape) for variable in model.variables) <= MOST_FOLDED
    keep = np.asarray if is_folded else tf.constant
    trainable = [keep(variable.numpy()) for variable in model.trainable_variables]
    others = [keep(variable.numpy()) for variable in model.non_trainable_variables]

    @tf.function(input_signature=[tf.TensorSpec(model.input.shape, tf.float32)], autograph=False)
    def compute(batch: tf.Tensor) -> list[tf.Tensor]:
        # Arrays become constants of the graph here; tensors are handed to it.
        weights = [tf.convert_to_tensor(each) for each in trainable], [tf.convert_to_tensor(each) for each in others]
        with computing_in(model, precision):
            outputs, _ = model.stateless_call(*weights, batch, training=False)
        return [tf.cast(output, tf.float32) for output in keras.tree.flatten(outputs)]

    return compute


class Spread:
    """A frozen function on all replicas of a strategy: each computes every so many batches, and all get all results."""

    def __init__(self, compute: Callable[[tf.Tensor], list[tf.Tensor]], strategy: tf.distribute.Strategy):
        """Args:

        compute: from `frozen_function`.
        strategy: whose replicas compute.
        """
        self._strategy = strategy

        @tf.function(autograph=False)
        def compute_shared(batch: tf.Tensor) -> list[tf.Tensor]:
            outputs = strategy.run(lambda of_replica: compute(of_replica), (batch,))  # which has a signature
            return [strategy.gather(output, axis=0) for output in outputs]

        self._compute = compute_shared if is_shared(strategy) else functools.partial(compute_rows, compute)

    def outputs(self, view: View, draws: np.ndarray | None = None) -> Iterator[list[np.ndarray]]:
        """Computes batch after batch, in the order of the examples.

        Args:
            view: the examples, or what a network made of them.
            draws: how each is varied; None leaves them as they are.

        Yields:
            The outputs for the next rows, float32 (n, ...).
        """
        size, left = BATCH_SIZE * self._strategy.num_replicas_in_sync, len(view.rows)
        batches = distribute(self._strategy, functools.partial(input_batches, view, size, draws))
        for batch in batches:
            outputs = [output.numpy()[:left] for output in self._compute(batch)]
            left -= len(outputs[0])
            yield outputs


def apply_model(
    model: keras.Model,
    view: View,
    on_progress: Callable[[int], None] = lambda _: None,
    strategy: tf.distribute.Strategy | None = None,
) -> np.ndarray:
    """Computes a model's output, in inference mode and float32.

    Args:
        model: with one output.
        view: the examples, or what another network made of them.
        on_progress: called with the number of examples done since the last call.
        strategy: whose replicas compute; None for one device.

    Returns:
        float32 (number of examples, ...).
    """
    outputs = [np.zeros((0, *model.output.shape[1:]), np.float32)]
    for (output,) in Spread(frozen_function(model), strategy or tf.distribute.get_strategy()).outputs(view):
        outputs.append(output)
        on_progress(len(output))
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
    """What lies before some cuts of a network, computed once for every example and kept in the store."""

    def __init__(
        self,
        model: keras.Model,
        cuts: Sequence[Cut],
        store: Store,
        precision: Precision,
        title: str,
        strategy: tf.distribute.Strategy | None = None,
    ):
        """Prepares the pass; later changes of the model's weights do not change it.

        Args:
            model: whose cuts they are.
            cuts: where tensors are kept.
            store: where to.
            precision: in which its layers compute.
            title: of data and network, for the list of entries.
            strategy: whose replicas compute, every worker's on every call; None for one device.
        """
        self.cuts = cuts
        self._strategy = strategy or tf.distribute.get_strategy()
        until = keras.Model(model.inputs[0], [cut.tensor for cut in cuts])
        self._spread = Spread(
            frozen_function(until, "float32" if is_rewritten(precision) else precision), self._strategy
        )
        name = f"{precision}, rewritten" if is_rewritten(precision) else precision
        self._networks = [
            {
                "network": fingerprint(keras.Model(model.inputs[0], cut.tensor)),
                "precision": name,
                "code": _CODE,
                **VERSIONS,
            }
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
            view: the examples.
            draws: how each is varied; None leaves them as they are.
            description: says which examples these are and how they are varied.
            half: keep feature maps as float16, unless a value of them is too large for it.
            on_progress: called with the number of examples done since the last call.

        Returns:
            An array (number of examples, ...) for each cut, mapped from the store where that has room for it and in
            memory where not; and the seconds that the store saved, 0 if anything was computed.
        """
        dtypes = [cut.dtype(half) for cut in self.cuts]
        descriptions = [
            {**description, **network, "dtype": dtype} for network, dtype in zip(self._networks, dtypes, strict=True)
        ]
        with self._store.locked(descriptions) if is_chief(self._strategy) else contextlib.nullcontext():
            # The other workers open what the chief holds the locks of.
            stored = [self._store.load(each) if is_chief(self._strategy) else None for each in descriptions]
            absent = [index for index, entry in enumerate(stored) if entry is None]
            missing = chief_decides(self._strategy, lambda: absent)
            kept = {
                index: entry or self._load(descriptions[index])
                for index, entry in enumerate(stored)
                if index not in missing
            }
            arguments = descriptions, missing, view, draws, on_progress
            try:
                computed = self._run(dtypes, *arguments) if missing else []
            except _TooLargeError:
                computed = self._run(["float32"] * len(self.cuts), *arguments)
            wait_for_workers(self._strategy)
        if not missing:
            on_progress(len(view.rows))
        arrays = dict(zip(missing, computed, strict=True)) | {index: entry.values for index, entry in kept.items()}
        saved = 0.0 if missing else max(entry.seconds for entry in kept.values())
        return [arrays[index] for index in range(len(self.cuts))], saved

    def _run(
        self,
        dtypes: Sequence[str],
        descriptions: Sequence[Description],
        chosen: Sequence[int],
        view: View,
        draws: np.ndarray | None,
        on_progress: Callable[[int], None],
    ) -> list[np.ndarray]:
        """One pass over the examples for the cuts that are chosen."""
        shapes = {index: (len(view.rows), *self.cuts[index].tensor.shape[1:]) for index in chosen}
        needed = sum(math.prod(shapes[index]) * np.dtype(dtypes[index]).itemsize for index in chosen)
        room = chief_decides(
            self._strategy, lambda: self._store.make_room(needed, [descriptions[index] for index in chosen])
        )
        if not room and any(len(shape) > 2 for shape in shapes.values()):
            raise RunError(
                f"'{self._store.folder}' has no room for {needed / 2**20:,.0f} MiB. Raise --cache-gb, or free disk."
            )
        arrays: list[np.ndarray] = []
        writers: dict[int, Writer | ArrayWriter] = {}
        with contextlib.ExitStack() as stack:
            for index, shape in shapes.items():
                title = f"{self._title}, {self.cuts[index].layer}"
                if not room:
                    arrays.append(np.empty(shape, dtypes[index]))
                    writers[index] = ArrayWriter(arrays[-1])
                elif is_chief(self._strategy):
                    writers[index] = stack.enter_context(
                        self._store.writing(descriptions[index], title, shape, dtypes[index])
                    )
            stack.enter_context(convolutions_in(self._precision))
            # By a process that had to stop.
            done = chief_decides(self._strategy, lambda: min(writer.rows for writer in writers.values()))
            for writer in writers.values():
                if isinstance(writer, Writer) and writer.rows > done:
                    writer.rewind(done)
            on_progress(done)
            rest = View(view.values, view.rows[done:])
            for outputs in self._spread.outputs(rest, None if draws is None else draws[done:]):
                for index in chosen:
                    self._check_outputs(self.cuts[index].layer, outputs[index])
                    if dtypes[index] == "float16" and np.abs(outputs[index]).max() > LARGEST_HALF:
                        raise _TooLargeError
                for index, writer in writers.items():
                    writer.append(outputs[index])
                on_progress(len(outputs[0]))
        if not room:
            return arrays
        wait_for_workers(self._strategy)
        if is_chief(self._strategy):
            return [writer.values for writer in writers.values()]
        return [self._load(descriptions[index]).values for index in chosen]

    def _check_outputs(self, layer: str, outputs: np.ndarray) -> None:
        """Raises a UsageError for what nothing can be learnt from; NaN is not below anything."""
        largest = max(outputs.max(initial=0), -outputs.min(initial=0), key=lambda value: (np.isnan(value), value))
        if not largest <= LARGEST_FEATURE:
            other = "" if self._precision == "float32" else ", or --precision float32"
            raise UsageError(
                f"--weights must be weights with which a network computes numbers up to {LARGEST_FEATURE:g}; with "
                f"these, its layer '{layer}' computes {largest:g}. Take other weights{other}."
            )

    def _load(self, description: Description) -> Stored:
        """Opens what the chief has made, or found."""
        entry = self._store.load(description, check=False)
        if entry is None:
            raise UsageError(f"--cache-dir must be a folder that all workers share; '{self._store.folder}' is not.")
        return entry


class _TooLargeError(Exception):
    """A value does not fit into float16."""


@contextlib.contextmanager
def convolutions_in(precision: Precision) -> Iterator[None]:
    """Lets TensorFlow rewrite graphs to bfloat16 while a block runs (oneDNN; Keras' own policy is slower on CPUs)."""
    options = {"auto_mixed_precision_onednn_bfloat16": is_rewritten(precision)}
    tf.config.optimizer.set_experimental_options(options)
    try:
        yield
    finally:
        tf.config.optimizer.set_experimental_options(dict.fromkeys(options, False))


_CODE = code_digest(augment_pictures, input_batches, distribute, computing_in, frozen_function)
"""Of what varies examples, puts them into batches, sets number formats, and computes."""
