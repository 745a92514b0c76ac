"""Accuracy by the seconds it takes: train.py at each effort, and what else people do with the same pictures.

`python -m benchmarks.accuracy_over_time --data FOLDER --backbone mobilenet --weights FILE` runs, for every seed and in
turn, `train.py` at each effort with an empty cache, and the recipes of `keras_recipe.py`, each as a process of its own,
timed as a whole, on one split. It prints a table of the mean accuracy of all seeds, with its 95 % interval, and the
median seconds, and draws it.
"""

import statistics
import tempfile
from pathlib import Path

from scipy import stats

from benchmarks.processes import comparison_parser, our_command, shared_pictures, train_timed
from benchmarks.train_vs_keras import TEST_FRACTION, Outcome, run_recipe
from training.inputs import RunInputs

OURS = ("quick", "standard", "best")
PEERS = ("regression", "guide", "discriminative", "tuned")


def main() -> None:
    """Runs all contenders, prints the table and draws it."""
    parser = comparison_parser(__doc__)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--split-seed", type=int, default=0)
    parser.add_argument("--contenders", nargs="+", default=[*OURS, *PEERS], choices=[*OURS, *PEERS])
    parser.add_argument("--figure", type=Path, help="file of the drawing, such as accuracy_over_time.png")
    flags = parser.parse_args()

    with tempfile.TemporaryDirectory() as scratch:
        split = {"test_fraction": TEST_FRACTION, "split_seed": flags.split_seed}
        inputs, folder = shared_pictures(flags, Path(scratch), **split)
        outcomes: dict[str, list[Outcome]] = {contender: [] for contender in flags.contenders}
        for seed in range(flags.seeds):
            for contender in flags.contenders:
                outcome = _run(contender, inputs, folder, seed)
                outcomes[contender].append(outcome)
                print(f"seed {seed}  {contender:<15} {outcome.accuracy:7.2%} {outcome.seconds:8.1f} s", flush=True)
    _show(outcomes)
    if flags.figure is not None:
        _draw(outcomes, flags.figure)


def _run(contender: str, inputs: RunInputs, folder: Path, seed: int) -> Outcome:
    if contender in PEERS:
        return run_recipe(inputs, folder, seed, contender)
    with tempfile.TemporaryDirectory() as scratch:
        command = [*our_command("train.py", inputs, folder, seed), "--effort", contender]
        record, seconds = train_timed(command, Path(scratch) / "run", Path(scratch) / "cache")
    return Outcome(record["test"]["accuracy"], seconds)


def _mean(values: list[float]) -> tuple[float, float]:
    """The mean, and half the width of its 95 % interval."""
    if len(values) < 2:
        return values[0], 0.0
    width = stats.t.ppf(0.975, len(values) - 1) * statistics.stdev(values) / len(values) ** 0.5
    return statistics.mean(values), width


def _show(outcomes: dict[str, list[Outcome]]) -> None:
    print("\n| | right on test | seconds |\n|---|---|---|")
    for name, runs in outcomes.items():
        accuracy, width = _mean([run.accuracy for run in runs])
        seconds = statistics.median(run.seconds for run in runs)
        print(f"| {name} | {100 * accuracy:.1f} ± {100 * width:.1f} % | {seconds:.0f} |")


def _draw(outcomes: dict[str, list[Outcome]], path: Path) -> None:
    from reports.plots import make_panel, tidy
    from reports.writer import write_figure

    figure, axes = make_panel()
    for name, runs in outcomes.items():
        accuracy, width = _mean([run.accuracy for run in runs])
        seconds = statistics.median(run.seconds for run in runs)
        colour = "C1" if name in OURS else "0.5"
        axes.errorbar(seconds, 100 * accuracy, 100 * width, fmt="o", color=colour, capsize=3)
        axes.annotate(name, (seconds, 100 * accuracy), (6, 4), textcoords="offset points", color=colour)
    axes.set_xscale("log")
    axes.set(xlabel="seconds", ylabel="right on test, %")
    tidy(axes)
    write_figure(path, figure)


if __name__ == "__main__":
    main()
