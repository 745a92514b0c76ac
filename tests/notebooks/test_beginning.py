"""Some of the pictures are named as they are: with all their labels, and in the splits and groups that they had."""

from collections import Counter
from pathlib import Path

import pytest

from app.errors import UsageError
from data.sources import Example, load_source
from notebooks import beginning
from notebooks.beginning import locate, make_work_folder, quietly, shown_without, some_pictures
from tests.conftest import draw_photos


@pytest.fixture
def work(tmp_path: Path) -> Path:
    folder = tmp_path / "work"
    folder.mkdir()
    return folder


def test_some_of_a_relative_folder_keep_class_and_split(make_folder, work, tmp_path, monkeypatch):
    for split in ("train", "val", "test"):
        make_folder(f"photos/{split}", count=6)
    monkeypatch.chdir(tmp_path)
    csv = some_pictures("photos", 18, work)
    assert csv == work / "some.csv"
    named = _read(csv)
    assert all(each.path.is_absolute() and each.path.is_file() for each in named)
    for each in named:
        assert (each.split, *each.labels) == each.path.parts[-3:-1]
    assert Counter((each.split, *each.labels) for each in named) == {
        (split, label): 3 for split in ("train", "val", "test") for label in ("cat", "dog")
    }


def test_a_folder_without_splits_leaves_them_open(make_folder, work):
    named = _read(some_pictures(str(make_folder(count=4)), None, work))
    assert [each.split for each in named] == [None] * 8


def test_some_are_every_kth_in_whatever_order_a_table_has_them(make_folder, work):
    photos = make_folder(count=6)
    lines = [f"{label}/{number}.png,{label}" for number in range(6) for label in ("cat", "dog")]
    (photos / "labels.csv").write_text("\n".join(["path,label", *lines]))
    named = _read(some_pictures(str(photos / "labels.csv"), 6, work))
    assert [(*each.labels, each.path.name) for each in named] == [
        (label, f"{number}.png") for label in ("cat", "dog") for number in (0, 2, 4)
    ]


def test_a_rare_class_keeps_a_picture(work, tmp_path):
    draw_photos(tmp_path / "photos", ["common"], 30)
    draw_photos(tmp_path / "photos", ["rare"], 1)
    named = _read(some_pictures(str(tmp_path / "photos"), 3, work))
    assert Counter(label for each in named for label in each.labels) == {"common": 3, "rare": 1}


def test_more_than_there_are_is_all(make_folder, work):
    assert len(_read(some_pictures(str(make_folder(count=2)), 100, work))) == 4


def test_a_table_of_several_labels_keeps_them_all(make_folder, work):
    photos = make_folder(count=2)
    labels = {"cat/0.png": "cat|red", "cat/1.png": "", "dog/0.png": "dog", "dog/1.png": "cat|dog|red"}
    splits = dict(zip(labels, ("train", "val", "test", ""), strict=True))
    rows = [f"{path},{label},{splits[path]}" for path, label in labels.items()]
    (photos / "labels.csv").write_text("\n".join(["path,label,split", *rows]))
    csv = some_pictures(str(photos / "labels.csv"), None, work)
    assert load_source(str(csv), work, outside=True).multi_label
    named = {each.path.relative_to(photos).as_posix(): each for each in _read(csv)}
    assert {path: "|".join(each.labels) for path, each in named.items()} == labels
    assert {path: each.split or "" for path, each in named.items()} == splits


@pytest.mark.parametrize("groups", [("anna", "", "anna", "ben"), ("", "", "", "")])
def test_a_table_of_groups_keeps_them(make_folder, work, groups):
    photos = make_folder(count=2)
    paths = ["cat/0.png", "cat/1.png", "dog/0.png", "dog/1.png"]
    rows = [f"{path},{path[:3]},{group}" for path, group in zip(paths, groups, strict=True)]
    (photos / "labels.csv").write_text("\n".join(["path,label,group", *rows]))
    csv = some_pictures(str(photos / "labels.csv"), None, work)
    assert tuple(each.group for each in _read(csv)) == groups
    assert csv.read_text().splitlines()[0].endswith(",split,group" if any(groups) else ",split")


def test_a_folder_in_the_project_is_found_from_the_folder_of_notebooks(make_folder, work, tmp_path, monkeypatch):
    make_folder("project/photos", count=2)
    monkeypatch.setattr(beginning, "ROOT", tmp_path / "project")
    monkeypatch.chdir(work)
    assert {each.path.parents[1] for each in _read(some_pictures("photos", None, work))} == {
        tmp_path / "project" / "photos"
    }


def test_what_is_in_the_working_directory_goes_before_the_project(tmp_path, work, monkeypatch):
    for place in (tmp_path / "photos", tmp_path / "animals", work / "photos"):
        place.mkdir()
    monkeypatch.setattr(beginning, "ROOT", tmp_path)
    monkeypatch.chdir(work)
    assert locate("photos") == "photos"
    assert locate("animals") == "animals"  # the bundled ones, as everywhere
    assert locate("tfds:photos") == "tfds:photos"


def test_a_path_may_begin_at_the_home_folder(tmp_path, monkeypatch):
    for name in ("HOME", "USERPROFILE"):  # of Linux and macOS, of Windows
        monkeypatch.setenv(name, str(tmp_path))
    assert Path(locate("~/photos")) == tmp_path / "photos"


def test_data_that_is_nowhere_is_refused(work):
    with pytest.raises(UsageError, match="'no_such_folder', and there is no such file or folder"):
        some_pictures("no_such_folder", 10, work)


def test_lines_are_put_aside_or_shown_without_a_place(work, capsys):
    with quietly():
        print("a long story")
    with shown_without(work):
        print(f"written to {work}/run")
    assert capsys.readouterr().out == "written to .../run\n"


def test_the_folder_to_work_in_is_there_and_empty():
    assert list(make_work_folder().iterdir()) == []


def _read(csv: Path) -> list[Example]:
    return load_source(str(csv), csv.parent, outside=True).examples
