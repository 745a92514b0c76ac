"""Peak memory of a run over many pictures: `python -m benchmarks.memory --count 20000`.

Pictures are drawn on the fly, a colour for each class under noise. Pages of files that a process maps count as well.
"""

import argparse
import resource
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image

ROOT = Path(__file__).parent.parent
COLOURS = ((200, 60, 50), (60, 80, 190), (70, 180, 80), (190, 180, 60))


def main() -> None:
    """Draws the pictures, trains on them and prints what the process needed at most."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=20_000)
    parser.add_argument("--image-size", type=int, default=224)
    parser.add_argument("--backbone", default="efficientnet_lite0")
    flags, rest = parser.parse_known_args()
    with tempfile.TemporaryDirectory() as scratch:
        pictures = Path(scratch) / "pictures"
        draw_pictures(pictures, flags.count, flags.image_size)
        command = [sys.executable, str(ROOT / "train.py"), "--data", str(pictures), "--backbone", flags.backbone]
        command += ["--image-size", str(flags.image_size), "--output", f"{scratch}/run", "--cache-dir", f"{scratch}/c"]
        subprocess.run([*command, *rest], check=True)
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 2**20
    print(f"{flags.count:,} pictures of {flags.image_size} px: {peak:.2f} GiB at most")


def draw_pictures(folder: Path, count: int, size: int) -> None:
    """Fills a folder of class folders with JPEGs."""
    random = np.random.default_rng(0)
    for number in range(count):
        kind = number % len(COLOURS)
        small = np.clip(random.normal(COLOURS[kind], 60, (size // 8, size // 8, 3)), 0, 255).astype(np.uint8)
        place = folder / f"class_{kind}" / f"{number}.jpg"
        place.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(small).resize((size, size), Image.Resampling.BILINEAR).save(place, quality=80)


if __name__ == "__main__":
    main()
