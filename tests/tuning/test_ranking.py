"""A ranking tells features that help from those that do not, and leaves what a training then starts from."""

import time

import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import same_color
from PIL import Image

from app.config import TrainConfig
from app.errors import UsageError
from app.terminal import console
from cluster.pool import open_pool
from data.store import Store
from models.backbones import find
from models.classifier import build_classifier
from reports.plots import VAL_COLOUR
from reports.search_plots import backbone_ranking
from tasks.classification import BINARY, MULTICLASS, MULTILABEL
from tasks.metrics import accuracy_interval
from training.cuts import cuts_at
from training.flags import parse_config
from training.frozen import frozen_inputs
from training.inputs import load_inputs
from tuning.inputs import check_val_split, load_candidates, search_folder
from tuning.ranking import (
    Ranked,
    Scored,
    make_ranking,
    predict_by_ridge,
    rank,
    ranking_lines,
    ranking_table,
    train_command,
)
from tuning.space import TuneConfig

TASKS = [(BINARY, 2), (MULTICLASS, 4), (MULTILABEL, 3)]


def labelled(task, num_classes, count, seed=0):
    """Targets, and features that tell them apart with some noise."""
    random = np.random.default_rng(seed)
    if task.multi_label:
        targets = (random.random((count, num_classes)) < 0.4).astype(np.float32)
    else:
        targets = np.eye(num_classes, dtype=np.float32)[random.integers(num_classes, size=count)]
        targets = targets[:, 1:] if task.two_classes else targets
    directions = np.random.default_rng(99).normal(size=(task.num_outputs(num_classes), 20))
    features = 1 + (targets - 0.5) @ directions + random.normal(0, 0.3, (count, 20))
    return features.astype(np.float32), targets


def accuracy(train, train_targets, val, val_targets, task):
    return (predict_by_ridge(train, train_targets, val, task) == task.truth(val_targets)).all(axis=1).mean()


@pytest.mark.parametrize(("task", "num_classes"), TASKS)
def test_features_that_tell_the_classes_apart_score_above_noise(task, num_classes):
    (train, train_targets), (val, val_targets) = labelled(task, num_classes, 120), labelled(task, num_classes, 80, 1)
    random = np.random.default_rng(2)
    noise = [random.normal(size=features.shape).astype(np.float32) for features in (train, val)]
    good = accuracy(train, train_targets, val, val_targets, task)
    bad = accuracy(noise[0], train_targets, noise[1], val_targets, task)
    assert good > 0.9
    assert bad < 0.7


@pytest.mark.parametrize(("task", "num_classes"), TASKS)
def test_scores_are_the_same_every_time(task, num_classes):
    (train, targets), (val, _) = labelled(task, num_classes, 60), labelled(task, num_classes, 30, 1)
    first, second = (predict_by_ridge(train, targets, val, task) for _ in range(2))
    np.testing.assert_array_equal(first, second)


def test_more_features_than_pictures_still_score():
    random = np.random.default_rng(0)
    (train, targets), (val, val_targets) = labelled(MULTICLASS, 4, 60), labelled(MULTICLASS, 4, 40, 1)
    wide = [np.hstack([features, random.normal(0, 0.3, (len(features), 100))]) for features in (train, val)]
    assert accuracy(wide[0], targets, wide[1], val_targets, MULTICLASS) > 0.8


def test_a_class_with_one_picture_and_a_feature_that_never_changes_do_no_harm():
    train, targets = labelled(MULTICLASS, 3, 60)
    first = np.flatnonzero(targets[:, 2])[0]
    keep = np.flatnonzero((targets[:, 2] == 0) | (np.arange(60) == first))
    train, targets = np.hstack([train, np.zeros((60, 1), np.float32)])[keep], targets[keep]
    said = predict_by_ridge(train, targets, train, MULTICLASS)
    assert said.shape == (len(keep), 3)
    assert (said.sum(axis=1) == 1).all()
    assert (said == targets.astype(bool)).all(axis=1).mean() > 0.9


def test_a_label_that_no_training_picture_has_is_not_predicted():
    train, targets = labelled(MULTILABEL, 3, 60)
    targets[:, 1] = 0
    assert not predict_by_ridge(train, targets, train, MULTILABEL)[:, 1].any()


