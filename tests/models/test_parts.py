"""A network whose blocks are hidden within one layer is cut between them, and saved as it was."""

import keras
import numpy as np
import pytest

from app.errors import UsageError
from features.cuts import find_cuts, part_of
from models.classifier import Classifier, assemble
from models.freezing import set_trainable
from models.heads import build_head
from models.parts import Parts
from tasks.classification import BINARY
from training.cuts import check_learns

NUM_BLOCKS = 3


@keras.saving.register_keras_serializable("tests")
class Encoder(keras.layers.Layer):
    """Blocks of attention in one layer, as in KerasHub."""

    def __init__(self, **settings):
        super().__init__(**settings)
        self.blocks = [keras.layers.MultiHeadAttention(2, 4, name=f"block_{number}") for number in range(NUM_BLOCKS)]

    def build(self, input_shape):
        for block in self.blocks:
            block.build(input_shape, input_shape)

    def call(self, inputs):
        for block in self.blocks:
            inputs = block(inputs, inputs)
        return inputs


def build() -> Classifier:
    """Unrolls the encoder, as a family of such networks does."""
    keras.utils.set_random_seed(0)
    pictures = keras.Input((8, 8, 3))
    patches = keras.layers.Conv2D(8, 4, 4, name="patches")(pictures)
    sequence = keras.layers.Reshape((4, 8), name="sequence")(patches)
    encoder = Encoder(name="encoder")
    whole = keras.Model(pictures, encoder(sequence))
    features = sequence
    for block in encoder.blocks:
        features = block(features, features)
    model = keras.Model(pictures, features)
    blocks = [model.layers[:3], *([block] for block in encoder.blocks)]
    parts = Parts(model, blocks, {"avg": keras.layers.GlobalAveragePooling1D}, whole)
    return assemble(parts, parts.pooling["avg"](name="pooling"), lambda size: build_head(size, BINARY, 2), "classifier")


@pytest.fixture
def pictures() -> np.ndarray:
    return np.random.default_rng(0).uniform(0, 255, (5, 8, 8, 3)).astype(np.float32)


def test_a_network_that_was_unrolled_is_cut_between_its_blocks(pictures):
    classifier = build()
    cuts = {cut.layer: cut for cut in find_cuts(classifier.model)}
    assert {f"block_{number}" for number in range(NUM_BLOCKS)} <= cuts.keys()
    assert "block_0" not in {cut.layer for cut in find_cuts(classifier.saved)}
    cut = cuts["block_1"]
    before, after = part_of(classifier.model.inputs, cut.tensors), part_of(cut.inputs, classifier.model.outputs)
    np.testing.assert_allclose(after(before(pictures)), classifier.saved(pictures), rtol=1e-6)


def test_what_learns_in_the_unrolled_network_learns_in_the_one_that_is_saved(pictures, tmp_path):
    classifier = build()
    set_trainable(classifier.backbone.layers, 1)
    assert {variable.path.split("/")[-3] for variable in classifier.backbone.trainable_variables} == {"block_2"}
    before = classifier.saved(pictures).numpy()
    classifier.model.compile("sgd", "binary_crossentropy")
    classifier.model.fit(pictures, np.array([[0.0], [1.0], [0.0], [1.0], [1.0]]), epochs=2, verbose=0)
    after = classifier.saved(pictures).numpy()
    assert not np.array_equal(before, after)
    np.testing.assert_allclose(after, classifier.model(pictures), rtol=1e-6)
    classifier.saved.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras", safe_mode=True)
    np.testing.assert_allclose(loaded(pictures), after, rtol=1e-6)


def test_layers_that_have_nothing_to_learn_are_refused():
    pictures = keras.Input((8, 8, 3))
    x = keras.layers.Conv2D(4, 1, name="convolution")(pictures)
    x = keras.layers.ReLU()(keras.layers.BatchNormalization()(x))
    parts = Parts(keras.Model(pictures, x), [], {})
    pool = keras.layers.GlobalAveragePooling2D(name="pooling")
    classifier = assemble(parts, pool, lambda size: build_head(size, BINARY, 2), "classifier")
    for enough in (0, 3, "all"):
        check_learns(classifier, enough, "small")
    with pytest.raises(UsageError, match=r"--trainable-layers must be at least 3, 'all' or 0 for small, .* received 2"):
        check_learns(classifier, 2, "small")
    assert not classifier.backbone.trainable_variables
