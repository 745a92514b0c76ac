"""The pass through the frozen layers computes what the layers do, each time the same, and changes nothing."""

import json

import keras
import numpy as np
import pytest
from tensorflow.python.framework.test_util import IsMklEnabled

from app.errors import RunError, UsageError
from data.batches import View
from data.images.augment import NUM_DRAWS, augment_pictures
from data.kinds import Vary
from data.pipeline import variation
from data.store import Store
from features.cuts import Cut, find_cuts
from features.fingerprint import structure
from features.forward_pass import apply_model, frozen_function
from features.frozen_part import FrozenPart
from models import backbones
from models.backbones import TABLE, Backbone, find
from models.classifier import Classifier, build_classifier
from tasks.classification import MULTICLASS
from tests.untrained import randomise

VARY = Vary(NUM_DRAWS, augment_pictures)
SIZE = 75
COUNT = 70
"""More than one batch."""


@pytest.fixture(scope="module")
def view() -> View:
    pixels = np.random.default_rng(0).integers(0, 256, (COUNT + 5, SIZE, SIZE, 3), np.uint8)
    return View((pixels,), np.arange(COUNT)[::-1])


def build(name: str) -> Classifier:
    keras.utils.set_random_seed(0)
    weights = "imagenet" if name == "efficientnet_lite0" else "none"
    classifier = build_classifier(find(name), weights=weights, image_size=SIZE, task=MULTICLASS, num_classes=3)
    randomise(classifier.head)  # whose output starts with zeros
    return classifier


def cuts_of(classifier: Classifier) -> list[Cut]:
    """The pooled features and a cut in the last third of the network."""
    cuts = find_cuts(classifier.model)
    (pooled,) = (cut for cut in cuts if cut.layer == "pooling")
    return [pooled, next(cut for cut in cuts if cut.share_after < 1 / 3)]


def part(classifier: Classifier, folder, precision: str = "float32", limit: int = 10**9) -> FrozenPart:
    return FrozenPart(classifier.model, cuts_of(classifier), Store(folder, limit), precision, "title")


@pytest.mark.parametrize(
    "name",
    [
        "mobilenetv2",
        *(
            pytest.param(name, marks=pytest.mark.slow)
            for name in ("vgg16", "resnet50", "inceptionv3", "efficientnetb0")
        ),
    ],
)
def test_features_are_what_the_layers_compute_and_repeat_to_the_bit(name, view, tmp_path):
    classifier = build(name)
    before = classifier.model.get_weights()
    arrays, saved = part(classifier, tmp_path / "a").load_or_compute(view, None, {})
    assert saved == 0
    pictures = view.inputs[0][view.rows].astype(np.float32)
    for array, cut in zip(arrays, cuts_of(classifier), strict=True):
        expected = keras.Model(classifier.model.inputs[0], cut.tensors[0])(pictures, training=False).numpy()
        np.testing.assert_allclose(array, expected, rtol=1e-3, atol=1e-5 * np.abs(expected).max())
    again, saved = part(build(name), tmp_path / "b").load_or_compute(view, None, {})
    assert saved == 0
    for first, second in zip(arrays, again, strict=True):
        np.testing.assert_array_equal(first, second)
    for first, second in zip(before, classifier.model.get_weights(), strict=True):
        np.testing.assert_array_equal(first, second)


@pytest.fixture(scope="module")
def lite() -> Classifier:
    return build("efficientnet_lite0")


@pytest.fixture(scope="module")
def exact(lite, view, tmp_path_factory) -> list[np.ndarray]:
    """What `lite` makes of the pictures at both cuts, in float32."""
    return part(lite, tmp_path_factory.mktemp("exact")).load_or_compute(view, None, {})[0]


def test_what_is_stored_is_not_computed_again(lite, view, tmp_path):
    first, _ = part(lite, tmp_path).load_or_compute(view, None, {})
    done = []
    second, saved = part(build("efficientnet_lite0"), tmp_path).load_or_compute(view, None, {}, on_progress=done.append)
    assert saved > 0
    assert sum(done) == COUNT
    for one, other in zip(first, second, strict=True):
        np.testing.assert_array_equal(one, other)


