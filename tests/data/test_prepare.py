"""From files to arrays: nothing broken gets through, and nothing is lost without a reason."""

import contextlib
import os
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from app.config import TrainConfig
from app.errors import UsageError
from data.content import UnreadableNowError, content_of
from data.images.decode import decode_with_signature
from data.prepare import draw_part, prepare_data, typical_size
from data.sources import load_source
from tasks.classification import BINARY, MULTICLASS, MULTILABEL
from tests.conftest import make_picture


def prepare(data, tmp_path, **settings):
    config = TrainConfig.of(data=str(data), cache_dir=tmp_path / "cache", image_size=16, **settings)
    return prepare_data(load_source(config.data.data, config.run.cache_dir), config)


def test_broken_files_are_set_aside_with_the_reason(make_folder, tmp_path):
    root = make_folder()
    (root / "cat" / "broken.jpg").write_bytes((root / "cat" / "0.png").read_bytes()[:300])
    (root / "dog" / "page.jpg").write_text("<html>")
    (root / "dog" / "empty.jpg").touch()
    data = prepare(root, tmp_path)
    assert sum(map(len, data.splits.values())) == len(data.examples) == len(data.inputs[0]) == 12
    assert [(data.display_path(item.path), item.reason) for item in data.quarantine] == [
        ("cat/broken.jpg", "truncated: the end of the file is missing"),
        ("dog/empty.jpg", "empty file"),
        ("dog/page.jpg", "a web page, not a picture"),
    ]


def test_pixels_and_targets_belong_to_their_pictures(make_folder, tmp_path):
    data = prepare(make_folder(classes=("blue", "green", "red")), tmp_path)
    assert data.class_names == ("blue", "green", "red")
    assert data.task == MULTICLASS
    for position, picture in enumerate(data.examples):
        assert data.targets[position].argmax() == data.class_names.index(picture.labels[0])
    means = [data.inputs[0][data.targets[:, column] == 1].mean(axis=(0, 1, 2)).argmax() for column in range(3)]
    assert means == [0, 2, 1]


def test_of_two_classes_the_rarer_one_is_positive_unless_another_is_named(make_folder, tmp_path):
    root = make_folder(classes=("disease", "healthy"), count=8)
    assert prepare(root, tmp_path).class_names == ("disease", "healthy")  # as many of both
    (root / "disease" / "7.png").unlink()
    data = prepare(root, tmp_path)
    assert (data.class_names, data.positive) == (("healthy", "disease"), "disease")
    assert [bool(target) for target in data.targets[:, 0]] == [p.labels == ("disease",) for p in data.examples]
    assert prepare(root, tmp_path, positive="healthy").class_names == ("disease", "healthy")


def test_a_positive_class_must_be_one_of_two(make_folder, tmp_path):
    two, three = make_folder("two"), make_folder("three", classes=("cat", "dog", "emu"))
    (two / "labels.csv").write_text("path,label\ncat/0.png,cat|dog\ndog/0.png,dog\n")
    with pytest.raises(UsageError, match=r"^--positive must be one of cat, dog; received 'dogs'\. Did you mean 'dog'"):
        prepare(two, tmp_path, positive="dogs")
    with pytest.raises(UsageError, match=r"--positive needs two classes; 'three' has 3 classes\. Leave it out\."):
        prepare(three, tmp_path, positive="dog")
    with pytest.raises(UsageError, match="--positive needs two classes; 'labels' has several labels per picture"):
        prepare(two / "labels.csv", tmp_path, positive="dog")
    assert prepare(three, tmp_path).positive is None


def test_a_rule_that_does_not_fit_the_classes_is_refused_before_pictures_are_read(make_folder, tmp_path):
    root = make_folder(classes=("cat", "dog", "emu"))
    for path in root.rglob("*.png"):
        path.write_bytes(b"no picture")
    with pytest.raises(UsageError, match=r"^--sensitivity 0.95 needs two classes, .* between 3 classes"):
        prepare(root, tmp_path, sensitivity=0.95)


