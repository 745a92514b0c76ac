"""Words of spoken digits that Whisper gets wrong, and its speed.

`python -m benchmarks.transcription fsdd` joins recordings of the Free Spoken Digit Dataset (`fsdd/DIGIT/
DIGIT_SPEAKER_TAKE.wav`) to ten digits of one speaker each, with pauses, and writes down what is said in these.
"""

import argparse
import re
import tempfile
import time
from collections import defaultdict
from pathlib import Path

import numpy as np

from app.cli import run_command

NAMES = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]
SAID = 10
"""Digits of a recording."""
PAUSE = 0.3
"""Seconds between them."""


def main() -> None:
    """Measures the word error rate of each speaker, and seconds of sound for each second."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--of-each", type=int, default=20, help="recordings of each speaker")
    flags = parser.parse_args()

    from app.terminal import import_tensorflow

    import_tensorflow()
    import jiwer

    from inference.files import FoundFile
    from inference.spoken_words import read_vocabulary
    from inference.transcribe import transcribe
    from models.sound_decoder import Whisper
    from models.sound_weights import read_whisper

    vocabulary, network = read_vocabulary("imagenet", 0), Whisper(read_whisper("imagenet", 0, ("encoder", "decoder")))
    with tempfile.TemporaryDirectory() as place:
        made = _join(flags.folder, flags.of_each, Path(place))
        list(transcribe(network, vocabulary, FoundFile(made[0][0]), 0, made[0][2]))  # makes the graphs
        answers = defaultdict(list)
        seconds, started = 0.0, time.perf_counter()
        for path, digits, length in made:
            words = transcribe(network, vocabulary, FoundFile(path), 0, length)
            text = plain(" ".join(each.text for each in words))
            answers[path.stem.split("-")[0]].append((" ".join(digits), text))
            seconds += length
        took = time.perf_counter() - started
    everyone = [pair for pairs in answers.values() for pair in pairs]
    for speaker, pairs in [*sorted(answers.items()), ("all", everyone)]:
        right, heard = map(list, zip(*pairs, strict=True))
        print(f"{speaker:<10} {jiwer.wer(right, heard):6.1%} of the words wrong, such as '{heard[0]}'")
    print(f"{seconds:,.0f} seconds of sound in {took:.1f}: {seconds / took:.1f} times real time")


def plain(text: str) -> str:
    """Returns a text in lower case without punctuation, and with the names of digits."""
    text = re.sub(r"\d", lambda digit: f" {NAMES[int(digit[0])]} ", text.lower())
    return " ".join(re.findall(r"[a-z']+", text))


def _join(folder: Path, of_each: int, place: Path) -> list[tuple[Path, list[str], float]]:
    """Makes recordings of several digits; returns the file, the words and the seconds of each."""
    import soundfile

    takes: dict[tuple[str, str], list[Path]] = defaultdict(list)
    for path in sorted(folder.glob("*/*_*_*.wav")):
        digit, speaker, _ = path.stem.split("_")
        takes[speaker, digit].append(path)
    random, made = np.random.default_rng(0), []
    for speaker in sorted({speaker for speaker, _ in takes}):
        for number in range(of_each):
            digits = [str(each) for each in random.integers(0, 10, SAID)]
            read = [
                soundfile.read(takes[speaker, digit][random.integers(len(takes[speaker, digit]))]) for digit in digits
            ]
            rate = read[0][1]
            joined = np.concatenate([part for values, _ in read for part in (values, np.zeros(int(PAUSE * rate)))])
            path = place / f"{speaker}-{number}.wav"
            soundfile.write(path, joined, rate)
            made.append((path, [NAMES[int(digit)] for digit in digits], len(joined) / rate))
    return made


if __name__ == "__main__":
    run_command(main)
