"""The whole network as one Keras model: inputs -> preprocessing -> backbone -> pooling -> head -> outputs."""

import functools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import keras

from app.custom_parts import blamed, find_custom
from app.errors import UsageError
from models.backbones import Backbone
from models.heads import build_head
from models.own_layers import MeanOfMirrored, WithMirrored
from models.parts import Parts, features_of
from models.weights import build_backbone
from tasks.table import Task, classes_of


class Classifier(NamedTuple):
    """A model and its parts, which share their layers with it."""

    model: keras.Model
    """Inputs (pictures: float32 (n, image_size, image_size, 3) in [0, 255]) -> probabilities (n, num_outputs)."""
    backbone: keras.Model
    """The same inputs -> features, preprocessing included."""
    head: keras.Model
    """Pooled features -> probabilities. If the pooling has weights, it is the first layer."""
    blocks: Sequence[Sequence[keras.Layer]] = ()
    """Layers of the backbone by block, from input to output."""
    whole: keras.Model | None = None
    """The model with the backbone before unrolling; None if nothing was unrolled."""
    decode: keras.layers.Layer | None = None
    """Layer that turns the outputs used in training into answers; None if they are the same."""
    mean: keras.layers.Layer | None = None
    """Layer that joins the outputs for pictures and for their mirror images; None if the head gets the mean of both
    features."""
    build_head: Callable[..., keras.Sequential] = build_head
    """Builds another head for the same features, given `head_units`, `dropout` and `seed`."""

    @property
    def features(self) -> list[keras.KerasTensor]:
        """Inputs of the head."""
        return self.backbone.outputs if self.decode else [self.model.get_layer("pooling").output]

    @property
    def saved(self) -> keras.Model:
        """The model to save to a file."""
        return self.answering(self.whole or self.model)

    def answering(self, model: keras.Model) -> keras.Model:
        """Appends `decode`, if any, to a model with the outputs of this one, such as its trainable tail."""
        if self.decode is None:
            return model
        inputs = model.inputs[0] if len(model.inputs) == 1 else model.inputs
        return keras.Model(inputs, self.decode(model.output), name=model.name)


def build_classifier(
    backbone: Backbone,
    *,
    weights: str,
    image_size: int,
    task: Task,
    num_classes: int,
    pooling: str | None = None,
    head: str = "dense",
    head_units: Sequence[int] = (),
    dropout: float = 0.0,
    seed: int = 0,
) -> Classifier:
    """Builds a classifier for a task; the other arguments are settings, explained in `app/config.py`.

    Raises:
        UsageError: the weights are not available, or do not fit the backbone.
    """
    parts = build_backbone(backbone, image_size, weights)
    pooling = pooling or next(iter(parts.pooling))
    make_pool = find_custom("pooling", pooling) or parts.pooling[pooling]
    with blamed("pooling", pooling):
        pool, learns = make_pool(name="pooling"), None
        if _learns(make_pool(), parts):
            pool, learns = keras.layers.Identity(name="pooling"), make_pool
    if learns is not None and parts.mask is not None:
        raise UsageError(f"--pooling {pooling} has weights, and these are for feature maps: take one without.")
    make_head = functools.partial(build_head, task=classes_of(task), num_classes=num_classes, head=head, pool=learns)
    first_head = functools.partial(make_head, head_units=head_units, dropout=dropout, seed=seed)
    classifier = assemble(parts, pool, first_head, name=f"{Path(backbone.name).stem}_classifier")
    features = classifier.head.input_shape[1:]
    return classifier._replace(build_head=functools.partial(make_head, features))


def assemble(
    parts: Parts, pool: keras.Layer, make_head: Callable[[tuple[int, ...]], keras.Model], name: str
) -> Classifier:
    """Joins a backbone, a layer that pools its features (and their mask, if any), and a head for these features."""
    pooled = pool(_pool_inputs(parts.model, parts.mask))
    head = make_head(pooled.shape[1:])
    outputs = head(pooled)  # first, as a layer describes only its first call
    whole = None
    if parts.whole is not None:
        mask = None if parts.mask is None else parts.whole.inputs[-1]
        whole = keras.Model(parts.whole.inputs, head(pool(_pool_inputs(parts.whole, mask))), name=name)
    inputs = parts.model.inputs
    model = keras.Model(inputs[0] if len(inputs) == 1 else inputs, outputs, name=name)
    return Classifier(model, parts.model, head, parts.blocks, whole)


def with_mirrored(classifier: Classifier) -> Classifier:
    """Lets a classifier look at each picture and at its mirror image: the head gets the mean of both features.

    On CIFAR-10 at 128 px, this adds 0.6 to 1.6 points of accuracy, for twice the computation. A pooling with weights
    was not trained on the mean of two feature maps: such a classifier is returned unchanged. The maps of a detector
    are joined behind its head.

    Args:
        classifier: stays unchanged; its layers are shared.
    """
    head, mean, network = classifier.head, classifier.mean, classifier.whole or classifier.model
    features = network.output if mean else features_of(network)
    if features is None:
        return classifier
    before = keras.Function(network.inputs, features)
    pictures = keras.Input(network.input_shape[1:], name=network.inputs[0].name)
    # The layers are called one by one, so that the model can be cut like any other.
    both = before.call([WithMirrored(name="with_mirrored")(pictures)])
    outputs = mean(both) if mean else head(MeanOfMirrored(name="mean")(both))
    return classifier._replace(model=keras.Model(pictures, outputs, name=network.name), whole=None)


def _pool_inputs(network: keras.Model, mask: keras.KerasTensor | None) -> Any:
    tensors = [*network.outputs, *([] if mask is None else [mask])]
    return tensors[0] if len(tensors) == 1 else tensors


def _learns(pool: keras.Layer, parts: Parts) -> bool:
    """Returns True if a pooling has weights."""
    tensors = _pool_inputs(parts.model, parts.mask)
    pool(keras.tree.map_structure(lambda tensor: keras.Input(batch_shape=tensor.shape, dtype=tensor.dtype), tensors))
    return bool(getattr(pool, "weights", ()))  # a function of several layers is a pooling without weights
