"""Ways to vary recordings at random, by the names of `--vary`.

Zeros behind the end of a recording stay zeros: they tell a network where it ends.
"""

import numpy as np
import tensorflow as tf

from app.spectrogram import RATE
from data.kinds import CUSTOM_DRAWS, Vary

LOUDNESS = 6.0
"""Largest change of loudness, up or down, decibels."""
DELAY = 0.1
"""Longest delay of the start of a recording, seconds."""
NOISE = (15.0, 40.0)
"""Range of the signal-to-noise ratio, decibels."""
LONGEST_GAP = 0.2
"""Longest silence that SpecAugment puts into a recording, as a share of it."""
LOWEST, OCTAVES = 100.0, 6.0
"""Lowest start of the band that SpecAugment removes, hertz, and octaves from there to the highest start."""
_HISS = np.random.default_rng(0).standard_normal(2**17).astype(np.float32)


def mild(sounds: tf.Tensor, draws: tf.Tensor) -> tf.Tensor:
    """Lets recordings begin later, adds noise, and makes them louder or softer.

    Args:
        sounds: float32 (n, samples) in [-32768, 32767], as is the result.
        draws: float32 (n, CUSTOM_DRAWS) in [0, 1).
    """
    delay, noise, hiss, loudness = tf.unstack(draws[:, :4, None], axis=1)
    places = tf.range(tf.shape(sounds)[1])
    before = places - tf.cast(delay * DELAY * RATE, tf.int32)
    later = tf.where(before < 0, 0.0, tf.gather(sounds, tf.maximum(before, 0), batch_dims=1))
    sounding = _sounding(later)
    loud = tf.sqrt(tf.reduce_sum(later**2, axis=1, keepdims=True) / tf.maximum(_length(sounding), 1))
    softer = 10 ** (-(NOISE[0] + (NOISE[1] - NOISE[0]) * noise) / 20)
    hisses = tf.gather(_HISS, (places + tf.cast(hiss * len(_HISS), tf.int32)) % len(_HISS))
    factor = 10 ** (LOUDNESS * (2 * loudness - 1) / 20)
    return tf.clip_by_value((later + loud * softer * hisses) * sounding * factor, -32768.0, 32767.0)


def specaugment(sounds: tf.Tensor, draws: tf.Tensor) -> tf.Tensor:
    """Varies as `mild` does, and silences a part and up to an octave (SpecAugment, Park et al., 2019); arguments as of
    `mild`."""
    start, long, low, wide = tf.unstack(draws[:, 4:8, None], axis=1)
    varied = mild(sounds, draws)
    sounding, count = _sounding(varied), tf.shape(sounds)[1]
    length = _length(sounding)
    gap = LONGEST_GAP * long * length
    since = tf.cast(tf.range(count), tf.float32) - start * (length - gap)
    heard = tf.where((since >= 0) & (since < gap), 0.0, varied)
    hertz = tf.linspace(0.0, RATE / 2, count // 2 + 1)
    lowest = LOWEST * 2 ** (OCTAVES * low)
    is_left = (hertz < lowest) | (hertz >= lowest * 2**wide)
    spectrum = tf.signal.rfft(heard) * tf.cast(is_left, tf.complex64)
    return tf.clip_by_value(tf.signal.irfft(spectrum, [count]) * sounding, -32768.0, 32767.0)


def _sounding(sounds: tf.Tensor) -> tf.Tensor:
    """Returns 1 up to the last sample of each recording that is not 0, and 0 behind it."""
    return tf.cast(tf.cumsum(tf.cast(sounds != 0, tf.int32), axis=1, reverse=True) > 0, tf.float32)


def _length(sounding: tf.Tensor) -> tf.Tensor:
    return tf.reduce_sum(sounding, axis=1, keepdims=True)


POLICIES: dict[str, Vary] = {"mild": Vary(CUSTOM_DRAWS, mild), "specaugment": Vary(CUSTOM_DRAWS, specaugment)}