def test_a_training_picture_of_each_class_suffices():
    train, targets = np.eye(3, dtype=np.float32), np.eye(3, dtype=np.float32)
    assert predict_by_ridge(train, targets, train, MULTICLASS).shape == (3, 3)


@pytest.fixture
def config(make_folder, tmp_path) -> TuneConfig:
    return TuneConfig.of(
        data=str(make_folder(classes=("cat", "dog", "owl"), count=12)),
        cache_dir=tmp_path / "cache",
        output=tmp_path / "ranking",
        image_size=64,
        val_fraction=0.3,
        rank_backbones=True,
    )


@pytest.fixture
def no_downloads(monkeypatch, tmp_path):
    """A machine without a network, on which nothing has been downloaded."""
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "keras"))
    monkeypatch.setattr("models.weights._server_answers", lambda host: False)
    monkeypatch.setattr("models.weights.getproxies", dict)
    (tmp_path / "keras" / "models").mkdir(parents=True)
    return tmp_path / "keras" / "models"


def run(config):
    with open_pool(config.fixed.run) as pool:
        folder, candidates = load_candidates(config)
        return rank(config, candidates, folder, time.perf_counter(), pool)


@pytest.mark.usefixtures("no_downloads")
def test_a_ranking_leaves_a_table_a_figure_and_the_command_to_go_on_with(config, capsys):
    folder = run(config)
    table = pd.read_csv(folder / "ranking.csv")
    assert tuple(table.columns) == Ranked._fields
    row = table.iloc[0]
    assert (row["backbone"], row["image_size"], row["imagenet_accuracy"]) == ("efficientnet_lite0", 64, 0.751)
    assert row["ridge_accuracy"] > 0.6  # three colours
    assert row["ridge_low"] < row["ridge_accuracy"] <= row["ridge_high"]
    assert row["pictures_per_second"] > 0
    with Image.open(folder / "figures" / "ranking.png") as figure:
        assert figure.size[0] > 500
    shown = capsys.readouterr().out
    assert "val pictures" in shown
    assert "val examples put the best between" in shown
    assert "optimistic" not in shown  # the only one was not chosen
    widest = Ranked("inceptionresnetv2", *[0.5] * (len(Ranked._fields) - 1))._replace(image_size=299, parameters=348.1)
    console.print(ranking_table(pd.DataFrame([widest._replace(pictures_per_second=1234.0)])))
    assert max(map(len, capsys.readouterr().out.rstrip().splitlines())) <= 80
    command = next(line for line in shown.splitlines() if line.startswith("go on")).split("train.py ")[1]
    assert parse_config(command.split()).model.backbone == "efficientnet_lite0"


def scored(name, num_right, count=100, digests=None):
    """A backbone that is right on the first examples."""
    right = np.arange(count) < num_right
    low, high = accuracy_interval(right)
    row = Ranked(name, num_right / count, low, high, 5.0, 100.0, 224, 0.7)
    return Scored(row, right, digests or [str(number) for number in range(count)], count)


def test_the_best_of_several_is_called_optimistic_and_those_that_may_be_as_good_are_marked(capsys):
    others = [str(number) for number in range(1, 101)]
    table = make_ranking([scored("c", 70), scored("b", 88), scored("a", 90), scored("d", 89, digests=others)])
    assert table["backbone"].tolist() == ["a", "d", "b", "c"]
    assert table["may_be_best"].tolist() == [True, None, True, False]
    console.print(ranking_table(table))
    rows = [line.split()[:3] for line in capsys.readouterr().out.splitlines()[-4:]]
    assert rows == [["a", "90.00%", "yes"], ["d", "89.00%", "–"], ["b", "88.00%", "yes"], ["c", "70.00%", "no"]]
    first, second, third = ranking_lines(table, 100)
    assert first.startswith(
        "100 val examples put the best between 82.6% and 94.5% (95 % interval): smaller differences"
    )
    assert second == "the best of 4 is partly the best by luck: its accuracy and its interval are optimistic"
    assert third.startswith("close: may be as good as the first")
    assert backbone_ranking(table, 100)._suptitle.get_text().endswith("The best of 4 is optimistic")


