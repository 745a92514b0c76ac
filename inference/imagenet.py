"""A pretrained network as it is, with the 1000 classes of ImageNet it was trained on."""

import functools
from collections import Counter
from typing import TYPE_CHECKING

from app.config import Resize
from app.errors import UsageError
from inference.answering import AnsweringModel
from models.backbones import find
from models.weights import build_backbone, check_available

if TYPE_CHECKING:
    from inference.predictor import Predictor


def of_backbone(name: str, weights: str, resize: Resize = "crop") -> AnsweringModel:
    """The network of a backbone and its top.

    Args:
        name: of the backbone.
        weights: 'imagenet', or the path of a file with top.
        resize: how a picture becomes a square.

    Raises:
        UsageError: no such backbone, or its weights cannot be had.
    """
    row = find(name)
    if weights == "none":
        raise UsageError("--weights must be 'imagenet' or a weight file with top: random weights know no classes.")
    check_available(row, weights, include_top=True)

    def load() -> "Predictor":
        import keras

        from inference.predictor import Predictor

        model = build_backbone(row, row.image_size, weights, include_top=True)
        probabilities = keras.layers.Softmax()(model.output) if row.module == "efficientnet_lite" else model.output
        return Predictor(keras.Model(model.inputs[0], probabilities))

    return AnsweringModel(class_names(), "multiclass", row.image_size, resize, load)


@functools.cache
def class_names() -> tuple[str, ...]:
    """The names of the 1000 classes in the order of the outputs, each the first of its synonyms.

    Keras downloads them when they are asked for; TensorFlow Datasets has them installed.
    """
    from tensorflow_datasets.datasets.siscore.labels import IMAGENET_LABELS_LIST

    first = [synonyms.split(", ")[0] for synonyms in IMAGENET_LABELS_LIST]
    count = Counter(first)
    return tuple(
        synonyms if count[name] > 1 else name for name, synonyms in zip(first, IMAGENET_LABELS_LIST, strict=True)
    )
