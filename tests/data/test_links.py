"""Links and paths stay within the folder of the data unless --outside allows more; nothing is read twice or lost."""

import os
import re
from pathlib import Path

import pytest
from PIL import Image

from app.config import TrainConfig
from app.errors import UsageError
from data.prepare import prepare_data
from data.sources import LINK_OUT, load_source
from tests.conftest import make_picture

SAME = "a link to a folder of the same data"


def names(source) -> list[str]:
    return sorted(picture.path.relative_to(source.root).as_posix() for picture in source.examples)


def set_aside(source) -> dict[str, str]:
    return {path.relative_to(source.root).as_posix(): reason for path, reason in source.set_aside}


@pytest.fixture
def photos(make_folder, tmp_path) -> Path:
    """Two classes of one picture each, and beside them a folder of others with a folder in it."""
    root = make_folder(count=1)
    (tmp_path / "elsewhere" / "deep").mkdir(parents=True)
    make_picture(1).save(tmp_path / "elsewhere" / "a.png")
    make_picture(2).save(tmp_path / "elsewhere" / "deep" / "b.png")
    return root


def test_a_link_out_of_the_folder_is_set_aside_and_followed_if_asked_for(photos, tmp_path):
    (photos / "cat" / "link.png").symlink_to("../../elsewhere/a.png")
    source = load_source(str(photos), tmp_path)
    assert (names(source), set_aside(source)) == (["cat/0.png", "dog/0.png"], {"cat/link.png": LINK_OUT})
    followed = load_source(str(photos), tmp_path, outside=True)
    assert (names(followed), set_aside(followed)) == (["cat/0.png", "cat/link.png", "dog/0.png"], {})


def test_a_link_within_the_folder_is_a_file(photos, tmp_path):
    (photos / "cat" / "link.png").symlink_to("0.png")
    source = load_source(str(photos), tmp_path)
    assert (names(source), set_aside(source)) == (["cat/0.png", "cat/link.png", "dog/0.png"], {})


@pytest.mark.parametrize("place", ["cat/more", "puma"])
def test_a_linked_folder_outside_is_walked_only_if_asked_for(photos, tmp_path, place):
    (photos / place).symlink_to(tmp_path / "elsewhere")
    source = load_source(str(photos), tmp_path)
    assert (names(source), set_aside(source)) == (["cat/0.png", "dog/0.png"], {place: LINK_OUT})
    followed = load_source(str(photos), tmp_path, outside=True)
    assert names(followed) == sorted(["cat/0.png", f"{place}/a.png", f"{place}/deep/b.png", "dog/0.png"])
    labels = {picture.labels for picture in followed.examples if picture.path.name == "b.png"}
    assert labels == {(place.split("/")[0].replace("more", "cat"),)}


def test_the_folder_itself_and_those_above_it_may_be_links(photos, tmp_path):
    (tmp_path / "alias").symlink_to(photos)
    (tmp_path / "above").symlink_to(tmp_path)
    for root in (tmp_path / "alias", tmp_path / "above" / "photos"):
        source = load_source(str(root), tmp_path)
        assert (names(source), set_aside(source)) == (["cat/0.png", "dog/0.png"], {})


@pytest.mark.parametrize("outside", [False, True])
@pytest.mark.parametrize("target", [".", "..", "../dog", "../../photos"])
def test_a_link_to_a_folder_of_the_same_data_is_not_walked(photos, tmp_path, target, outside):
    (photos / "cat" / "again").symlink_to(target)
    source = load_source(str(photos), tmp_path, outside)
    assert (names(source), set_aside(source)) == (["cat/0.png", "dog/0.png"], {"cat/again": SAME})


def test_every_folder_is_walked_once_however_many_links_lead_to_it(photos, tmp_path):
    (photos / "cat" / "1").symlink_to(tmp_path / "elsewhere" / "deep")
    (photos / "cat" / "2").symlink_to(tmp_path / "elsewhere")
    (photos / "dog" / "3").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "elsewhere" / "back").symlink_to(photos)
    source = load_source(str(photos), tmp_path, outside=True)
    assert names(source) == ["cat/0.png", "cat/1/b.png", "cat/2/a.png", "dog/0.png"]
    assert set_aside(source) == {
        "cat/2/back": SAME,
        "cat/2/deep": "a folder already reached by another link",
        "dog/3": SAME,
    }