def test_a_network_without_a_published_accuracy_is_shown_without_one(capsys):
    row = Ranked("own", *[0.5] * (len(Ranked._fields) - 1))._replace(imagenet_accuracy=None)
    console.print(ranking_table(pd.DataFrame([row])))
    assert capsys.readouterr().out.split()[-1] == "–"


@pytest.mark.usefixtures("no_downloads")
def test_the_same_command_again_takes_all_from_the_store_and_ranks_the_same(config):
    first = pd.read_csv(run(config) / "ranking.csv")
    entries = Store(config.fixed.run.cache_dir / "store", 10**9).entries()
    second = pd.read_csv(run(config) / "ranking.csv")
    assert len(Store(config.fixed.run.cache_dir / "store", 10**9).entries()) == len(entries)
    assert len([entry for entry in entries if entry.title.endswith("pooling")]) == 1
    pd.testing.assert_frame_equal(first.drop(columns="pictures_per_second"), second.drop(columns="pictures_per_second"))


@pytest.mark.slow
@pytest.mark.usefixtures("no_downloads")
def test_workers_rank_as_one_process_does(config, tmp_path, capsys):
    alone = pd.read_csv(run(config) / "ranking.csv")
    assert "2 workers" not in capsys.readouterr().out
    shared = run(config.replace(workers=2, cache_dir=tmp_path / "other", output=tmp_path / "shared"))
    assert "2 workers" in capsys.readouterr().out
    names = ["backbone", "ridge_accuracy", "ridge_low", "ridge_high"]
    pd.testing.assert_frame_equal(pd.read_csv(shared / "ranking.csv")[names], alone[names], check_exact=True)


@pytest.mark.usefixtures("no_downloads")
def test_what_a_ranking_computes_a_training_finds_in_the_store(config, capsys):
    run(config)
    store = Store(config.fixed.run.cache_dir / "store", 10**9)
    before = {entry.folder for entry in store.entries()}
    places = {
        "data": config.fixed.data.data,
        "cache_dir": config.fixed.run.cache_dir,
        "image_size": 64,
        "val_fraction": 0.3,
    }
    inputs = load_inputs(TrainConfig.of(**places, views=1))
    classifier = build_classifier(
        inputs.backbone, weights="imagenet", image_size=64, task=MULTICLASS, num_classes=3, head_units=(8,), seed=5
    )
    cuts = cuts_at(classifier, {"head": 0})
    frozen_inputs(classifier, cuts, {"head": 1}, inputs.config, inputs.data, store, precision="float32")
    assert {entry.folder for entry in store.entries()} == before
    assert "saved by the cache" in capsys.readouterr().out


@pytest.mark.usefixtures("no_downloads")
def test_a_multi_label_table_is_ranked(config, tmp_path):
    root = tmp_path / "photos"
    lines = [
        f"{path},{path.parent.name}|{'odd' if number % 2 else 'even'}"
        for number, path in enumerate(sorted(root.rglob("*.png")))
    ]
    (tmp_path / "labels.csv").write_text("\n".join(["path,label", *lines]) + "\n")
    folder = run(config.replace(data=str(tmp_path / "labels.csv")))
    assert 0 <= pd.read_csv(folder / "ranking.csv")["ridge_accuracy"][0] <= 1


def test_by_default_those_are_ranked_whose_weights_are_on_this_machine(config, no_downloads):
    assert [candidate.model.backbone for candidate in load_candidates(config)[1]] == ["efficientnet_lite0"]
    for name in ("resnet50", "inceptionv3"):
        (no_downloads / find(name).weights_file).touch()
    by_size = config.replace(image_size=None)
    assert [candidate.model.backbone for candidate in load_candidates(by_size)[1]] == [
        "efficientnet_lite0",
        "resnet50",
        "inceptionv3",
    ]
    # pictures of 40 pixels are enlarged four times at most
    assert [candidate.data.image_size for candidate in load_candidates(by_size)[1]] == [160] * 3


