"""Recordings of every form become the same window of samples, and what is none is set aside with a reason."""

import io
import itertools
import os
import tracemalloc
import warnings
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import soundfile

from app.config import TrainConfig
from app.errors import UsageError
from app.spectrogram import BANDS, HOP, RANGE, RATE
from data.content import UnreadableError, content_of
from data.kinds import Part
from data.sounds.decode import cut_sound, read_milliseconds, read_sound
from data.sounds.kind import KIND, _shown, useful_seconds
from data.sounds.look_alikes import compared_values, signature
from data.sounds.mel import heard_samples, log_mel
from data.sources import load_source
from inference.files import FoundFile, find_files, in_windows, read_batches


def tone(seconds: float = 0.5, rate: int = RATE, hertz: float = 440.0, channels: int = 1) -> np.ndarray:
    times = np.arange(round(seconds * rate)) / rate
    return np.repeat(0.5 * np.sin(2 * np.pi * hertz * times)[:, None], channels, axis=1)


def written(values: np.ndarray, rate: int = RATE, form: str = "WAV", subtype: str | None = "PCM_16") -> bytes:
    file = io.BytesIO()
    soundfile.write(file, values, rate, format=form, subtype=subtype)
    return file.getvalue()


def changed(place: int, value: int, size: int = 4) -> bytes:
    """Half a second as WAV with another number in its header."""
    content = bytearray(written(tone()))
    content[place : place + size] = value.to_bytes(size, "little")
    return bytes(content)


def part_of(first: float, last: float, **form) -> bytes:
    """Some bytes, as shares, of two seconds."""
    content = written(tone(2), **form)
    return content[int(first * len(content)) : int(last * len(content))]


MP3 = {"form": "MP3", "subtype": "MPEG_LAYER_III"}
FORMS = {
    "8 bits": lambda: written(tone(), subtype="PCM_U8"),
    "24 bits": lambda: written(tone(), subtype="PCM_24"),
    "floats": lambda: written(tone(), subtype="FLOAT"),
    "doubles": lambda: written(tone(), subtype="DOUBLE"),
    "u-law": lambda: written(tone(), subtype="ULAW"),
    "FLAC": lambda: written(tone(), form="FLAC"),
    "AIFF": lambda: written(tone(), form="AIFF"),
    "OGG": lambda: written(tone(), form="OGG", subtype="VORBIS"),
    "MP3": lambda: written(tone(), form="MP3", subtype="MPEG_LAYER_III"),
    "8 channels": lambda: written(tone(channels=8)),
    "8 kHz": lambda: written(tone(rate=8_000), 8_000),
    "44.1 kHz": lambda: written(tone(rate=44_100), 44_100),
    "384 kHz": lambda: written(tone(rate=384_000), 384_000),
    "far from the middle": lambda: written(tone() * 0.9 + 0.4, subtype="FLOAT"),
    "louder than full scale": lambda: written(tone() * 3, subtype="FLOAT"),
    "cut off at full scale": lambda: written(np.clip(tone() * 5, -1, 1)),
    "32 bits": lambda: written(tone(), subtype="PCM_32"),
    "A-law": lambda: written(tone(), subtype="ALAW"),
    "4 bits": lambda: written(tone(), subtype="IMA_ADPCM"),
    "GSM": lambda: written(tone(rate=8_000), 8_000, subtype="GSM610"),
    "Opus": lambda: written(tone(), form="OGG", subtype="OPUS"),
    "RF64": lambda: written(tone(), form="RF64"),
    "an extensible header": lambda: written(tone(channels=2), form="WAVEX"),
    "1 kHz": lambda: written(tone(rate=1_000), 1_000),
    "64 channels": lambda: written(tone(channels=64)),
    "junk behind it": lambda: written(tone()) + b"LIST" + bytes(200),
    "a header of more than there is": lambda: changed(40, 2**31 - 2),
    "a header of any length": lambda: changed(40, 2**32 - 1),
    "a header of another size of the file": lambda: changed(4, 0),
    "a header of other frames": lambda: changed(32, 5, size=2),
}