def test_everything_that_changes_a_value_is_another_entry(lite, view, tmp_path):
    part(lite, tmp_path).load_or_compute(view, None, {"pictures": "a"})
    assert part(lite, tmp_path).load_or_compute(view, None, {"pictures": "b"})[1] == 0
    assert part(lite, tmp_path).load_or_compute(view, None, {"pictures": "a"}, half=True)[1] == 0
    assert part(lite, tmp_path, precision="mixed_bfloat16").load_or_compute(view, None, {"pictures": "a"})[1] == 0
    changed = build("efficientnet_lite0")
    for weights in (changed.backbone.layers[2].weights[0], changed.backbone.layers[-2].weights[0]):
        weights.assign(weights + 1e-6)
        assert part(changed, tmp_path).load_or_compute(view, None, {"pictures": "a"})[1] == 0


def test_the_head_does_not_matter(lite, view, tmp_path):
    part(lite, tmp_path).load_or_compute(view, None, {})
    other = build("efficientnet_lite0")
    other.head.layers[-1].weights[0].assign(np.ones((1280, 3)))
    assert part(other, tmp_path).load_or_compute(view, None, {})[1] > 0


def test_only_the_missing_cut_is_computed(lite, view, tmp_path):
    pooled, map_cut = cuts_of(lite)
    store = Store(tmp_path, 10**9)
    FrozenPart(lite.model, [pooled], store, "float32", "").load_or_compute(view, None, {})
    FrozenPart(lite.model, [pooled, map_cut], store, "float32", "").load_or_compute(view, None, {})
    assert len(store.entries()) == 2


def test_feature_maps_are_halved_and_pooled_features_are_not(lite, exact, view, tmp_path):
    halved, _ = part(lite, tmp_path).load_or_compute(view, None, {}, half=True)
    assert [array.dtype for array in halved] == [np.float32, np.float16]
    np.testing.assert_array_equal(halved[1], exact[1].astype(np.float16))
    assert [cut.size(half=True) for cut in cuts_of(lite)] == [array[0].nbytes for array in halved]
    assert [cut.size(half=False) for cut in cuts_of(lite)] == [array[0].nbytes for array in exact]


def test_values_too_large_for_float16_are_kept_in_float32(view, tmp_path):
    classifier = build("efficientnet_lite0")
    layer = classifier.model.get_layer(cuts_of(classifier)[1].layer)
    source = next(each for each in classifier.backbone.layers if each.output is layer.input[0])
    source.gamma.assign(source.gamma * 1e6)
    arrays, _ = part(classifier, tmp_path).load_or_compute(view, None, {}, half=True)
    assert arrays[1].dtype == np.float32
    assert np.abs(arrays[1]).max() > 65504
    assert np.isfinite(arrays[1]).all()
    assert part(classifier, tmp_path).load_or_compute(view, None, {}, half=True)[1] > 0


def test_without_room_the_features_stay_in_memory(lite, exact, view, tmp_path):
    full = Store(tmp_path / "b", 0)
    (kept,), saved = FrozenPart(lite.model, cuts_of(lite)[:1], full, "float32", "").load_or_compute(view, None, {})
    assert saved == 0
    np.testing.assert_array_equal(kept, exact[0])
    assert full.entries() == []
    with pytest.raises(RunError, match="has no room for"):
        part(lite, tmp_path / "b", limit=0).load_or_compute(view, None, {})


def test_bfloat16_agrees_but_for_rounding_and_is_switched_off_again(lite, exact, view, tmp_path):
    rough, _ = part(lite, tmp_path / "b", precision="mixed_bfloat16").load_or_compute(view, None, {})
    again, _ = part(lite, tmp_path / "c").load_or_compute(view, None, {})
    assert np.abs(rough[0] - exact[0]).mean() < 0.15 * exact[0].mean()
    if IsMklEnabled():  # by default, only on CPUs with AVX-512; without oneDNN, such networks are not rewritten
        assert not np.array_equal(rough[0], exact[0])
    np.testing.assert_array_equal(again[0], exact[0])


def test_a_varied_view_differs_from_the_plain_one(lite, exact, view, tmp_path):
    varied, _ = part(lite, tmp_path).load_or_compute(view, variation(VARY, 0, 1, COUNT), {"view": 1})
    differences = np.abs(varied[0] - exact[0]).max(axis=1)
    assert (differences > 0).all()


def test_a_model_is_applied_in_order_in_inference_mode(lite, view):
    outputs = apply_model(lite.model, view)
    expected = lite.model(view.inputs[0][view.rows].astype(np.float32), training=False)
    assert outputs.shape == (COUNT, 3)
    assert np.ptp(expected, axis=0).min() > 1e-2
    np.testing.assert_allclose(outputs, expected, atol=1e-5)


