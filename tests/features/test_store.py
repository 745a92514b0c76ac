"""An entry is there as a whole or not at all, whoever writes it and however that ends."""

import errno
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from config import UsageError
from features.store import MemoryWriter, Store

VALUES = np.arange(600, dtype=np.float32).reshape(100, 6)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "features", limit=10**9)


def write(store: Store, name: str = "a", values: np.ndarray = VALUES) -> None:
    with store.writing({"name": name}, name, values.shape, values.dtype) as writer:
        for start in range(0, len(values), 32):
            writer.append(values[start : start + 32])


def names(store: Store) -> list[str]:
    return [entry.title for entry in store.entries()]


@pytest.mark.parametrize("dtype", ["float32", "float16", "uint8"])
def test_what_was_written_is_mapped(store, dtype):
    values = (VALUES % 200).astype(dtype)
    write(store, values=values)
    stored = store.load({"name": "a"})
    assert isinstance(stored.values, np.memmap)
    assert not stored.values.flags.writeable
    assert stored.seconds >= 0
    np.testing.assert_array_equal(stored.values, values)
    assert stored.values.dtype == dtype


def test_numpy_alone_reads_an_entry(store):
    write(store)
    (file,) = store.folder.glob("*/values.npy")
    np.testing.assert_array_equal(np.load(file), VALUES)


def test_another_description_is_another_entry(store):
    write(store)
    assert store.load({"name": "b"}) is None
    assert store.load({"name": "a", "view": 1}) is None


def test_an_entry_that_fails_or_is_not_complete_is_absent(store):
    with pytest.raises(ZeroDivisionError), store.writing({"name": "a"}, "a", VALUES.shape, VALUES.dtype):
        raise ZeroDivisionError
    with (
        pytest.raises(ValueError, match="60 rows of the entry are missing"),
        store.writing({"name": "a"}, "a", VALUES.shape, VALUES.dtype) as writer,
    ):
        writer.append(VALUES[:40])
    assert store.load({"name": "a"}) is None
    assert not [path for path in store.folder.iterdir() if path.name != "locks"]


def damage_values(folder: Path) -> None:
    content = bytearray((folder / "values.npy").read_bytes())
    content[-7] ^= 1
    (folder / "values.npy").write_bytes(content)


def cut_values_short(folder: Path) -> None:
    os.truncate(folder / "values.npy", 500)


def empty_values(folder: Path) -> None:
    (folder / "values.npy").write_bytes(b"")


def lose_values(folder: Path) -> None:
    (folder / "values.npy").unlink()


def lose_record(folder: Path) -> None:
    (folder / "entry.json").unlink()


def tear_record(folder: Path) -> None:
    (folder / "entry.json").write_text('{"title": "a", "sec')


def empty_record(folder: Path) -> None:
    (folder / "entry.json").write_text("[]")


@pytest.mark.parametrize(
    "damage",
    [damage_values, cut_values_short, empty_values, lose_values, lose_record, tear_record, empty_record],
    ids=lambda function: function.__name__,
)
def test_a_damaged_entry_is_forgotten_with_a_warning(store, damage, capsys):
    write(store)
    (folder,) = (path for path in store.folder.iterdir() if path.name != "locks")
    damage(folder)
    assert store.load({"name": "a"}) is None
    assert "a stored entry is damaged and will be computed again" in capsys.readouterr().out
    assert not folder.exists()
    write(store)
    np.testing.assert_array_equal(store.load({"name": "a"}).values, VALUES)


def test_what_was_unused_for_longest_makes_room(store):
    for number, name in enumerate("abc"):
        write(store, name)
        (entry,) = (entry for entry in store.entries() if entry.title == name)
        os.utime(entry.folder / "entry.json", (1000 + number, 1000 + number))
    store.load({"name": "a"})
    assert names(store) == ["b", "c", "a"]
    store.limit = sum(entry.size for entry in store.entries())
    assert store.make_room(VALUES.nbytes)
    assert names(store) == ["c", "a"]


