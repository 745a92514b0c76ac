"""Variations of recordings do what their names say, on recordings whose result is known."""

import numpy as np
import pytest

from app.errors import UsageError
from app.spectrogram import RATE
from data.images.kind import KIND as PICTURES
from data.kinds import CUSTOM_DRAWS, check_vary
from data.pipeline import variation
from data.sounds.kind import KIND
from data.sounds.mel import heard_samples
from data.sounds.vary import DELAY, LOUDNESS, NOISE, POLICIES, specaugment

COUNT, HEARD = 6, RATE // 2
"""Recordings of half a second, in windows of a second."""


def tones() -> np.ndarray:
    """Tones of 440 Hz, each with another beginning."""
    times = np.arange(HEARD) / RATE + np.arange(COUNT)[:, None] / 3
    return np.pad(8_000 * np.sin(2 * np.pi * 440 * times), ((0, 0), (0, RATE - HEARD))).astype(np.float32)


@pytest.mark.parametrize("policy", POLICIES)
def test_a_recording_is_varied_alike_in_any_batch_and_ends_with_the_same_zeros(policy):
    vary, sounds = POLICIES[policy], tones()
    draws = variation(vary, 0, 1, COUNT).draws
    varied = vary.apply(sounds, draws).numpy()
    assert varied.shape == sounds.shape
    assert np.abs(varied).max() <= 32768
    for sound, delay in zip(varied, draws[:, 0], strict=True):
        assert heard_samples(sound) <= HEARD + delay * DELAY * RATE + 1
    np.testing.assert_array_equal(vary.apply(sounds, draws).numpy(), varied)
    np.testing.assert_allclose(vary.apply(sounds[2:4], draws[2:4]), varied[2:4], atol=0.1)


def test_a_recording_begins_later_with_noise_of_the_strength_that_is_drawn():
    draws, sounds = np.zeros((COUNT, CUSTOM_DRAWS), np.float32), tones()
    draws[:, 0], draws[:, 3] = 0.5, 1.0
    delay, factor = round(DELAY * RATE / 2), 10 ** (LOUDNESS / 20)
    varied = POLICIES["mild"].apply(sounds, draws).numpy() / factor
    later = np.pad(sounds, ((0, 0), (delay, 0)))[:, :RATE]
    noise = (varied - later)[:, : delay + HEARD]
    decibels = 20 * np.log10(later[:, : delay + HEARD].std(axis=1) / noise.std(axis=1))
    np.testing.assert_allclose(decibels, NOISE[0], atol=0.5)
    assert not varied[:, delay + HEARD :].any()


def test_specaugment_takes_away_the_band_and_the_time_that_are_drawn():
    draws = np.zeros((2, CUSTOM_DRAWS), np.float32)
    draws[:, 1], draws[:, 3] = 0.99, 0.5  # hardly any noise, as loud as before
    draws[0, 6:8] = 2 / 6, 0.5  # from 400 Hz on, half an octave
    draws[1, 4:6] = 0.5, 0.5  # a tenth in the middle
    without_band, with_gap = specaugment(tones()[:2], draws).numpy()
    assert without_band.std() < 0.1 * tones()[0].std()
    silent = slice(round(0.46 * HEARD), round(0.54 * HEARD))
    assert np.abs(with_gap[silent]).max() < 1
    assert with_gap[: silent.start - HEARD // 20].std() > 5_000


def test_names_of_another_kind_are_refused():
    with pytest.raises(UsageError, match="--vary for recordings must be one of mild, specaugment; received 'flip'"):
        check_vary("flip", KIND)
    all_of_them = "one of mild, flip, vertical, rotate, medical, randaugment; received 'specaugment'"
    with pytest.raises(UsageError, match=f"--vary for pictures must be {all_of_them}"):
        check_vary("specaugment", PICTURES)
