"""From files to arrays: nothing broken gets through, and nothing is lost without a reason."""

import numpy as np

from config import TrainConfig
from data.prepare import encode_labels, prepare_data, typical_size
from data.sources import load_source
from tests.conftest import make_picture


def prepare(data, tmp_path, **settings):
    config = TrainConfig(data=str(data), cache_dir=tmp_path / "cache", **settings)
    return prepare_data(load_source(config.data, config.cache_dir), config, image_size=16)


def test_broken_files_are_set_aside_with_the_reason(make_folder, tmp_path):
    root = make_folder()
    (root / "cat" / "broken.jpg").write_bytes((root / "cat" / "0.png").read_bytes()[:300])
    (root / "dog" / "page.jpg").write_text("<html>")
    (root / "dog" / "empty.jpg").touch()
    data = prepare(root, tmp_path)
    assert sum(map(len, data.splits.values())) == len(data.pictures) == len(data.pixels) == 12
    assert [(data.display_path(item.path), item.reason) for item in data.quarantine] == [
        ("cat/broken.jpg", "image file is truncated"),
        ("dog/empty.jpg", "empty file"),
        ("dog/page.jpg", "not a picture"),
    ]


def test_pixels_and_targets_belong_to_their_pictures(make_folder, tmp_path):
    data = prepare(make_folder(classes=("blue", "green", "red")), tmp_path)
    assert data.class_names == ("blue", "green", "red")
    assert data.task == "multiclass"
    for position, picture in enumerate(data.pictures):
        assert data.targets[position].argmax() == data.class_names.index(picture.labels[0])
    means = [data.pixels[data.targets[:, column] == 1].mean(axis=(0, 1, 2)).argmax() for column in range(3)]
    assert means == [0, 2, 1]


def test_the_splits_cover_every_picture_once(make_folder, tmp_path):
    data = prepare(make_folder(count=20), tmp_path)
    positions = np.sort(np.concatenate(list(data.splits.values())))
    np.testing.assert_array_equal(positions, np.arange(40))
    assert {split: len(found) for split, found in data.splits.items()} == {"train": 28, "val": 6, "test": 6}


def test_copies_are_counted(make_folder, tmp_path):
    root = make_folder()
    (root / "cat" / "copy.png").write_bytes((root / "cat" / "0.png").read_bytes())
    assert prepare(root, tmp_path).duplicates == 1


def test_nothing_is_left_in_the_scratch_folder(make_folder, tmp_path):
    data = prepare(make_folder(), tmp_path)
    assert data.pixels.shape == (12, 16, 16, 3)
    assert list((tmp_path / "cache" / "scratch").iterdir()) == []


def test_targets_of_every_task():
    labels = [("a",), ("b",), ("b",)]
    np.testing.assert_array_equal(encode_labels(labels, ("a", "b"), "binary"), [[0], [1], [1]])
    np.testing.assert_array_equal(encode_labels(labels, ("a", "b", "c"), "multiclass")[1], [0, 1, 0])
    np.testing.assert_array_equal(
        encode_labels([("a", "c"), ()], ("a", "b", "c"), "multilabel"), [[1, 0, 1], [0, 0, 0]]
    )


def test_the_typical_size_is_the_median_of_the_shorter_sides(make_folder, tmp_path):
    root = make_folder(size=(48, 40))
    make_picture(0, size=(4000, 3000)).save(root / "cat" / "large.jpg")
    assert typical_size(load_source(str(root), tmp_path)) == 40
