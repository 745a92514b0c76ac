"""Each source finds its pictures, labels and splits."""

import io
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
from PIL import Image

from app.errors import UsageError
from data import csv_table, tfds
from data.images.decode import read_picture
from data.sounds.wav import encode_wav
from data.sources import MADE_HERE, SOURCES, is_name, load_source, natural_order
from inference.files import find_files
from tests.conftest import make_picture


def labels_of(source) -> dict[str, tuple]:
    return {
        picture.path.relative_to(source.root).as_posix(): (picture.labels, picture.split) for picture in source.examples
    }


def test_every_source_has_its_two_functions():
    import importlib

    for name, module in SOURCES.items():
        source = importlib.import_module(module)
        assert name in MADE_HERE or callable(source.accepts)
        assert callable(source.load)


def test_names_sort_as_people_count():
    assert sorted(["10", "9", "b2", "b10", "A"], key=natural_order) == ["9", "10", "A", "b2", "b10"]
    assert sorted(["1", "01"], key=natural_order) == sorted(["01", "1"], key=natural_order)


def test_a_folder_of_class_folders(make_folder, tmp_path):
    source = load_source(str(make_folder(count=2)), tmp_path)
    assert source.name == "photos"
    assert labels_of(source) == {
        "cat/0.png": (("cat",), None),
        "cat/1.png": (("cat",), None),
        "dog/0.png": (("dog",), None),
        "dog/1.png": (("dog",), None),
    }


@pytest.mark.parametrize(
    ("folder", "split"), [("valid", "val"), ("Validation", "val"), ("val", "val"), ("TEST", "test")]
)
def test_a_folder_of_split_folders(make_folder, tmp_path, folder, split):
    make_folder("photos/train", count=1)
    make_folder(f"photos/{folder}", count=1)
    splits = {name: found[1] for name, found in labels_of(load_source(str(tmp_path / "photos"), tmp_path)).items()}
    assert splits == {
        "train/cat/0.png": "train",
        "train/dog/0.png": "train",
        f"{folder}/cat/0.png": split,
        f"{folder}/dog/0.png": split,
    }


def test_pictures_in_subfolders_count_and_leftovers_do_not(make_folder, tmp_path):
    root = make_folder(count=1)
    (root / "cat" / "more").mkdir()
    make_picture(9).save(root / "cat" / "more" / "x.PNG")
    of_systems = ("$RECYCLE.BIN/S-1/$R1.png", "System Volume Information/1.png", "cat/ehthumbs.db", "cat/Icon\r")
    for leftover in (
        *("cat/.DS_Store", "cat/._0.png", "cat/Thumbs.db", "__MACOSX/cat/0.png", ".hidden/0.png"),
        *of_systems,
    ):
        (root / leftover).parent.mkdir(parents=True, exist_ok=True)
        (root / leftover).write_bytes(b"x")
    assert sorted(labels_of(load_source(str(root), tmp_path))) == ["cat/0.png", "cat/more/x.PNG", "dog/0.png"]


@pytest.mark.parametrize("below", [".", "train"])
def test_pictures_beside_the_folders_of_classes_are_set_aside_and_other_files_are_not(make_folder, tmp_path, below):
    make_folder(f"photos/{below}", count=1)
    for name in {"1.png", f"{below}/2.JPG", f"{below}/README.txt", "labels.csv"}:
        (tmp_path / "photos" / name).write_bytes(b"x")
    source = load_source(str(tmp_path / "photos"), tmp_path)
    assert len(source.examples) == 2
    names = {path.relative_to(source.root).as_posix(): reason for path, reason in source.set_aside}
    assert names == dict.fromkeys(["1.png", f"{below}/2.JPG".removeprefix("./")], "not in a folder of a class")


def test_a_test_folder_without_classes_says_what_to_do(make_folder, tmp_path):
    make_folder("photos/train", count=1)
    (tmp_path / "photos" / "test").mkdir()
    make_picture(9).save(tmp_path / "photos" / "test" / "9.png")
    message = r"/test' has no folder in it\. If its pictures have no labels, move it elsewhere: predict\.py takes it\.$"
    with pytest.raises(UsageError, match=message):
        load_source(str(tmp_path / "photos"), tmp_path)


