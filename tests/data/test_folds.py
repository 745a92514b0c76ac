"""Folds have the classes of the whole, and keep what looks alike together."""

import numpy as np
import pytest

from app.config import TrainConfig
from app.errors import UsageError
from data.folds import folds_of
from data.prepare import prepare_data
from data.sources import load_source
from tasks.classification import MULTILABEL
from tests.conftest import draw_photos


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Forty pictures, each of which is there twice."""
    root = tmp_path_factory.mktemp("folds")
    draw_photos(root / "photos", ("cat", "dog"), 20)
    for path in list((root / "photos").rglob("*.*")):
        path.with_stem(f"{path.stem}_again").write_bytes(path.read_bytes())
    source = load_source(str(root / "photos"), root / "cache")
    return prepare_data(source, TrainConfig.of(folds=4, image_size=32, test_fraction=0.2, cache_dir=root / "cache"))


def test_every_fold_has_the_classes_of_all_and_copies_are_in_one(data):
    folds = folds_of(data, TrainConfig.of(folds=4))
    train = data.splits["train"]
    assert len(data.splits["val"]) == 0
    for fold in range(4):
        assert data.targets[train][folds == fold].mean() == pytest.approx(0.5, abs=0.1)
    for group in np.unique(data.groups[train]):
        assert len(set(folds[data.groups[train] == group])) == 1
    np.testing.assert_array_equal(folds, folds_of(data, TrainConfig.of(folds=4)))
    assert (folds != folds_of(data, TrainConfig.of(folds=4, split_seed=1))).any()


def test_more_folds_than_a_class_has_pictures_are_refused(data):
    with pytest.raises(UsageError, match="--folds must be at most"):
        folds_of(data._replace(splits={"train": data.splits["train"][:3]}), TrainConfig.of(folds=4))


def test_combinations_of_labels_may_be_rare_but_each_label_needs_as_many_pictures_as_folds(data):
    targets = np.zeros((len(data.targets), 6), np.float32)
    targets[:, 0] = 1
    targets[np.arange(len(targets)), 1 + np.arange(len(targets)) % 5] = 1
    targets[: len(targets) // 2, 1:4] = 1
    many = data._replace(targets=targets, task=MULTILABEL)
    folds = folds_of(many, TrainConfig.of(folds=4))
    assert [many.targets[data.splits["train"]][folds == fold].sum(axis=0).min() >= 1 for fold in range(4)] == [True] * 4
    targets[:, 5] = 0
    targets[data.splits["train"][0], 5] = 1
    with pytest.raises(UsageError, match="must be at most 1, as the rarest class has 1 picture to learn from"):
        folds_of(many, TrainConfig.of(folds=4))


def test_more_folds_than_groups_are_refused(data):
    with pytest.raises(UsageError, match=r"--folds must be at most 3, as the pictures .* are in 3 groups"):
        folds_of(data._replace(groups=np.arange(len(data.groups)) % 3), TrainConfig.of(folds=4))


def test_a_fraction_for_a_val_split_beside_folds_is_refused(data):
    with pytest.raises(UsageError, match=r"^--folds takes the place of a val split; leave out --val-fraction\.$"):
        folds_of(data, TrainConfig.of(folds=4, val_fraction=0.2))
