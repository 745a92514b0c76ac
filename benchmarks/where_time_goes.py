"""Where the seconds of one run go, stage by stage, cold and warm.

`python -m benchmarks.where_time_goes --data photos --backbone mobilenet` runs `train.py` twice with its flags: with an
empty cache, and again. It prints the seconds of each stage, which add up to those of the whole process, and draws them;
for pictures, it also prints the least time that the same work could take on this machine.
"""

import argparse
import sys
import tempfile
from pathlib import Path
from typing import Any

from joblib import cpu_count

from app.cli import run_command
from app.config import TrainConfig
from benchmarks.machine import decode_seconds, measure_machine
from benchmarks.processes import ROOT, train_timed
from training.inputs import load_inputs

PROCESS = "start and end"
"""Seconds of the process before and after what `metrics.json` counts."""


def main() -> None:
    """Runs both, prints the table and draws it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--figure", type=Path, help="file of the drawing, such as where_time_goes.png")
    flags, given = parser.parse_known_args()
    measured: dict[str, dict[str, float]] = {}
    record: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as scratch:
        for name in ("cold", "warm"):
            command = [sys.executable, str(ROOT / "train.py"), *given]
            record, seconds = train_timed(command, Path(scratch) / name, Path(scratch) / "cache")
            stages = record["seconds"]
            total = stages.pop("total")
            measured[name] = {**stages, PROCESS: seconds - total}
    print("| seconds | cold | warm |\n|---|---|---|")
    for stage in measured["cold"]:
        print(f"| {stage.replace('_', ' ')} | {measured['cold'][stage]:.1f} | {measured['warm'].get(stage, 0):.1f} |")
    print("| **whole process** | {:.1f} | {:.1f} |".format(*(sum(each.values()) for each in measured.values())))
    if flags.figure is not None:
        _draw(measured, flags.figure)
    _show_limit(record)


def _draw(measured: dict[str, dict[str, float]], path: Path) -> None:
    from reports.plots import make_panel, tidy
    from reports.writer import write_figure

    figure, axes = make_panel()
    begins = dict.fromkeys(measured, 0.0)
    for number, stage in enumerate(measured["cold"]):
        for name, stages in measured.items():
            seconds = stages.get(stage, 0.0)
            label = stage.replace("_", " ") if name == "cold" else None
            axes.barh(name, seconds, left=begins[name], color=f"C{number}", hatch="//" * (number // 10), label=label)
            begins[name] += seconds
    axes.invert_yaxis()
    axes.set(xlabel="seconds")
    axes.legend(frameon=False, fontsize=8, ncols=3, loc="upper center", bbox_to_anchor=(0.5, -0.2))
    tidy(axes)
    write_figure(path, figure)


def _show_limit(record: dict[str, Any]) -> None:
    """Prints the least time that the work of a run could take on this machine, were nothing lost anywhere."""
    from app.terminal import import_tensorflow

    import_tensorflow()
    from benchmarks.frozen_pass import measure
    from training.cuts import choose_cuts
    from training.frozen import build_frozen
    from training.plan import Plan

    plan, machine = Plan.of(TrainConfig.from_json(record["config"])), measure_machine()
    with tempfile.TemporaryDirectory() as scratch:
        inputs = load_inputs(plan.config.replace(output=None, cache_dir=Path(scratch)))
    data, size = inputs.data, plan.config.data.chosen_size
    if data.kind.name != "image":
        return
    print(f"\nThis machine: {machine.flops['float32'] / 1e9:,.0f} GFLOP/s in float32, {cpu_count()} cores.")
    for found in measure(inputs.backbone.name, size, machine):
        numbers = f"{found.rate:,.0f} pictures/s, {found.share:.0%} of the peak"
        print(f"{inputs.backbone.name}, {size} px, {found.label}: {numbers}")

    cuts = choose_cuts(build_frozen(inputs), plan)
    cut = cuts.get("fine_tune") or cuts.get("head")
    if cut is None:  # the whole network learns from the start
        return
    num_train, kept = len(data.splits["train"]), sum(map(len, data.splits.values()))
    paths = [data.examples[position].path for position in data.splits["train"][:200]]
    peak, whole = machine.flops["float32"], cut.macs_before + cut.macs_after
    epochs = {"fine_tune": 0, "deeper": 0} | {row["phase"]: row["epochs"] for row in record["phases"]}
    decode = kept * decode_seconds(paths, size) / cpu_count()
    passes = kept + (plan.views - 1) * num_train
    extract = 2 * passes * whole / peak
    train = 6 * num_train * (cut.macs_after * epochs["fine_tune"] + whole * epochs["deeper"]) / peak
    read = cut.size(half=True) * num_train * epochs["fine_tune"] / machine.bandwidth
    warm = train + read
    cold = decode + extract + warm
    print(
        f"Limit: {cold:.1f} s cold, {warm:.1f} s warm: decode {decode:.1f}, frozen pass {extract:.1f}, "
        f"{epochs['fine_tune']} epochs behind {cut.layer} and {epochs['deeper']} of the whole network {train:.1f}, "
        f"reading {read:.2f}."
    )


if __name__ == "__main__":
    run_command(main)
