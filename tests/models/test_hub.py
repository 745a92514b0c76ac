"""Networks of KerasHub: the table, their blocks, their weights, from building to reloading."""

import inspect
import shutil

import keras
import numpy as np
import pytest

keras_hub = pytest.importorskip("keras_hub")

from app.errors import UsageError  # noqa: E402
from features.cuts import find_cuts, part_of  # noqa: E402
from models import hub_table  # noqa: E402
from models.backbones import Backbone, build, check_fits, find  # noqa: E402
from models.classifier import build_classifier, with_mirrored  # noqa: E402
from models.freezing import set_trainable  # noqa: E402
from models.hub_positions import interpolate_positions  # noqa: E402
from models.hub_table import HUB, HUB_FAMILIES, NETWORKS  # noqa: E402
from models.model_file import check_model_file  # noqa: E402
from models.weights import at_hand, build_backbone, check_available  # noqa: E402
from tasks.classification import MULTICLASS  # noqa: E402
from tests.tiny_hub import SIZE, TINY, shrink  # noqa: E402
from tests.untrained import randomise  # noqa: E402

TOKENS = [name for name in TINY if "first" in find(name).family.pooling]


@pytest.fixture(autouse=True)
def _forget_models():
    yield
    keras.backend.clear_session()


@pytest.fixture
def pictures() -> np.ndarray:
    return np.random.default_rng(0).uniform(0, 255, (4, SIZE, SIZE, 3)).astype(np.float32)


def test_the_table_is_that_of_the_installed_keras_hub():
    assert set(NETWORKS) == {row.name for row in HUB}
    assert set(HUB_FAMILIES) == {row.module for row in HUB}
    for row in HUB:
        cls = getattr(keras_hub.models, row.builder)
        if "architecture" not in NETWORKS[row.name]:
            assert NETWORKS[row.name].keys() <= inspect.signature(cls).parameters.keys(), row.name
        presets = getattr(keras_hub.models, row.builder.replace("VisionEncoder", "Backbone")).presets
        assert (row.name in presets) == row.published, row.name
        if row.published and row.builder.endswith("Backbone") and row.module != "cspnet":  # counted with its top there
            published = presets[row.name]["metadata"]["params"] / 1e6
            # Those of DINOv2 have the positions of 518 px.
            assert row.parameters == pytest.approx(published, rel=0.04 if row.module == "dinov2" else 0.025), row.name


@pytest.mark.slow
@pytest.mark.parametrize("row", HUB, ids=lambda row: row.name)
def test_a_row_has_its_parameters(row: Backbone):
    assert build(row, row.image_size).model.count_params() / 1e6 == pytest.approx(row.parameters, abs=0.06)


@pytest.mark.parametrize("name", TINY)
def test_a_network_trains_saves_reloads_and_predicts_the_same(name, pictures, tmp_path, monkeypatch):
    backbone = shrink(name, monkeypatch)
    classifier = build_classifier(backbone, weights="none", image_size=SIZE, task=MULTICLASS, num_classes=3)
    randomise(classifier.model)
    assert sorted(layer.name for block in classifier.blocks for layer in block) == sorted(
        layer.name for layer in classifier.backbone.layers
    )
    np.testing.assert_array_equal(classifier.saved(pictures), classifier.model(pictures))
    for count in (len(classifier.blocks[-1]), len(classifier.blocks[-1]) + len(classifier.blocks[-2])):
        set_trainable(classifier.backbone.layers, count)
        frozen = classifier.backbone.layers[:-count]
        before = [layer.get_weights() for layer in frozen]
        learning = [variable.numpy() for variable in classifier.backbone.trainable_variables]
        classifier.model.compile("adam", "categorical_crossentropy", run_eagerly=True)
        classifier.model.train_on_batch(pictures, np.eye(3)[[0, 1, 2, 0]])
        for layer, values in zip(frozen, before, strict=True):
            for value, now in zip(values, layer.get_weights(), strict=True):
                np.testing.assert_array_equal(value, now, err_msg=layer.name)
        pairs = zip(learning, classifier.backbone.trainable_variables, strict=True)
        assert any(not np.array_equal(old, new) for old, new in pairs)
    expected = classifier.model(pictures, training=False).numpy()
    classifier.saved.save(tmp_path / "model.keras")
    check_model_file(tmp_path / "model.keras", 10**9)
    reloaded = keras.saving.load_model(tmp_path / "model.keras", safe_mode=True, compile=False)
    np.testing.assert_array_equal(reloaded(pictures, training=False), expected)
    assert np.ptp(expected, axis=0).max() > 1e-4


