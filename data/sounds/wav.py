"""Writes recordings as WAV."""

import io
import wave

import numpy as np


def encode_wav(samples: np.ndarray, rate: int) -> bytes:
    """Returns a recording as WAV of 16 bits.

    Args:
        samples: (samples,) or (samples, channels); whole numbers of 16 bits, or floats from -1 to 1.
        rate: samples per second.
    """
    whole = samples if samples.dtype.kind == "i" else np.clip(samples, -1, 1) * 32_767
    written = io.BytesIO()
    with wave.open(written, "wb") as file:
        file.setnchannels(samples.shape[1] if samples.ndim == 2 else 1)
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes(whole.astype("<i2").tobytes())
    return written.getvalue()
