"""Generated recordings for a first run without a network connection: notes of six instruments.

A listener can tell the instruments apart, and they are easier than anything that a microphone records: notes of one
instrument differ only in pitch, length, loudness and noise.
"""

from collections.abc import Callable
from pathlib import Path

import numpy as np
from scipy.signal import lfilter

from app.spectrogram import RATE
from data import folder
from data.sounds.wav import encode_wav
from data.sources import Source
from data.unpack import unpack_once

OF_EACH = 60
"""Number of notes of each instrument."""
LOWEST, HIGHEST = 110.0, 660.0
"""Pitch, hertz."""
SHORTEST, LONGEST = 0.5, 1.0
"""Length of a note, seconds."""


def load(data: str, cache_dir: Path, outside: bool = False) -> Source:
    """Makes the recordings in `cache_dir`, the first time, and reads them as a folder.

    Raises:
        UsageError: the folder is not writable.
    """
    return folder.load(str(unpack_once(cache_dir / "data" / "notes-1", _write_files)), cache_dir)._replace(name="notes")


def _write_files(root: Path) -> None:
    for number, (name, instrument) in enumerate(_INSTRUMENTS.items()):
        (root / name).mkdir()
        for take in range(OF_EACH):
            random = np.random.default_rng((number, take))
            times = np.arange(int(random.uniform(SHORTEST, LONGEST) * RATE)) / RATE
            hertz = LOWEST * (HIGHEST / LOWEST) ** random.random()
            note = instrument(times, hertz, random)
            note *= np.minimum(1, (times[-1] - times) / 0.03) / np.abs(note).max()  # ends without a click
            heard = random.uniform(0.2, 0.9) * note + random.normal(0, random.uniform(0.001, 0.02), len(note))
            (root / name / f"{take:02d}.wav").write_bytes(encode_wav(heard, RATE))


def _partials(times: np.ndarray, hertz: float, ratios: np.ndarray, strengths: np.ndarray) -> np.ndarray:
    """Returns a sum of sines, float64 (samples,), without those above the highest frequency of the rate.

    Args:
        times: seconds, (samples,).
        hertz: pitch.
        ratios: ratio of each sine's frequency to the pitch, (sines, 1).
        strengths: amplitude of each sine, (sines, 1), or (sines, samples) if it changes.
    """
    waves = np.sin(2 * np.pi * hertz * ratios * times) * strengths
    return waves[hertz * ratios[:, 0] < RATE / 2].sum(axis=0)


def _column(*values: float) -> np.ndarray:
    return np.array(values)[:, None]


def _bell(times: np.ndarray, hertz: float, random: np.random.Generator) -> np.ndarray:
    """Makes partials that are no multiples of each other; the higher ones fade sooner."""
    ratios = _column(1, 2, 2.76, 5.4, 8.93)
    return _partials(times, hertz, ratios, np.exp(-times * (2 + ratios)) / ratios)


def _drum(times: np.ndarray, hertz: float, random: np.random.Generator) -> np.ndarray:
    """Makes a tone that falls, and a burst of noise."""
    falling = np.sin(2 * np.pi * np.cumsum(hertz / 4 * (1 + np.exp(-times * 30))) / RATE)
    return np.exp(-times * 9) * falling + 0.5 * np.exp(-times * 25) * random.normal(size=len(times))


def _flute(times: np.ndarray, hertz: float, random: np.random.Generator) -> np.ndarray:
    """Makes nearly a sine, with tremolo and breath."""
    trembling = times + 0.003 / hertz * 100 * np.sin(2 * np.pi * 5 * times)
    breath = lfilter([0.2], [1, -0.8], random.normal(size=len(times)))
    return np.minimum(1, times / 0.08) * (
        _partials(trembling, hertz, _column(1, 2, 3), _column(1, 0.2, 0.05)) + 0.05 * breath
    )


def _horn(times: np.ndarray, hertz: float, random: np.random.Generator) -> np.ndarray:
    """Makes all harmonics; the higher ones set in later."""
    ratios = _column(*range(1, 16))
    return _partials(times, hertz, ratios, np.minimum(1, times / (0.02 * ratios)) / ratios)


def _organ(times: np.ndarray, hertz: float, random: np.random.Generator) -> np.ndarray:
    """Makes steady octaves and fifths."""
    return _partials(times, hertz, _column(0.5, 1, 1.5, 2, 3, 4), _column(0.6, 1, 0.5, 0.7, 0.4, 0.4))


def _string(times: np.ndarray, hertz: float, random: np.random.Generator) -> np.ndarray:
    """Makes a plucked string: noise in a loop, averaged in each round (Karplus and Strong, 1983)."""
    period = int(RATE / hertz)
    plucked = np.zeros(len(times))
    plucked[:period] = random.uniform(-1, 1, period)
    return lfilter([1.0], np.concatenate([[1.0], np.zeros(period - 1), [-0.498, -0.498]]), plucked)


_INSTRUMENTS: dict[str, Callable[[np.ndarray, float, np.random.Generator], np.ndarray]] = {
    "bell": _bell,
    "drum": _drum,
    "flute": _flute,
    "horn": _horn,
    "organ": _organ,
    "string": _string,
}
