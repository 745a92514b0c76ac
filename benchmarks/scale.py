"""How seconds, memory and disk grow with the number of pictures: `python -m benchmarks.scale --counts 10000 60000`.

Pictures are drawn on the fly. Each count is a first run of `train.py` without fine-tuning, and a row of a table:
microseconds per picture of each stage, which stay the same where a stage is linear.
"""

import argparse
import resource
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from app.cli import run_command
from benchmarks.memory import draw_pictures
from benchmarks.processes import ROOT, train_timed
from data.images.decode import SIGNATURE_SIDE
from data.images.look_alikes import compared_values
from data.near_duplicates import group_near_duplicates

STAGES = ("prepare", "features", "head", "evaluate", "report", "total")
"""Names in the `seconds` of `metrics.json`; look-alikes are a part of 'prepare'."""


def main() -> None:
    """Prints a row for each count."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--counts", type=int, nargs="+", default=[10_000, 60_000, 250_000])
    parser.add_argument("--image-size", type=int, default=32)
    parser.add_argument("--backbone", default="efficientnet_lite0")
    flags = parser.parse_args()
    print(f"| pictures | look-alikes | {' | '.join(STAGES)} | GiB at most | cache, bytes per picture |")
    print("|---" * (len(STAGES) + 4) + "|")
    for count in sorted(flags.counts):
        with tempfile.TemporaryDirectory() as scratch:
            seconds, size = measure(count, flags.image_size, flags.backbone, Path(scratch))
        peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 2**20  # the largest so far
        looks = f"{1e6 * look_alike_seconds(count) / count:,.0f}"
        stages = " | ".join(f"{1e6 * seconds[stage] / count:,.0f}" for stage in STAGES)
        print(f"| {count:,} | {looks} | {stages} | {peak:.2f} | {size / count:,.0f} |", flush=True)


def measure(count: int, image_size: int, backbone: str, scratch: Path) -> tuple[dict[str, float], int]:
    """Trains on drawn pictures; returns the seconds of each stage, and the bytes of the cache."""
    draw_pictures(scratch / "pictures", count, image_size)
    command = [sys.executable, str(ROOT / "train.py"), "--data", str(scratch / "pictures"), "--backbone", backbone]
    command += ["--image-size", str(image_size), "--views", "1", "--trainable-layers", "0", "--head-epochs", "10"]
    record, _ = train_timed(command, scratch / "run", scratch / "cache")
    return record["seconds"], sum(file.stat().st_size for file in (scratch / "cache").rglob("*") if file.is_file())


def look_alike_seconds(count: int) -> float:
    """Seconds that it takes to compare unrelated pictures, each with each."""
    signatures = np.random.default_rng(0).integers(0, 256, (count, SIGNATURE_SIDE, SIGNATURE_SIDE), np.uint8)
    started = time.perf_counter()
    group_near_duplicates(signatures, compared_values)
    return time.perf_counter() - started


if __name__ == "__main__":
    run_command(main)
