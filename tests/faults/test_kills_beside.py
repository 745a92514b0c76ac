"""Commands that are killed while the cache is cleared and another run fills it end as they do undisturbed."""

import filecmp
import itertools
import random
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pandas as pd
import pytest

from tests.conftest import draw_photos
from tests.faults.kills import Ended, Kill, again_and_again, clear, differences, run

KILLS, KILLS_OF_A_CASE = 60, 3
TINY_GB = 0.0008
"""Of the cache: what one run makes fits, but not together with its pictures, nor with another run."""
SMALL = ["--image-size", "32", "--batch-size", "8", "--cache-gb", TINY_GB, "--checkpoint-seconds", "0"]
SHORT = ["--trainable-layers", "30", "--head-epochs", "6", "--fine-tune-epochs", "2", "--dropout", "0.5"]
FEW = ["--image-size", "32", "--cache-gb", TINY_GB, "--oracle", "random", "--max-trials", "4"]
HEADS = ["--trainable-layers", "0", "--head-epochs", "4", "--batch-size", "8"]


class Place(NamedTuple):
    """Folders that the commands of a test share."""

    photos: Path
    cache: Path
    finished: Path
    """A run that is not disturbed."""


def train_flags(place: Place, output: Path, seed: int = 0) -> list:
    if (output / "config.json").exists():
        return ["--resume", output]
    data = ["--data", place.photos, "--cache-dir", place.cache]
    return [*data, *SMALL, *SHORT, "--seed", seed, "--output", output]


def tune_flags(place: Place, output: Path) -> list:
    return ["--data", place.photos, "--cache-dir", place.cache, *FEW, *HEADS, "--output", output]


def export_flags(place: Place, output: Path) -> list:
    return [place.finished, "--format", "saved_model", "litert", "--output", output, "--cache-dir", place.cache]


def predict_flags(place: Place, output: Path) -> list:
    return [place.finished, place.photos, "--csv", output]


def search_differences(first: Path, second: Path) -> list[str]:
    """Names of what differs between two search folders, times aside."""
    tables = [pd.read_csv(folder / "trials.csv").drop(columns="seconds") for folder in (first, second)]
    found = [] if tables[0].equals(tables[1]) else ["trials.csv"]
    if (first / "best_config.json").read_bytes() != (second / "best_config.json").read_bytes():
        found.append("best_config.json")
    return found + differences(first / "best", second / "best")


def export_differences(first: Path, second: Path) -> list[str]:
    """Names of the files that differ between two exports; what a killed one left in hidden folders is no part of it."""
    names = [
        {str(path.relative_to(root)) for path in root.glob("[!.]*/**/*") if path.is_file()} for root in (first, second)
    ]
    _, different, wrong = filecmp.cmpfiles(first, second, sorted(names[0] & names[1]), shallow=False)
    return [*(names[0] ^ names[1]), *(name for name in different + wrong if Path(name).name not in UNEQUAL)]


def csv_differences(first: Path, second: Path) -> list[str]:
    return [] if first.read_bytes() == second.read_bytes() else ["the answers"]


class Command(NamedTuple):
    """What is killed, started again, and compared."""

    script: str
    flags: Callable[[Place, Path], list]
    """Of a start, and of a start that goes on with what is in the output."""
    differences: Callable[[Path, Path], list[str]]


COMMANDS = (
    Command("train.py", train_flags, differences),
    Command("tune.py", tune_flags, search_differences),
    Command("export.py", export_flags, export_differences),
    Command("predict.py", predict_flags, csv_differences),
)
UNEQUAL = ("fingerprint.pb", "parity.json", "MODEL_CARD.md")
"""Files with a random number, or with milliseconds."""


def finish(command: Command, place: Place, output: Path) -> Ended:
    ended = run(command.script, command.flags(place, output))
    assert ended.status == 0, (command.script, ended.lines)
    return ended


def moments(times: dict[str, float], count: int, draw: random.Random) -> list[Kill]:
    """Chooses moments at random, three of four of them after the first line, when the imports are done."""
    first = min(seconds for stage, seconds in times.items() if stage != "start")
    kills = []
    for _ in range(count):
        start, end = (first, times["end"]) if draw.random() < 0.75 else (0.0, first)
        moment = draw.uniform(start, end)
        stage = max((stage for stage in times if stage != "end" and times[stage] <= moment), key=times.__getitem__)
        kills.append(Kill(stage, moment - times[stage]))
    return kills


@pytest.mark.slow
def test_commands_that_are_killed_beside_others_on_a_tiny_cache_end_as_if_they_were_alone(tmp_path):
    draw_photos(tmp_path / "photos", ("cat", "dog", "owl"), 24, size=(160, 120))
    alone = Place(tmp_path / "photos", tmp_path / "cache alone", tmp_path / "alone" / "train.py")
    shared = alone._replace(cache=tmp_path / "cache")
    expected = {command: tmp_path / "alone" / command.script for command in COMMANDS}
    times = {command: finish(command, alone, expected[command]).times for command in COMMANDS}
    other = tmp_path / "alone" / "other"
    assert run("train.py", train_flags(alone, other, seed=1)).status == 0

    runs = itertools.count()

    def train_another() -> None:
        output = tmp_path / "others" / str(next(runs))
        ended = run("train.py", train_flags(shared, output, seed=1))
        assert ended.status == 0, ended.lines
        assert differences(other, output) == []

    draw, cases, killed = random.Random(0), itertools.count(), 0
    with again_and_again(lambda: clear(shared.cache), pause=2.0), again_and_again(train_another, pause=0.0):
        while killed < KILLS:
            number = next(cases)
            command, output = COMMANDS[number % len(COMMANDS)], tmp_path / "killed" / str(number)
            output.parent.mkdir(exist_ok=True)
            for kill in moments(times[command], KILLS_OF_A_CASE, draw):
                ended = run(command.script, command.flags(shared, output), kill)
                assert ended.status in (0, -kill.signal), (command.script, kill, ended.lines)
                killed += ended.status != 0
                print(number, command.script, kill, ended.status, flush=True)
            finish(command, shared, output)
            assert command.differences(expected[command], output) == [], (command.script, number)
    print(f"{killed} kills in {next(cases)} cases, {next(runs)} runs beside them")
