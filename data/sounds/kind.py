"""Recordings as a kind of input."""

from collections.abc import Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
from markupsafe import Markup
from PIL import Image

from app.config import TrainConfig
from app.data_uri import data_uri, picture_uri
from app.errors import UsageError
from app.spectrogram import HOP, RATE, mel_filters
from data.code_digest import code_digest
from data.content import content_of
from data.kinds import (
    Baseline,
    Content,
    Explain,
    Inputs,
    Kind,
    ManyInputs,
    Reader,
    Shown,
    Vary,
    policy_of,
    standardized,
)
from data.sounds.decode import cut_sound, read_milliseconds, read_sound, windows
from data.sounds.look_alikes import SLICE_BANDS, SLICES, compared_values, signature
from data.sounds.mel import grey_levels, heard_levels, heard_samples, log_mel
from data.sounds.wav import encode_wav

SCALE = 2
"""Height of a band of the spectrogram on a page, pixels."""
_CODE = code_digest(read_sound, cut_sound, log_mel, mel_filters, signature)


def _reader(config: TrainConfig, folder: Path | None = None) -> Reader:
    try:
        versions = ", ".join(f"{name} {metadata.version(name)}" for name in ("soundfile", "soxr"))
    except metadata.PackageNotFoundError as error:
        raise UsageError(
            f"Recordings need the package '{error.name}': run 'pip install -r requirements-sounds.txt'."
        ) from None
    milliseconds = config.data.chosen_size
    samples = milliseconds * RATE // 1000

    def read_with_signature(content: bytes) -> tuple[Inputs, np.ndarray]:
        sound = read_sound(content, samples)
        return (sound,), signature(sound)

    return Reader(
        {"milliseconds": milliseconds, "decoder": f"{_CODE}, {versions}"},
        title=f"{milliseconds / 1000:g} s",
        inputs=(np.dtype((np.int16, (samples,))),),
        signature=np.dtype((np.uint8, (SLICES, SLICE_BANDS))),
        read=lambda content: (read_sound(content, samples),),
        read_with_signature=read_with_signature,
    )


def _milliseconds(place: Content) -> int | None:
    try:
        with content_of(place) as content:
            return read_milliseconds(content)
    except Exception:  # reading reports what is wrong
        return None


def useful_seconds(milliseconds: int) -> int:
    """Returns the window, whole seconds, for recordings of a median length: twice that, so that few are longer."""
    return -(-2 * milliseconds // 1000)


def _cautions(lengths: Sequence[int], config: TrainConfig) -> list[str]:
    cut = sum(length > config.data.chosen_size for length in lengths)
    if not cut:
        return []
    looked_at, seconds = f"{cut:,} of {len(lengths):,} recordings looked at", config.data.chosen_size / 1000
    return [f"Longer than {seconds:g} s: {looked_at}. Only the middle of these is heard; see --clip-seconds."]


def _shown(sound: np.ndarray, title: str, attention: np.ndarray | None = None) -> Shown:
    """Shows a recording as an element of a page: its spectrogram, low bands at the bottom, above a player.

    Args:
        sound: int16 (samples,).
        title: caption.
        attention: float32 (parts of the window,), 0 to 1: how much each part counted; drawn as a line.
    """
    levels = heard_levels(sound)
    grey = grey_levels(levels).T[::-1]
    pixels = np.repeat(np.stack([grey // 2, grey, 255 - grey // 3 * 2], axis=-1), SCALE, axis=0)
    if attention is not None:
        frames = max(grey.shape[1], len(sound) // HOP)  # of the window, of which only what sounds is shown
        per_frame = attention[np.arange(grey.shape[1]) * len(attention) // frames]
        heights = ((1 - per_frame) * (len(pixels) - 1)).astype(int)
        for column, height in enumerate(heights):
            pixels[height : height + 2, column] = (255, 80, 0)
    picture = Image.fromarray(pixels).resize((max(160, grey.shape[1] * SCALE), len(pixels)), Image.Resampling.BOX)
    player = data_uri("audio/wav", encode_wav(sound[: heard_samples(sound)], RATE))
    html = Markup('<img src="{}" alt="{}" loading="lazy"><audio controls preload="none" src="{}"></audio>')
    return Shown(html.format(picture_uri(picture), title, player), np.asarray(picture))


def _vary(name: str = "mild") -> Vary:
    from data.sounds.vary import POLICIES

    return policy_of(name, POLICIES)


def _explain(
    model: Any, reader: Reader, inputs: ManyInputs, contents: Sequence[Content], classes: np.ndarray
) -> list[Shown]:
    from data.sounds.explain import heard_parts

    sounds = np.asarray(inputs[0])
    return [
        _shown(sound, "what it listened to", parts)
        for sound, parts in zip(sounds, heard_parts(model, sounds, classes), strict=True)
    ]


def _level_statistics(inputs: ManyInputs, contents: Sequence[Content], positions: np.ndarray) -> np.ndarray:
    """Computes mean and spread of each band of the spectrogram."""
    rows, (sounds,) = [], inputs
    assert isinstance(sounds, np.ndarray)
    for sound in sounds[positions]:
        levels = heard_levels(sound)
        rows.append(np.concatenate([levels.mean(axis=0), levels.std(axis=0)]))
    return np.stack(rows)


KIND = Kind(
    "sound",
    noun="recording",
    nouns="recordings",
    endings=(".wav", ".flac", ".ogg", ".oga", ".mp3", ".aif", ".aiff"),
    size_setting="clip_seconds",
    reader=_reader,
    compared_values=compared_values,
    comparison=code_digest(compared_values),
    size=_milliseconds,
    useful_size=useful_seconds,
    cautions=_cautions,
    show=lambda inputs, place, title: _shown(inputs[0], title),
    vary=_vary,
    policies=("mild", "specaugment"),
    explain=Explain(
        _explain,
        "What it listened to",
        "The line is high where a moment of the recording spoke for the answer (gradient × activation).",
        replaces=True,
    ),
    baseline=Baseline("spectrogram_statistics", _level_statistics, standardized, strength=1.0, most_examples=50_000),
    backbone="whisper_tiny_en",
    cut=cut_sound,
    windows=windows,
)
