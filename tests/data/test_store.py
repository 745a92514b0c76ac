"""An entry is there as a whole or not at all, whoever writes it and however that ends."""

import contextlib
import errno
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from filelock import FileLock, Timeout
from hypothesis import given, settings
from hypothesis import strategies as st

from app.errors import RunError
from data.rows import ArrayWriter
from data.store import Store

VALUES = np.arange(600, dtype=np.float32).reshape(100, 6)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store", limit=10**9)


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

    monkeypatch.setattr("data.rows.Writer.append", fail)
    with pytest.raises(RunError, match=r"The disk of .* is full\. Make room, or choose another --cache-dir"):
        write(store)
    assert store.entries() == []
    assert list(store.folder.iterdir()) == []


def test_what_was_written_before_an_interrupt_is_not_written_again(store):
    interrupt(store, rows=40, notes={"digests": ["of 40"]})
    assert store.load({"name": "a"}) is None
    with opened(store) as writer:
        assert writer.rows == 40
        assert writer.notes == {"digests": ["of 40"]}
        writer.append(VALUES[40:])
    stored = store.load({"name": "a"})
    np.testing.assert_array_equal(stored.values, VALUES)
    assert stored.notes == {"digests": ["of 40"]}
    assert {path.name for path in store._folder_of({"name": "a"}).iterdir()} == {"values.npy", "entry.json"}


def test_rows_that_came_after_the_last_record_are_written_again(store):
    interrupt(store, rows=40)
    with (store._folder_of({"name": "a"}).with_suffix(".partial") / "values.npy").open("ab") as file:
        file.write(b"torn")
    with opened(store) as writer:
        assert writer.rows == 40
        writer.append(VALUES[40:])
    np.testing.assert_array_equal(store.load({"name": "a"}).values, VALUES)


def test_rows_can_be_forgotten(store):
    with opened(store) as writer:
        writer.append(VALUES[:70])
        writer.rewind(32)
        writer.append(VALUES[32:])
    np.testing.assert_array_equal(store.load({"name": "a"}).values, VALUES)


def test_an_entry_may_end_early(store):
    with opened(store) as writer:
        writer.append(VALUES[:70])
        writer.end_here()
    np.testing.assert_array_equal(store.load({"name": "a"}).values, VALUES[:70])
    (file,) = store.folder.glob("*/values.npy")
    np.testing.assert_array_equal(np.load(file), VALUES[:70])


def shorten_values(partial: Path) -> None:
    os.truncate(partial / "values.npy", 900)


def tear_progress(partial: Path) -> None:
    (partial / "progress.json").write_text('{"rows": 4')


def write_another_kind(partial: Path) -> None:
    progress = json.loads((partial / "progress.json").read_text())
    (partial / "progress.json").write_text(json.dumps(progress | {"dtype": "<f2"}))


@pytest.mark.parametrize(
    "damage", [shorten_values, tear_progress, write_another_kind], ids=lambda function: function.__name__
)
def test_remains_that_do_not_fit_are_written_over(store, damage):
    interrupt(store, rows=40)
    damage(store._folder_of({"name": "a"}).with_suffix(".partial"))
    with opened(store) as writer:
        assert writer.rows == 0
        writer.append(VALUES)
    np.testing.assert_array_equal(store.load({"name": "a"}).values, VALUES)


def opened(store: Store):
    return store.writing({"name": "a"}, "a", VALUES.shape, VALUES.dtype)


def interrupt(store: Store, rows: int, notes: dict | None = None) -> None:
    """Leaves an entry with some of its rows, as a process does that is stopped."""
    with contextlib.suppress(KeyboardInterrupt), opened(store) as writer:
        writer.notes |= notes or {}
        writer.append(VALUES[:rows])
        raise KeyboardInterrupt


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
    writer = ArrayWriter(np.empty_like(VALUES))
    writer.append(VALUES[:60])
    writer.append(VALUES[60:])
    np.testing.assert_array_equal(writer.values, VALUES)


PROGRAM = """
import sys, time
import numpy as np
from pathlib import Path
from data import rows
from data.store import Store
rows.RECORD_SECONDS = 0.1
store = Store(Path(sys.argv[1]), 10**9)
with store.locked([{"name": "a"}]):
    if store.load({"name": "a"}) is None:
        with store.writing({"name": "a"}, "a", (200, 6), "float32") as writer:
            print("computing from", writer.rows, flush=True)
            for row in range(writer.rows, 200):
                writer.append(np.full((1, 6), row, np.float32))
                time.sleep(0.005)
                if row == 150 and "hold" in sys.argv:
                    print("held", flush=True)
                    sys.stdin.readline()
print(store.load({"name": "a"}).values.sum(), flush=True)
"""


