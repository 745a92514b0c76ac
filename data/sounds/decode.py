"""Reads one recording of any rate, depth and number of channels as a window of 16 kHz mono."""

from __future__ import annotations

import contextlib
import io
import math
from collections.abc import Iterator
from typing import TYPE_CHECKING, BinaryIO

import numpy as np

from app.spectrogram import RATE
from data.content import UnreadableError
from data.kinds import Reader

if TYPE_CHECKING:
    import soundfile

LOWEST_RATE, HIGHEST_RATE = 1_000, 768_000
LEAST_SECONDS = 0.025
"""Shortest recording, seconds: one frame of the spectrogram."""
MOST_SECONDS = 60.0
"""Longest recording, seconds: longer ones probably hold several sounds, and the user should cut them into clips."""
SILENCE = 1e-4
"""Largest distance from the mean, as a share of full scale, of a silent recording."""
SILENT = "silent"
"""Reason why such a recording is set aside."""
MOST_CHANNELS = 64
MOST_FRAMES = 2**62
"""More samples mean that libsndfile does not know their number."""


def read_sound(content: bytes, samples: int) -> np.ndarray:
    """Reads the middle of a recording.

    Args:
        content: bytes of a WAV, FLAC, OGG, MP3 or AIFF file.
        samples: length of the window at `RATE`; shorter recordings are padded with zeros.

    Returns:
        int16 (samples,).

    Raises:
        UnreadableError: the file is not a recording, or not one to learn from.
    """
    import soxr

    with _opened(io.BytesIO(content)) as file:
        rate, length = file.samplerate, file.frames
        _check_form(rate, length, file.channels)
        window = min(length, -(-samples * rate // RATE))
        values = _read(file, (length - window) // 2, window)
    if len(values) < LEAST_SECONDS * rate:
        raise UnreadableError("cut short")
    if not np.isfinite(values).all():
        raise UnreadableError("not all of its samples are finite")
    values = np.clip(values, -4, 4)  # only files of floats can exceed full scale
    values -= values.mean()
    peak = float(np.abs(values).max())
    if peak < SILENCE:
        raise UnreadableError(SILENT)
    values /= max(peak, 1)
    heard = soxr.resample(values, rate, RATE) if rate != RATE else values
    window = np.zeros(samples, np.int16)
    heard = np.round(np.clip(heard[:samples], -1, 1) * 32767).astype(np.int16)
    window[: len(heard)] = heard
    return window


def cut_sound(file: BinaryIO, start: float, end: float) -> bytes:
    """Cuts a part out of a recording, which may be hours long: only the part is in memory.

    Args:
        file: an open WAV, FLAC, OGG, MP3 or AIFF file.
        start: seconds.
        end: seconds; the part is shorter if the recording ends before.

    Returns:
        A file of one channel at the same rate, in floats.

    Raises:
        UnreadableError: the file is not a recording, or ends before `start`.
    """
    import soundfile

    if end - start > MOST_SECONDS:
        raise UnreadableError(f"longer than {MOST_SECONDS:.0f} seconds: cut it into clips")
    with _opened(file) as sound:
        rate = sound.samplerate
        _check_form(rate, min(sound.frames, rate), sound.channels)
        first, last = round(start * rate), min(round(end * rate), sound.frames)
        if first >= last:
            raise UnreadableError(f"ends at {sound.frames / rate:.1f} seconds")
        values = _read(sound, first, last - first)
    written = io.BytesIO()
    soundfile.write(written, values, rate, "FLOAT", format="AU")  # WAV would store the time of writing
    return written.getvalue()


def windows(file: BinaryIO, reader: Reader) -> list[tuple[float, float]]:
    """Returns start and end, seconds, of the consecutive windows of a recording longer than two of them.

    Raises:
        UnreadableError: the file is not a recording.
    """
    seconds, length = reader.description["milliseconds"] / 1000, read_seconds(file)
    if length <= 2 * seconds:
        return []
    starts = [number * seconds for number in range(math.ceil(length / seconds))]
    if length - starts[-1] < seconds / 2:  # too short for an answer of its own
        del starts[-1]
    return [(start, min(start + seconds, length)) for start in starts]


def _read(sound: soundfile.SoundFile, first: int, count: int) -> np.ndarray:
    """Returns the mean of the channels of some samples, float32 (count,), or fewer at the end of the recording."""
    if first:
        _skip(sound, first)
    means = []
    for start in range(0, count, sound.samplerate):
        # Zeros: libsndfile leaves the buffer unchanged where an MP3 file lacks samples, and does not report it.
        block = np.zeros((min(sound.samplerate, count - start), sound.channels), np.float32)
        means.append(sound.read(out=block).mean(axis=1))
    return np.concatenate(means)


def _skip(sound: soundfile.SoundFile, count: int) -> None:
    """Skips the first samples of a recording."""
    import soundfile

    try:
        sound.seek(count)
    except soundfile.LibsndfileError:  # not all formats can seek, such as those of telephones
        for start in range(0, count, sound.samplerate):
            sound.read(min(sound.samplerate, count - start))


def read_seconds(file: BinaryIO) -> float:
    """Reads the length of an open recording from its header.

    Raises:
        UnreadableError: the file is not a recording.
    """
    with _opened(file) as sound:
        _check_form(sound.samplerate, min(sound.frames, sound.samplerate), sound.channels)
        return sound.frames / sound.samplerate


@contextlib.contextmanager
def _opened(file: BinaryIO) -> Iterator[soundfile.SoundFile]:
    """Opens a recording; raises an UnreadableError, then or while it is read, if it is damaged or not a recording."""
    import soundfile

    try:
        with soundfile.SoundFile(file) as sound:
            if sound.frames > MOST_FRAMES:  # the header of a FLAC file that was written to a pipe
                raise UnreadableError("its header does not say how long it is")
            yield sound
    except soundfile.LibsndfileError as error:
        raise UnreadableError("not a recording" if "not recognised" in str(error) else "damaged") from None


def _check_form(rate: int, length: int, channels: int) -> None:
    """Raises an UnreadableError if the header shows that a recording cannot be learnt from."""
    if length <= 0:
        raise UnreadableError("empty or cut short")
    if not LOWEST_RATE <= rate <= HIGHEST_RATE:
        raise UnreadableError(f"{rate:,} samples a second")
    if channels > MOST_CHANNELS:
        raise UnreadableError(f"{channels} channels")
    if length < LEAST_SECONDS * rate:
        raise UnreadableError(f"shorter than {1000 * LEAST_SECONDS:.0f} milliseconds")
    if length > MOST_SECONDS * rate:
        raise UnreadableError(f"longer than {MOST_SECONDS:.0f} seconds: cut it into clips")


def read_milliseconds(content: bytes) -> int | None:
    """Reads the length of a recording from its header; None if the header has none, or it is too long."""
    try:
        seconds = read_seconds(io.BytesIO(content))
    except UnreadableError:
        return None
    return round(1000 * seconds) if seconds <= MOST_SECONDS else None