def test_the_splits_cover_every_picture_once(make_folder, tmp_path):
    data = prepare(make_folder(count=20), tmp_path)
    positions = np.sort(np.concatenate(list(data.splits.values())))
    np.testing.assert_array_equal(positions, np.arange(40))
    assert {split: len(found) for split, found in data.splits.items()} == {"train": 28, "val": 6, "test": 6}


def test_the_split_has_a_seed_of_its_own(make_folder, tmp_path):
    root = make_folder(count=20)

    def test_split(**settings) -> list[int]:
        return prepare(root, tmp_path, **settings).splits["test"].tolist()

    assert test_split(seed=1, split_seed=7) == test_split(seed=2, split_seed=7) == test_split(seed=7)
    assert test_split(seed=1) != test_split(seed=7)


def test_look_alikes_stay_on_one_side_of_the_split(make_folder, tmp_path):
    root = make_folder(count=30, size=(96, 96))
    for number in range(10):
        Image.open(root / "cat" / f"{number}.png").save(root / "cat" / f"{number} again.jpg", quality=70)
    first = prepare(root, tmp_path)
    assert first.near_duplicates == 20
    sides = {first.examples[place].path: split for split, places in first.splits.items() for place in places}
    for number in range(10):
        assert sides[root / "cat" / f"{number}.png"] == sides[root / "cat" / f"{number} again.jpg"]
    groups = {picture.path: number for picture, number in zip(first.examples, first.groups, strict=True)}
    assert len(set(groups.values())) == 60
    assert groups[root / "cat" / "3.png"] == groups[root / "cat" / "3 again.jpg"]
    second = prepare(root, tmp_path)  # from the cache
    assert {split: found.tolist() for split, found in second.splits.items()} == {
        split: found.tolist() for split, found in first.splits.items()
    }
    assert second.least_score == first.least_score


def test_copies_are_counted(make_folder, tmp_path):
    root = make_folder()
    (root / "cat" / "copy.png").write_bytes((root / "cat" / "0.png").read_bytes())
    data = prepare(root, tmp_path)
    assert data.duplicates == 1
    assert [data.examples[place].path.stem for place in np.flatnonzero(data.groups == data.groups[0])] == ["0", "copy"]


def test_the_second_time_no_picture_is_decoded(make_folder, tmp_path, monkeypatch):
    root = make_folder()
    (root / "cat" / "page.jpg").write_text("<html>")
    first = prepare(root, tmp_path)
    decoded = count_decodings(monkeypatch)
    second = prepare(root, tmp_path)
    assert decoded == []
    np.testing.assert_array_equal(second.inputs[0], first.inputs[0])
    assert (second.digests, second.quarantine, second.examples) == (first.digests, first.quarantine, first.examples)


def test_another_size_or_shape_is_decoded_anew(make_folder, tmp_path, monkeypatch):
    root = make_folder()
    prepare(root, tmp_path)
    decoded = count_decodings(monkeypatch)
    prepare(root, tmp_path, resize="pad")
    assert len(decoded) == 12


def test_files_that_have_changed_are_noticed(make_folder, tmp_path):
    root = make_folder()
    before = prepare(root, tmp_path)
    status = (root / "dog" / "3.png").stat()
    content = (root / "cat" / "3.png").read_bytes()
    (root / "dog" / "3.png").write_bytes(content[: status.st_size].ljust(status.st_size, b" "))
    os.utime(root / "dog" / "3.png", ns=(status.st_atime_ns, status.st_mtime_ns))  # as a copying program does
    after = prepare(root, tmp_path)
    assert after.digests[9] != before.digests[9]
    assert after.digests[:9] == before.digests[:9]


def test_a_file_that_could_not_be_read_for_a_moment_is_read_later(make_folder, tmp_path, monkeypatch):
    root = make_folder()
    with monkeypatch.context() as patch:
        patch.setattr("data.preflight.content_of", fail_for("2.png"))
        assert [item.reason for item in prepare(root, tmp_path).quarantine] == ["Stale file handle"] * 2
    assert prepare(root, tmp_path).quarantine == []


