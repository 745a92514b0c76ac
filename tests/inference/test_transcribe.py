"""`predict.py --backbone whisper` writes down what is said, and says of every file what it is."""

import ctypes
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import soundfile

from app.errors import UsageError
from app.spectrogram import RATE
from inference.files import find_files
from inference.spoken_words import read_vocabulary
from inference.transcribe import transcribe_files
from models.backbones import find
from predict import main
from tests.models.small_whisper import LETTERS, small_whisper, write_folder


@pytest.fixture(scope="module")
def whisper(tmp_path_factory) -> Path:
    pytest.importorskip("keras_hub")
    return write_folder(small_whisper(), tmp_path_factory.mktemp("whisper"), suppress_tokens=[3])


@pytest.fixture
def talks(tmp_path) -> Path:
    noise = np.random.default_rng(0).normal(0, 0.1, 3 * RATE)
    noise[RATE : 2 * RATE] = 0
    soundfile.write(tmp_path / "talk.wav", noise, RATE)
    soundfile.write(tmp_path / "silence.flac", np.zeros(RATE), RATE)
    (tmp_path / "text.wav").write_text("no recording")
    (tmp_path / "part.csv").write_text("path,start,end\ntalk.wav,2,2.5\n")
    return tmp_path


def predict(monkeypatch, *flags: object) -> None:
    monkeypatch.setattr("sys.argv", ["predict.py", *map(str, flags)])
    main()


def speak(text: str) -> tuple[np.ndarray, int]:
    """Speaks a sentence with the voice of eSpeak NG: samples of 16 bits, and their rate."""
    loader = pytest.importorskip("espeakng_loader")
    library, pieces = ctypes.CDLL(loader.get_library_path()), []

    @ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.c_void_p)
    def receive(samples, count, events):
        pieces.append(np.ctypeslib.as_array(samples, (count,)).copy() if samples and count else np.zeros(0, np.int16))
        return 0

    rate = library.espeak_Initialize(1, 0, loader.get_data_path().encode(), 0)
    library.espeak_SetSynthCallback(receive)
    library.espeak_SetVoiceByName(b"en-us")
    library.espeak_SetParameter(1, 150, 0)  # words a minute
    content = text.encode()
    library.espeak_Synth(content, len(content) + 1, 0, 0, 0, 1, None, None)
    library.espeak_Synchronize()
    return np.concatenate(pieces), rate


def test_what_a_voice_says_is_understood(monkeypatch, tmp_path):
    said = "Please call the office tomorrow before noon and ask for the new report."
    soundfile.write(tmp_path / "voice.ogg", *speak(said))
    predict(monkeypatch, "--backbone", "whisper_tiny_en", tmp_path / "voice.ogg", "--csv", tmp_path / "words.csv")
    (words,) = pd.read_csv(tmp_path / "words.csv").to_dict("records")
    assert words["text"] == said
    assert words["start"] < 0.3
    assert 3.5 < words["end"] < 4.5


def test_the_words_of_every_file_have_times(monkeypatch, capsys, whisper, talks):
    table = talks / "words.csv"
    places = [talks / name for name in ("talk.wav", "silence.flac", "text.wav")]
    predict(monkeypatch, "--backbone", "whisper", "--weights", whisper, *places, "--csv", table)
    printed = capsys.readouterr().out
    rows = pd.read_csv(table, keep_default_na=False)
    assert rows.columns.to_list() == ["path", "start", "end", "text", "reason"]
    of_file = {Path(path).name: group for path, group in rows.groupby("path")}
    assert of_file["silence.flac"]["reason"].to_list() == ["silent"]
    assert of_file["text.wav"]["reason"].to_list() == ["not a recording"]
    talk = of_file["talk.wav"].astype({"start": float, "end": float})
    assert (talk["end"] > talk["start"]).all()
    assert (talk["start"].diff()[1:] >= 0).all()
    assert talk["end"].max() <= 3
    assert not ((talk["start"] > 1) & (talk["end"] < 2)).any()  # the silent second
    assert talk["text"].str.fullmatch("[a-z]+").all()
    assert all(text in printed for text in talk["text"])
    assert "1 recording, 3 seconds" in printed


def test_what_is_lost_of_a_recording_is_told(monkeypatch, capsys, whisper, talks):
    noise = np.random.default_rng(0).normal(0, 0.1, 70 * RATE)
    soundfile.write(talks / "long.flac", noise, RATE)
    content = (talks / "long.flac").read_bytes()
    (talks / "long.flac").write_bytes(content[: len(content) // 2])
    table = talks / "words.csv"
    predict(monkeypatch, "--backbone", "whisper", "--weights", whisper, talks / "long.flac", "--csv", table)
    rows = pd.read_csv(table, keep_default_na=False)
    assert (rows["reason"][:-1] == "").all()
    assert re.fullmatch(r"\d+ parts? of it cannot be read, the first from \d+ seconds on: .+", rows["reason"].iloc[-1])
    printed = " ".join(capsys.readouterr().out.split())
    assert "cannot be read" in printed
    assert re.search(r"done 1 recording, [34]\d seconds", printed)


def test_a_part_of_a_recording_has_its_times_in_it(monkeypatch, whisper, talks):
    predict(monkeypatch, "--backbone", "whisper", "--weights", whisper, talks / "part.csv", "--csv", talks / "out.csv")
    rows = pd.read_csv(talks / "out.csv")
    assert set(rows["path"].map(lambda path: Path(path).name)) == {"talk.wav#t=2,2.5"}
    assert rows["start"].min() >= 2
    assert rows["end"].max() <= 2.5


def test_tokens_of_a_folder_are_its_own(whisper):
    vocabulary = read_vocabulary(str(whisper), 10**7)
    assert (vocabulary.end, vocabulary.begin) == (LETTERS, LETTERS + 1)
    assert vocabulary.languages == slice(LETTERS + 2, LETTERS + 4)
    assert vocabulary.first_time == LETTERS + 10
    assert vocabulary.never.tolist() == [3]
    (whisper / "tokenizer.json").rename(whisper / "away.json")
    try:
        with pytest.raises(UsageError, match="No such file"):
            read_vocabulary(str(whisper), 10**7)
    finally:
        (whisper / "away.json").rename(whisper / "tokenizer.json")


def test_mistakes_are_told_at_once(monkeypatch, whisper, talks):
    with pytest.raises(UsageError, match="leave --coco, --draw, --resize, --unknown-below out"):
        predict(monkeypatch, "--backbone", "whisper_tiny_en", talks / "talk.wav", "--unknown-below", 0.5)
    with pytest.raises(UsageError, match="must be the folder of a preset"):
        predict(monkeypatch, "--backbone", "whisper", "--weights", talks, talks / "talk.wav")
    with pytest.raises(UsageError, match="minilm has no top"):
        predict(monkeypatch, "--backbone", "minilm", talks / "talk.wav")
    with pytest.raises(UsageError, match=r"silence\.flac' is no readable recording: "):
        transcribe_files(find("whisper"), str(whisper), find_files([str(talks / "silence.flac")]))
