"""Passes on several processes give what one process does, to the bit, whatever becomes of the processes."""

import contextlib
import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import keras
import numpy as np
import psutil
import pytest

from app.config import RunConfig, TrainConfig
from app.errors import UsageError
from cluster.pool import Pool, open_pool
from data.batches import View
from data.images.augment import NUM_DRAWS, augment_pictures
from data.kinds import Vary
from data.pipeline import Varied, variation
from data.prepare import Data, prepare_data
from data.sources import load_source
from data.store import Store
from features.cuts import Cut, find_cuts
from features.frozen_part import FrozenPart
from features.shards import Shards
from models.backbones import find
from models.classifier import build_classifier
from tasks.classification import MULTICLASS
from tests.faults.kills import Kill, differences, train

SIZE, COUNT = 64, 150
"""Five batches, the last not full."""


@pytest.fixture(scope="module")
def pool() -> Iterator[Pool]:
    with open_pool(RunConfig(workers=2)) as pool:
        yield pool


@pytest.fixture(scope="module")
def network() -> keras.Model:
    keras.utils.set_random_seed(0)
    backbone = find("efficientnet_lite0")
    return build_classifier(backbone, weights="imagenet", image_size=SIZE, task=MULTICLASS, num_classes=3).model


@pytest.fixture
def small_jobs(monkeypatch):
    monkeypatch.setattr("features.shards.MOST_BATCHES", 1)
    monkeypatch.setattr("data.preflight.CHUNK", 5)


def part(
    network: keras.Model, folder: Path, pool: Pool | None = None, precision: str = "float32", runtime="tensorflow"
) -> FrozenPart:
    return FrozenPart(network, cuts(network), Store(folder, 10**9), precision, "title", None, pool, runtime)


def cuts(network: keras.Model) -> list[Cut]:
    found = find_cuts(network)
    pooled = next(cut for cut in found if cut.layer == "pooling")
    return [pooled, next(cut for cut in found if cut.share_after < 1 / 3)]


def pictures() -> View:
    pixels = np.random.default_rng(0).integers(0, 256, (COUNT + 5, SIZE, SIZE, 3), np.uint8)
    return View((pixels,), np.arange(COUNT)[::-1])


def varied() -> Varied:
    return variation(Vary(NUM_DRAWS, augment_pictures), 0, 1, COUNT)


def kill_a_worker_once() -> Callable[[int], None]:
    """Returns a function of progress that kills a worker within a job, which Ray shows in the name of its process."""
    killed = []

    def kill(done: int) -> None:
        if done and not killed:
            for each in psutil.Process().children(recursive=True):
                with contextlib.suppress(psutil.NoSuchProcess):  # Ray has some that live for a moment
                    if not killed and each.name() == "ray::Worker.run" and each.status() != psutil.STATUS_ZOMBIE:
                        each.send_signal(signal.SIGKILL)
                        killed.append(each)

    return kill


def read(folder: Path, cache: Path, pool: Pool | None = None, on_progress: Callable[[int], None] = print) -> Data:
    config = TrainConfig.of(data=str(folder), cache_dir=cache, image_size=SIZE)
    return prepare_data(load_source(str(folder), cache), config, on_progress, pool)


@pytest.mark.parametrize("precision", ["float32", "mixed_bfloat16"])
def test_two_workers_compute_what_one_process_does(network, pool, tmp_path, precision):
    for number, variation_of in enumerate((None, varied())):
        about = {"view": number}
        alone, _ = part(network, tmp_path / "a", None, precision).load_or_compute(pictures(), variation_of, about)
        shared, _ = part(network, tmp_path / "b", pool, precision).load_or_compute(pictures(), variation_of, about)
        for one, two in zip(alone, shared, strict=True):
            np.testing.assert_array_equal(one, two)
    names = [{entry.folder.name for entry in Store(tmp_path / each, 0).entries()} for each in ("a", "b")]
    assert names[0] == names[1]


@pytest.mark.slow
def test_two_workers_compute_with_openvino_what_one_process_does(network, pool, tmp_path, small_jobs):
    pytest.importorskip("openvino")
    alone, _ = part(network, tmp_path / "a", runtime="openvino").load_or_compute(pictures(), varied(), {})
    shared, saved = part(network, tmp_path / "b", pool, runtime="openvino").load_or_compute(pictures(), varied(), {})
    assert saved == 0
    for one, two in zip(alone, shared, strict=True):
        np.testing.assert_array_equal(one, two)
    names = [{entry.folder.name for entry in Store(tmp_path / each, 0).entries()} for each in ("a", "b")]
    assert names[0] == names[1]