@pytest.mark.parametrize("form", FORMS)
def test_a_tone_is_the_same_in_every_form(form):
    heard = read_sound(FORMS[form](), RATE)
    assert heard.dtype == np.int16
    assert heard.shape == (RATE,)
    assert abs(heard_samples(heard) / RATE - 0.5) < 0.07
    spectrum = np.abs(np.fft.rfft(heard / 32767))
    assert abs(np.argmax(spectrum) - 440) <= 2
    assert np.sum(spectrum[420:461] ** 2) > 0.9 * np.sum(spectrum**2)


UNREADABLE = {
    "nothing": (lambda: b"", "not a recording"),
    "text": (lambda: b"no recording at all" * 100, "not a recording"),
    "no samples": (lambda: written(np.zeros((0, 1))), "empty"),
    "silence": (lambda: written(np.zeros((8_000, 1))), "silent"),
    "a constant": (lambda: written(np.full((8_000, 1), 0.4)), "silent"),
    "a click": (lambda: written(tone(0.01)), "shorter than 25 milliseconds"),
    "an hour": (lambda: written(np.zeros((3600 * 1_000, 1)), 1_000, subtype="PCM_U8"), "longer than 60 seconds"),
    "1 Hz": (lambda: written(tone(0.5), 1), "1 samples a second"),
    "no numbers": (lambda: written(np.full((8_000, 1), np.nan), subtype="FLOAT"), "not all of its samples are finite"),
    "infinite": (lambda: written(np.full((8_000, 1), np.inf), subtype="FLOAT"), "not all of its samples are finite"),
    "one that is no number": (lambda: written(np.append(tone(), np.nan), subtype="FLOAT"), "not all of its samples"),
    "hardly louder than nothing": (lambda: written(tone() * 1e-5, subtype="FLOAT"), "silent"),
    "65 channels": (lambda: written(tone(channels=65)), "65 channels"),
    "1 MHz": (lambda: written(tone(0.5), 1_000_000), "1,000,000 samples a second"),
    "a header alone": (lambda: written(tone())[:44], "empty or cut short"),
    "half a header": (lambda: written(tone())[:30], "damaged"),
    "no rate": (lambda: changed(24, 0), "damaged"),
    "no channels": (lambda: changed(22, 0, size=2), "damaged"),
    "an unknown form": (lambda: changed(20, 99, size=2), "damaged"),
    "a picture": (lambda: b"\x89PNG\r\n\x1a\n" + bytes(100), "not a recording"),
    "two thirds of a FLAC": (lambda: part_of(0, 2 / 3, form="FLAC"), "damaged"),
    "two thirds of an OGG": (lambda: part_of(0, 2 / 3, form="OGG", subtype="VORBIS"), "empty or cut short"),
    "some bytes of an MP3": (lambda: part_of(0, 0.05, **MP3), "damaged"),
}


@pytest.mark.parametrize("name", UNREADABLE)
def test_what_is_no_recording_is_set_aside_with_a_reason(name):
    make, reason = UNREADABLE[name]
    with pytest.raises(UnreadableError, match=reason):
        read_sound(make(), RATE)


@pytest.mark.parametrize(
    ("content", "least", "most"),
    [
        (lambda: part_of(0, 0.25), 0.49, 0.51),  # WAV
        (lambda: part_of(0, 0.5, **MP3), 0.3, 0.6),
        (lambda: part_of(0, 0.4, **MP3) + bytes(500) + part_of(0.45, 1, **MP3), 1, 1),
        (lambda: changed(40, 8_000), 0.24, 0.26),  # a header of half of it
    ],
)
def test_what_is_there_of_a_recording_is_heard(content, least, most):
    full = np.full((2 * RATE, 1), np.nan)  # memory that was used, and may be again
    del full
    heard = read_sound(content(), RATE)
    assert least <= heard_samples(heard) / RATE <= most
    assert abs(strongest_hertz(heard) - 440) <= 2