def test_a_damaged_entry_goes_first(store):
    write(store, "a")
    write(store, "b")
    tear_record(store._folder_of({"name": "b"}))
    assert names(store) == ["damaged", "a"]
    store.limit = sum(entry.size for entry in store.entries())
    assert store.make_room(VALUES.nbytes)
    assert names(store) == ["a"]


def test_a_full_disk_is_a_sentence(store, monkeypatch):
    def fail(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("features.store.Writer.append", fail)
    with pytest.raises(UsageError, match="The disk of --cache-dir is full"):
        write(store)
    assert store.entries() == []
    assert list(store.folder.iterdir()) == []


def test_the_remains_of_a_process_of_the_same_number_do_no_harm(store):
    remains = store._folder_of({"name": "a"}).with_suffix(f".{os.getpid()}.partial")
    remains.mkdir(parents=True)
    (remains / "values.npy").write_bytes(b"half")
    write(store)
    np.testing.assert_array_equal(store.load({"name": "a"}).values, VALUES)
    assert not remains.exists()


def test_what_can_never_fit_throws_nothing_out(store):
    write(store)
    assert not store.make_room(2 * 10**9)
    store.limit = 0
    assert not store.make_room(1)
    assert names(store) == ["a"]


def test_an_entry_in_use_may_be_thrown_out(store):
    write(store)
    values = store.load({"name": "a"}).values
    store.clear()
    assert store.entries() == []
    np.testing.assert_array_equal(values, VALUES)


def test_rows_in_memory_are_taken_the_same_way():
    writer = MemoryWriter(VALUES.shape, VALUES.dtype)
    writer.append(VALUES[:60])
    writer.append(VALUES[60:])
    np.testing.assert_array_equal(writer.values, VALUES)


PROGRAM = """
import sys, time
import numpy as np
from pathlib import Path
from features.store import Store
store = Store(Path(sys.argv[1]), 10**9)
with store.locked([{"name": "a"}]):
    if store.load({"name": "a"}) is None:
        print("computing", flush=True)
        with store.writing({"name": "a"}, "a", (200, 6), "float32") as writer:
            for row in range(200):
                writer.append(np.full((1, 6), row, np.float32))
                time.sleep(0.005)
print(store.load({"name": "a"}).values.sum(), flush=True)
"""


def start(store: Store) -> subprocess.Popen:
    return subprocess.Popen([sys.executable, "-c", PROGRAM, str(store.folder)], stdout=subprocess.PIPE, text=True)


@pytest.mark.parametrize("delay", [0.0, 0.2, 0.6])
def test_after_a_kill_there_is_nothing_and_the_next_process_computes_it(store, delay):
    process = start(store)
    assert process.stdout.readline() == "computing\n"
    time.sleep(delay)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert store.load({"name": "a"}) is None
    assert delay == 0 or list(store.folder.glob("*.partial"))
    assert start(store).communicate()[0].split() == ["computing", "119400.0"]
    assert store.make_room(1)
    assert not list(store.folder.glob("*.partial"))
    assert names(store) == ["a"]


def test_of_two_processes_one_computes_and_the_other_waits(store):
    first, second = start(store), start(store)
    outputs = [process.communicate()[0].splitlines() for process in (first, second)]
    assert [output[-1] for output in outputs] == ["119400.0"] * 2
    assert sum("computing" in output for output in outputs) == 1
    assert sum("waiting" in "".join(output) for output in outputs) == 1


def test_what_another_process_is_writing_is_left_alone(store):
    process = start(store)
    while not list(store.folder.glob("*.partial")):
        time.sleep(0.01)
    assert store.make_room(1)
    assert list(store.folder.glob("*.partial"))
    assert process.communicate()[0].split() == ["computing", "119400.0"]


def test_two_writers_of_one_entry_do_no_harm(store):
    with store.writing({"name": "a"}, "a", VALUES.shape, VALUES.dtype) as writer:
        other = Store(store.folder, store.limit)
        folder = other._folder_of({"name": "a"})
        folder.mkdir()
        (folder / "values.npy").write_bytes(b"")
        (folder / "entry.json").write_text(json.dumps({"title": "of another"}))
        writer.append(VALUES)
    assert names(store) == ["of another"]
