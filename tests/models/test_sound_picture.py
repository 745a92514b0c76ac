"""A network for pictures is shown the spectrogram, and is cut, saved and explained as any other."""

import keras
import numpy as np
import pytest

from app.config import TrainConfig
from app.errors import UsageError
from app.spectrogram import RATE
from data.sounds.explain import heard_parts
from data.sounds.mel import log_mel
from features.cuts import find_cuts
from models.backbones import check_kind, find, find_of_run
from models.classifier import build_classifier
from models.weights import build_backbone, check_available
from tasks.classification import MULTICLASS
from tests.untrained import normalize, randomise
from training.recipe import choose_size

NAME = "as_image:mobilenetv3small"


def tone(first: float, last: float) -> np.ndarray:
    """A second in which 1,000 hertz sound for a while."""
    times = np.arange(RATE) / RATE
    return np.where((times >= first) & (times < last), 8_000 * np.sin(2 * np.pi * 1_000 * times), 0).astype(np.float32)


@pytest.fixture(scope="module")
def classifier():
    settings = {"weights": "none", "image_size": 1_000, "task": MULTICLASS, "num_classes": 2}
    built = build_classifier(find(NAME), **settings)
    normalize(built.backbone, np.stack([tone(0, 0.3), tone(0.6, 1)]))
    randomise(built.head)
    return built


def test_the_picture_is_the_spectrogram_with_low_bands_below(classifier):
    picture = keras.Model(classifier.model.inputs, classifier.model.get_layer("sound_picture").output)
    (seen,) = np.asarray(picture(tone(0.5, 1)[None]))
    assert seen.shape == (224, 224, 3)
    assert (seen[..., 0] == seen[..., 2]).all()
    levels = log_mel(tone(0.5, 1).astype(np.int16))
    row = 223 - round((levels.mean(axis=0).argmax() + 0.5) / 80 * 224)
    assert abs(int(seen[:, 112:].mean(axis=(1, 2)).argmax()) - row) <= 2
    assert seen[row, 130:].min() > seen[:, :100].max()


def test_it_is_what_the_network_makes_of_that_picture_in_the_same_blocks():
    seen = build_backbone(find("mobilenetv3small"), 224, "none")
    heard = build_backbone(find(NAME), 1_000, "none")
    picture = keras.Model(heard.model.inputs, heard.model.get_layer("sound_picture").output)
    sound = tone(0, 0.7)[None]
    normalize(heard.model, sound)
    for layer in seen.model.layers:
        if layer.weights:
            layer.set_weights(heard.model.get_layer(layer.name).get_weights())
    expected = seen.model(picture(sound))
    assert np.ptp(expected) > 1e-2
    np.testing.assert_allclose(heard.model(sound), expected, atol=1e-4)
    assert [len(block) for block in heard.blocks[1:]] == [len(block) for block in seen.blocks[1:]]
    cuts = find_cuts(heard.model)
    assert len(cuts) > 20
    assert all(cut.tensors for cut in cuts)


def test_a_saved_one_is_loaded_again_and_says_what_it_listened_to(classifier, tmp_path):
    classifier.saved.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras", safe_mode=True)
    sounds = np.stack([tone(0, 0.3), tone(0.6, 1)])
    expected = classifier.model(sounds)
    assert np.ptp(expected, axis=0).max() > 1e-2
    np.testing.assert_array_equal(again(sounds), expected)
    parts = heard_parts(again, sounds, np.array([0, 1]))
    assert parts.shape == (2, 224)
    assert 0 <= parts.min() < parts.max() == 1


def test_the_name_says_it_all():
    row = find(NAME)
    assert (row.kind, row.picture_size, row.name) == ("sound", 224, "mobilenetv3small")
    check_kind(row, "sound", "recordings")
    check_available(row, "none")
    assert choose_size(TrainConfig(), row, 2).data.clip_seconds == 2
    assert find_of_run("as_image:torch:gone.keras").picture_size
    with pytest.raises(UsageError, match="is for a network for pictures; received 'minilm'"):
        find("as_image:minilm")
    with pytest.raises(UsageError, match="as_image:mobilenet takes their spectrograms"):
        check_kind(find("mobilenet"), "sound", "recordings")
    with pytest.raises(UsageError, match="Did you mean 'mobilenet'"):
        find("as_image:mobilenett")