def test_a_wrong_name_does_not_matter(tmp_path):
    for label, hertz, form in (("low", 300, {}), ("high", 900, MP3)):
        (tmp_path / label).mkdir()
        name = "a.mp3" if not form else "a.wav"
        (tmp_path / label / name).write_bytes(written(tone(1, hertz=hertz), **form))
    heard = {}
    for example in load_source(str(tmp_path), tmp_path).examples:
        with content_of(example.place) as content:
            heard[example.labels[0]] = strongest_hertz(read_sound(content, RATE))
    assert heard == {"low": 300, "high": 900}


def test_the_middle_of_a_longer_recording_is_heard():
    values = np.concatenate([tone(1, hertz=200), tone(1, hertz=1_000), tone(1, hertz=200)])
    heard = read_sound(written(values), RATE)
    assert abs(np.argmax(np.abs(np.fft.rfft(heard.astype(float)))) - 1_000) <= 1


def test_lengths_come_from_headers_and_make_the_window():
    assert read_milliseconds(written(tone(0.75))) == 750
    assert read_milliseconds(b"none") is None
    assert [useful_seconds(each) for each in (430, 500, 501, 4_000)] == [1, 1, 2, 8]
    (caution,) = KIND.cautions([400, 1_200, 900], TrainConfig.of(clip_seconds=1))
    assert caution.startswith("Longer than 1 s: 1 of 3 recordings looked at. Only the middle of these is heard")
    assert KIND.cautions([400, 900], TrainConfig.of(clip_seconds=1)) == []


def test_the_spectrogram_is_that_of_whisper():
    """By its definition: short-time Fourier transforms, triangles on the mel scale, logarithms within eight powers."""
    samples = np.random.default_rng(0).normal(0, 3_000, RATE).astype(np.int16)
    padded = np.pad(samples / 32768, 200, mode="reflect")
    hann = np.hanning(401)[:-1]
    power = np.stack([np.abs(np.fft.rfft(padded[HOP * i : HOP * i + 400] * hann)) ** 2 for i in range(100)])

    def hertz(mel: float) -> float:
        return 200 / 3 * mel if mel < 15 else 1000 * np.exp(np.log(6.4) / 27 * (mel - 15))

    edges = [hertz(mel) for mel in np.linspace(0, 15 + 27 * np.log(8) / np.log(6.4), BANDS + 2)]
    filters = np.zeros((201, BANDS))
    for band, (low, middle, high) in enumerate(zip(edges, edges[1:], edges[2:], strict=False)):
        for bin, frequency in enumerate(np.arange(201) * 40.0):
            height = min((frequency - low) / (middle - low), (high - frequency) / (high - middle))
            filters[bin, band] = max(0.0, height) * 2 / (high - low)
    levels = np.log10(np.maximum(power @ filters, 1e-10))
    expected = (np.maximum(levels, levels.max() - RANGE) + 4) / 4
    np.testing.assert_allclose(log_mel(samples), expected, atol=1e-4)


def test_copies_are_alike_and_others_are_not():
    random = np.random.default_rng(1)
    sounds = [np.cumsum(random.normal(size=(8_000, 1)), axis=0) * random.random((8_000, 1)) for _ in range(6)]
    sounds = [each / np.abs(each).max() * 0.8 for each in sounds]
    first = np.stack([signature(read_sound(written(each), RATE)) for each in sounds])
    as_mp3 = (written(each / 2, form="MP3", subtype="MPEG_LAYER_III") for each in sounds)
    copies = np.stack([signature(read_sound(each, RATE)) for each in as_mp3])
    alike = compared_values(first) @ compared_values(copies).T
    assert (np.argmax(alike, axis=1) == np.arange(6)).all()


