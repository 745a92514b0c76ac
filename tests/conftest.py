"""Pictures made on the fly: small, seeded, and easy to tell apart."""

import os
import random
import signal
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import hypothesis
import numpy as np
import pytest
from PIL import Image

from app.terminal import import_tensorflow

# No test is of time. All else is as Hypothesis has it, which repeats the same examples where CI is set.
hypothesis.settings.register_profile("untimed", hypothesis.settings(), deadline=None)
hypothesis.settings.load_profile("untimed")

# A shell has commands in the background ignore Ctrl-C, and so would the commands that the tests start and stop.
signal.signal(signal.SIGINT, signal.default_int_handler)

# Keras draws the weights of an untrained network from Python's `random`.


@pytest.hookimpl(tryfirst=True)
def pytest_fixture_setup() -> None:
    """Gives a fixture the same weights in whichever test it is made."""
    random.seed(0)


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_call() -> None:
    """Gives a test the same weights in whichever order the tests are run."""
    random.seed(0)


COLOURS = ((210, 50, 40), (40, 60, 200), (60, 190, 70), (200, 190, 40))


def make_picture(seed: int, colour: Sequence[int] = (128, 128, 128), size: tuple[int, int] = (48, 40)) -> Image.Image:
    """A noisy picture of one colour, RGB, of `size` (width, height)."""
    noise = np.random.default_rng(seed).normal(colour, 40, (size[1], size[0], 3))
    return Image.fromarray(np.clip(noise, 0, 255).astype(np.uint8))


@pytest.fixture
def make_folder(tmp_path: Path) -> Callable[..., Path]:
    """Returns a function that fills a folder of class folders with pictures and returns it."""

    def make(name: str = "photos", classes: Sequence[str] = ("cat", "dog"), count: int = 6, **settings) -> Path:
        root = tmp_path / name
        for number, class_name in enumerate(classes):
            (root / class_name).mkdir(parents=True)
            for index in range(count):
                seed = hash_free_seed(name, number, index)
                picture = make_picture(seed, COLOURS[number % len(COLOURS)], **settings)
                picture.save(root / class_name / f"{index}.png")
        return root

    return make


def path_with(folder: Path, **scripts: str) -> str:
    """Writes commands of these names into a folder; returns the PATH that finds them first, then this Python's own."""
    for name, content in scripts.items():
        (folder / name).write_text(content)
        (folder / name).chmod(0o755)
    return f"{folder}:{Path(sys.executable).parent}:{os.environ['PATH']}"


def draw_photos(folder: Path, classes: Sequence[str], count: int, **settings) -> None:
    """Draws `count` JPEG files of each class into `folder/CLASS`; settings as of `make_picture`."""
    for number, name in enumerate(classes):
        (folder / name).mkdir(parents=True)
        for index in range(count):
            make_picture(100 * number + index, COLOURS[number], **settings).save(folder / name / f"{index}.jpg")


@pytest.fixture(scope="session")
def binary_run(tmp_path_factory) -> Path:
    return _small_run("binary", tmp_path_factory)


@pytest.fixture(scope="session")
def fine_tuned_run(tmp_path_factory) -> Path:
    return _small_run("fine_tuned", tmp_path_factory)


@pytest.fixture(scope="session")
def uncut_run(tmp_path_factory) -> Path:
    return _small_run("uncut", tmp_path_factory)


@pytest.fixture(scope="session")
def multi_label_run(tmp_path_factory) -> Path:
    return _small_run("multi_label", tmp_path_factory)


def _small_run(kind: str, tmp_path_factory) -> Path:
    """A finished run, whose folder no test may change."""
    from tests.small_runs import SMALL_RUNS, make_run  # which draws with what stands here

    return make_run(tmp_path_factory.mktemp(kind), **SMALL_RUNS[kind])


def hash_free_seed(name: str, number: int, index: int) -> int:
    """A seed that differs between pictures and not between processes."""
    return sum(name.encode()) * 100_003 + number * 1_009 + index


@pytest.fixture(scope="session", autouse=True)
def _quiet_tensorflow() -> None:
    import_tensorflow()
    if "PYTEST_XDIST_WORKER" in os.environ:  # there is a worker for each core: more threads would wait for each other
        import tensorflow as tf

        tf.config.threading.set_intra_op_parallelism_threads(1)
        tf.config.threading.set_inter_op_parallelism_threads(1)