def test_a_csv_with_splits(make_folder, tmp_path):
    path = make_folder() / "labels.csv"
    path.write_text("\ufeffPath, Label ,split,note\ncat/0.png,cat,train,x\ndog/0.png,dog,,y\ncat/1.png,cat,valid,z\n")
    assert labels_of(load_source(str(path), tmp_path)) == {
        "cat/0.png": (("cat",), "train"),
        "dog/0.png": (("dog",), None),
        "cat/1.png": (("cat",), "val"),
    }


def test_a_csv_with_several_labels_is_multi_label(make_folder, tmp_path):
    path = make_folder() / "labels.csv"
    path.write_text("path,label\ncat/0.png,cat|indoors\ndog/0.png,dog\ndog/1.png,\n")
    source = load_source(str(path), tmp_path)
    assert source.multi_label
    assert [picture.labels for picture in source.examples] == [("cat", "indoors"), ("dog",), ()]


def test_a_mark_without_a_second_label_makes_no_task_of_several_labels(make_folder, tmp_path):
    path = make_folder() / "labels.csv"
    path.write_text("path,label\ncat/0.png,cat|\ndog/0.png,dog\ndog/1.png,dog|dog\n")
    source = load_source(str(path), tmp_path)
    assert not source.multi_label
    assert [picture.labels for picture in source.examples] == [("cat",), ("dog",), ("dog",)]


def test_blanks_around_fields_and_empty_lines_do_not_matter(make_folder, tmp_path):
    path = make_folder() / "labels.csv"
    path.write_text("path,label\r\ncat/0.png , cat\r\n\r\ndog/0.png,dog\r\n\r\n")
    assert sorted(labels_of(load_source(str(path), tmp_path))) == ["cat/0.png", "dog/0.png"]


def test_labels_that_look_like_missing_values_are_kept(make_folder, tmp_path):
    path = make_folder() / "labels.csv"
    path.write_text("path,label\ncat/0.png,NA\ndog/0.png,null\n")
    assert [picture.labels for picture in load_source(str(path), tmp_path).examples] == [("NA",), ("null",)]


def test_the_bundled_animals_are_unpacked_once(tmp_path):
    source = load_source("animals", tmp_path)
    assert len(source.examples) == 10_000
    counts = {name: sum(picture.labels == (name,) for picture in source.examples) for name in ("bear", "zebra")}
    assert counts == {"bear": 1000, "zebra": 1000}
    pixels = read_picture(source.examples[0].path, 28)
    assert pixels.min() < 50 < 200 < pixels.max()
    first = source.examples[0].path
    written = first.stat().st_mtime_ns
    assert load_source("animals", tmp_path).examples[0].path.stat().st_mtime_ns == written
    assert [entry.name for entry in (tmp_path / "data").iterdir()] == ["animals-0.4"]


@pytest.fixture
def prepared_tfds(tmp_path, monkeypatch):
    """A small data set of two classes and two splits, prepared locally."""
    import tensorflow_datasets

    folder = tmp_path / "tensorflow_datasets"
    monkeypatch.setenv("TFDS_DATA_DIR", str(folder))
    monkeypatch.setattr("tensorflow_datasets.core.constants.DATA_DIR", str(folder))
    features = tensorflow_datasets.features.FeaturesDict(
        {
            "image": tensorflow_datasets.features.Image(shape=(None, None, 3)),
            "label": tensorflow_datasets.features.ClassLabel(names=["daisy", "rose"]),
        }
    )

    def examples(start: int, count: int) -> list[tuple]:
        return [(i, {"image": np.asarray(make_picture(start + i)), "label": i % 2}) for i in range(count)]

    tensorflow_datasets.dataset_builders.store_as_tfds_dataset(
        name="tiny_flowers",
        version="1.0.0",
        features=features,
        split_datasets={"train": examples(0, 6), "test": examples(100, 2)},
        data_dir=folder,
    )
    return folder


def test_a_prepared_tfds_data_set_is_written_to_files_as_it_is(prepared_tfds, tmp_path):
    source = load_source("tfds:tiny_flowers", tmp_path / "cache")
    found = labels_of(source)
    assert sorted(found.values()) == sorted(
        [(("daisy",), "train"), (("rose",), "train")] * 3 + [(("daisy",), "test"), (("rose",), "test")]
    )
    roses = [picture.path for picture in source.examples if picture.labels == ("rose",) and picture.split == "train"]
    unpacked = {Image.open(path).tobytes() for path in roses}
    assert unpacked == {make_picture(seed).tobytes() for seed in (1, 3, 5)}


