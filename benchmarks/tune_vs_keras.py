"""`tune.py` against KerasTuner: same pictures, split, weights, network, ranges and number of trials.

`python -m benchmarks.tune_vs_keras --data FOLDER --weights FILE --trials 50 --depths 0 6 12` runs, one after another,
each as a process of its own and timed as a whole: KerasTuner as documented (whole), KerasTuner on features cached by
hand (cached), both in `keras_search.py`, and `tune.py` with an empty cache (ours). The first would take hours, so only
a few of its trials run, equally many of each depth, and their time is extended to all trials.

Where layers learn, `tune.py` solves the head first and then trains those layers for 2 epochs. In the peers, all of them
learn for `--epochs` from the start; `--peer-fine-tune-epochs 2` makes the peers train the head first as well.
"""

import argparse
import json
import math
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from app.cli import run_command
from benchmarks.processes import (
    comparison_parser,
    import_seconds,
    our_command,
    peer_command,
    shared_pictures,
    timed,
    timed_peer,
)
from training.inputs import RunInputs

FINE_TUNE_EPOCHS = 2
"""Epochs of fine-tuning in `tune.py`, after those of the head."""
RANGES = (
    *("--learning-rate", "1e-4", "1e-1", "--fine-tune-learning-rate", "1e-5", "1e-3", "--batch-size", "16", "32", "64"),
    *("--optimizer", "adam", "adamw", "sgd", "--dropout", "0", "0.5", "--weight-decay", "0", "--head-units", "0"),
)
"""Ranges of `tune.py`; those of the peers stand in `keras_search.py`."""
VIEWS = ("2",)


class Outcome(NamedTuple):
    """Result of one contender, or its estimate for all trials."""

    val_accuracy: float
    """Val accuracy of the best trial that was run, fraction."""
    seconds: float
    """Seconds from the start of its process to the end."""
    found: float
    """Seconds of those until the best trial is known; ours trains it again then, measures it and draws figures."""
    trials: int
    """Trials that were run."""


def main() -> None:
    """Runs all contenders and prints accuracy, seconds and ratios."""
    flags = _parse()
    with tempfile.TemporaryDirectory() as scratch:
        inputs, folder = shared_pictures(flags, Path(scratch))
        importing = import_seconds()
        outcomes = {peer: _run_peer(peer, inputs, folder, flags) for peer in ("whole", "cached")}
        outcomes["ours"], record = _run_ours(inputs, folder, flags, Path(scratch), importing)
    _show(outcomes, flags, importing)
    _show_pass(outcomes["ours"], record, importing)


def extend(outcome: Outcome, search: float, trials: int) -> Outcome:
    """Estimates the seconds of more trials, if the others took as long as those did: `search` seconds in all."""
    seconds = outcome.seconds - search + search * trials / outcome.trials
    return outcome._replace(seconds=seconds, found=seconds)


def trials_to_sample(peer_trials: int, depths: Sequence[int]) -> int:
    """As many trials as asked for, or the next number of which every depth gets its share."""
    return math.ceil(peer_trials / len(depths)) * len(depths)


def our_flags(flags: argparse.Namespace) -> list[str]:
    """Returns the flags of `tune.py` for the search."""
    command = ["--oracle", "random", "--max-trials", str(flags.trials), "--trainable-layers", *map(str, flags.depths)]
    command += ["--head-epochs", str(flags.epochs), "--fine-tune-epochs", str(FINE_TUNE_EPOCHS)]
    return [*command, *RANGES, "--views", *VIEWS]


def _run_peer(peer: str, inputs: RunInputs, folder: Path, flags: argparse.Namespace) -> Outcome:
    command = [*peer_command("keras_search", inputs, folder, flags.seed), "--peer", peer]
    command += ["--epochs", str(flags.epochs), "--depths", *map(str, flags.depths)]
    if flags.peer_fine_tune_epochs is not None:
        command += ["--fine-tune-epochs", str(flags.peer_fine_tune_epochs)]
    if peer == "whole":
        command += ["--even", "--trials", str(trials_to_sample(flags.peer_trials, flags.depths))]
    else:
        command += ["--trials", str(flags.trials)]
    found, seconds = timed_peer(command)
    outcome = Outcome(found["val_accuracy"], seconds, seconds, found["trials"])
    _say(peer, outcome)
    return extend(outcome, found["seconds"]["search"], flags.trials)


