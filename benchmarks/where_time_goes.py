"""Where the seconds of one run go, stage by stage, cold and warm.

`python -m benchmarks.where_time_goes --data photos --backbone mobilenet` runs `train.py` twice with its flags: with an
empty cache, and again. It prints the seconds of each stage, which add up to those of the whole process, and draws them.
"""

import argparse
import sys
import tempfile
from pathlib import Path

from benchmarks.processes import ROOT, train_timed

PROCESS = "start and end"
"""Seconds of the process before and after what `metrics.json` counts."""


def main() -> None:
    """Runs both, prints the table and draws it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--figure", type=Path, help="file of the drawing, such as where_time_goes.png")
    flags, given = parser.parse_known_args()
    measured: dict[str, dict[str, float]] = {}
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


if __name__ == "__main__":
    main()