def test_a_tfds_data_set_with_boxes_gives_them_in_pixels(prepared_tfds, tmp_path):
    import tensorflow_datasets
    from tensorflow_datasets.core.features import BBox, BBoxFeature, ClassLabel, FeaturesDict, Image, Sequence

    boxes = Sequence({"bbox": BBoxFeature(), "label": ClassLabel(names=["cat", "dog"]), "is_difficult": np.bool_})
    pixels = np.asarray(make_picture(0))
    height, width = pixels.shape[:2]
    objects = {
        "bbox": [BBox(0.25, 0.0, 1.0, 0.5), BBox(0.0, 0.0, 0.5, 1.0)],
        "label": [1, 0],
        "is_difficult": [False, True],
    }
    empty = {"bbox": np.zeros((0, 4), np.float32), "label": [], "is_difficult": []}
    tensorflow_datasets.dataset_builders.store_as_tfds_dataset(
        name="tiny_boxes",
        version="1.0.0",
        features=FeaturesDict({"image": Image(shape=(None, None, 3)), "objects": boxes}),
        split_datasets={
            "train": [(0, {"image": pixels, "objects": objects}), (1, {"image": pixels, "objects": empty})],
            "validation": [(2, {"image": pixels, "objects": objects})],
        },
        data_dir=prepared_tfds,
    )
    source = load_source("tfds:tiny_boxes", tmp_path / "cache")
    assert source.has_boxes
    assert source.set_aside == []
    assert sorted((each.split, len(each.boxes.labels)) for each in source.examples) == [
        ("train", 0),
        ("train", 2),
        ("val", 2),
    ]
    found = next(each.boxes for each in source.examples if each.split == "val")
    assert found.labels == ("dog", "cat")
    assert found.corners == ((0, height / 4, width / 2, height), (0, 0, width, height / 2))
    assert found.ignored == (False, True)


@pytest.fixture
def prepare_words(prepared_tfds):
    """Returns a function that prepares a data set of some features and of the class label, in two classes."""
    import tensorflow_datasets
    from tensorflow_datasets.core.features import ClassLabel, FeaturesDict

    def prepare(name, features, examples):
        tensorflow_datasets.dataset_builders.store_as_tfds_dataset(
            name=name,
            version="1.0.0",
            features=FeaturesDict({**features, "label": ClassLabel(names=["bad", "a|b"])}),
            split_datasets={"train": [(i, {**each, "label": i % 2}) for i, each in enumerate(examples)]},
            data_dir=prepared_tfds,
        )
        return f"tfds:{name}"

    return prepare


def test_texts_of_a_tfds_data_set_are_what_they_are(prepare_words, tmp_path):
    from tensorflow_datasets.core.features import Text

    texts = ["=1+1, <b>ünï</b>\n|", "two", "\u202ethree", "four"]
    examples = [{"text": text, "title": "a title"} for text in texts]
    source = load_source(prepare_words("tiny_reviews", {"text": Text(), "title": Text()}, examples), tmp_path / "cache")
    assert source.kind.name == "text"
    found = {example.path.read_bytes().decode(): example.labels for example in source.examples}
    assert found == {text: (("bad",), ("a|b",))[number % 2] for number, text in enumerate(texts)}


def test_recordings_of_a_tfds_data_set_keep_their_samples_rate_and_channels(prepare_words, tmp_path):
    from tensorflow_datasets.core.features import Audio

    samples = [np.array([0, 100, -32_768, 32_767]), np.array([5, 6])]
    name = prepare_words("tiny_words", {"audio": Audio(sample_rate=8_000)}, [{"audio": each} for each in samples])
    source = load_source(name, tmp_path / "cache")
    assert source.kind.name == "sound"
    read = [
        soundfile.read(each.path, dtype="int16") for each in sorted(source.examples, key=lambda each: each.path.name)
    ]
    assert sorted((values.tolist(), rate) for values, rate in read) == sorted(
        (values.tolist(), 8_000) for values in samples
    )
    floats = encode_wav(np.array([[0.0, 1.0], [-1.0, 2.0]], np.float32), 16_000)
    assert soundfile.read(io.BytesIO(floats), dtype="int16")[0].tolist() == [[0, 32_767], [-32_767, 32_767]]


