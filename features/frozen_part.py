"""The frozen part of a network, computed once for every example and kept in the store."""

import contextlib
import functools
import math
from collections.abc import Callable, Sequence
from importlib import metadata
from typing import NamedTuple

import keras
import numpy as np
import tensorflow as tf

from app.errors import RunError, UsageError
from app.terminal import show_stage
from cluster.pool import Pool
from data.arrays import LENGTH_STEP, Ragged, Tensor, mask_of
from data.batches import View
from data.code_digest import code_digest
from data.pipeline import Varied, input_batches
from data.rows import ArrayWriter, Writer
from data.store import Description, Store, Stored
from devices.precision import Precision, computing_in, is_rewritten
from devices.replicas import chief_decides, distribute, is_chief, wait_for_workers
from features.cuts import Cut, kept_dtype, part_of
from features.fingerprint import VERSIONS, fingerprint
from features.forward_pass import FROZEN_RAGGED_ROWS, Spread, convolutions_in, frozen_function
from features.runtimes import OpenVino, RefusedError, Runtime, runtime_function
from features.shards import SharedSpread
from models.parts import is_ragged

LARGEST_HALF = float(np.finfo(np.float16).max)
LARGEST_FEATURE = 1e15
"""Largest feature: Adam and norms add squares, and a hundred million squares of larger values exceed float32."""


class Kept(NamedTuple):
    """A tensor that crosses a cut, to keep in the store."""

    layer: str
    """Name of the layer before its cut."""
    tensor: keras.KerasTensor
    network: Description
    """Part of the key in the store: a description of all that computes the tensor."""


class Pass(NamedTuple):
    """One forward pass over some examples."""

    view: View
    varied: Varied | None
    """Variation of the examples; None leaves them as they are."""
    offsets: np.ndarray
    """Offsets of the examples in ragged tensors, int64 (examples + 1,)."""

    def shape(self, tensor: keras.KerasTensor) -> tuple[int, ...]:
        """Returns the shape of a stored tensor: rows that differ in length are concatenated."""
        if is_ragged(tensor):
            return (int(self.offsets[-1]), *tensor.shape[2:])
        return (len(self.view.rows), *tensor.shape[1:])

    def rows_of(self, tensor: keras.KerasTensor, examples: int) -> int:
        """Returns the number of stored rows of the first examples."""
        return int(self.offsets[examples]) if is_ragged(tensor) else examples

    def examples_in(self, tensor: keras.KerasTensor, rows: int) -> int:
        """Returns the number of examples that are complete within the first stored rows."""
        return int(np.searchsorted(self.offsets, rows, side="right")) - 1 if is_ragged(tensor) else rows

    def cropped(self, tensor: keras.KerasTensor, outputs: np.ndarray, first: int) -> np.ndarray:
        """Removes the padding from the outputs for a batch, whose first example has the number `first`."""
        if not is_ragged(tensor):
            return outputs
        lengths = np.diff(self.offsets[first : first + len(outputs) + 1])
        if outputs.shape[1] % LENGTH_STEP or outputs.shape[1] < lengths.max(initial=0):
            raise ValueError(
                f"'{tensor.name}' must be as long as the rows it is computed from, to be kept without padding"
            )
        return outputs[mask_of(lengths, outputs.shape[1])]

    def whole(self, tensor: keras.KerasTensor, values: np.ndarray) -> Tensor:
        """Returns the stored values of a tensor, with its offsets if it is ragged."""
        return Ragged(values, self.offsets) if is_ragged(tensor) else values