def check_structure(backbone: Backbone) -> None:
    """Builds a network twice: the second has other names for what has no name of its own."""
    texts = [structure(backbones.build(backbone, max(64, backbone.family.smallest_size)).model) for _ in range(2)]
    assert texts[0] == texts[1]
    assert " at 0x" not in texts[0]


@pytest.mark.parametrize("name", ["resnet50", "mobilenetv3small", "densenet121", "convnexttiny"])
def test_the_structure_of_a_network_does_not_depend_on_generated_names(name):
    check_structure(find(name))


@pytest.mark.slow
@pytest.mark.parametrize("backbone", TABLE, ids=lambda backbone: backbone.name)
def test_the_structure_of_every_network_does_not_depend_on_generated_names(backbone):
    check_structure(backbone)


@pytest.mark.parametrize("after", [32, 64])
def test_a_pass_that_was_interrupted_goes_on_to_the_same_bits(view, tmp_path, after):
    classifier = build("mobilenetv2")
    varied = variation(VARY, 0, 1, COUNT)
    whole, _ = part(classifier, tmp_path / "undisturbed").load_or_compute(view, varied, {})
    done = []

    def interrupt(count: int) -> None:
        done.append(count)
        if sum(done) == after:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        part(classifier, tmp_path / "store").load_or_compute(view, varied, {}, on_progress=interrupt)
    done.clear()
    again, saved = part(classifier, tmp_path / "store").load_or_compute(view, varied, {}, on_progress=done.append)
    assert saved == 0
    assert done[0] == after
    assert sum(done) == COUNT
    for first, second in zip(whole, again, strict=True):
        np.testing.assert_array_equal(first, second)


def test_cuts_that_got_differently_far_go_on_together(view, tmp_path):
    classifier = build("mobilenetv2")
    whole, _ = part(classifier, tmp_path / "undisturbed").load_or_compute(view, None, {})
    with pytest.raises(KeyboardInterrupt):
        part(classifier, tmp_path / "store").load_or_compute(view, None, {}, on_progress=_interrupt_at(64))
    shorter = min((tmp_path / "store").glob("*.partial"))
    progress = json.loads((shorter / "progress.json").read_text())
    (shorter / "progress.json").write_text(json.dumps(progress | {"rows": 32}))
    again, _ = part(classifier, tmp_path / "store").load_or_compute(view, None, {})
    for first, second in zip(whole, again, strict=True):
        np.testing.assert_array_equal(first, second)


def _interrupt_at(count: int):
    done = []

    def advance(number: int) -> None:
        done.append(number)
        if sum(done) >= count:
            raise KeyboardInterrupt

    return advance


def test_large_networks_are_computed_without_folding_to_the_same_values(view, monkeypatch):
    model = build("efficientnet_lite0").model
    folded = apply_model(model, view)
    assert np.ptp(folded, axis=0).min() > 1e-2
    monkeypatch.setattr("features.forward_pass.MOST_FOLDED", 0)
    compute = frozen_function(model)
    model.set_weights([weights + 1 for weights in model.get_weights()])  # what trains later changes nothing
    pictures = view.inputs[0][view.rows[:16]].astype(np.float32)
    np.testing.assert_allclose(compute(pictures)[0], folded[:16], atol=1e-5)
    assert len(compute.get_concrete_function().captured_inputs) == len(model.variables)


@pytest.mark.parametrize(("value", "said"), [(np.nan, "nan"), (np.inf, "nan"), (-1e16, r"\d\.\d*e\+18")])
def test_features_that_nothing_can_be_learnt_from_end_the_pass_at_the_first_batch(view, tmp_path, value, said):
    pictures = keras.Input((SIZE, SIZE, 3))
    x = keras.layers.Conv2D(2, 1, name="conv", kernel_initializer=keras.initializers.Constant(value))(pictures)
    model = keras.Model(pictures, keras.layers.Dense(3)(keras.layers.GlobalMaxPooling2D(name="pooling")(-x)))
    cuts = [cut for cut in find_cuts(model) if cut.layer == "pooling"]
    store, done = Store(tmp_path, 10**9), []
    with pytest.raises(UsageError, match=f"--weights must be .* its layer 'pooling' computes {said}"):
        FrozenPart(model, cuts, store, "float32", "").load_or_compute(view, None, {}, on_progress=done.append)
    assert sum(done) == 0
    assert not list(tmp_path.glob("*/values.npy"))