def test_the_shortest_recordings_are_compared_as_well():
    low, high = (np.round(30000 * tone(0.1, hertz=hertz)[:, 0]).astype(np.int16) for hertz in (300.0, 3000.0))
    with warnings.catch_warnings(action="error"):
        signatures = np.stack([signature(each) for each in (low, low // 2, high)])
    first, quieter, other = compared_values(signatures)
    assert first @ quieter > 0.95
    assert first @ other < 0.8


def test_formats_that_cannot_seek_are_heard_from_any_second(tmp_path):
    sound = tone(3.0, rate=8000)
    sound[: 2 * 8000] *= 0.01
    content = written(sound, 8000, subtype="GSM610")
    assert np.abs(read_sound(content, RATE)[: RATE // 4]).max() < np.abs(read_sound(content, RATE)).max() / 10
    with content_of(Part(write(tmp_path / "talk.wav", content), 2.5, 3.0, cut_sound)) as part:
        assert np.abs(read_sound(part, RATE)).max() > 10_000


def write(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


def test_names_of_parts_are_exact():
    names = {Part(Path("a.wav"), *times, cut_sound).name.name for times in ((3000.121, 3000.621), (3 * 0.1, 12345.64))}
    assert names == {"a.wav#t=3000.121,3000.621", "a.wav#t=0.3,12345.64"}


@pytest.mark.parametrize(("seconds", "parts"), [(1, 50), (1, 224), (1.25, 62), (3, 224)])
@pytest.mark.parametrize("place", [0.25, 0.75])
def test_what_it_listened_to_is_drawn_where_it_was(seconds, parts, place):
    sound = np.round(20_000 * tone(seconds)[:, 0]).astype(np.int16)
    attention = np.zeros(parts, np.float32)
    attention[int(place * parts)] = 1
    pixels = _shown(sound, "a tone", attention).pixels
    (columns,) = np.nonzero((pixels[:3] == (255, 80, 0)).all(axis=-1).any(axis=0))
    assert columns.mean() / pixels.shape[1] == pytest.approx(place, abs=0.02)


def test_a_flac_file_that_does_not_say_how_long_it_is_is_set_aside():
    content = bytearray(written(tone(2.0), form="FLAC"))
    content[21] &= 0xF0  # the number of samples: 36 bits of the first block
    content[22:26] = bytes(4)
    with pytest.raises(UnreadableError, match="its header does not say how long it is"):
        read_sound(bytes(content), RATE)


def test_a_reader_says_all_that_decides_what_is_read():
    readers = [KIND.reader(TrainConfig.of(clip_seconds=seconds), None) for seconds in (1, 1.5)]
    assert readers[0].description != readers[1].description
    assert [reader.inputs[0].shape for reader in readers] == [(16_000,), (24_000,)]


def test_the_notes_made_here_are_the_same_each_time_and_of_six_instruments(tmp_path):
    first, second = (load_source("notes", tmp_path / name) for name in ("one", "two"))
    assert Counter(example.labels[0] for example in first.examples) == dict.fromkeys(
        ("bell", "drum", "flute", "horn", "organ", "string"), 60
    )
    assert first.kind is KIND
    contents = [[example.path.read_bytes() for example in source.examples] for source in (first, second)]
    assert contents[0] == contents[1]
    assert len(set(contents[0])) == 360
    assert all(0.05 < np.abs(read_sound(content, RATE)).max() / 32_768 <= 1 for content in contents[0])


@pytest.fixture
def talk(tmp_path) -> Path:
    """Three seconds at 8 kHz in two channels: 300, 600 and 900 hertz."""
    path = tmp_path / "talk.flac"
    path.write_bytes(written(np.concatenate([tone(1, 8_000, hertz, 2) for hertz in (300, 600, 900)]), 8_000, "FLAC"))
    return path


def strongest_hertz(sound: np.ndarray) -> int:
    return round(np.abs(np.fft.rfft(sound)).argmax() * RATE / len(sound))


def test_parts_of_a_recording_are_examples_of_a_table(talk):
    table = talk.parent / "words.csv"
    rows = [
        "path,label,start,end",
        "talk.flac,low,0,1",
        "talk.flac,high,1.5,1.75",
        "talk.flac,high,2,9",
        "talk.flac,low,,",
    ]
    table.write_text("\n".join(rows))
    source = load_source(str(table), talk.parent, kind="sound")
    names = ["talk.flac#t=0,1", "talk.flac#t=1.5,1.75", "talk.flac#t=2,9", "talk.flac"]
    assert [example.path.name for example in source.examples] == names
    heard = []
    for example in source.examples:
        with content_of(example.place) as content:
            sound = read_sound(content, RATE)
        heard.append((heard_samples(sound) / RATE, strongest_hertz(sound)))
    assert heard == [(1, 300), (0.25, 600), (1, 900), (1, 600)]
    with content_of(source.examples[0].place) as one, content_of(source.examples[0].place) as other:
        assert one == other  # so a copy is one


def test_parts_of_files_whose_names_tell_nothing_follow_from_the_kind(talk):
    (talk.parent / "talk").write_bytes(talk.read_bytes())
    table = talk.parent / "words.csv"
    table.write_text("path,label,start,end\ntalk,low,0,1\ntalk,high,1,2\n")
    examples = load_source(str(table), talk.parent, kind="sound").examples
    assert [example.path.name for example in examples] == ["talk#t=0,1", "talk#t=1,2"]
    assert [file.path.name for file in find_files([str(table)], kind=KIND)] == ["talk#t=0,1", "talk#t=1,2"]


@pytest.mark.parametrize(("start", "end"), [("1", "1"), ("2", "1"), ("-1", "1"), ("0", ""), ("a", "1"), ("0", "inf")])
def test_an_impossible_part_is_refused_with_its_line(talk, start, end):
    table = talk.parent / "words.csv"
    table.write_text(f"path,label,start,end\ntalk.flac,low,0,1\ntalk.flac,high,{start},{end}\n")
    with pytest.raises(UsageError, match=r"in seconds; line 3 .*words.csv"):
        load_source(str(table), talk.parent)


@pytest.mark.parametrize(("times", "reason"), [((3, 4), "ends at 3.0 seconds"), ((0, 61), "longer than 60 seconds")])
def test_a_part_that_is_not_there_is_set_aside(talk, times, reason):
    with pytest.raises(UnreadableError, match=reason), content_of(Part(talk, *times, cut_sound)):
        pass


def test_a_long_recording_is_answered_in_windows_and_never_held_whole(talk, tmp_path):
    reader = KIND.reader(TrainConfig.of(kind="sound", clip_seconds=1), None)
    short, text = tmp_path / "short.wav", tmp_path / "text.wav"
    short.write_bytes(written(tone(1.5)))
    text.write_text("no recording")
    files = [FoundFile(path) for path in (talk, short, text)]
    found = in_windows(files, KIND, reader)
    names = ["talk.flac#t=0,1", "talk.flac#t=1,2", "talk.flac#t=2,3", "short.wav", "text.wav"]
    assert [file.path.name for file in found] == names
    (batch,) = read_batches(found, reader, 8)
    assert [strongest_hertz(sound) for sound in batch.inputs[0][:3]] == [300, 600, 900]
    assert batch.files[-1].reason == "not a recording"
    hour = tmp_path / "hour.wav"
    with soundfile.SoundFile(hour, "w", RATE, 1) as file:
        for number in range(600):
            file.write(tone(1, hertz=200 + number)[:, 0])
    tracemalloc.start()
    (batch,) = itertools.islice(read_batches(in_windows([FoundFile(hour)], KIND, reader)[-8:], reader, 8), 1)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert [strongest_hertz(sound) for sound in batch.inputs[0]] == list(range(792, 800))
    assert peak < hour.stat().st_size / 2


def test_nothing_is_opened_for_windows_that_waits_or_that_a_link_leads_out_to(talk, tmp_path):
    reader = KIND.reader(TrainConfig.of(kind="sound", clip_seconds=1), None)
    folder = tmp_path / "folder"
    folder.mkdir()
    os.mkfifo(folder / "pipe.wav")
    (folder / "link.flac").symlink_to(talk)
    files = [FoundFile(path, within=folder) for path in (folder / "pipe.wav", folder / "link.flac")]
    assert in_windows(files, KIND, reader) == files