class FrozenPart:
    """The layers before some cuts of a network, and the tensors at these cuts."""

    def __init__(
        self,
        model: keras.Model,
        cuts: Sequence[Cut],
        store: Store,
        precision: Precision,
        title: str,
        strategy: tf.distribute.Strategy | None = None,
        pool: Pool | None = None,
        runtime: Runtime = "tensorflow",
    ):
        """Prepares the forward pass; later changes of the model's weights do not change it.

        Args:
            model: the network.
            cuts: cuts at which tensors are kept.
            store: store for the tensors.
            precision: precision of its layers.
            title: title of data and network, for the list of entries.
            strategy: strategy whose replicas compute, those of every worker on every call; None for one device.
            pool: workers that compute instead; None if there are none.
            runtime: library that computes; if it refuses, TensorFlow does.
        """
        self.cuts = cuts
        self._strategy = strategy or tf.distribute.get_strategy()
        name = f"{precision}, rewritten" if is_rewritten(precision) else precision
        common = {"precision": name, "code": _CODE, **VERSIONS}
        crossing = [(cut.layer, tensor) for cut in cuts for tensor in cut.tensors]
        self._kept = [
            Kept(layer, tensor, {"network": fingerprint(part_of(model.inputs, [tensor])), **common})
            for layer, tensor in {id(tensor): (layer, tensor) for layer, tensor in crossing}.values()
        ]
        """The distinct tensors: one may cross several cuts, as in a feature pyramid."""
        numbers = {id(kept.tensor): number for number, kept in enumerate(self._kept)}
        self._of_cuts = [numbers[id(tensor)] for _, tensor in crossing]
        self._until = part_of(model.inputs, [kept.tensor for kept in self._kept])
        self._pool = pool
        self._store = store
        self._precision = precision
        self._title = title
        self._use(runtime)

    def _use(self, runtime: Runtime) -> None:
        """Prepares a runtime and adds it to the keys."""
        self._runtime = {} if runtime == "tensorflow" else {"runtime": f"{runtime} {metadata.version(runtime)}"}
        self._unchecked = OpenVino(self._until, self._precision) if runtime == "openvino" else None
        """OpenVINO until it is checked against TensorFlow; then None."""
        self._spread: Spread | SharedSpread
        if self._pool is None:
            compute = self._unchecked or runtime_function(self._until, self._precision, runtime)
            self._spread = Spread(compute, self._strategy, FROZEN_RAGGED_ROWS)
        else:
            self._spread = SharedSpread(self._until, self._precision, self._pool, runtime)

    def load_or_compute(
        self,
        view: View,
        varied: Varied | None,
        description: Description,
        half: bool = False,
        on_progress: Callable[[int], None] = lambda _: None,
    ) -> tuple[list[Tensor], float]:
        """Returns the tensors at the cuts, from the store or by one forward pass for all missing ones.

        Args:
            view: the examples.
            varied: random variation of the examples; None leaves them as they are.
            description: identifies the examples and their variation, for the key.
            half: store feature maps as float16, unless a value is too large for it.
            on_progress: called with the number of examples done since the last call.

        Returns:
            The tensors of each cut, one cut after the other, with a row for each example: mapped from the store if it
            has room, else in memory; and the seconds that the store saved, 0 if anything was computed.
        """
        work = Pass(view, varied, np.cumsum([0, *view.lengths]))
        try:
            return self._load_or_compute(work, description, half, on_progress)
        except RefusedError as refused:
            show_stage("warning", f"TensorFlow computes the frozen layers, as OpenVINO {refused}")
            self._use("tensorflow")
            return self._load_or_compute(work, description, half, on_progress)

    def _load_or_compute(
        self, work: Pass, description: Description, half: bool, on_progress: Callable[[int], None]
    ) -> tuple[list[Tensor], float]:
        """Does the work of `load_or_compute` with the current runtime."""
        view, varied = work.view, work.varied
        dtypes = [kept_dtype(kept.tensor, half) for kept in self._kept]
        code = code_digest(varied.apply, *varied.uses) if varied else None
        descriptions = [
            {**description, **kept.network, **self._runtime, "dtype": dtype, "variation": code}
            for kept, dtype in zip(self._kept, dtypes, strict=True)
        ]
        with self._store.locked(descriptions) if is_chief(self._strategy) else contextlib.nullcontext():
            # The chief holds the locks; the other workers only open the entries.
            stored = [self._store.load(each) if is_chief(self._strategy) else None for each in descriptions]
            absent = [index for index, entry in enumerate(stored) if entry is None]
            missing = chief_decides(self._strategy, lambda: absent)
            found = {
                index: entry or self._load(descriptions[index])
                for index, entry in enumerate(stored)
                if index not in missing
            }
            if missing and self._unchecked is not None:
                self._unchecked.check(view, varied, [kept.layer for kept in self._kept])
                self._unchecked = None
            run = functools.partial(self._run, work, descriptions, missing, on_progress)
            try:
                computed = run(dtypes) if missing else []
            except _TooLargeError:
                computed = run(["float32"] * len(self._kept))
            wait_for_workers(self._strategy)
        if not missing:
            on_progress(len(view.rows))
        arrays = dict(zip(missing, computed, strict=True)) | {index: entry.values for index, entry in found.items()}
        saved = 0.0 if missing else max(entry.seconds for entry in found.values())
        return [work.whole(self._kept[index].tensor, arrays[index]) for index in self._of_cuts], saved

    def _run(
        self,
        work: Pass,
        descriptions: Sequence[Description],
        chosen: Sequence[int],
        on_progress: Callable[[int], None],
        dtypes: Sequence[str],
    ) -> list[np.ndarray]:
        """Computes the chosen tensors, for all examples that an earlier process has not done."""
        tensors = {index: self._kept[index].tensor for index in chosen}
        shapes = {index: work.shape(tensor) for index, tensor in tensors.items()}
        needed = sum(math.prod(shapes[index]) * np.dtype(dtypes[index]).itemsize for index in chosen)
        room = chief_decides(
            self._strategy, lambda: self._store.make_room(needed, [descriptions[index] for index in chosen])
        )
        if not room and any(len(tensor.shape) > 2 for tensor in tensors.values()):
            raise RunError(
                f"'{self._store.folder}' has no room for {needed / 2**20:,.0f} MiB. Raise --cache-gb, or make room."
            )
        arrays: list[np.ndarray] = []
        writers: dict[int, Writer | ArrayWriter] = {}
        with contextlib.ExitStack() as stack:
            for index, shape in shapes.items():
                title = f"{self._title}, {self._kept[index].layer}"
                if not room:
                    arrays.append(np.empty(shape, dtypes[index]))
                    writers[index] = ArrayWriter(arrays[-1])
                elif is_chief(self._strategy):
                    writers[index] = stack.enter_context(
                        self._store.writing(descriptions[index], title, shape, dtypes[index])
                    )
            stack.enter_context(convolutions_in(self._precision))
            done = chief_decides(  # by an interrupted process
                self._strategy,
                lambda: min(work.examples_in(tensors[index], writer.rows) for index, writer in writers.items()),
            )
            for index, writer in writers.items():
                if isinstance(writer, Writer) and writer.rows > work.rows_of(tensors[index], done):
                    writer.rewind(work.rows_of(tensors[index], done))
            on_progress(done)
            rest = work.view._replace(rows=work.view.rows[done:])
            varied = work.varied and work.varied._replace(draws=work.varied.draws[done:])
            for outputs in self._spread.outputs(rest, varied):
                rows = {index: work.cropped(tensor, outputs[index], done) for index, tensor in tensors.items()}
                for index in chosen:
                    self._check_outputs(self._kept[index].layer, rows[index])
                    if dtypes[index] == "float16" and np.abs(rows[index]).max(initial=0) > LARGEST_HALF:
                        raise _TooLargeError
                for index, writer in writers.items():
                    writer.append(rows[index])
                done += len(outputs[0])
                on_progress(len(outputs[0]))
        if not room:
            return arrays
        wait_for_workers(self._strategy)
        if is_chief(self._strategy):
            return [writer.values for writer in writers.values()]
        return [self._load(descriptions[index]).values for index in chosen]

    def _check_outputs(self, layer: str, outputs: np.ndarray) -> None:
        """Raises a UsageError for outputs that are NaN or too large to learn from."""
        largest = max(outputs.max(initial=0), -outputs.min(initial=0), key=lambda value: (np.isnan(value), value))
        if not largest <= LARGEST_FEATURE:
            other = "" if self._precision == "float32" else ", or --precision float32"
            raise UsageError(
                f"--weights must be weights with which a network computes numbers up to {LARGEST_FEATURE:g}; with "
                f"these, its layer '{layer}' computes {largest:g}. Take other weights{other}."
            )

    def _load(self, description: Description) -> Stored:
        """Opens an entry that the chief has made or found."""
        entry = self._store.load(description, check=False)
        if entry is None:
            raise UsageError(f"--cache-dir must be a folder that all workers share; '{self._store.folder}' is not.")
        return entry


class _TooLargeError(Exception):
    """A value does not fit into float16."""


_CODE = code_digest(
    mask_of, View, input_batches, distribute, computing_in, frozen_function, runtime_function, kept_dtype, Kept
)
"""Digest of the code that makes batches, sets number formats, and computes."""
