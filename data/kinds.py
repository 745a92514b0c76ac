"""The kinds of input: one record for each, with all that the rest of the project must not know of it.

Everything else treats examples alike. To add a kind, see CONTRIBUTING.md.
"""

from __future__ import annotations

import functools
import importlib
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Any, BinaryIO, NamedTuple, TypeAlias

from markupsafe import Markup

from app.config import TrainConfig

if TYPE_CHECKING:
    import numpy as np  # --help is shown without it

    from data.arrays import Tensor

KINDS = {"image": "data.images.kind", "text": "data.texts.kind", "sound": "data.sounds.kind"}
"""The name of each kind, and the module that has its record as `KIND`. The first is taken where files tell nothing."""


class Part(NamedTuple):
    """A part of a file that holds more than one example, such as some seconds of a recording."""

    path: Path
    start: float
    end: float
    """Seconds at which it begins and ends."""
    cut: Callable[[BinaryIO, float, float], bytes]
    """Makes of the open file a content of the part alone; raises `data.content.UnreadableError`."""

    @property
    def name(self) -> Path:
        """Path that names the part: that of the file with a media fragment of W3C, such as 'talk.wav#t=1.5,3'."""
        return self.path.with_name(f"{self.path.name}#t={self.start:g},{self.end:g}")


Content = Path | bytes | Part
"""A file, the bytes of an example that has none, or a part of a file."""
Inputs: TypeAlias = "tuple[np.ndarray, ...]"
"""The tensors of one example, or of several (n, ...), in the order of the network's inputs."""
ManyInputs: TypeAlias = "tuple[Tensor, ...]"
"""The tensors of many examples, ragged where their rows differ in length."""


class Reader(NamedTuple):
    """Reads the examples of a run: a kind of input under the settings of the run."""

    description: dict[str, Any]
    """Everything that decides what an example becomes, code and libraries too, as JSON has it: part of stored keys."""
    title: str
    """Names this reading among others of the same data, such as '224 px', for the model and what is stored."""
    inputs: tuple[np.dtype, ...]
    """Type and shape of each tensor of an example; if it is ragged, that of the longest."""
    signature: np.dtype
    """Type and shape of what tells how alike two examples are."""
    read: Callable[[bytes], Inputs]
    """Reads an example from its bytes; raises `data.content.UnreadableError` with the reason."""
    read_with_signature: Callable[[bytes], tuple[Inputs, np.ndarray]]
    """Reads an example, and computes its signature."""
    ragged: bool = False
    """True if the tensors of an example differ from those of others in their first length, and are all of one."""
    files: Mapping[str, bytes] = {}
    """Files that reading needs, by name; a run keeps them in its folder."""

    @property
    def model_inputs(self) -> list[tuple[int | None, ...]]:
        """Shapes of what a network takes of an example; ragged ones come with their mask."""
        if not self.ragged:
            return [dtype.shape for dtype in self.inputs]
        return [*((None, *dtype.shape[1:]) for dtype in self.inputs), (None,)]

    def join(self, examples: Sequence[Inputs]) -> ManyInputs:
        """Joins any number of examples to tensors."""
        import numpy as np

        from data.arrays import Ragged

        # Zeros beside them give tensors of no example their type and shape.
        columns = zip(*examples, [np.zeros(1, dtype)[0] for dtype in self.inputs], strict=True)
        if self.ragged:
            return tuple(Ragged.from_rows([*column[:-1], column[-1][:0]]).without_last() for column in columns)
        return tuple(np.stack(column)[:-1] for column in columns)


class Vary(NamedTuple):
    """Random variation of examples."""

    draws: int
    """Random numbers that decide how one example is varied."""
    apply: Callable[[Any, Any], Any]
    """Varies a float32 batch by its draws, float32 (n, draws) in [0, 1); both are tensors of TensorFlow."""
    move: Callable[[Any, Any], Any] | None = None
    """Moves targets that are boxes, see `data.boxes.targets.encode`, as `apply` moves what is in them; None where
    targets stay what they are."""


class Shown(NamedTuple):
    """An example, or the explanation of an answer, on a page and in a figure."""

    html: Markup
    pixels: np.ndarray | None
    """uint8 (height, width, 3); None where no figure shows it."""


