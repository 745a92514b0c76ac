"""Reading on other machines gives what this machine would read, or an error."""

from collections.abc import Callable, Iterator

import pytest

from app.config import TrainConfig
from app.errors import RunError
from data.content import UnreadableNowError
from data.prepare import Data, prepare_data
from data.sources import load_source


class OneWorker:
    """A worker that reads in this process."""

    def in_order(self, make: Callable, jobs: list) -> Iterator:
        return map(make(), jobs)


class WorkerWithoutData(OneWorker):
    """A worker whose machine lacks the data."""

    def in_order(self, make: Callable, jobs: list) -> Iterator:
        return ([UnreadableNowError("No such file or directory") for _ in job] for job in jobs)


def prepare(root, tmp_path, pool, before: Callable[[], None] = lambda: None) -> Data:
    config = TrainConfig.of(data=str(root), cache_dir=tmp_path / "cache", image_size=16)
    source = load_source(config.data.data, config.run.cache_dir)
    before()
    return prepare_data(source, config, print, pool)


def test_a_machine_without_the_data_ends_the_run(make_folder, tmp_path):
    with pytest.raises(RunError, match=r"^A worker's machine cannot read '.*', which this machine can read: No such"):
        prepare(make_folder(), tmp_path, WorkerWithoutData())


def test_a_machine_without_the_data_ends_the_run_even_if_the_file_is_empty(make_folder, tmp_path):
    root = make_folder()
    for path in root.rglob("*.png"):
        path.write_bytes(b"")
    with pytest.raises(RunError, match=r"^A worker's machine cannot read"):
        prepare(root, tmp_path, WorkerWithoutData())


def test_a_file_that_no_machine_can_read_is_set_aside(make_folder, tmp_path):
    root = make_folder()
    lost = root / "cat" / "1.png"
    data = prepare(root, tmp_path, OneWorker(), before=lost.unlink)
    assert [(each.path, each.reason) for each in data.quarantine] == [(lost, "No such file or directory")]