def start(store: Store, *flags: str) -> subprocess.Popen:
    """Starts a process that writes an entry; with 'hold', it waits for a line after most of its rows."""
    command = [sys.executable, "-u", "-c", PROGRAM, str(store.folder), *flags]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


@pytest.mark.parametrize("moment", ["at once", "within the first rows", "after a record of progress"])
def test_after_a_kill_there_is_no_entry_and_the_next_process_goes_on(store, moment):
    process = start(store, "hold")
    assert process.stdout.readline() == "computing from 0\n"
    if moment == "within the first rows":
        time.sleep(0.2)
    if moment == "after a record of progress":
        assert process.stdout.readline() == "held\n"
        assert list(store.folder.glob("*.partial/progress.json"))
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert store.load({"name": "a"}) is None
    line, total = start(store).communicate()[0].splitlines()
    assert total == "119400.0"
    assert 0 <= int(line.removeprefix("computing from ")) < 200
    assert moment != "after a record of progress" or line != "computing from 0"
    assert not list(store.folder.glob("*.partial"))
    assert names(store) == ["a"]


def test_of_two_processes_one_computes_and_the_other_waits(store):
    first = start(store, "hold")
    assert [first.stdout.readline() for _ in range(2)] == ["computing from 0\n", "held\n"]
    second = start(store)
    assert "waiting" in second.stdout.readline()
    assert first.communicate("\n")[0] == "119400.0\n"
    assert second.communicate()[0].splitlines()[-1] == "119400.0"


def test_what_another_process_is_writing_is_left_alone(store):
    process = start(store, "hold")
    assert [process.stdout.readline() for _ in range(2)] == ["computing from 0\n", "held\n"]
    assert store.make_room(1)
    assert list(store.folder.glob("*.partial"))
    assert process.communicate("\n")[0] == "119400.0\n"


def _changed(description: Any, data: st.DataObject) -> Any:
    """Changes one leaf: its value, or 1 to "1", or a value to a list of it."""
    if isinstance(description, dict) and description:
        key = data.draw(st.sampled_from(sorted(description)))
        return description | {key: _changed(description[key], data)}
    if isinstance(description, list) and description:
        index = data.draw(st.integers(0, len(description) - 1))
        return [*description[:index], _changed(description[index], data), *description[index + 1 :]]
    if isinstance(description, dict):
        return {"": description}
    return data.draw(st.sampled_from([str(description), [description]]))


_TEXTS_AND_NUMBERS = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text()
_DESCRIPTIONS = st.dictionaries(
    st.text(), st.recursive(_TEXTS_AND_NUMBERS, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner))
)


@settings(max_examples=50)
@given(first=_DESCRIPTIONS, data=st.data())
def test_entries_are_the_same_if_and_only_if_their_descriptions_are(first, data):
    store, second = Store(Path("store"), limit=1), _changed(first, data)
    same = json.dumps(first, sort_keys=True) == json.dumps(second, sort_keys=True)
    assert (store._folder_of(first) == store._folder_of(second)) == same
    turned = dict(reversed(first.items()))
    assert store._folder_of(turned) == store._folder_of(first), "the order of keys means nothing"


def test_what_is_half_written_stays_while_there_is_room(store):
    interrupt(store, rows=40)
    assert store.make_room(1)
    with opened(store) as writer:
        assert writer.rows == 40
        writer.append(VALUES[40:])


def test_what_is_half_written_makes_room_when_it_is_needed(store):
    interrupt(store, rows=40)
    store.limit = VALUES.nbytes
    assert store.make_room(VALUES.nbytes)
    assert not list(store.folder.glob("*.partial"))


def test_what_is_there_of_an_entry_needs_no_more_room(store):
    interrupt(store, rows=90)
    store.limit = VALUES.nbytes
    with store.locked([{"name": "a"}]):
        assert store.make_room(VALUES.nbytes, [{"name": "a"}])
        with opened(store) as writer:
            assert writer.rows == 90
            writer.append(VALUES[90:])


def test_an_interrupt_while_an_entry_is_completed_waits_for_it(store, monkeypatch):
    sync = os.fsync

    def interrupted_sync(file):
        os.kill(os.getpid(), signal.SIGINT)
        sync(file)

    with monkeypatch.context() as patch:
        patch.setattr("os.fsync", interrupted_sync)
        with pytest.raises(KeyboardInterrupt):
            write(store)
    np.testing.assert_array_equal(store.load({"name": "a"}).values, VALUES)


def test_an_early_end_that_was_interrupted_goes_on(store):
    with contextlib.suppress(KeyboardInterrupt), opened(store) as writer:
        writer.append(VALUES[:40])
        writer.end_here()
        raise KeyboardInterrupt
    with opened(store) as writer:
        assert writer.rows == 40
        writer.append(VALUES[40:])