@pytest.mark.usefixtures("no_downloads")
def test_what_cannot_run_is_passed_over_with_the_reason(config, capsys, monkeypatch):
    config = config.replace(backbone=("mobilenet", "inceptionv3", "efficientnet_lite0", "vgg16"))
    for module in ("tuning.inputs", "training.inputs"):
        monkeypatch.setattr(f"{module}.check_available", lambda *_: None)

    def build(backbone, **settings):
        if backbone.name == "mobilenet":
            raise UsageError("its weights do not fit")
        if backbone.name == "vgg16":
            raise MemoryError
        return build_classifier(backbone, **settings)

    monkeypatch.setattr("training.frozen.build_classifier", build)
    table = pd.read_csv(run(config) / "ranking.csv")
    assert list(table["backbone"]) == ["efficientnet_lite0"]
    left_out = [line for line in capsys.readouterr().out.splitlines() if line.startswith("left out")]
    assert [line.split()[2] for line in left_out] == ["inceptionv3:", "mobilenet:", "vgg16:"]
    assert "at least 75" in left_out[0]
    assert "do not fit" in left_out[1]
    assert "MemoryError" in left_out[2]


@pytest.mark.usefixtures("no_downloads")
@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"weights": "none"}, "--weights none has nothing to compare"),
        ({"weights": "w.h5", "backbone": ("vgg16", "vgg19")}, "fits one backbone; received 2"),
        ({"backbone": ("resnet5",)}, "Did you mean 'resnet50'"),
        ({"backbone": ("vgg16",)}, "weights of vgg16 cannot be downloaded"),
        ({"backbone": ("vgg16", "vgg19")}, "None of the backbones can be ranked"),
        ({"backbone": ("inceptionv3",)}, "at least 75 for inceptionv3; received 64"),
        ({"data": "nowhere"}, "no such file or folder"),
    ],
)
def test_mistakes_are_answered_before_anything_is_decoded(config, change, message):
    with pytest.raises(UsageError, match=message):
        load_candidates(config.replace(**change))


def test_a_folder_of_something_else_is_left_alone(config):
    config.fixed.run.output.mkdir()
    (config.fixed.run.output / "letter.txt").touch()
    with pytest.raises(UsageError, match="new or empty folder"):
        load_candidates(config)


def test_pictures_without_a_val_split_cannot_be_ranked_by(config):
    data = load_inputs(load_candidates(config)[1][0]).data
    check_val_split(data)
    with pytest.raises(UsageError, match="leave none"):
        check_val_split(data._replace(splits={**data.splits, "val": np.zeros(0, int)}))


def test_the_command_keeps_what_differs_from_the_defaults():
    config = TuneConfig.of(data="my photos", image_size=96, class_weights=True, rank_backbones=True, batch_size=(8,))
    command = train_command(config, "vgg16")
    expected = "python train.py --data 'my photos' --backbone vgg16 --image-size 96 --class-weights"
    assert command == expected


def test_the_folder_is_named_by_data_and_settings():
    config = TuneConfig.of(data="tfds:beans", rank_backbones=True)
    assert search_folder(config).name.startswith("ranking-beans-")
    assert search_folder(config) == search_folder(config.replace(cache_gb=1.0))
    assert search_folder(config) != search_folder(config.replace(seed=1))


def test_the_figure_names_every_backbone_and_marks_those_that_none_beats():
    table = pd.DataFrame({"backbone": ["a", "b", "c", "d"], "ridge_accuracy": [0.9, 0.9, 0.8, 0.7]})
    table["ridge_low"], table["ridge_high"] = table["ridge_accuracy"] - 0.05, table["ridge_accuracy"] + 0.05
    table["pictures_per_second"] = [50.0, 40.0, 20.0, 100.0]
    accuracy, time_taken = backbone_ranking(table, 100).axes
    assert [label.get_text() for label in accuracy.get_yticklabels()] == ["a", "b", "c", "d"]
    np.testing.assert_allclose([bar.get_width() for bar in time_taken.patches], [20, 25, 50, 10])
    marked = [same_color(bar.get_facecolor(), VAL_COLOUR) for bar in time_taken.patches]
    assert marked == [True, False, False, True]


def test_two_classes_share_one_output():
    said = predict_by_ridge(np.eye(2, dtype=np.float32), np.array([[0], [1]], np.float32), np.eye(2), BINARY)
    assert said.tolist() == [[True, False], [False, True]]