def test_a_tfds_data_set_of_which_nothing_tells_what_is_classified_is_refused(prepare_words, tmp_path):
    from tensorflow_datasets.core.features import Text

    name = prepare_words("tiny_mails", {"subject": Text(), "body": Text()}, [{"subject": "a", "body": "b"}])
    with pytest.raises(UsageError, match=r"one picture, recording or text .*'tiny_mails' has .*body"):
        load_source(name, tmp_path / "cache")
    (example,) = load_source(name, tmp_path / "cache", text_column="body").examples
    assert example.path.read_bytes() == b"b"
    with pytest.raises(UsageError, match=r"--text-column may name.*'tiny_mails' has .*label"):
        load_source(name, tmp_path / "cache", text_column="sender")


def test_a_column_of_a_table_that_is_the_text_can_be_named(tmp_path):
    table = tmp_path / "mails.csv"
    table.write_text("path,Subject,body,label,group\n../a.txt,one,two,x,g\n,three,four,y,h\n")
    source = load_source(str(table), tmp_path, text_column="body")
    assert source.kind.name == "text"
    assert [(each.content, each.labels, each.group) for each in source.examples] == [
        (b"two", ("x",), "g"),
        (b"four", ("y",), "h"),
    ]
    assert [each.content for each in load_source(str(table), tmp_path, text_column="subject").examples] == [
        b"one",
        b"three",
    ]
    assert next(each.content for each in load_source(str(table), tmp_path, text_column="path").examples) == b"../a.txt"
    assert find_files([str(table)], text_column="body")[1].content == b"four"
    with pytest.raises(UsageError, match=r"lacks sender: it has path, subject, body, label, group"):
        load_source(str(table), tmp_path, text_column="sender")
    with pytest.raises(UsageError, match=r"--text-column is for a \.csv .*'animals' has no columns"):
        load_source("animals", tmp_path, text_column="body")


@pytest.mark.parametrize("column", ["text", "path"])
def test_a_column_called_content_is_one_like_any_other(tmp_path, column):
    table = tmp_path / "table.csv"
    table.write_text(f"{column},label,content\none.png,x,hello\ntwo.png,y,world\n")
    found = [each.content or each.path.name for each in load_source(str(table), tmp_path).examples]
    assert found == ([b"one.png", b"two.png"] if column == "text" else ["one.png", "two.png"])
    assert [file.columns["content"] for file in find_files([str(table)])] == ["hello", "world"]


def test_a_short_first_row_hides_no_column(tmp_path):
    (tmp_path / "table.csv").write_text("text,author\ngood film\nbad film,ann\n")
    assert [file.columns for file in find_files([str(tmp_path / "table.csv")])] == [{"author": ""}, {"author": "ann"}]


def test_a_column_of_texts_is_there_once(tmp_path):
    (tmp_path / "table.csv").write_text("text,label,text\none,x,two\n")
    with pytest.raises(UsageError, match="repeats one"):
        load_source(str(tmp_path / "table.csv"), tmp_path)


def test_examples_without_a_label_are_left_out(prepared_tfds, tmp_path, monkeypatch):
    examples = [{"image": b"secret", "label": -1}, {"image": b"rose", "label": 1}]
    monkeypatch.setattr("tensorflow_datasets.as_numpy", lambda dataset: iter(examples))
    tfds._read_and_write("tiny_flowers", ("image", "label"), tmp_path)
    assert [path.read_bytes() for path in sorted((tmp_path / "train").rglob("0*"))] == [b"rose"]


def test_a_run_can_choose_its_devices_after_reading_a_tfds_data_set(prepared_tfds, tmp_path):
    script = (
        "import sys, pathlib\n"
        "from data.sources import load_source\n"
        "if __name__ == '__main__':\n"
        "    load_source('tfds:tiny_flowers', pathlib.Path(sys.argv[1]))\n"
        "    from devices.strategy import make_strategy\n"
        "    print(make_strategy('auto', 2).num_replicas_in_sync)\n"
    )
    (tmp_path / "script.py").write_text(script)
    environment = os.environ | {"PYTHONPATH": os.getcwd()}
    command = [sys.executable, tmp_path / "script.py", tmp_path / "cache"]
    ended = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=200)
    assert ended.stdout.splitlines()[-1:] == ["2"], ended.stderr


