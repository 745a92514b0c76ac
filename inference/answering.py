"""Models that answer: those of runs, or pretrained networks with the 1000 classes of ImageNet.

All facts about their examples and answers are known before TensorFlow is loaded.
"""

import functools
from collections import Counter
from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from app.config import Resize
from app.errors import UsageError
from data.arrays import filled
from data.images.kind import KIND as IMAGE
from data.images.kind import picture_reader
from data.kinds import Kind, ManyInputs, Reader
from inference.load import TrainedRun, load_model
from inference.unknown import FILE, Familiar, read_familiar
from models.backbones import find
from models.weights import build_backbone, check_available
from tasks.classification import MULTICLASS
from tasks.table import Task

if TYPE_CHECKING:
    from inference.predictor import Predictor


class AnsweringModel(NamedTuple):
    """A model that answers, of a run or pretrained."""

    class_names: tuple[str, ...]
    task: Task
    kind: Kind
    reader: Reader
    """Reads examples as in the model's training."""
    load: "Callable[[], Predictor]"
    """Loads the model; needs TensorFlow."""
    familiar: Familiar | None = None
    """Recognises unknown examples; None if the run cannot."""

    def ask(self, predictor: "Predictor", inputs: ManyInputs) -> tuple[np.ndarray, np.ndarray | None]:
        """Answers for a batch of examples that the reader has joined.

        Returns:
            Probabilities, float32 (n, num_outputs), and which examples are unknown, bool (n,), or None.
        """
        tensors = filled(inputs)
        batch = tensors[0] if len(tensors) == 1 else tensors
        if self.familiar is None:
            return predictor(batch), None
        outputs, features = predictor.with_features(batch)
        return outputs, self.familiar.is_unknown(features)


def of_run(run: TrainedRun, unknown: bool = False) -> AnsweringModel:
    """Returns the model of a run, which reads examples as the run did.

    Args:
        run: the run.
        unknown: whether to answer 'unknown' for examples far from the training examples.

    Raises:
        UsageError: the run has no description of its training examples.
    """
    familiar = read_familiar(run.folder) if unknown else None

    def load() -> "Predictor":
        from inference.predictor import Predictor
        from models.parts import features_of

        model = load_model(run)
        if familiar is not None:
            features = features_of(model)
            if features is None or features.shape[-1] != len(familiar.mean):
                raise UsageError(f"'{run.folder / FILE}' is that of another run. Train again, or give --unknown-below.")
        return Predictor(model, run.cut, features=unknown)

    return AnsweringModel(run.class_names, run.task, run.kind, run.reader, load, familiar)


def of_backbone(name: str, weights: str, resize: Resize = "crop") -> AnsweringModel:
    """Returns a pretrained network with its top.

    Args:
        name: name of the backbone.
        weights: 'imagenet', or the path of a file with top.
        resize: way to make a picture square.

    Raises:
        UsageError: there is no such backbone, or its weights are not available.
    """
    backbone = find(name)
    if weights == "none":
        raise UsageError("--weights must be 'imagenet' or a weight file with top: random weights know no classes.")
    check_available(backbone, weights, include_top=True)

    def load() -> "Predictor":
        import keras

        from inference.predictor import Predictor

        model = build_backbone(backbone, backbone.image_size, weights, include_top=True).model
        probabilities = keras.layers.Softmax()(model.output) if backbone.module == "efficientnet_lite" else model.output
        return Predictor(keras.Model(model.inputs[0], probabilities))

    reader = picture_reader(backbone.image_size, resize)
    return AnsweringModel(imagenet_classes(), MULTICLASS, IMAGE, reader, load)


@functools.cache
def imagenet_classes() -> tuple[str, ...]:
    """Returns the names of ImageNet's 1000 classes in the order of the outputs, the first synonym of each.

    Keras would download them; the installed TensorFlow Datasets contains them.
    """
    from tensorflow_datasets.datasets.siscore.labels import IMAGENET_LABELS_LIST

    first = [synonyms.split(", ")[0] for synonyms in IMAGENET_LABELS_LIST]
    count = Counter(first)
    names = zip(first, IMAGENET_LABELS_LIST, strict=True)
    return tuple(synonyms if count[name] > 1 else name for name, synonyms in names)
