"""The log-mel spectrogram of Whisper (Radford et al., 2022): what its network hears, and what a page shows."""

import functools

import numpy as np

from data.sounds.decode import RATE

WINDOW = 400
"""Samples of a frame, 25 milliseconds."""
HOP = 160
"""Samples from one frame to the next."""
BANDS = 80
FLOOR = 1e-10
RANGE = 8.0
"""Powers of ten between the loudest and the most silent that is told apart."""


@functools.cache
def mel_filters() -> np.ndarray:
    """Returns the weights of each frequency in each band, float64 (WINDOW / 2 + 1, BANDS): triangles of area 1 on the
    scale of Slaney (Auditory Toolbox, 1998), as librosa has them."""
    step, break_hertz, break_mel = 200 / 3, 1000.0, 15.0
    log_step = np.log(6.4) / 27
    highest = break_mel + np.log(RATE / 2 / break_hertz) / log_step
    mels = np.linspace(0, highest, BANDS + 2)
    hertz = np.where(mels < break_mel, mels * step, break_hertz * np.exp(log_step * (mels - break_mel)))
    frequencies = np.linspace(0, RATE / 2, WINDOW // 2 + 1)[:, None]
    rising = (frequencies - hertz[:-2]) / np.diff(hertz)[:-1]
    falling = (hertz[2:] - frequencies) / np.diff(hertz)[1:]
    return np.maximum(0, np.minimum(rising, falling)) * (2 / (hertz[2:] - hertz[:-2]))


@functools.cache
def fourier() -> np.ndarray:
    """Returns the waves that a frame is compared with, under a Hann window: float64 (WINDOW, WINDOW + 2), first all
    cosines, then all sines."""
    times = np.arange(WINDOW)
    angles = 2 * np.pi / WINDOW * times[:, None] * np.arange(WINDOW // 2 + 1)
    hann = 0.5 - 0.5 * np.cos(2 * np.pi * times / WINDOW)
    return np.concatenate([np.cos(angles), np.sin(angles)], axis=1) * hann[:, None]


def log_mel(samples: np.ndarray) -> np.ndarray:
    """Computes the spectrogram of one recording.

    Args:
        samples: int16 (samples,) at `RATE`.

    Returns:
        float32 (samples / HOP, BANDS), about -1 to 1.50 in Whisper's scale.
    """
    padded = np.pad(samples / 32768, WINDOW // 2, mode="reflect")
    frames = np.lib.stride_tricks.sliding_window_view(padded, WINDOW)[::HOP][: len(samples) // HOP]
    parts = frames @ fourier()
    power = parts[:, : WINDOW // 2 + 1] ** 2 + parts[:, WINDOW // 2 + 1 :] ** 2
    levels = np.log10(np.maximum(power @ mel_filters(), FLOOR))
    return ((np.maximum(levels, levels.max() - RANGE) + 4) / 4).astype(np.float32)


def grey_levels(levels: np.ndarray) -> np.ndarray:
    """Turns a spectrogram into grey levels, uint8 of the same shape."""
    return np.clip((levels + 1) / 2.5 * 255, 0, 255).astype(np.uint8)


def heard_samples(samples: np.ndarray) -> int:
    """Returns how many samples there are before the zeros that fill a window up."""
    (sounding,) = np.nonzero(samples)
    return int(sounding[-1]) + 1 if len(sounding) else 0
