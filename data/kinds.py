"""The kinds of input: one record for each, with all that the rest of the project must not know of it.

Everything else treats examples alike. To add a kind, see CONTRIBUTING.md.
"""

from __future__ import annotations

import functools
import importlib
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

from markupsafe import Markup

from app.config import TrainConfig

if TYPE_CHECKING:
    import numpy as np  # --help is shown without it

KINDS = {"image": "data.images.kind"}
"""The name of each kind, and the module that has its record as `KIND`. The first is taken where files tell nothing."""

Content = Path | bytes
"""A file, or the bytes of an example that has none."""
Inputs: TypeAlias = "tuple[np.ndarray, ...]"
"""The tensors of one example, or of several (n, ...), in the order of the network's inputs."""


class Reader(NamedTuple):
    """Reads the examples of a run: a kind of input under the settings of the run."""

    description: dict[str, Any]
    """Everything that decides what an example becomes, code and libraries too, as JSON has it: part of stored keys."""
    title: str
    """Names this reading among others of the same data, such as '224 px', for the model and what is stored."""
    inputs: tuple[np.dtype, ...]
    """Type and shape of each tensor of an example."""
    signature: np.dtype
    """Type and shape of what tells how alike two examples are."""
    read: Callable[[bytes], Inputs]
    """Reads an example from its bytes; raises `data.content.UnreadableError` with the reason."""
    read_with_signature: Callable[[bytes], tuple[Inputs, np.ndarray]]
    """Reads an example, and computes its signature."""


class Vary(NamedTuple):
    """Random variation of examples."""

    draws: int
    """Random numbers that decide how one example is varied."""
    apply: Callable[[Any, Any], Any]
    """Varies a float32 batch by its draws, float32 (n, draws) in [0, 1); both are tensors of TensorFlow."""


class Shown(NamedTuple):
    """An example, or the explanation of an answer, on a page and in a figure."""

    html: Markup
    pixels: np.ndarray | None
    """uint8 (height, width, 3); None where no figure shows it."""


class Baseline(NamedTuple):
    """Values for a simple method: a network should do better than a regression on them."""

    name: str
    """Key in `metrics.json`; with blanks for `_`, it completes 'Logistic regression on'."""
    values: Callable[[Inputs, np.ndarray], np.ndarray]
    """Turns the examples at some positions of all inputs into float32 (n, values)."""


class GraphReader(NamedTuple):
    """Reads examples inside an exported model, by operations of TensorFlow alone."""

    formats: tuple[str, ...]
    """Formats of files that it reads; any other is an error of TensorFlow."""
    read: Callable[[Any, TrainConfig], tuple[Any, ...]]
    """Turns the bytes of a file, string (), into the tensors of an example, under the settings of a run."""


class Kind(NamedTuple):
    """A kind of input."""

    name: str
    noun: str
    """One example in messages and reports, such as 'picture'."""
    nouns: str
    endings: tuple[str, ...]
    """Endings of file names that promise an example, in lower case; reading finds out what a file really is."""
    reader: Callable[[TrainConfig], Reader]
    """Makes the reader for the settings of a run."""
    compared_values: Callable[[np.ndarray], np.ndarray]
    """Turns signatures (n, ...) into float32 (n, values) of length 1 each, or 0 for what is compared with nothing."""
    comparison: str
    """SHA-256 of the code of `compared_values`, part of stored keys."""
    size: Callable[[Content], int | None]
    """Measures an example in the unit of the setting that fixes the size of inputs; None if it cannot."""
    useful_size: Callable[[int], int]
    """Returns the largest size of inputs that is worth computing for examples of a median size."""
    cautions: Callable[[Sequence[int]], list[str]]
    """Says, from the sizes of some examples, why hardly anything can be learnt from them, in sentences."""
    show: Callable[[Inputs, Content, str], Shown]
    """Shows one example under a title."""
    vary: Callable[..., Vary] | None = None
    """Random variation for training, by the setting `vary`; needs TensorFlow. None for a kind that is not varied."""
    explain: Callable[[Any, Inputs, np.ndarray], list[Shown]] | None = None
    """Shows for some examples what spoke for a class each, int (n,), to a Keras model; needs TensorFlow."""
    baseline: Baseline | None = None
    has_mirror: bool = False
    """Whether an example is a picture, which mirrored left to right is one of the same class."""
    graph_reader: Callable[[], GraphReader] | None = None
    """Reader for exports that take the bytes of files; needs TensorFlow. None for a kind whose exports take tensors."""


@functools.cache
def find_kind(name: str) -> Kind:
    """Returns the record of a kind."""
    return importlib.import_module(KINDS[name]).KIND


def kind_of(files: Iterable[PurePath]) -> Kind:
    """Returns the kind of most files, by the endings of their names."""
    endings = Counter(path.suffix.lower() for path in files)
    return max(map(find_kind, KINDS), key=lambda kind: sum(endings[ending] for ending in kind.endings))


def promised_kind(path: PurePath) -> Kind | None:
    """Returns the kind of which the name of a file promises an example."""
    return next((kind for kind in map(find_kind, KINDS) if path.suffix.lower() in kind.endings), None)
