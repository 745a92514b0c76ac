"""The decoder computes what KerasHub's does, and tokens follow the rules of Whisper."""

from pathlib import Path

import numpy as np
import pytest

from app.errors import UsageError
from app.spectrogram import BANDS, RATE
from inference.spoken_words import Vocabulary, allowed, read_vocabulary, words_in
from models.backbones import SOUND_TABLE, find
from models.sound_decoder import Whisper
from models.sound_weights import form_of, read_whisper
from models.weights import build_backbone, check_available
from tests.models.small_whisper import small_whisper, write_folder

MOST = 10**7


@pytest.fixture(scope="module")
def hub():
    pytest.importorskip("keras_hub")
    return small_whisper()


@pytest.fixture
def folder(hub, tmp_path) -> Path:
    return write_folder(hub, tmp_path)


def test_a_folder_of_any_size_is_what_keras_hub_makes_of_it(hub, folder):
    check_available(find("whisper"), str(folder))
    parts = build_backbone(find("whisper"), 1_000, str(folder))
    sounds = np.random.default_rng(1).normal(0, 2_000, (2, RATE)).astype(np.float32)
    tokens = np.array([[3, 9, 27, 14, 59, 0]] * 2)
    inputs = {"encoder_features": np.asarray(parts.model.get_layer("log_mel")(sounds)), "decoder_token_ids": tokens}
    expected = hub({**inputs, "decoder_padding_mask": np.ones_like(tokens)})
    np.testing.assert_allclose(parts.model(sounds)[..., :-1], expected["encoder_sequence_output"], atol=2e-5)
    network = Whisper(read_whisper(str(folder), MOST, ("encoder", "decoder")))
    assert network.seconds == 1
    heard, kept = network.hear(sounds[1]), network.nothing
    last = np.asarray(expected["decoder_sequence_output"])[1] @ np.asarray(hub.token_embedding.embeddings).T
    for token, scores in zip(tokens[1], last, strict=True):
        found, kept = network.follow(int(token), kept, heard)
        np.testing.assert_allclose(found, scores, atol=2e-3 * np.abs(scores).max())


def test_a_preset_of_keras_hub_has_the_same_weights(hub, folder, tmp_path):
    preset = tmp_path / "preset"
    hub.save_to_preset(preset)
    check_available(find("whisper_base_en"), str(preset))
    states = [read_whisper(str(each), MOST, ("encoder", "decoder")) for each in (folder, preset)]
    assert states[0].keys() == states[1].keys()
    assert all((states[0][name] == states[1][name]).all() for name in states[0])
    parts = build_backbone(find("whisper_base_en"), 1_000, str(preset))
    assert parts.model.output_shape == (None, 50, 17)


def test_every_preset_of_keras_hub_that_fits_has_a_row():
    presets = pytest.importorskip("keras_hub").models.WhisperBackbone.presets
    rows = {row.name for row in SOUND_TABLE}
    assert {name for name in presets if "large" not in name} <= rows


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model_type": "bert"}, "must be a folder of Whisper of Hugging Face or KerasHub"),
        ({"num_mel_bins": 128}, f"a spectrogram of {BANDS} bands"),
        ({"encoder_layers": 3}, "lacks what its config.json says it has"),
    ],
)
def test_a_folder_that_is_no_whisper_is_refused(hub, tmp_path, changes, message):
    folder = write_folder(hub, tmp_path, **changes)
    with pytest.raises(UsageError, match=message):
        build_backbone(find("whisper"), 1_000, str(folder))


def test_a_folder_hears_no_more_than_it_has_learnt(folder):
    with pytest.raises(UsageError, match="--clip-seconds must be at most 1 for"):
        build_backbone(find("whisper"), 1_010, str(folder))


def test_the_form_of_the_wheel_is_read_from_its_arrays():
    state = read_whisper("imagenet", MOST)
    assert form_of(state)[:5] == (384, 4, 6, 1536, 1500)
    assert form_of(state, "decoder")[:5] == (384, 4, 6, 1536, 448)
    vocabulary = read_vocabulary("imagenet", MOST)
    assert (vocabulary.begin, vocabulary.first_time, vocabulary.tokenizer.decode([15496, 995])) == (
        50_257,
        50_363,
        "Hello world",
    )
    assert vocabulary.tokenizer.id_to_token(vocabulary.silence) == "<|nocaptions|>"


