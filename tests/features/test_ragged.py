"""A network of ragged inputs and their mask goes through the frozen part, the store and training as pictures do."""

import json
from types import SimpleNamespace

import keras
import numpy as np
import pytest

from app.config import TrainConfig
from data.arrays import Ragged
from data.batches import Examples, View, by_length
from data.pipeline import input_batches
from data.store import Store
from features.cuts import find_cuts, part_of
from features.forward_pass import apply_model
from features.frozen_part import FrozenPart
from inference.predictor import Predictor
from models.classifier import Classifier
from tasks.classification import BINARY
from training.cuts import cuts_at
from training.frozen import PhaseInputs, frozen_inputs, whole_network
from training.learner import Learner
from training.plan import Plan

COUNT = 200
SPLITS = {"train": np.arange(0, COUNT, 2), "val": np.arange(1, COUNT, 4), "test": np.arange(3, COUNT, 4)}


@keras.saving.register_keras_serializable("tests")
class MaskedMean(keras.layers.Layer):
    """Mean of the vectors that the mask marks."""

    def call(self, inputs):
        vectors, mask = inputs
        weights = keras.ops.cast(mask, vectors.dtype)[..., None]
        return keras.ops.sum(vectors * weights, axis=1) / (keras.ops.sum(weights, axis=1) + 1e-6)


def build() -> Classifier:
    """Blocks on embedded tokens, of which the last attends to what the mask marks."""
    keras.utils.set_random_seed(0)
    tokens, mask = keras.Input((None,), dtype="int32", name="tokens"), keras.Input((None,), dtype="bool", name="mask")
    embedded = keras.layers.Embedding(50, 8, name="embedding")(tokens)
    wide = keras.layers.Dense(32, "tanh", name="block_0")(embedded)
    first = keras.layers.Dense(8, "tanh", name="block_1")(wide)
    attended = keras.ops.expand_dims(mask, axis=1)
    second = keras.layers.MultiHeadAttention(2, 4, name="block_2")(first, first, attention_mask=attended)
    pooled = MaskedMean(name="pooling")([second, mask])
    head = keras.Sequential([keras.Input((8,)), keras.layers.Dense(1, "sigmoid", name="probabilities")], name="head")
    backbone = keras.Model([tokens, mask], second)
    return Classifier(keras.Model([tokens, mask], head(pooled)), backbone, head)


@pytest.fixture
def data() -> SimpleNamespace:
    random = np.random.default_rng(0)
    texts = [random.integers(1, 50, random.integers(1, 60), dtype=np.int32) for _ in range(COUNT)]
    targets = np.array([[text.mean() > 25] for text in texts], np.float32)
    return SimpleNamespace(
        name="texts",
        inputs=(Ragged.from_rows(texts),),
        reader=SimpleNamespace(title="words"),
        splits=SPLITS,
        targets=targets,
        kind=SimpleNamespace(vary=None, noun="text", nouns="texts"),
        describe=lambda positions: {"positions": positions.tolist()},
    )


def inputs_at_cuts(classifier: Classifier, data, store: Store) -> dict[str, PhaseInputs]:
    cuts = cuts_at(classifier, {"head": 0, "fine_tune": 1})
    config = TrainConfig()
    return frozen_inputs(classifier, cuts, {"head": 1, "fine_tune": 1}, config, data, store, precision="float32")


def test_examples_are_put_in_the_order_of_their_lengths_with_all_that_belongs_to_them(data):
    rows = SPLITS["val"]
    given = Examples([View(data.inputs, rows)], data.targets[rows], rows.astype(np.float32))
    ordered = by_length(given)
    (view,) = ordered.views
    assert (np.diff(view.lengths) >= 0).all()
    assert (np.diff(given.views[0].lengths) < 0).any()
    assert sorted(view.rows) == rows.tolist()
    np.testing.assert_array_equal(ordered.targets, data.targets[view.rows])
    np.testing.assert_array_equal(ordered.sample_weights, view.rows)


def curve(inputs: PhaseInputs, data, batch_size: int) -> list[float]:
    examples = [
        Examples([view], data.targets[SPLITS[split]], np.ones(len(view.rows), np.float32))
        for split, view in (("train", inputs.train[0]), ("val", inputs.evaluated["val"]))
    ]
    plan = Plan.of(TrainConfig.of(batch_size=batch_size, seed=0))
    result = Learner(inputs.model, BINARY, "adam").train("head", *examples, plan, epochs=3, learning_rate=0.01)
    return [epoch.val_loss for epoch in result.epochs]