@pytest.mark.parametrize("name", ["vit_tiny_patch16_224", "csp_resnet_50_ra_imagenet"])
def test_a_network_that_also_looks_at_the_mirror_image_reloads_and_predicts_the_same(
    name, pictures, tmp_path, monkeypatch
):
    about = {"image_size": SIZE, "task": MULTICLASS, "num_classes": 3}
    classifier = build_classifier(shrink(name, monkeypatch), weights="none", **about)
    randomise(classifier.model)
    mirrored = with_mirrored(classifier).saved
    expected = mirrored(pictures)
    np.testing.assert_allclose(mirrored(pictures[:, :, ::-1]), expected, atol=1e-6)
    assert not np.allclose(classifier.saved(pictures), expected, atol=1e-4)
    mirrored.save(tmp_path / "model.keras")
    check_model_file(tmp_path / "model.keras", 10**9)
    reloaded = keras.saving.load_model(tmp_path / "model.keras", safe_mode=True, compile=False)
    np.testing.assert_allclose(reloaded(pictures), expected, atol=1e-6)


@pytest.mark.parametrize("name", ["vit_tiny_patch16_224", "hgnetv2_b4_ssld_stage2_ft_in1k"])
def test_a_network_for_pictures_takes_spectrograms_and_is_saved(name, tmp_path, monkeypatch):
    shrink(name, monkeypatch)
    about = {"image_size": 1_000, "task": MULTICLASS, "num_classes": 2}  # milliseconds
    classifier = build_classifier(find(f"as_image:{name}"), weights="none", **about)
    randomise(classifier.head)
    sounds = np.random.default_rng(0).normal(0, 2_000, (2, 16_000)).astype(np.float32)
    expected = classifier.model(sounds)
    np.testing.assert_allclose(classifier.saved(sounds), expected, atol=1e-6)
    classifier.saved.save(tmp_path / "model.keras")
    reloaded = keras.saving.load_model(tmp_path / "model.keras", safe_mode=True, compile=False)
    np.testing.assert_allclose(reloaded(sounds), expected, atol=1e-6)


def test_nothing_is_dropped_at_random_in_a_frozen_network(pictures, monkeypatch):
    backbone = shrink("swin_tiny_patch4_window7_224", monkeypatch)
    parts = build_backbone(backbone, SIZE, "none")
    randomise(parts.model)
    parts.model.trainable = False
    np.testing.assert_array_equal(parts.model(pictures, training=True), parts.model(pictures, training=False))


@pytest.mark.parametrize("name", [name for name in TINY if find(name).module not in ("cspnet", "mobilenetv5")])
def test_every_block_is_a_cut(name, pictures, monkeypatch):
    parts = build(shrink(name, monkeypatch), SIZE)
    randomise(parts.model)
    cuts = {cut.layer: cut for cut in find_cuts(parts.model)}
    for block in parts.blocks[:-1]:
        cut = cuts[block[-1].name]
        before, after = part_of(parts.model.inputs, cut.tensors), part_of(cut.inputs, parts.model.outputs)
        np.testing.assert_array_equal(after(before(pictures)), parts.model(pictures))


def test_unrolled_layers_are_those_of_the_network(monkeypatch):
    parts = build(shrink("vit_tiny_patch16_224", monkeypatch), SIZE)
    names = ["vit_patching_and_embedding", "transformer_block_1", "transformer_block_2", "transformer_block_3", "ln"]
    assert [layer.name for layer in parts.model.layers] == ["pictures", "preprocessing", *names]
    assert [[layer.name for layer in block][-1] for block in parts.blocks] == [*names[1:3], "ln"]
    assert {id(weight) for weight in parts.model.weights} == {id(weight) for weight in parts.whole.weights}