class Spelling:
    """A tokenizer of letters."""

    def decode(self, tokens: list[int]) -> str:
        return "".join("abcdefgh"[token] for token in tokens if token < 8)


FIRST = 14
"""First token of time: 0 to 7 are letters, 8 ends, 9 begins, 10 to 13 are others."""
VOCABULARY = Vocabulary(Spelling(), 8, 9, slice(10, 10), 11, 12, FIRST, np.array([7]), np.array([0, 8]))


def likeliest(scores: dict[int, float], said: list[int]) -> int:
    table = np.full(FIRST + 101, -50, np.float32)
    for token, score in scores.items():
        table[token] = score
    return int(np.argmax(allowed(table, said, VOCABULARY)))


def test_tokens_follow_the_rules():
    assert likeliest({2: 9, 8: 9, FIRST + 5: 1}, []) == FIRST + 5  # a time comes first
    assert likeliest({FIRST + 60: 9, FIRST + 50: 1}, []) == FIRST + 50  # of the first second
    assert likeliest({FIRST + 9: 9, 7: 8, 13: 7, 2: 1}, [FIRST]) == 2  # then a word, and no music
    assert likeliest({FIRST + 3: 9, FIRST + 4: 3, FIRST + 5: 2, 2: 1}, [FIRST + 4, 2]) == FIRST + 5  # times go on
    assert likeliest({2: 9, FIRST + 5: 1, FIRST + 6: 2}, [FIRST + 4, 2, FIRST + 6]) == FIRST + 6  # and come in pairs
    assert likeliest({8: 9, FIRST + 7: 1}, [FIRST + 4, 2, FIRST + 6]) == 8
    # Many times together are likelier than the likeliest word.
    assert likeliest({2: 1.5, **{FIRST + number: 1 for number in range(6, 20)}}, [FIRST, 1, 2]) == FIRST + 6


class Says:
    """A network that says some tokens whatever it hears."""

    nothing = None

    def __init__(self, tokens: list[int], silence: float = -50, certainty: float = 60):
        self.tokens, self.silence, self.certainty = tokens, silence, certainty

    def hear(self, samples):
        return None

    def follow(self, token, kept, heard):
        scores = np.full(FIRST + 101, -50, np.float32)
        number = 0 if token == VOCABULARY.begin else kept
        scores[[*self.tokens, VOCABULARY.end][min(number, len(self.tokens))]] += self.certainty
        scores[VOCABULARY.silence] = self.silence

        class Scores:
            numpy = staticmethod(lambda: scores)

        return Scores, number + 1


SECOND = FIRST + 50
SAYS = {
    "one sentence": ([FIRST, 1, 2, SECOND], [(0, 1, "bc")], 2),
    "two sentences": ([FIRST, 1, SECOND, SECOND, 2, 3, FIRST + 90], [(0, 1, "b"), (1, 1.8, "cd")], 2),
    "one that goes on": ([FIRST, 1, SECOND, SECOND, 2, 3], [(0, 1, "b")], 1),
    "one that begins at the end": ([FIRST, 1, SECOND, SECOND], [(0, 1, "b")], 1),
    "one without an end": ([FIRST + 10, 1, 2], [(0.2, 2, "bc")], 2),
}


@pytest.mark.parametrize("name", SAYS)
def test_times_around_words_are_theirs(name):
    tokens, words, heard = SAYS[name]
    found = words_in(Says(tokens), VOCABULARY, np.zeros(2 * RATE, np.int16))
    assert ([(round(each.start, 2), round(each.end, 2), each.text) for each in found[0]], found[1]) == (words, heard)


def test_silence_says_nothing():
    silence = np.zeros(2 * RATE, np.int16)
    assert words_in(Says([FIRST, 1, SECOND], silence=20), VOCABULARY, silence)[0]
    assert words_in(Says([FIRST, 1, SECOND], certainty=1), VOCABULARY, silence)[0]
    assert words_in(Says([FIRST, 1, SECOND], silence=20, certainty=1), VOCABULARY, silence) == ([], 2)