def test_a_link_to_a_folder_above_ends(photos, tmp_path):
    (photos / "cat" / "up").symlink_to(tmp_path)
    source = load_source(str(photos), tmp_path, outside=True)
    assert names(source) == ["cat/0.png", "cat/up/elsewhere/a.png", "cat/up/elsewhere/deep/b.png", "dog/0.png"]
    assert set_aside(source) == {"cat/up/photos": "a folder already reached by another link"}


def test_a_class_of_nothing_but_links_out_is_a_mistake(photos, tmp_path):
    (photos / "puma").mkdir()
    (photos / "puma" / "a.png").symlink_to(tmp_path / "elsewhere" / "a.png")
    with pytest.raises(UsageError, match=r"puma' has none: '.*a.png' is a link out of the folder, which --outside"):
        load_source(str(photos), tmp_path)


def test_a_folder_of_nothing_but_linked_classes_says_what_to_do(photos, tmp_path):
    (tmp_path / "linked").mkdir()
    for name in ("cat", "dog"):
        (tmp_path / "linked" / name).symlink_to(photos / name)
    with pytest.raises(UsageError, match=r"has no folder in it\. '.*cat' is a link out of the folder, which --outside"):
        load_source(str(tmp_path / "linked"), tmp_path)
    assert names(load_source(str(tmp_path / "linked"), tmp_path, outside=True)) == ["cat/0.png", "dog/0.png"]


def test_a_linked_train_folder_says_what_to_do(photos, tmp_path):
    (tmp_path / "split").mkdir()
    (tmp_path / "split" / "train").symlink_to(photos)
    photos.rename(tmp_path / "moved")
    (tmp_path / "split" / "val").mkdir()
    (tmp_path / "photos").symlink_to("moved")
    with pytest.raises(UsageError, match=r"has none\. '.*train' is a link out of the folder, which --outside"):
        load_source(str(tmp_path / "split"), tmp_path)


def test_links_that_lead_nowhere_or_to_themselves_are_left_to_the_decoder(photos, tmp_path):
    (photos / "cat" / "broken").symlink_to("nowhere")
    (photos / "cat" / "loop").symlink_to("loop")
    (photos / "loop").symlink_to("loop")
    (photos / "broken").symlink_to(tmp_path / "nowhere")
    source = load_source(str(photos), tmp_path)
    assert (names(source), set_aside(source)) == (["cat/0.png", "cat/broken", "cat/loop", "dog/0.png"], {})


def test_a_folder_with_the_name_of_a_picture_is_walked(photos, tmp_path):
    (photos / "cat" / "full.jpg").mkdir()
    make_picture(3).save(photos / "cat" / "full.jpg" / "1.png")
    source = load_source(str(photos), tmp_path)
    assert (names(source), set_aside(source)) == (["cat/0.png", "cat/full.jpg/1.png", "dog/0.png"], {})


def write_csv(root: Path, *paths: object) -> Path:
    (root / "labels.csv").write_text("\n".join(["path,label", "cat/0.png,cat", "dog/0.png,dog", *map(str, paths)]))
    return root / "labels.csv"


@pytest.mark.parametrize("path", ["../elsewhere/a.png", "cat/../../elsewhere/a.png", "/etc/hostname", "..", "/nowhere"])
def test_a_path_of_a_csv_that_leads_out_is_a_mistake(photos, tmp_path, path):
    data = write_csv(photos, f"{path},cat")
    message = f"Line 4 of '{data}' names a picture outside the folder of that file: '{path}'. Move it into"
    with pytest.raises(UsageError, match=re.escape(message) + ".*--outside"):
        load_source(str(data), tmp_path)
    assert len(load_source(str(data), tmp_path, outside=True).examples) == 3


