"""Headstart against the recipe of Keras' guide to transfer learning: same pictures, split, weights and network.

`python -m benchmarks.train_vs_keras --data FOLDER --backbone mobilenet --weights FILE` runs, for every seed and in
turn, the recipe (`keras_recipe.py`), `train.py` with an empty cache (cold) and the same command again (warm), each as a
process of its own, timed as a whole, and prints the table that the README quotes.

All seeds have one split, set by `--split-seed`. Every contender chooses its epoch on val, by the lowest loss, and is
measured once on test.
"""

import shutil
import statistics
import tempfile
from pathlib import Path
from typing import Any, NamedTuple

from joblib import cpu_count

from app.config import TrainConfig
from benchmarks.machine import decode_seconds, measure_machine
from benchmarks.processes import (
    comparison_parser,
    import_seconds,
    our_command,
    peer_command,
    shared_pictures,
    timed_peer,
    train_timed,
)
from training.inputs import RunInputs

CONTENDERS = ("keras", "cold", "warm")
TEST_FRACTION = 0.15
"""Share of the pictures in the test split, as in `train.py`."""


class Outcome(NamedTuple):
    """Result of one process."""

    accuracy: float
    """On the test pictures, fraction."""
    seconds: float
    """Seconds from its start to its end."""


def main() -> None:
    """Runs all contenders and prints accuracy, seconds, ratios and limits."""
    parser = comparison_parser(__doc__)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--split-seed", type=int, default=0)
    parser.add_argument("--test-fraction", type=float, default=TEST_FRACTION, help="where the data has no test split")
    flags = parser.parse_args()

    with tempfile.TemporaryDirectory() as scratch:
        split = {"test_fraction": flags.test_fraction, "split_seed": flags.split_seed}
        inputs, folder = shared_pictures(flags, Path(scratch), **split)
        outcomes: dict[str, list[Outcome]] = {contender: [] for contender in CONTENDERS}
        importing: list[float] = []
        record: dict[str, Any] = {}
        for seed in range(flags.seeds):
            cache = Path(scratch) / "cache"
            importing.append(import_seconds())
            for contender in CONTENDERS:
                if contender == "keras":
                    outcome = run_recipe(inputs, folder, seed)
                else:
                    outcome, record = _run_headstart(inputs, folder, seed, cache, Path(scratch) / f"run{seed}")
                outcomes[contender].append(outcome)
                print(f"seed {seed}  {contender:<6} {outcome.accuracy:7.2%} {outcome.seconds:8.1f} s", flush=True)
            shutil.rmtree(cache)
        _show(outcomes, statistics.mean(importing))
        _show_limit(inputs, record)


def run_recipe(inputs: RunInputs, folder: Path, seed: int, recipe: str = "guide") -> Outcome:
    """Runs a recipe of `keras_recipe.py`."""
    found, seconds = timed_peer(peer_command("keras_recipe", inputs, folder, seed, "--recipe", recipe))
    return Outcome(found["accuracy"], seconds)


def _run_headstart(
    inputs: RunInputs, folder: Path, seed: int, cache: Path, run: Path
) -> tuple[Outcome, dict[str, Any]]:
    shutil.rmtree(run, ignore_errors=True)
    record, seconds = train_timed(our_command("train.py", inputs, folder, seed), run, cache)
    return Outcome(record["test"]["accuracy"], seconds), record


def _show(outcomes: dict[str, list[Outcome]], importing: float) -> None:
    print(f"\n{'':<8}{'accuracy':>10}{'deviation':>11}{'seconds':>10}{'ratio':>8}{'without imports':>17}")
    means = {name: [statistics.mean(values) for values in zip(*runs, strict=True)] for name, runs in outcomes.items()}
    slowest = means["keras"][1]
    for name, (accuracy, seconds) in means.items():
        ratio, inner = slowest / seconds, (slowest - importing) / (seconds - importing)
        spread = statistics.stdev(run.accuracy for run in outcomes[name]) if len(outcomes[name]) > 1 else 0.0
        print(f"{name:<8}{accuracy:>10.2%}{spread:>11.2%}{seconds:>10.1f}{ratio:>7.1f}x{inner:>16.1f}x")
    print("Means over the seeds; accuracy on test.")
    print(f"Importing TensorFlow and Keras takes {importing:.1f} s of each process.")


def _show_limit(inputs: RunInputs, record: dict[str, Any]) -> None:
    """Prints the least time that the same work could take on this machine, were nothing lost anywhere."""
    from app.terminal import import_tensorflow

    import_tensorflow()
    from benchmarks.frozen_pass import measure
    from models.classifier import build_classifier
    from training.cuts import choose_cuts
    from training.plan import Plan

    plan, data, machine = Plan.of(TrainConfig.from_json(record["config"])), inputs.data, measure_machine()
    size = plan.config.data.chosen_size
    print(f"\nThis machine: {machine.flops['float32'] / 1e9:,.0f} GFLOP/s in float32, {cpu_count()} cores.")
    for found in measure(inputs.backbone.name, size, machine):
        numbers = f"{found.rate:,.0f} pictures/s, {found.share:.0%} of the peak"
        print(f"{inputs.backbone.name}, {size} px, {found.label}: {numbers}")

    classifier = build_classifier(
        inputs.backbone,
        weights="none",
        image_size=size,
        task=data.task,
        num_classes=len(data.class_names),
    )
    cuts = choose_cuts(classifier, plan)
    cut = cuts.get("fine_tune", cuts["head"])
    num_train, kept = len(data.splits["train"]), sum(map(len, data.splits.values()))
    paths = [data.examples[position].path for position in data.splits["train"][:200]]
    peak, whole = machine.flops["float32"], cut.macs_before + cut.macs_after
    epochs = {"fine_tune": 0, "deeper": 0} | {row["phase"]: row["epochs"] for row in record["phases"]}
    decode = kept * decode_seconds(paths, size) / cpu_count()
    passes = kept + (plan.views - 1) * num_train
    extract = 2 * passes * whole / peak
    train = 6 * num_train * (cut.macs_after * epochs["fine_tune"] + whole * epochs["deeper"]) / peak
    read = cut.size(half=True) * num_train * epochs["fine_tune"] / machine.bandwidth
    warm = decode + train + read
    print(
        f"Limit: {warm + extract:.1f} s cold, {warm:.1f} s warm: decode {decode:.1f}, frozen pass {extract:.1f}, "
        f"{epochs['fine_tune']} epochs behind {cut.layer} and {epochs['deeper']} of the whole network {train:.1f}, "
        f"reading {read:.2f}."
    )


if __name__ == "__main__":
    main()
