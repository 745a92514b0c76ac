"""The kinds of input: one record each, with everything in which kinds differ.

The rest of the project treats all examples alike. To add a kind, see CONTRIBUTING.md.
"""

from __future__ import annotations

import functools
import importlib
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Any, BinaryIO, NamedTuple, TypeAlias, get_args

from markupsafe import Markup

from app.config import KindName, TrainConfig
from app.custom_parts import CHOICES, custom_file, find_custom
from app.errors import unknown_choice

if TYPE_CHECKING:
    import numpy as np  # --help must not wait for it

    from data.arrays import Tensor

KINDS = {name: f"data.{name}s.kind" for name in get_args(KindName)}
"""Names of the kinds, and the modules with their records as `KIND`. The first is used if the files are of no kind."""
CUSTOM_DRAWS = 16
"""Random numbers per example in all policies except `mild` of pictures."""


class Part(NamedTuple):
    """A part of a file that holds more than one example, such as some seconds of a recording."""

    path: Path
    start: float
    end: float
    """Seconds at which it begins and ends."""
    cut: Callable[[BinaryIO, float, float], bytes]
    """Reads the content of the part from the open file; raises `data.content.UnreadableError`."""

    @property
    def name(self) -> Path:
        """Path that names the part: that of the file with a media fragment of W3C, such as 'talk.wav#t=1.5,3'."""
        return self.path.with_name(f"{self.path.name}#t={self.start:.15g},{self.end:.15g}")


Content = Path | bytes | Part
"""A file, a part of a file, or the bytes of an example that has no file."""
Inputs: TypeAlias = "tuple[np.ndarray, ...]"
"""The tensors of one example, or of several (n, ...), in the order of the network's inputs."""
ManyInputs: TypeAlias = "tuple[Tensor, ...]"
"""The tensors of many examples, ragged if their rows differ in length."""


class Reader(NamedTuple):
    """Reads the examples of a run: a kind of input under the settings of the run."""

    description: dict[str, Any]
    """JSON value with all that affects reading, including code and versions of libraries: part of stored keys."""
    title: str
    """Short name of this way to read the data, such as '224 px', for the model and the store."""
    inputs: tuple[np.dtype, ...]
    """Type and shape of each tensor of an example; of ragged ones, those of the longest example."""
    signature: np.dtype
    """Type and shape of the signature, by which examples are compared."""
    read: Callable[[bytes], Inputs]
    """Reads an example from its bytes; raises `data.content.UnreadableError` with the reason."""
    read_with_signature: Callable[[bytes], tuple[Inputs, np.ndarray]]
    """Reads an example, and computes its signature."""
    ragged: bool = False
    """True if examples differ in their first dimension; all tensors of one example then share it."""
    files: Mapping[str, bytes] = {}
    """Files that reading needs, by name; a run stores them in its folder."""

    @property
    def model_inputs(self) -> list[tuple[int | None, ...]]:
        """Shapes of the inputs that a network takes for an example; ragged ones come with their mask."""
        if not self.ragged:
            return [dtype.shape for dtype in self.inputs]
        return [*((None, *dtype.shape[1:]) for dtype in self.inputs), (None,)]

    def join(self, examples: Sequence[Inputs]) -> ManyInputs:
        """Stacks any number of examples as tensors."""
        import numpy as np

        from data.arrays import Ragged

        # A row of zeros, removed again, gives tensors without examples their type and shape.
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
    """Moves boxes, see `data.boxes.targets.encode`, as `apply` moves the picture; None if targets never change."""
    uses: tuple[Callable, ...] = ()
    """Functions of other modules that `apply` calls: their code, too, is part of the key of stored views."""


class Shown(NamedTuple):
    """An example, or the explanation of an answer, as shown on a page and in a figure."""

    html: Markup
    pixels: np.ndarray | None
    """uint8 (height, width, 3); None if no figure can show it."""


class Baseline(NamedTuple):
    """Simple features: a network should do better than a regression on them."""

    name: str
    """Key in `metrics.json`; with blanks for `_`, it completes the phrase 'Logistic regression on'."""
    values: Callable[[ManyInputs, Sequence[Content], np.ndarray], Any]
    """Computes the input of `transform` from all tensors, all contents, and positions of examples, int (n,)."""
    transform: Callable[[], Any]
    """Makes the scikit-learn transformer that precedes the regression."""
    strength: float
    """`C` of the regression."""
    most_examples: int
    """Most training examples; of more, an even sample is used."""


def standardized() -> Any:
    """Makes a transformer that scales numbers to mean 0 and variance 1."""
    from sklearn.preprocessing import StandardScaler  # a second to import

    return StandardScaler()


class GraphReader(NamedTuple):
    """Reads examples inside an exported model, by operations of TensorFlow alone."""

    formats: tuple[str, ...]
    """Formats of files that it reads; others raise an error of TensorFlow."""
    read: Callable[[Any, TrainConfig], tuple[Any, ...]]
    """Turns the bytes of a file, string (), into the tensors of an example, by the settings of a run."""