def _run_ours(
    inputs: RunInputs, folder: Path, flags: argparse.Namespace, scratch: Path, importing: float
) -> tuple[Outcome, dict[str, Any]]:
    command = [*our_command("tune.py", inputs, folder, flags.seed), *our_flags(flags)]
    _, seconds = timed([*command, "--cache-dir", str(scratch / "cache"), "--output", str(scratch / "search")])
    record = json.loads((scratch / "search" / "search.json").read_text())
    found = importing + sum(record["seconds"][stage] for stage in ("prepare", "features", "search"))
    outcome = Outcome(record["best"]["val_accuracy"], seconds, found, record["trials"]["done"])
    _say("ours", outcome)
    if record["trials"]["failed"]:
        print(f"{record['trials']['failed']} more trials of ours failed: the times below are not those of all trials.")
    return outcome, record


def _say(contender: str, outcome: Outcome) -> None:
    print(
        f"{contender:<8}{outcome.trials:>4} trials {outcome.val_accuracy:>8.2%} {outcome.seconds:>8.1f} s",
        flush=True,
    )


def _show(outcomes: dict[str, Outcome], flags: argparse.Namespace, importing: float) -> None:
    ours = outcomes["ours"]
    print(f"\n{'':<8}{'accuracy':>10}{'process':>15}{'ratio':>8}{'best known':>14}{'ratio':>8}{'(no imports)':>17}")
    for name, (accuracy, seconds, found, _) in outcomes.items():
        ratio, inner = found / ours.found, (found - importing) / (ours.found - importing)
        print(
            f"{name:<8}{accuracy:>10.2%}{seconds:>13.1f} s{seconds / ours.seconds:>7.1f}x"
            f"{found:>12.1f} s{ratio:>7.1f}x{inner:>16.1f}x"
        )
    print(f"Seconds for {flags.trials} trials; ratios to ours. Importing TensorFlow and Keras takes {importing:.1f} s.")
    whole = outcomes["whole"].trials
    if whole != flags.trials:
        print(
            f"Whole ran {whole} trials, not {flags.trials}, equally many of each depth: its trials' seconds are "
            f"extended linearly, and its accuracy is the best of {whole}."
        )
    if any(flags.depths):
        epochs, more = flags.epochs, flags.peer_fine_tune_epochs
        peers = f"{epochs} from the start" if more is None else f"{more} after {epochs} of the head"
        print(f"Epochs of the layers that learn: {FINE_TUNE_EPOCHS} from the solved head in ours, {peers} in peers.")


def _show_pass(ours: Outcome, record: dict[str, Any], importing: float) -> None:
    """Prints what no search can avoid: every picture decoded, and run once through the backbone."""
    seconds = record["seconds"]
    once = seconds["prepare"] + seconds["features"]
    print(
        f"One decode and backbone pass, views included: {once:.1f} s. Ours knows the best after "
        f"{(ours.found - importing) / once:.2f}x that, without imports; its parts: "
        + ", ".join(f"{name} {value:.1f}" for name, value in seconds.items())
    )


def _parse() -> argparse.Namespace:
    parser = comparison_parser(__doc__)
    parser.add_argument("--trials", type=int, default=50)
    parser.add_argument("--epochs", type=int, default=10, help="of a trial; in ours, of its head")
    parser.add_argument(
        "--depths", type=int, nargs="+", default=[0], help="last layers of the backbone that learn; 0 for the head only"
    )
    parser.add_argument(
        "--peer-trials", type=int, default=3, help="of the whole network; rounded up to equally many of each depth"
    )
    parser.add_argument("--peer-fine-tune-epochs", type=int, help="see above; default: one phase")
    parser.add_argument("--seed", type=int, default=0)
    return parser.parse_args()


if __name__ == "__main__":
    run_command(main)
