"""Transcribes recordings of any length, window by window."""

import math
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

from app.spectrogram import RATE
from app.terminal import console, counted, show_stage
from data.content import UnreadableError, content_of, open_file
from data.kinds import Part
from data.sounds.decode import SILENT, cut_sound, read_seconds, read_sound
from data.sounds.kind import KIND
from data.sources import printable
from inference.answer_table import csv_writer
from inference.batches import check_readable
from inference.files import FoundFile
from inference.spoken_words import Vocabulary, Words, read_vocabulary, words_in
from models.backbones import Backbone
from models.sound_weights import read_whisper
from models.weight_file import most_bytes

if TYPE_CHECKING:
    from models.sound_decoder import Whisper

LEAST = 0.5
"""Shortest remainder of a recording that gets its own window, seconds."""
COLUMNS = ("path", "start", "end", "text", "reason")


def transcribe_files(backbone: Backbone, weights: str, files: Sequence[FoundFile], csv: Path | None = None) -> float:
    """Writes down what is said in every file, on the terminal and in a CSV file.

    Args:
        backbone: a network that transcribes.
        weights: its `--weights`.
        files: from `inference.files.find_files`.
        csv: file for all words: path, start and end in seconds, text. A file without speech, or of which not all can be
            read, has a row with the reason.

    Returns:
        Seconds that the recordings took, without loading the network.

    Raises:
        UsageError: none of the files is a recording.
    """
    from models.sound_decoder import Whisper

    most = most_bytes(backbone.parameters)
    vocabulary, network = read_vocabulary(weights, most), Whisper(read_whisper(weights, most, ("encoder", "decoder")))
    heard, count, started = 0.0, 0, time.perf_counter()
    reason: str | None = None
    with csv_writer(csv) as write:
        for file in files:
            path, reason = printable(str(file.path)), file.reason
            rows: list[tuple[str, float, float, str, str]] = []
            if len(files) > 1:
                show_stage("file", str(file.path))
            try:
                if reason is None:
                    start, end = _times(file)
                    for words in transcribe(network, vocabulary, file, start, end):
                        rows.append((path, *words, ""))
                        times = f"{words.start:8.2f} {words.end:8.2f}"
                        console.print(f"{times}  {words.text}", markup=False, highlight=False, soft_wrap=True)
                    heard, count = heard + end - start, count + 1
            except UnreadableError as error:
                reason = str(error)
                if rows:
                    heard, count = heard + rows[-1][2] - rows[0][1], count + 1
            if reason is not None:
                show_stage("unreadable", reason)
            if reason is not None or not rows:
                rows.append((path, math.nan, math.nan, "", reason or ""))
            write(pd.DataFrame(rows, columns=COLUMNS))
    seconds = time.perf_counter() - started
    if csv is not None:
        show_stage("table", str(csv))
    check_readable(count, files, KIND, reason)
    recordings = counted(count, KIND.noun, KIND.nouns)
    show_stage(
        "done", f"{recordings}, {heard:,.0f} seconds of sound in {seconds:.1f}: {heard / seconds:.1f} times real time"
    )
    return seconds


def transcribe(
    network: "Whisper", vocabulary: Vocabulary, file: FoundFile, start: float, end: float
) -> Iterator[Words]:
    """Yields the words of a recording from `start` to `end`, seconds, with one window at a time in memory.

    Raises:
        UnreadableError: at the end, if it or parts of it cannot be read.
    """
    now, could_hear, reason, lost = start, False, "empty", []
    while now < end and (now == start or end - now >= LEAST):
        length = min(network.seconds, end - now)
        try:
            with content_of(Part(_path(file), now, now + length, cut_sound), file.within) as content:
                samples = read_sound(content, round(network.seconds * RATE))
        except UnreadableError as error:
            reason = str(error)
            lost += [] if reason == SILENT else [f"from {now:.0f} seconds on: {reason}"]
            now += length
            continue
        could_hear = True
        found, heard = words_in(network, vocabulary, samples)
        for words in found:
            yield words._replace(start=now + words.start, end=min(now + words.end, now + length))
        now += heard
    if not could_hear:
        raise UnreadableError(reason)
    if lost:
        raise UnreadableError(f"{counted(len(lost), 'part', 'parts')} of it cannot be read, the first {lost[0]}")


def _path(file: FoundFile) -> Path:
    """Returns the path of the whole file, even if only a part of it is used."""
    return file.content.path if isinstance(file.content, Part) else file.path


def _times(file: FoundFile) -> tuple[float, float]:
    """Returns start and end of the part of a file that is used, seconds."""
    part = file.content if isinstance(file.content, Part) else None
    with open_file(_path(file), file.within) as opened:
        length = read_seconds(opened)
    return (part.start, min(part.end, length)) if part else (0.0, length)
