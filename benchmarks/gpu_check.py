"""All that is worth knowing of a machine with a GPU, as one table, in less than ten minutes.

`python -m benchmarks.gpu_check` runs, each as a process of its own: train.py as it is; ResNet50 with its last layers
fine-tuned, in float32 and in the fastest format; the frozen pass of three networks against the machine's limit; and a
search in one process and with workers. Weights that are not at hand are random: they change nothing about the speed.
`--small` does as much as a CPU can do in that time.
"""

import argparse
import json
import sys
import tempfile
from importlib.util import find_spec
from pathlib import Path

from app.cli import run_command
from benchmarks.processes import ROOT, timed

NETWORKS = ("resnet50", "mobilenet", "efficientnetb0")
RESNET = ("--backbone", "resnet50", "--weights", "none", "--head-epochs", "1", "--trainable-layers", "36")


def main() -> None:
    """Runs everything and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--small", action="store_true", help="for a CPU: fewer pictures, small ones, fewer trials")
    parser.add_argument("--data", default="animals")
    parser.add_argument("--workers", type=int, default=2)
    flags = parser.parse_args()
    less = ("--image-size", "64", "--test-fraction", "0.4", "--val-fraction", "0.4") if flags.small else ()
    print("| what | seconds | of which |\n|---|---|---|", flush=True)
    with tempfile.TemporaryDirectory() as scratch:
        data, folder = ["--data", flags.data, *less], Path(scratch)
        for title, name in (("train.py, nothing in the cache", "cold"), ("the same again", "warm")):
            _run(title, "train.py", data, folder / name, folder / "cache")
        for precision in ("float32", "auto"):
            rest = [*data, *RESNET, "--fine-tune-epochs", "2", "--precision", precision]
            _run(f"ResNet50, last layers, {precision}", "train.py", rest, folder / precision)
        search = [*data, "--max-trials", "5" if flags.small else "30"]
        _run("tune.py, one process", "tune.py", search, folder / "alone")
        if find_spec("ray"):
            workers = [*search, "--workers", str(flags.workers)]
            _run(f"tune.py, {flags.workers} workers", "tune.py", workers, folder / "workers")
    rates = [*(NETWORKS[1:2] if flags.small else NETWORKS), *(["--image-size", "64"] if flags.small else [])]
    output, _ = timed([sys.executable, "-m", "benchmarks.frozen_pass", *rates])
    print(f"\n```\n{output.rstrip()}\n```")


def _run(title: str, script: str, flags: list[str], folder: Path, cache: Path | None = None) -> None:
    """Runs a command, with nothing in its cache if none is given, and prints its line."""
    places = ["--output", str(folder), "--cache-dir", str(cache or folder.with_name(f"{folder.name}_cache"))]
    _, seconds = timed([sys.executable, str(ROOT / script), *flags, *places])
    file = folder / ("metrics.json" if script == "train.py" else "search.json")
    stages = json.loads(file.read_text())["seconds"]
    parts = ", ".join(f"{stage} {value:.1f}" for stage, value in stages.items() if stage != "total" and value >= 0.1)
    print(f"| {title} | {seconds:.1f} | {parts} |", flush=True)


if __name__ == "__main__":
    run_command(main)