def test_a_mask_crosses_every_cut_before_the_pooling():
    classifier = build()
    cuts = {cut.layer: cut for cut in find_cuts(classifier.model)}
    for name in ("embedding", "block_1", "block_2"):
        assert [tensor.name for tensor in cuts[name].inputs][1:] == ["mask"]
    assert cuts["pooling"].mask is None
    assert cuts["pooling"].has_vectors
    assert not cuts["block_1"].has_vectors


@pytest.mark.parametrize(("use", "batch_size"), [("head", COUNT), ("fine_tune", 8)])
def test_layers_learn_from_the_store_what_they_learn_from_the_whole_network(data, tmp_path, use, batch_size):
    def prepared() -> Classifier:
        classifier = build()
        classifier.backbone.trainable = False
        classifier.backbone.get_layer("block_2").trainable = use == "fine_tune"
        return classifier

    expected = curve(whole_network(prepared(), data), data, batch_size)
    inputs = inputs_at_cuts(classifier := prepared(), data, Store(tmp_path, 10**9))[use]
    classifier.backbone.get_layer("block_2").trainable = use == "fine_tune"
    assert inputs.train[0].has_vectors == (use == "head")
    got = curve(inputs, data, batch_size)
    np.testing.assert_allclose(got, expected, rtol=1e-4)
    assert len({round(loss, 6) for loss in got}) > 1


def test_ragged_tensors_come_back_from_the_store_as_they_were_computed(data, tmp_path):
    store = Store(tmp_path, 10**9)
    cold = inputs_at_cuts(build(), data, store)
    entries = sorted(tmp_path.iterdir())
    warm = inputs_at_cuts(build(), data, store)
    assert sorted(tmp_path.iterdir()) == entries
    (first,), (second,) = (each["fine_tune"].train[0].inputs for each in (cold, warm))
    assert isinstance(first, Ragged)
    assert sorted(first.lengths) == sorted(data.inputs[0].lengths)
    np.testing.assert_array_equal(first.values, second.values)
    classifier = build()
    for split in ("val", "test"):
        view = warm["fine_tune"].evaluated[split]
        behind = apply_model(warm["fine_tune"].model, view)
        whole = apply_model(classifier.model, View(data.inputs, SPLITS[split]))
        np.testing.assert_allclose(behind, whole, atol=1e-6)


def test_predictions_in_two_parts_are_those_of_the_whole_network(data):
    classifier = build()
    (batch,) = input_batches(View(data.inputs, SPLITS["val"]), COUNT)
    whole, parts = (Predictor(classifier.model, cut)(batch) for cut in (None, "block_1"))
    np.testing.assert_allclose(parts, whole, atol=1e-6)


def test_a_network_of_which_a_part_was_made_can_still_be_saved(tmp_path):
    classifier = build()
    cuts = {cut.layer: cut for cut in find_cuts(classifier.model)}
    part_of(cuts["block_1"].inputs, classifier.model.outputs)
    classifier.model.save(tmp_path / "model.keras")
    assert keras.saving.load_model(tmp_path / "model.keras").count_params() == classifier.model.count_params()


def test_a_pass_over_ragged_rows_that_was_interrupted_goes_on(data, tmp_path):
    whole = inputs_at_cuts(build(), data, Store(tmp_path / "undisturbed", 10**9))
    store, check, calls = Store(tmp_path / "store", 10**9), FrozenPart._check_outputs, []

    def stop(*arguments: object) -> None:
        calls.append(1)
        if len(calls) == 4:  # two tensors of each batch
            raise KeyboardInterrupt
        check(*arguments)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(FrozenPart, "_check_outputs", stop)
        with pytest.raises(KeyboardInterrupt):
            inputs_at_cuts(build(), data, store)
    progress = [json.loads(path.read_text()) for path in (tmp_path / "store").glob("*.partial/progress.json")]
    assert any(each["rows"] >= 32 for each in progress)
    again = inputs_at_cuts(build(), data, store)
    for use in whole:
        views = [[each.train[0], *each.evaluated.values()] for each in (whole[use], again[use])]
        for first, second in zip(*([tensor for view in some for tensor in view.inputs] for some in views), strict=True):
            np.testing.assert_array_equal(*(getattr(each, "values", each) for each in (first, second)))
