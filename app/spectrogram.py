"""Constants of the log-mel spectrogram of Whisper (Radford et al., 2022), for its network and for pages."""

import functools

import numpy as np

RATE = 16_000
"""Samples per second that networks take."""
WINDOW = 400
"""Samples of a frame, 25 milliseconds."""
HOP = 160
"""Samples from one frame to the next."""
BANDS = 80
FLOOR = 1e-10
"""Least power, so that every logarithm is finite."""
RANGE = 8.0
"""Range of levels, in powers of ten: lower ones are raised to this far below the loudest."""
PICTURE_LAYER = "sound_picture"
"""Name of the layer that makes a picture of a spectrogram, in a network for pictures."""


@functools.cache
def mel_filters() -> np.ndarray:
    """Returns the weights of each frequency in each band, float64 (WINDOW / 2 + 1, BANDS): triangles of area 1 on the
    scale of Slaney (Auditory Toolbox, 1998), as in librosa."""
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
    """Returns the Fourier transform of a frame under a Hann window as a matrix, float64 (WINDOW, WINDOW + 2): first all
    cosines, then all sines."""
    times = np.arange(WINDOW)
    angles = 2 * np.pi / WINDOW * times[:, None] * np.arange(WINDOW // 2 + 1)
    hann = 0.5 - 0.5 * np.cos(2 * np.pi * times / WINDOW)
    return np.concatenate([np.cos(angles), np.sin(angles)], axis=1) * hann[:, None]