def test_paths_of_a_csv_that_stay_in_its_folder_are_fine(photos, tmp_path, monkeypatch):
    (tmp_path / "alias").symlink_to(photos)
    data = write_csv(photos, f"{photos}/cat/0.png,cat", "cat/../dog/0.png,dog", f"{tmp_path}/alias/cat/0.png,cat")
    assert len(load_source(str(data), tmp_path).examples) == 5
    assert len(load_source(str(tmp_path / "alias" / "labels.csv"), tmp_path).examples) == 5
    monkeypatch.chdir(photos)
    assert len(load_source("labels.csv", tmp_path).examples) == 5


def test_links_that_a_csv_names_are_treated_as_in_a_folder(photos, tmp_path):
    (photos / "link.png").symlink_to("../elsewhere/a.png")
    (photos / "more").symlink_to("../elsewhere")
    (photos / "within").symlink_to("cat")
    (photos / "broken").symlink_to("../nowhere")
    data = write_csv(photos, "link.png,cat", "more/deep/b.png,cat", "within/0.png,cat", "broken,cat")
    source = load_source(str(data), tmp_path)
    assert names(source) == ["broken", "cat/0.png", "dog/0.png", "within/0.png"]
    assert set_aside(source) == {"link.png": LINK_OUT, "more/deep/b.png": LINK_OUT}
    assert len(load_source(str(data), tmp_path, outside=True).examples) == 6


def test_a_class_of_a_csv_of_nothing_but_links_out_is_a_mistake(photos, tmp_path):
    (photos / "link.png").symlink_to("../elsewhere/a.png")
    with pytest.raises(UsageError, match=r"'puma' of .* has none: '.*link.png' is a link out of the folder"):
        load_source(str(write_csv(photos, "link.png,puma")), tmp_path)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("photos.zip", "which is an archive. Unpack it first"),
        ("photos.tar.gz", "which is an archive. Unpack it first"),
        ("photo.JPG", "which is one picture. Name the folder"),
        ("notes.txt", "which is one text. Name the folder"),
        ("notes.doc", "which is none of these."),
    ],
)
def test_a_file_in_place_of_a_folder_is_explained(tmp_path, name, message):
    Image.new("RGB", (8, 8)).save(tmp_path / name, "PNG")
    with pytest.raises(UsageError, match=re.escape(message)):
        load_source(str(tmp_path / name), tmp_path)


def test_a_csv_that_is_a_pipe_does_not_hang(tmp_path):
    os.mkfifo(tmp_path / "labels.csv")
    with pytest.raises(UsageError, match="is not a file"):
        load_source(str(tmp_path / "labels.csv"), tmp_path)


def swap(path: Path, how: str, elsewhere: Path) -> None:
    """Puts something else where a file was, as someone may do between the walk and the reading."""
    if how == "folder":
        path.parent.rename(elsewhere / "moved")
        path.parent.symlink_to(elsewhere / "moved")
        return
    path.unlink()
    path.symlink_to(elsewhere / "a.png") if how == "link" else os.mkfifo(path)


@pytest.mark.parametrize(("how", "reason"), [("link", LINK_OUT), ("folder", LINK_OUT), ("pipe", "not a file")])
def test_what_is_swapped_in_after_the_walk_is_neither_followed_nor_waited_for(make_folder, tmp_path, how, reason):
    root = make_folder()
    (tmp_path / "elsewhere").mkdir()
    make_picture(1).save(tmp_path / "elsewhere" / "a.png")
    (root / "dog" / "deep").mkdir()
    make_picture(2).save(root / "dog" / "deep" / "x.png")
    config = TrainConfig.of(data=str(root), cache_dir=tmp_path / "cache", outside=False, image_size=16)
    source = load_source(config.data.data, config.run.cache_dir)
    swap(root / "dog" / "deep" / "x.png", how, tmp_path / "elsewhere")
    quarantine = prepare_data(source, config).quarantine
    assert [(item.path, item.reason) for item in quarantine] == [(root / "dog" / "deep" / "x.png", reason)]
    if how != "pipe":
        allowed = load_source(config.data.data, config.run.cache_dir, outside=True)
        assert prepare_data(allowed, config.replace(cache_gb=0.0)).quarantine == []