@pytest.mark.parametrize("name", TOKENS)
def test_tokens_are_pooled_by_class_by_patches_or_both(name, pictures, monkeypatch):
    backbone = shrink(name, monkeypatch)
    parts = build(backbone, SIZE)
    randomise(parts.model)
    tokens = parts.model(pictures)
    vectors = {way: np.array(make(name="pooling")(tokens)) for way, make in parts.pooling.items()}
    np.testing.assert_allclose(vectors["first"], tokens[:, 0], rtol=1e-6)
    np.testing.assert_allclose(vectors["avg"], np.mean(tokens[:, -16:], axis=1), rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(vectors["both"], np.concatenate([vectors["first"], vectors["avg"]], axis=1))
    assert tuple(vectors) == backbone.family.pooling


def save_preset(backbone: Backbone, size: int, folder) -> None:
    """Writes the folder of a preset as KerasHub does."""
    arguments = hub_table.NETWORKS[backbone.name] | {"image_shape": (size, size, 3)}
    if backbone.module == "dinov2":
        arguments["position_embedding_shape"] = (2 * size, 2 * size)
    network = getattr(keras_hub.models, backbone.builder)(**arguments)
    randomise(network)
    if backbone.module == "clip":
        text = keras_hub.models.CLIPTextEncoder(20, 16, 16, 1, 2, 32)
        keras_hub.models.CLIPBackbone(network, text, 8).save_to_preset(folder)
    elif backbone.module == "siglip":
        text = keras_hub.models.SigLIPTextEncoder(20, 16, 16, 1, 2, 32)
        keras_hub.models.SigLIPBackbone(network, text).save_to_preset(folder)
    else:
        network.save_to_preset(folder)


@pytest.mark.parametrize("name", ["vit_tiny_patch16_224", "dinov2_small", "clip_vit_base_patch16"])
@pytest.mark.parametrize("size", [SIZE, 2 * SIZE])
def test_weights_of_a_preset_folder_are_those_of_the_network(name, size, tmp_path, monkeypatch):
    backbone = shrink(name, monkeypatch)
    save_preset(backbone, SIZE, tmp_path / "preset")
    check_available(backbone, str(tmp_path / "preset"))
    loaded = build_backbone(backbone, size, str(tmp_path / "preset")).model
    if size == SIZE:  # from_preset knows no other size
        pixels = np.random.default_rng(1).uniform(0, 255, (2, SIZE, SIZE, 3)).astype(np.float32)
        mean, stddev = HUB_FAMILIES[backbone.module].scaling
        network = keras_hub.models.Backbone.from_preset(str(tmp_path / "preset"))
        network = getattr(network, "vision_encoder", network)
        expected = network(keras.tree.pack_sequence_as(network.input, [(pixels / 255 - mean) / stddev]))
        np.testing.assert_allclose(loaded(pixels), expected, atol=1e-5)
    assert loaded.output.shape == (None, 1 + (size // 8) ** 2, 16)


def test_positions_are_interpolated_as_the_authors_of_vit_do():
    # On a plane, interpolation between the outermost patches gives the plane again.
    rows, columns = np.meshgrid(np.linspace(0, 1, 4), np.linspace(0, 1, 4), indexing="ij")
    token, plane = np.full((1, 2), 9.0), np.stack([2 * rows + columns, 1 - columns], axis=-1).reshape(16, 2)
    rows, columns = np.meshgrid(np.linspace(0, 1, 7), np.linspace(0, 1, 7), indexing="ij")
    expected = np.stack([2 * rows + columns, 1 - columns], axis=-1).reshape(49, 2)
    new = interpolate_positions(np.concatenate([token, plane]), 50)
    np.testing.assert_allclose(new, np.concatenate([token, expected]), atol=1e-6)


def test_a_size_that_patches_do_not_fill_is_refused(monkeypatch):
    from app.config import TrainConfig

    with pytest.raises(UsageError, match=r"--image-size must be a multiple of 14 for dinov2_small; received 225\."):
        check_fits(find("dinov2_small"), TrainConfig().replace(backbone="dinov2_small", image_size=225))
    with pytest.raises(UsageError, match=r"--pooling must be one of avg, max; received 'first'"):
        check_fits(find("resnet50"), TrainConfig().replace(pooling="first"))


def test_a_folder_of_another_network_is_refused(tmp_path, monkeypatch):
    backbone = shrink("vit_tiny_patch16_224", monkeypatch)
    save_preset(backbone, SIZE, tmp_path / "preset")
    monkeypatch.setitem(NETWORKS, backbone.name, dict(NETWORKS[backbone.name]) | {"num_layers": 4})
    with pytest.raises(UsageError, match=r"must be weights of vit_tiny_patch16_224; .*num_layers is 3, and not 4"):
        build_backbone(backbone, SIZE, str(tmp_path / "preset"))
    with pytest.raises(UsageError, match=r"those of keras_hub>ViTBackbone"):
        build_backbone(shrink("dinov2_small", monkeypatch), SIZE, str(tmp_path / "preset"))


def test_without_keras_hub_the_message_says_what_to_install(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(UsageError, match=r"--backbone dinov2_small needs .*pip install -r requirements-hub.txt"):
        check_available(find("dinov2_small"), "none")


def test_a_preset_that_cannot_be_downloaded_is_told_at_once(monkeypatch):
    monkeypatch.setattr("models.weights._server_answers", lambda host: False)
    monkeypatch.setattr("models.weights.getproxies", dict)
    monkeypatch.setenv("KAGGLEHUB_CACHE", "/nowhere")
    with pytest.raises(UsageError, match=r"no connection to www.kaggle.com.* pass the folder of a preset"):
        check_available(find("dinov2_small"), "imagenet")
    with pytest.raises(UsageError, match="Keras publishes none for"):
        check_available(find("vit_small_patch16_224"), "imagenet")


def test_a_preset_that_keras_hub_downloaded_is_at_hand(tmp_path, monkeypatch):
    backbone = shrink("dinov2_small", monkeypatch)
    save_preset(backbone, SIZE, tmp_path / "preset")
    place = tmp_path / "models/keras/dinov2/keras/dinov2_small/1"
    place.parent.mkdir(parents=True)
    shutil.move(tmp_path / "preset", place)
    monkeypatch.setenv("KAGGLEHUB_CACHE", str(tmp_path))
    check_available(backbone, "imagenet")
    assert build_backbone(backbone, SIZE, "imagenet").model.output.shape == (None, 17, 16)
    marks = place.parent / ".complete" / "1"
    marks.mkdir(parents=True)
    (marks / "config.json.complete").touch()
    assert not at_hand(backbone)  # the download was interrupted: kagglehub goes on with it
    (marks / "model.weights.h5.complete").touch()
    assert at_hand(backbone)
