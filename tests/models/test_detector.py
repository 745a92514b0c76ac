"""The same head finds boxes on any backbone for pictures: it learns behind its cut, and is written and read."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from app.config import TrainConfig
from data.images.kind import KIND
from exports.class_function import class_function
from exports.run import FORMATS
from features.cuts import cut_before_trainable, find_cuts, part_of
from features.forward_pass import side_by_side
from inference.load import TrainedRun
from models.backbones import Backbone, find
from models.classifier import with_mirrored
from models.detector import build_detector
from models.freezing import set_trainable
from tasks.detection import DETECTION
from tasks.detection_maps import SIDES, cell_boxes

SIZE = 96
TARGETS = np.array([[[0.1, 0.2, 0.6, 0.7, 1, 0], [0, 0, 0, 0, -1, 0]]] * 2, np.float32)


@pytest.fixture(autouse=True)
def _forget_models():
    yield
    keras.backend.clear_session()


def check(backbone: Backbone, size: int, grid: int, tensors: int, tmp_path) -> None:
    detector = build_detector(backbone, weights="none", image_size=size, num_classes=2)
    set_trainable(detector.backbone.layers, 0)
    assert detector.model.output_shape == (None, grid, grid, 2 + SIDES)
    cut = cut_before_trainable(find_cuts(detector.model, len(detector.backbone.outputs)), detector.model)
    assert len(detector.backbone.outputs) == tensors
    assert len(cut.tensors) <= tensors  # those of a stride may cross joined
    pictures = np.random.default_rng(0).uniform(0, 255, (2, size, size, 3)).astype(np.float32)
    before = part_of(detector.model.inputs, cut.tensors)(pictures)
    behind = part_of(cut.inputs, detector.model.outputs)
    expected = np.array(detector.model(pictures))
    atol = 1e-2 * expected.std(axis=(1, 2)).max()  # signals fade in some untrained networks
    np.testing.assert_allclose(behind(before), expected, rtol=0, atol=max(atol, 1e-6))
    optimizer, losses = keras.optimizers.Adam(1e-3), []
    for _ in range(4):
        with tf.GradientTape() as tape:
            losses.append(tf.reduce_sum(DETECTION.losses(TARGETS, behind(before, training=True))))
        optimizer.apply(
            tape.gradient(losses[-1], [each.value for each in behind.trainable_variables]), behind.trainable_variables
        )
    assert losses[-1] < losses[0]
    path = tmp_path / "model.keras"
    detector.saved.save(path)
    again = keras.saving.load_model(path, compile=False, safe_mode=True)
    for one, other in zip(detector.saved(pictures), again(pictures), strict=True):
        np.testing.assert_allclose(one, other, atol=1e-4)


@pytest.mark.parametrize(("name", "tensors"), [("mobilenet", 6), ("resnet50", 3), ("efficientnetb0", 8)])
def test_a_convolutional_network_gives_three_levels_of_as_many_blocks_as_are_narrow(name, tensors, tmp_path):
    check(find(name), SIZE, SIZE // 8, tensors, tmp_path)


@pytest.mark.parametrize(
    ("name", "size", "grids"),
    [("efficientnet_lite0", 100, [13, 7, 4]), ("inceptionv3", 320, [37, 18, 8]), ("xception", 96, [12, 6, 3])],
)
def test_there_is_a_level_for_each_stride_whatever_the_size(name, size, grids):
    detector = build_detector(find(name), weights="none", image_size=size, num_classes=2)
    assert sorted({level.shape[1] for level in detector.backbone.outputs}, reverse=True) == grids
    assert detector.model.output_shape == (None, grids[0], grids[0], 2 + SIDES)


def test_a_transformer_gives_its_patches_alone(tmp_path, monkeypatch):
    pytest.importorskip("keras_hub")
    from tests.tiny_hub import shrink

    check(shrink("vit_tiny_patch16_224", monkeypatch), 32, 4, 1, tmp_path)


def test_a_mirrored_picture_has_mirrored_boxes(tmp_path):
    detector = build_detector(find("efficientnet_lite0"), weights="imagenet", image_size=SIZE, num_classes=2)
    mirrored = with_mirrored(detector)
    pictures = np.random.default_rng(0).uniform(0, 255, (2, SIZE, SIZE, 3)).astype(np.float32)
    boxes = [cell_boxes(mirrored.model(each)).numpy() for each in (pictures, pictures[:, :, ::-1])]
    columns = boxes[0].shape[2]
    turned = boxes[1][:, :, ::-1, [2, 1, 0, 3]] * [-1, 1, -1, 1] + [columns, 0, columns, 0]
    np.testing.assert_allclose(boxes[0], turned, rtol=1e-4, atol=1e-4)
    plain, other = (cell_boxes(detector.model(each)).numpy() for each in (pictures, pictures[:, :, ::-1]))
    assert np.abs(plain - boxes[0]).max() > 1e-4
    assert np.abs(plain - other[:, :, ::-1, [2, 1, 0, 3]]).max() > 1e-4
    path = tmp_path / "model.keras"
    mirrored.saved.save(path)
    again = keras.saving.load_model(path, compile=False, safe_mode=True)
    for one, two in zip(mirrored.saved(pictures), again(pictures), strict=True):
        np.testing.assert_allclose(one, two, atol=1e-4)


def check_export(backbone: Backbone, size: int, tmp_path) -> None:
    saved = build_detector(backbone, weights="none", image_size=size, num_classes=2).saved
    run = TrainedRun(tmp_path, TrainConfig(), ("cat", "dog"), DETECTION, KIND, None, 1.0)
    pictures = np.random.default_rng(0).uniform(0, 255, (2, size, size, 3)).astype(np.float32)
    wanted = side_by_side([np.asarray(each) for each in saved(pictures)])
    assert wanted[..., 4].max() > 0
    for name in ("litert", "onnx"):
        artifact = FORMATS[name][0]
        (route,) = artifact.write(class_function(saved, run), run, tmp_path / artifact.name).values()
        found = route.open()(pictures=pictures)
        # What is kept of the many boxes that an untrained head finds about as likely is chance.
        scores = side_by_side([found[name] for name in DETECTION.outputs])[:, :5, 4]
        np.testing.assert_allclose(scores, wanted[:, :5, 4], atol=1e-3)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["mobilenet", "resnet50", "efficientnetb0"])
def test_a_convolutional_network_is_exported_with_its_boxes(name, tmp_path):
    check_export(find(name), SIZE, tmp_path)


@pytest.mark.slow
def test_a_transformer_is_exported_with_its_boxes(tmp_path, monkeypatch):
    pytest.importorskip("keras_hub")
    from tests.tiny_hub import shrink

    check_export(shrink("vit_tiny_patch16_224", monkeypatch), 32, tmp_path)
