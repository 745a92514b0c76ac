"""A run that is stopped, at whatever moment and however often, ends as one that was never stopped: to the bit."""

import signal
from pathlib import Path

import pytest

from app.run_folder import is_finished, resume_command
from tests.faults.conftest import Undisturbed
from tests.faults.kills import STAGES, Ended, Kill, again_and_again, clear, differences, random_kills, train
from tests.training.test_detection_run import draw_squares


def start_or_go_on(undisturbed: Undisturbed, root: Path, kill: Kill | None = None) -> Ended:
    """One start of a run in `root/run`, which goes on where the last one was stopped."""
    run = root / "run"
    if (run / "config.json").exists():
        return train(["--resume", run], kill)
    return train([*undisturbed.flags, "--cache-dir", root / "cache", "--output", run], kill)


def assert_ends_as_undisturbed(undisturbed: Undisturbed, root: Path, kills: list[Kill]) -> None:
    """Starts a run, kills it, goes on, kills it, ... and lets it end at last."""
    statuses = []
    for kill in kills:
        ended = start_or_go_on(undisturbed, root, kill)
        assert ended.status in (0, -kill.signal), (kill, ended.lines)
        statuses.append(ended.status)
    assert statuses.count(0) <= (len(kills) + 1) // 2, "most of several kills should hit a process that is at work"
    ended = start_or_go_on(undisturbed, root)
    assert ended.status == 0, ended.lines
    assert is_finished(root / "run")
    assert differences(undisturbed.folder, root / "run") == []


def test_a_run_that_is_killed_in_every_stage_while_its_cache_is_cleared_ends_as_if_it_had_not_been(
    undisturbed, tmp_path
):
    kills = random_kills(undisturbed.times, len(STAGES), seed=0)
    kills = [kill for kill in kills if kill.stage not in ("start", "data")]
    with again_and_again(lambda: clear(tmp_path / "cache"), pause=3.0):
        assert_ends_as_undisturbed(undisturbed, tmp_path, kills)


def test_ctrl_c_and_sigterm_save_and_name_the_command_that_goes_on(undisturbed, tmp_path):
    saved = tmp_path / "run" / "checkpoints"
    kills = {130: Kill("features", 0, signal.SIGINT, saved / "head.npz")}
    kills[143] = Kill("head", 0, signal.SIGTERM, saved / "fine_tune.npz")
    for status, kill in kills.items():
        ended = start_or_go_on(undisturbed, tmp_path, kill)
        assert ended.status == status, ended.lines
        assert resume_command(tmp_path / "run") in ended.lines[-2]
        assert ended.lines[-1] == "interrupted"
    assert kill.file.exists()


@pytest.mark.slow
def test_a_detector_that_is_killed_while_it_learns_ends_as_if_it_had_not_been(tmp_path):
    short = ["--image-size", "96", "--head-epochs", "4", "--trainable-layers", "30", "--fine-tune-epochs", "2"]
    flags = ["--data", draw_squares(tmp_path / "squares"), *short, "--checkpoint-seconds", "0"]
    whole = train([*flags, "--cache-dir", tmp_path / "cache", "--output", tmp_path / "whole" / "run"])
    assert whole.status == 0, whole.lines
    undisturbed = Undisturbed(flags, tmp_path / "whole" / "run", whole.times)
    halfway = (whole.times["fine-tune"] - whole.times["head"]) / 2
    assert_ends_as_undisturbed(undisturbed, tmp_path, [Kill("features", halfway), Kill("head", halfway)])


@pytest.mark.slow
@pytest.mark.parametrize("number", range(30))
def test_a_run_that_is_killed_at_a_random_moment_ends_as_if_it_had_not_been(undisturbed, tmp_path, number):
    kill = random_kills(undisturbed.times, 30, seed=1)[number]
    assert_ends_as_undisturbed(undisturbed, tmp_path, [kill])
