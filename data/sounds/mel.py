"""Computes the log-mel spectrogram of Whisper (Radford et al., 2022), for its network and for pages."""

import numpy as np

from app.spectrogram import FLOOR, HOP, RANGE, WINDOW, fourier, mel_filters


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


def heard_levels(samples: np.ndarray) -> np.ndarray:
    """Computes the spectrogram of one recording without its padding, at least one frame; see `log_mel`."""
    return log_mel(samples)[: max(1, heard_samples(samples) // HOP)]


def grey_levels(levels: np.ndarray) -> np.ndarray:
    """Turns a spectrogram into grey levels, uint8 of the same shape."""
    return np.clip((levels + 1) / 2.5 * 255, 0, 255).astype(np.uint8)


def heard_samples(samples: np.ndarray) -> int:
    """Returns the number of samples before the zeros that pad the window."""
    (sounding,) = np.nonzero(samples)
    return int(sounding[-1]) + 1 if len(sounding) else 0