class Explain(NamedTuple):
    """Explanations of answers."""

    compute: Callable[[Any, Reader, ManyInputs, Sequence[Content], np.ndarray], list[Shown]]
    """Shows why a Keras model gives examples (tensors and contents) the given classes, int (n,)."""
    name: str
    """Name of the explanation in a message."""
    hint: str
    """Sentence that says how to read it."""
    replaces: bool = False
    """True if the explanation contains the example, which then need not be shown beside it."""


class Kind(NamedTuple):
    """Everything that the project needs to know about a kind of input."""

    name: str
    noun: str
    """One example in messages and reports, such as 'picture'."""
    nouns: str
    endings: tuple[str, ...]
    """Endings of file names of this kind, in lower case; reading decides what a file really is."""
    size_setting: str
    """Setting that fixes the size of inputs."""
    reader: Callable[[TrainConfig, Path | None], Reader]
    """Makes the reader, given the settings of a run, and the run's folder for a finished one."""
    compared_values: Callable[[np.ndarray], np.ndarray]
    """Turns signatures (n, ...) into unit vectors, float32 (n, values); 0 for examples that match no other."""
    comparison: str
    """SHA-256 of the code of `compared_values`, part of stored keys."""
    size: Callable[[Content], int | None]
    """Measures an example, in the unit of `size_setting`; None if that is impossible or too slow."""
    useful_size: Callable[[int], int]
    """Returns the largest useful size of inputs, given the median size of the examples."""
    cautions: Callable[[Sequence[int], TrainConfig], list[str]]
    """Returns warnings, in sentences, given the sizes of some examples, or the lengths of all as read if ragged."""
    show: Callable[[Inputs, Content, str], Shown]
    """Shows one example under a title."""
    vary: Callable[..., Vary] | None = None
    """Random variation for training, by the setting `vary`; needs TensorFlow. None for a kind without variation."""
    policies: tuple[str, ...] = ()
    """Names of the setting `vary` for this kind, without those of `custom.py`."""
    explain: Explain | None = None
    """Explanation of answers; needs TensorFlow. None for a kind without explanations."""
    baseline: Baseline | None = None
    backbone: str = ""
    """Default backbone."""
    column: str | None = None
    """Column of a CSV file that holds the examples themselves; None if examples are always files."""
    has_mirror: bool = False
    """True if examples are pictures, which keep their class when mirrored left to right."""
    cut: Callable[[BinaryIO, float, float], bytes] | None = None
    """Cuts a part out of a file, see `Part`; None if every file is one example."""
    windows: Callable[[BinaryIO, Reader], list[tuple[float, float]]] | None = None
    """Returns start and end of consecutive parts of an open file that is much longer than an input; [] for a shorter
    file. Raises `data.content.UnreadableError`."""
    look_cautions: Callable[[np.ndarray, Sequence[Content]], list[str]] | None = None
    """Returns warnings, in sentences, given signatures (n, ...) and contents of all examples; None for none."""
    graph_reader: Callable[[], GraphReader] | None = None
    """Reader for exports that take bytes of files; needs TensorFlow. None for a kind whose exports take tensors."""


def check_vary(name: str, kind: Kind) -> None:
    """Raises a UsageError if the setting `vary` names nothing that is for a kind, nor anything of `custom.py`."""
    if kind.vary is None or name in kind.policies:
        return
    known = [*kind.policies, *custom_file().table(CHOICES["vary"].table)]
    if name not in known:
        raise unknown_choice(f"--vary for {kind.nouns}", name, known)


def policy_of(name: str, policies: Mapping[str, Vary]) -> Vary:
    """Finds a way to vary examples by the setting `vary`, which `check_vary` allowed: of a kind, or of `custom.py`."""
    own = find_custom("vary", name)
    return policies[name] if own is None else Vary(CUSTOM_DRAWS, own)


@functools.cache
def find_kind(name: str) -> Kind:
    """Returns the record of a kind."""
    return importlib.import_module(KINDS[name]).KIND


def kinds() -> list[Kind]:
    """Returns the records of all kinds."""
    return [find_kind(name) for name in KINDS]


def kind_of(files: Iterable[PurePath]) -> Kind:
    """Returns the most frequent kind of the files, by the endings of their names.

    A text does not count if a picture or a recording beside it has its name: it is a caption or a transcript.
    """
    files = list(files)
    endings = Counter(path.suffix.lower() for path in files)
    texts = {ending for kind in kinds() if kind.column for ending in kind.endings}
    others = {ending for kind in kinds() for ending in kind.endings} - texts
    if not (texts.isdisjoint(endings) or others.isdisjoint(endings)):
        described = {path.with_suffix("") for path in files if path.suffix.lower() in others}
        captions = (path for path in files if path.suffix.lower() in texts and path.with_suffix("") in described)
        endings.subtract(path.suffix.lower() for path in captions)
    return max(kinds(), key=lambda kind: sum(endings[ending] for ending in kind.endings))


def promised_kind(path: PurePath) -> Kind | None:
    """Returns the kind that the name of a file suggests."""
    return next((kind for kind in kinds() if path.suffix.lower() in kind.endings), None)