def test_a_worker_that_is_killed_in_a_pass_changes_nothing(network, pool, tmp_path, small_jobs, capsys):
    alone, _ = part(network, tmp_path / "a").load_or_compute(pictures(), None, {})
    shared, _ = part(network, tmp_path / "b", pool).load_or_compute(
        pictures(), None, {}, on_progress=kill_a_worker_once()
    )
    for one, two in zip(alone, shared, strict=True):
        np.testing.assert_array_equal(one, two)
    assert "a worker died" in capsys.readouterr().out


def test_a_pass_that_is_interrupted_goes_on_where_it_was(network, pool, tmp_path, small_jobs):
    done = []

    def interrupt(count: int) -> None:
        done.append(count)
        if sum(done) >= 64:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        part(network, tmp_path / "b", pool).load_or_compute(pictures(), None, {}, on_progress=interrupt)
    again = []
    shared, _ = part(network, tmp_path / "b", pool).load_or_compute(pictures(), None, {}, on_progress=again.append)
    assert (again[0], sum(again)) == (64, COUNT)
    alone, _ = part(network, tmp_path / "a").load_or_compute(pictures(), None, {})
    for one, two in zip(alone, shared, strict=True):
        np.testing.assert_array_equal(one, two)


def test_workers_read_what_one_process_does(make_folder, pool, tmp_path, small_jobs):
    folder = make_folder(count=30)
    (folder / "cat" / "7.png").write_bytes(b"no picture")
    alone = read(folder, tmp_path / "a")
    shared = read(folder, tmp_path / "b", pool, kill_a_worker_once())
    for one, two in ((alone.inputs[0], shared.inputs[0]), (alone.signatures, shared.signatures)):
        np.testing.assert_array_equal(one, two)
    assert (alone.digests, alone.quarantine) == (shared.digests, shared.quarantine)
    assert len(shared.quarantine) == 1


def test_shards_are_whole_batches_of_bounded_size():
    large = View((np.zeros((100, 512, 512, 3), np.uint8),), np.arange(100))
    assert [len(view.rows) for view, _ in Shards(large, None, 1.0)] == [32, 32, 32, 4]
    small = View((np.zeros((600, 8), np.uint8),), np.arange(600))
    assert [len(view.rows) for view, _ in Shards(small, None, 1.0)] == [256, 256, 88]
    assert [len(view.rows) for view, _ in Shards(small, None, 2**17)] == [128] * 4 + [88]


def test_a_strategy_of_several_machines_has_workers_of_its_own():
    with pytest.raises(UsageError, match="leave out --workers and --cluster"):
        TrainConfig.of(strategy="multiworker", workers=2)


@pytest.mark.slow
@pytest.mark.parametrize("kill", [Kill("data", 3.0), Kill("batch", 5.0), Kill("batch", 15.0), Kill("cluster", 3.0)])
def test_a_command_that_is_killed_goes_on_and_leaves_no_process(make_folder, tmp_path, monkeypatch, kill):
    folder = make_folder(count=400)
    flags = [
        "--data",
        folder,
        "--image-size",
        "96",
        "--head-epochs",
        "2",
        "--fine-tune-epochs",
        "1",
        "--batch-size",
        "32",
    ]
    assert train([*flags, "--cache-dir", tmp_path / "a", "--output", tmp_path / "one"]).status == 0
    monkeypatch.setenv("STARTED_BY", str(tmp_path))
    shared = [*flags, "--workers", "2", "--cache-dir", tmp_path / "b", "--output", tmp_path / "two"]
    assert train(shared, kill).status == -signal.SIGKILL
    left = [
        each
        for each in psutil.process_iter(["environ"])
        if (each.info["environ"] or {}).get("STARTED_BY") == str(tmp_path)
    ]
    _, alive = psutil.wait_procs(left, timeout=120)  # of a Ray, some try for a minute to reach the rest of it
    assert alive == []
    begun = (tmp_path / "two" / "config.json").exists()
    ended = train(["--resume", tmp_path / "two", "--workers", "2"] if begun else shared)
    assert ended.status == 0, ended.lines
    assert differences(tmp_path / "one", tmp_path / "two") == []
    assert os.listdir(tmp_path / "two" / "figures")
