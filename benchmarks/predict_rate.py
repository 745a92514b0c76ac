"""Pictures per second from files to answers, against those of the frozen pass alone, which never waits for a picture.

`python -m benchmarks.predict_rate --backbone mobilenet` draws photos of 500 x 375 pixels, `--data` takes real ones;
links to them make up `--count`. Weights are random, unless `--run` names a run. Both take turns; on a busy machine,
compare the processor's milliseconds. The last line says how much memory the process took.
"""

import argparse
import functools
import itertools
import resource
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

from app.cli import run_command
from benchmarks.frozen_pass import frozen_layers
from data.images.kind import KIND as IMAGE
from data.images.kind import picture_reader
from inference.answering import AnsweringModel, of_run
from inference.files import find_files
from inference.load import read_run
from models.backbones import find
from tasks.classification import MULTICLASS

ROUNDS = 5
DRAWN = 200
"""Different pictures; the others are links to them."""
WIDTH, HEIGHT = 500, 375


def main() -> None:
    """Measures both in turns, and prints their rates and the ratio."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--backbone", default="mobilenet")
    parser.add_argument("--run", type=Path, help="a run folder; its backbone and size are measured")
    parser.add_argument("--data", help="a folder of pictures")
    parser.add_argument("--count", type=int, default=5_000)
    flags = parser.parse_args()

    from app.terminal import import_tensorflow

    import_tensorflow()
    run = read_run(flags.run) if flags.run else None
    name = run.config.model.backbone if run else flags.backbone
    network = of_run(run) if run else _untrained(name)
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        sources = [file.path.absolute() for file in find_files([flags.data])] if flags.data else _draw(folder / "drawn")
        links = folder / "pictures"
        links.mkdir()
        for number, source in zip(range(flags.count), itertools.cycle(sources), strict=False):
            (links / f"{number}{source.suffix}").symlink_to(source)
        times = _take_turns(network, links)
    for label, (seconds, processor) in times.items():
        print(f"{label:<10} {1 / seconds:6,.0f} pictures/s, {processor * 1000:5.1f} ms of the processor for each")
    wall, processor = (frozen / ours for ours, frozen in zip(times["files"], times["frozen"], strict=True))
    print(f"{name}, {network.reader.title}: {wall:.0%} of the frozen pass, {processor:.0%} by the processor's time")
    print(f"{resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20:.2f} GiB at most")


def _take_turns(network: AnsweringModel, folder: Path) -> dict[str, tuple[float, float]]:
    """The least seconds per picture, of the clock and of the processor, from files and in the frozen pass alone."""
    from inference.predict_files import predict_files

    predictor = network.load()
    frozen, batch = frozen_layers(predictor.model)
    frozen(batch), predictor(batch)
    loaded, files = network._replace(load=lambda: predictor), find_files([str(folder)], outside=True)
    share = len(files) // ROUNDS
    batches = max(1, share // len(batch))
    times: dict[str, list[tuple[float, float]]] = {"files": [], "frozen": []}
    for number in range(ROUNDS):
        some = files[number * share : (number + 1) * share]
        times["files"].append(_seconds(functools.partial(predict_files, loaded, some), share))
        times["frozen"].append(_seconds(lambda: [frozen(batch) for _ in range(batches)], batches * len(batch)))
    return {label: (min(wall for wall, _ in rounds), min(cpu for _, cpu in rounds)) for label, rounds in times.items()}


def _seconds(work: Callable[[], object], count: int) -> tuple[float, float]:
    """Seconds of the clock and of the processor for one of so many pictures."""
    wall, processor = time.perf_counter(), time.process_time()
    work()
    return (time.perf_counter() - wall) / count, (time.process_time() - processor) / count


def _untrained(name: str) -> AnsweringModel:
    """A classifier of ten classes with random weights."""

    def load():
        from inference.predictor import Predictor
        from models.classifier import build_classifier

        return Predictor(
            build_classifier(
                backbone, weights="none", image_size=backbone.image_size, task=MULTICLASS, num_classes=10
            ).model
        )

    backbone = find(name)
    return AnsweringModel(tuple("abcdefghij"), MULTICLASS, IMAGE, picture_reader(backbone.image_size), load)


def _draw(folder: Path) -> list[Path]:
    """Fills a folder with JPEGs that have large shapes, fine ones and noise, as photos do."""
    random = np.random.default_rng(0)
    folder.mkdir()
    paths = []
    for number in range(DRAWN):
        picture = random.normal(0, 6, (HEIGHT, WIDTH, 3))
        for scale, spread in ((8, 12), (40, 30), (125, 60)):
            small = random.normal(128, spread, (HEIGHT // scale + 2, WIDTH // scale + 2, 3)).clip(0, 255)
            layer = Image.fromarray(small.astype(np.uint8)).resize((WIDTH, HEIGHT), Image.Resampling.BICUBIC)
            picture += np.asarray(layer, np.float64) - 128
        paths.append(folder / f"{number}.jpg")
        Image.fromarray((picture + 128).clip(0, 255).astype(np.uint8)).save(paths[-1], quality=90)
    return paths


if __name__ == "__main__":
    run_command(main)