def test_what_a_process_is_at_work_on_is_neither_evicted_nor_cleared(store):
    interrupt(store, rows=40)
    write(store, "b")
    with store.locked([{"name": "a"}, {"name": "b"}]):
        store.limit = VALUES.nbytes
        assert store.make_room(VALUES.nbytes), "what is in use counts for nothing"
        deleted, remaining = store.clear()
        assert deleted == []
        using = "a run is using it"
        assert {(entry.title, reason) for entry, reason in remaining} == {("half written", using), ("b", using)}
        with opened(store) as writer:
            assert writer.rows == 40
            writer.append(VALUES[40:])
    deleted, remaining = store.clear()
    assert sorted(entry.title for entry in deleted) == ["a", "b"]
    assert remaining == store.entries() == []


def test_the_lock_of_an_entry_is_held_while_it_is_deleted(store, monkeypatch):
    interrupt(store, rows=40)
    write(store, "b")
    delete, held = shutil.rmtree, []

    def watch(folder, *arguments, **settings):
        with pytest.raises(Timeout):
            FileLock(store.folder / "locks" / f"{Path(folder).stem}.lock").acquire(timeout=0)
        held.append(folder)
        delete(folder, *arguments, **settings)

    monkeypatch.setattr("shutil.rmtree", watch)
    store.limit = 2 * VALUES.nbytes
    assert store.make_room(2 * VALUES.nbytes)
    write(store, "c")
    store.clear()
    assert len(held) == 3
    assert [path.name for path in store.folder.iterdir()] == ["locks"]


def test_a_folder_that_is_no_entry_stays(store, tmp_path):
    write(store)
    foreign = [store.folder / ("f" * 32), store.folder / ("holiday photos of" + "x" * 15)]
    for folder in foreign:
        folder.mkdir()
        (folder / "photo.jpg").write_bytes(b"mine")
    (store.folder / ("0" * 32)).write_text("a file")
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "entry.json").write_text("{}")
    (store.folder / ("1" * 32)).symlink_to(tmp_path / "elsewhere")
    assert names(store) == ["a"]
    store.limit = VALUES.nbytes
    assert store.make_room(VALUES.nbytes)
    deleted, remaining = store.clear()
    assert deleted == remaining == store.entries() == []
    assert all((folder / "photo.jpg").exists() for folder in foreign)
    assert (tmp_path / "elsewhere" / "entry.json").exists()
    assert (store.folder / ("0" * 32)).exists()


def test_a_deletion_that_is_killed_leaves_no_damaged_entry(store, monkeypatch, capsys):
    write(store)

    def kill(*_, **__):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("shutil.rmtree", kill)
        with pytest.raises(KeyboardInterrupt):
            store.clear()
    assert store.load({"name": "a"}) is None
    assert "damaged" not in capsys.readouterr().out
    write(store)
    np.testing.assert_array_equal(store.load({"name": "a"}).values, VALUES)


CONTENDER = """
import contextlib, random, sys
import numpy as np
from pathlib import Path
from data.store import Store
folder, seed, rounds, ROWS = Path(sys.argv[1]), int(sys.argv[2]), 150, 64
store, draw = Store(folder, limit=int(2.5 * ROWS * 4000)), random.Random(seed)
while seed == 0:
    store.clear()
for _ in range(rounds):
    numbers = draw.sample(range(5), 2)
    descriptions = [{"number": number} for number in numbers]
    with contextlib.suppress(KeyboardInterrupt), store.locked(descriptions):
        for number, description in zip(numbers, descriptions):
            values = np.full((ROWS, 1000), number, np.float32)
            if store.load(description) is None and store.make_room(values.nbytes, [description]):
                with store.writing(description, str(number), values.shape, values.dtype) as writer:
                    writer.append(values[writer.rows : 40])
                    if draw.random() < 0.3:
                        raise KeyboardInterrupt
                    writer.append(values[writer.rows :])
                stored = store.load(description)
                assert stored is not None, "what was just written is gone"
                assert np.array_equal(stored.values, values)
"""


def test_processes_that_write_evict_and_clear_at_once_do_not_disturb_each_other(store):
    commands = [[sys.executable, "-c", CONTENDER, str(store.folder), str(seed)] for seed in range(4)]
    settings = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    clearing, *writing = [subprocess.Popen(command, **settings) for command in commands]
    outputs = [contender.communicate()[0] for contender in writing]
    was_clearing = clearing.poll() is None
    clearing.kill()
    outputs.append(clearing.communicate()[0])
    assert was_clearing, outputs
    assert [contender.returncode for contender in writing] == [0, 0, 0], outputs
    assert "damaged" not in "".join(outputs)
