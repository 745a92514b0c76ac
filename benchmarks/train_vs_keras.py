"""Headstart against other methods of transfer learning: same pictures, split, weights and network.

`python -m benchmarks.train_vs_keras --data FOLDER --backbone mobilenet --weights FILE` runs, for every seed and in
turn, `train.py` at each effort with an empty cache, and the recipes of `keras_recipe.py`, each as a process of its own,
timed as a whole, on one split. `--contenders` chooses among them; the contender `warm` is the one before it once more,
with the cache that it left. Prints a table of the mean accuracy on test over the seeds, with its 95 % interval and its
range, and of the median seconds, and draws it.

Every contender chooses its epoch on val, by the lowest loss, and is measured once on test.
"""

import shutil
import statistics
import tempfile
from pathlib import Path
from typing import NamedTuple

from scipy import stats

from app.cli import run_command
from benchmarks.processes import (
    comparison_parser,
    import_seconds,
    our_command,
    peer_command,
    shared_pictures,
    timed_peer,
    train_timed,
)

EFFORTS = ("quick", "standard", "best")
PEERS = ("regression", "guide", "discriminative", "tuned")
WARM = "warm"
TEST_FRACTION = 0.15
"""Share of the pictures in the test split, as in `train.py`."""


class Outcome(NamedTuple):
    """Result of one process."""

    accuracy: float
    """On the test pictures, fraction."""
    seconds: float
    """Seconds from its start to its end."""


def main() -> None:
    """Runs all contenders, prints the table and draws it."""
    parser = comparison_parser(__doc__)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--split-seed", type=int, default=0)
    parser.add_argument("--test-fraction", type=float, default=TEST_FRACTION, help="where the data has no test split")
    everything = [*EFFORTS, *PEERS]
    parser.add_argument("--contenders", nargs="+", default=everything, choices=[*everything, WARM])
    parser.add_argument("--figure", type=Path, help="file of the drawing, such as accuracy_over_time.png")
    flags = parser.parse_args()
    for before, contender in zip([None, *flags.contenders], flags.contenders, strict=False):
        if contender == WARM and before not in EFFORTS:
            parser.error(f"--contenders: '{WARM}' comes right after one of {', '.join(EFFORTS)}")

    outcomes: dict[str, list[Outcome]] = {contender: [] for contender in flags.contenders}
    importing: list[float] = []
    with tempfile.TemporaryDirectory() as scratch:
        split = {"test_fraction": flags.test_fraction, "split_seed": flags.split_seed}
        inputs, folder = shared_pictures(flags, Path(scratch), **split)
        cache, run = Path(scratch) / "cache", Path(scratch) / "run"
        for seed in range(flags.seeds):
            importing.append(import_seconds())
            command: list[str] = []
            for contender in flags.contenders:
                if contender in PEERS:
                    command = peer_command("keras_recipe", inputs, folder, seed, "--recipe", contender)
                    found, seconds = timed_peer(command)
                    outcome = Outcome(found["accuracy"], seconds)
                else:
                    if contender != WARM:
                        shutil.rmtree(cache, ignore_errors=True)
                        command = [*our_command("train.py", inputs, folder, seed), "--effort", contender]
                    record, seconds = train_timed(command, run, cache)
                    outcome = Outcome(record["test"]["accuracy"], seconds)
                    shutil.rmtree(run)
                outcomes[contender].append(outcome)
                print(f"seed {seed}  {contender:<15} {outcome.accuracy:7.2%} {outcome.seconds:8.1f} s", flush=True)
    _show(outcomes, statistics.median(importing))
    if flags.figure is not None:
        _draw(outcomes, flags.figure)


def _mean(values: list[float]) -> tuple[float, float]:
    """Returns the mean, and half the width of its 95 % interval."""
    if len(values) < 2:
        return values[0], 0.0
    width = stats.t.ppf(0.975, len(values) - 1) * statistics.stdev(values) / len(values) ** 0.5
    return statistics.mean(values), width


def _show(outcomes: dict[str, list[Outcome]], importing: float) -> None:
    print("\n| | right on test | from, to | seconds | ratio to the slowest | without imports |")
    print("|---|---|---|---|---|---|")
    medians = {name: statistics.median(run.seconds for run in runs) for name, runs in outcomes.items()}
    slowest = max(medians.values())
    for name, runs in outcomes.items():
        accuracies, seconds = [run.accuracy for run in runs], medians[name]
        accuracy, width = _mean(accuracies)
        interval = f" ± {100 * width:.1f}" if len(runs) > 1 else ""
        ratio, inner = slowest / seconds, (slowest - importing) / (seconds - importing)
        print(
            f"| {name} | {100 * accuracy:.1f}{interval} % | {min(accuracies):.1%}, {max(accuracies):.1%} "
            f"| {seconds:.0f} | {ratio:.1f}x | {inner:.1f}x |"
        )
    print(f"Importing TensorFlow and Keras takes {importing:.1f} s of each process.")


def _draw(outcomes: dict[str, list[Outcome]], path: Path) -> None:
    from reports.plots import make_panel, tidy
    from reports.writer import write_figure

    figure, axes = make_panel()
    for name, runs in outcomes.items():
        accuracy, width = _mean([run.accuracy for run in runs])
        seconds = statistics.median(run.seconds for run in runs)
        colour = "0.5" if name in PEERS else "C1"
        axes.errorbar(seconds, 100 * accuracy, 100 * width, fmt="o", color=colour, capsize=3)
        axes.annotate(name, (seconds, 100 * accuracy), (6, 4), textcoords="offset points", color=colour)
    axes.set_xscale("log")
    axes.set(xlabel="seconds", ylabel="right on test, %")
    tidy(axes)
    write_figure(path, figure)


if __name__ == "__main__":
    run_command(main)