def test_decoding_that_was_interrupted_goes_on(make_folder, tmp_path, monkeypatch):
    root = make_folder()
    whole = prepare(root, tmp_path / "undisturbed")
    with monkeypatch.context() as patch, contextlib.suppress(KeyboardInterrupt):
        patch.setattr("data.preflight.CHUNK", 4)
        config = TrainConfig.of(data=str(root), cache_dir=tmp_path / "cache", image_size=16)
        prepare_data(load_source(config.data.data, config.run.cache_dir), config, interrupt_after(7))
    decoded = count_decodings(monkeypatch)
    data = prepare(root, tmp_path)
    assert len(decoded) == 5
    assert data.digests == whole.digests
    np.testing.assert_array_equal(data.inputs[0], whole.inputs[0])


def test_without_room_in_the_cache_nothing_stays(make_folder, tmp_path):
    data = prepare(make_folder(), tmp_path, cache_gb=0.0)
    assert data.inputs[0].shape == (12, 16, 16, 3)
    assert data.inputs[0].any()
    assert not [path for path in (tmp_path / "cache").rglob("*") if path.is_file() and path.suffix != ".lock"]


def count_decodings(monkeypatch) -> list[bytes]:
    """Makes every decoding leave the content of its file in a list."""
    decoded = []

    def decode(content, *settings):
        decoded.append(content)
        return decode_with_signature(content, *settings)

    monkeypatch.setattr("data.images.kind.decode_with_signature", decode)
    return decoded


def fail_for(name: str):
    """Reads files, but for those of one name, as a network does that is down."""

    def read(path, within):
        if path.name == name:
            raise UnreadableNowError("Stale file handle")
        return content_of(path, within)

    return read


def interrupt_after(count: int):
    """Counts pictures, and interrupts after some."""
    done = []

    def advance(number):
        done.append(number)
        if sum(done) == count:
            raise KeyboardInterrupt

    return advance


def test_targets_of_every_task():
    labels = [("a",), ("b",), ("b",)]
    np.testing.assert_array_equal(BINARY.encode(labels, ("a", "b")), [[0], [1], [1]])
    np.testing.assert_array_equal(MULTICLASS.encode(labels, ("a", "b", "c"))[1], [0, 1, 0])
    np.testing.assert_array_equal(MULTILABEL.encode([("a", "c"), ()], ("a", "b", "c")), [[1, 0, 1], [0, 0, 0]])


def test_the_typical_size_is_the_median_of_the_shorter_sides(make_folder, tmp_path):
    root = make_folder(size=(48, 40))
    make_picture(0, size=(4000, 3000)).save(root / "cat" / "large.jpg")
    assert typical_size(load_source(str(root), tmp_path)) == 40


def test_a_part_keeps_the_shares_of_classes_and_splits_and_follows_the_seed(make_folder, tmp_path, capsys):
    root = make_folder(classes=("train/cat", "train/dog", "test/cat", "test/dog"), count=20)
    for index in range(10, 20):
        (root / "train" / "dog" / f"{index}.png").unlink()
    source = load_source(str(root), tmp_path)

    def drawn(most: int | None, seed: int = 0) -> list[str]:
        return [example.path.relative_to(root).as_posix() for example in draw_part(source, most, seed).examples]

    everything = drawn(None)
    assert capsys.readouterr().out == ""
    assert Counter(Path(path).parent.as_posix() for path in drawn(14)) == {
        "train/cat": 4,
        "train/dog": 2,
        "test/cat": 4,
        "test/dog": 4,
    }
    assert "14 of 70 pictures, drawn at random (--max-pictures)" in capsys.readouterr().out
    assert drawn(14) == drawn(14) != drawn(14, seed=1)
    for most in (13, 69, 70, 1000):
        part = drawn(most)
        assert len(part) == min(most, 70)
        assert part == [path for path in everything if path in part]


def test_a_part_without_a_class_is_refused(make_folder, tmp_path):
    root = make_folder(classes=("cat", "dog", "rat"), count=9)
    with pytest.raises(UsageError, match=r"--max-pictures 2 leaves no picture of the class 'dog'\. Raise it\."):
        draw_part(load_source(str(root), tmp_path), 2, 0)