def test_an_unknown_tfds_name_is_a_mistake(prepared_tfds, tmp_path):
    with pytest.raises(UsageError, match="'no_such_flowers'"):
        tfds.load("tfds:no_such_flowers", tmp_path / "cache")


def test_a_tfds_data_set_that_cannot_be_downloaded_says_what_to_do(prepared_tfds, tmp_path, monkeypatch):
    def refuse(*_, **__):
        raise ConnectionError("no route to host")

    monkeypatch.setattr("requests.Session.get", refuse)
    with pytest.raises(UsageError, match=r"'mnist' cannot be prepared \(.*Without a network, copy"):
        tfds.load("tfds:mnist", tmp_path / "cache")


def test_a_table_without_labels_names_examples_to_predict(make_folder, tmp_path):
    path = make_folder() / "list.csv"
    path.write_text("path,note\ncat/0.png,x\ndog/0.png,y\n")
    source = csv_table.load(str(path), tmp_path, labelled=False)
    assert labels_of(source) == {"cat/0.png": ((), None), "dog/0.png": ((), None)}
    path.write_text("path,label\ncat/0.png,\ndog/0.png,dog\n")
    assert len(csv_table.load(str(path), tmp_path, labelled=False).examples) == 2
    with pytest.raises(UsageError, match=r"Line 2 of '.*' has no label"):
        csv_table.load(str(path), tmp_path)


@pytest.mark.parametrize(
    ("data", "expected"),
    [("animals", True), ("tfds:tf_flowers", True), ("rows.csv", False), (".", False), ("nowhere", False)],
)
def test_only_sources_that_look_for_no_file_are_names(data, expected):
    assert is_name(data) == expected


@pytest.fixture
def spoken(tmp_path) -> Path:
    for name in ("yes/1_anna.png", "yes/2_ben.png", "no/3_anna.png"):
        (tmp_path / "words" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "words" / name).write_bytes(b"0")
    return tmp_path / "words"


def test_groups_follow_from_paths_and_columns(spoken, tmp_path):
    source = load_source(str(spoken), tmp_path, group_by=r"_(\w+)\.png")
    assert {each.path.name: each.group for each in source.examples} == {
        "1_anna.png": "anna",
        "2_ben.png": "ben",
        "3_anna.png": "anna",
    }
    table = spoken / "table.csv"
    table.write_text("path,label,Speaker,group\nyes/1_anna.png,yes,anna,1\nno/3_anna.png,no,ben,2\n")
    for column, groups in {"speaker": ["anna", "ben"], "group": ["1", "2"], None: ["1", "2"]}.items():
        found = load_source(str(table), tmp_path, group_by=column)
        assert [each.group for each in found.examples] == groups


@pytest.mark.parametrize(
    ("group_by", "message"),
    [
        ("speaker", "a column of the .csv, or a pattern with one pair of parentheses"),
        ("(", "must be a regular expression"),
        (r"(\d\d)", "finds no group in 'no/3_anna.png'"),
    ],
)
def test_groups_that_are_none_are_refused(spoken, tmp_path, group_by, message):
    with pytest.raises(UsageError, match=message):
        load_source(str(spoken), tmp_path, group_by=group_by)


def test_a_column_of_groups_is_there_once_and_has_groups(spoken, tmp_path):
    table = spoken / "table.csv"
    table.write_text("path,label,Patient,patient,site\nyes/1_anna.png,yes,1,2,\nno/3_anna.png,no,3,4,\n")
    with pytest.raises(
        UsageError, match=r"must name one column; 'table' has several called 'patient'\. Rename all but"
    ):
        load_source(str(table), tmp_path, group_by="patient")
    with pytest.raises(UsageError, match="must name a column with groups; 'site' of 'table' is empty in every line"):
        load_source(str(table), tmp_path, group_by="site")
    assert len(load_source(str(table), tmp_path).examples) == 2