class Baseline(NamedTuple):
    """Values for a simple method: a network should do better than a regression on them."""

    name: str
    """Key in `metrics.json`; with blanks for `_`, it completes 'Logistic regression on'."""
    values: Callable[[ManyInputs, Sequence[Content], np.ndarray], Any]
    """Turns the examples at some positions, int (n,), of all tensors and contents into what `transform` takes."""
    transform: Callable[[], Any]
    """Makes the transformer of scikit-learn in front of the regression."""
    strength: float
    """`C` of the regression."""
    most_examples: int
    """Most training examples; more are thinned out."""


class GraphReader(NamedTuple):
    """Reads examples inside an exported model, by operations of TensorFlow alone."""

    formats: tuple[str, ...]
    """Formats of files that it reads; any other is an error of TensorFlow."""
    read: Callable[[Any, TrainConfig], tuple[Any, ...]]
    """Turns the bytes of a file, string (), into the tensors of an example, under the settings of a run."""


class Explain(NamedTuple):
    """Explanations of answers."""

    compute: Callable[[Any, Reader, ManyInputs, Sequence[Content], np.ndarray], list[Shown]]
    """Shows what spoke for a class each, int (n,), to a Keras model: of examples as tensors and as contents."""
    name: str
    """Names it in a message."""
    hint: str
    """Says in a sentence how to read it."""
    replaces: bool = False
    """True if it shows the example as well, which is then not shown beside it."""


class Kind(NamedTuple):
    """A kind of input."""

    name: str
    noun: str
    """One example in messages and reports, such as 'picture'."""
    nouns: str
    endings: tuple[str, ...]
    """Endings of file names that promise an example, in lower case; reading finds out what a file really is."""
    size_setting: str
    """Setting that fixes the size of inputs."""
    reader: Callable[[TrainConfig, Path | None], Reader]
    """Makes the reader for the settings of a run, and the folder that holds its files once it is finished."""
    compared_values: Callable[[np.ndarray], np.ndarray]
    """Turns signatures (n, ...) into float32 (n, values) of length 1 each, or 0 for what is compared with nothing."""
    comparison: str
    """SHA-256 of the code of `compared_values`, part of stored keys."""
    size: Callable[[Content], int | None]
    """Measures an example in the unit of that setting; None if it cannot, without much work."""
    useful_size: Callable[[int], int]
    """Returns the largest size of inputs that is worth computing for examples of a median size."""
    cautions: Callable[[Sequence[int], TrainConfig], list[str]]
    """Says, from the sizes of some examples, what to be careful about, in sentences. Of ragged ones, it gets all, as
    they were read."""
    show: Callable[[Inputs, Content, str], Shown]
    """Shows one example under a title."""
    vary: Callable[..., Vary] | None = None
    """Random variation for training, by the setting `vary`; needs TensorFlow. None for a kind that is not varied."""
    explain: Explain | None = None
    """Shows for some examples what spoke for a class each; needs TensorFlow. None for a kind that is not explained."""
    baseline: Baseline | None = None
    backbone: str = ""
    """Network that is taken where none is named."""
    column: str | None = None
    """Column of a CSV file that holds examples themselves; None where they are files alone."""
    has_mirror: bool = False
    """True if an example is a picture, which mirrored left to right is one of the same class."""
    cut: Callable[[BinaryIO, float, float], bytes] | None = None
    """Cuts a part out of a file, see `Part`; None for a kind whose files are one example each."""
    windows: Callable[[BinaryIO, Reader], list[tuple[float, float]]] | None = None
    """Returns start and end of the parts, each as long as an input, of an open file that is much longer; none of
    another. Raises `data.content.UnreadableError`."""
    graph_reader: Callable[[], GraphReader] | None = None
    """Reader for exports that take the bytes of files; needs TensorFlow. None for a kind whose exports take tensors."""


@functools.cache
def find_kind(name: str) -> Kind:
    """Returns the record of a kind."""
    return importlib.import_module(KINDS[name]).KIND


def kinds() -> list[Kind]:
    """Returns the records of all kinds."""
    return [find_kind(name) for name in KINDS]


def kind_of(files: Iterable[PurePath]) -> Kind:
    """Returns the kind of most files, by the endings of their names."""
    endings = Counter(path.suffix.lower() for path in files)
    return max(kinds(), key=lambda kind: sum(endings[ending] for ending in kind.endings))


def promised_kind(path: PurePath) -> Kind | None:
    """Returns the kind of which the name of a file promises an example."""
    return next((kind for kind in kinds() if path.suffix.lower() in kind.endings), None)
