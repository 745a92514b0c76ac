"""Data that is hardly what its owner means is refused in a sentence that helps, or has a caution."""

import re
import shutil

import pytest

from app.config import TrainConfig
from app.errors import UsageError
from data.labels import check_labels
from data.sources import load_source
from tasks.classification import BINARY
from training.inputs import load_inputs


@pytest.fixture
def load(tmp_path):
    """A function that loads pictures as train.py does."""
    return lambda data: load_inputs(TrainConfig.of(data=str(data), cache_dir=tmp_path / "cache")).data


@pytest.mark.parametrize("below", ["dataset", "download/dataset"])
@pytest.mark.parametrize("splits", [[""], ["train", "test"]])
def test_classes_that_are_further_in_are_found(make_folder, tmp_path, load, below, splits):
    for split in splits:
        make_folder(f"photos/{below}/{split}", count=3)
    (tmp_path / "photos" / below / "README.md").write_text("about")
    with pytest.raises(UsageError, match=f"further in. Name the folder above them: --data {tmp_path}/photos/{below}$"):
        load(tmp_path / "photos")
    assert load(tmp_path / "photos" / below).class_names == ("cat", "dog")


def test_a_table_beside_the_only_folder_is_named(make_folder, tmp_path, load):
    make_folder("cells", ("images",), count=3)
    (tmp_path / "cells" / "instances.json").write_text("{}")
    with pytest.raises(
        UsageError, match=f"'images' alone, and a table beside it: --data {tmp_path}/cells/instances.json"
    ):
        load(tmp_path / "cells")


def test_two_collections_of_the_same_classes_are_no_two_classes(make_folder, tmp_path, load):
    make_folder("photos/originals", count=3)
    make_folder("photos/resized", count=3)
    (tmp_path / "photos" / "notes").mkdir()
    (tmp_path / "photos" / "notes" / "read me.txt").write_text("about")
    shutil.copy(tmp_path / "photos/originals/cat/0.png", tmp_path / "photos/originals/preview.png")
    message = rf"originals and resized have .* \(cat and dog\)\. Name one: --data {tmp_path}/photos/originals \(or, if"
    with pytest.raises(UsageError, match=message):
        load(tmp_path / "photos")


def test_below_train_folders_are_classes_whatever_is_in_them(make_folder, tmp_path, load):
    make_folder("photos/train/cat", ("day", "night"), count=4)
    make_folder("photos/train/dog", ("day", "night"), count=4)
    assert load(tmp_path / "photos").class_names == ("cat", "dog")


def test_kinds_of_a_class_and_folders_beside_its_pictures_are_no_reason_to_doubt(make_folder, tmp_path, load):
    make_folder("kinds/cat", ("persian", "siamese"), count=4)
    make_folder("kinds/dog", ("poodle", "boxer"), count=4)
    assert load(tmp_path / "kinds").class_names == ("cat", "dog")
    for name in ("cat", "dog"):
        make_folder("photos", (name,), count=9)
        make_folder(f"photos/{name}", ("day", "night"), count=2)
    assert load(tmp_path / "photos").class_names == ("cat", "dog")


def test_a_folder_that_has_the_classes_once_more_is_no_class(make_folder, tmp_path, load):
    make_folder("photos", count=3)
    make_folder("photos/pets", count=3)
    message = rf"pets have folders of the same .* \(cat and dog\)\. .* --data {tmp_path}/photos/pets "
    with pytest.raises(UsageError, match=message):
        load(tmp_path / "photos")


def test_splits_below_the_classes_are_not_learnt_from(make_folder, tmp_path, load):
    make_folder("photos/cat", ("train", "test"), count=3)
    make_folder("photos/dog", ("train", "test"), count=3)
    with pytest.raises(UsageError, match=r"A split must be above the classes, as in '.*/photos/train/cat'; there is"):
        load(tmp_path / "photos")


@pytest.mark.parametrize("names", [("Daisy", "daisy"), ("caf\u00e9", "cafe\u0301"), ("sea lion", "sea  lion")])
def test_one_class_in_two_spellings_is_refused(make_folder, load, names):
    root = make_folder(classes=("rose", *names), count=3)
    with pytest.raises(UsageError, match="clearly different") as refused:
        load(root)
    assert all(f"'{name}'" in str(refused.value) for name in names)
    assert "has 3 pictures)" in str(refused.value)


def test_letters_are_told_apart(make_folder, load):
    assert load(make_folder(classes=("A", "a"), count=3)).class_names == ("A", "a")


def test_an_empty_folder_beside_the_splits_is_left_out(make_folder, tmp_path, load):
    make_folder("photos/train")
    make_folder("photos/test")
    (tmp_path / "photos" / "new").mkdir()
    data = load(tmp_path / "photos")
    assert data.class_names == ("cat", "dog")
    assert [(item.path.name, item.reason) for item in data.quarantine] == [("new", "an empty folder")]


def test_evaluate_asks_for_the_classes_of_the_model_alone(make_folder, tmp_path):
    make_folder("photos/cat", ("day", "night"), count=1)
    make_folder("photos/dog", ("day", "night"), count=1)
    source = load_source(str(tmp_path / "photos"), tmp_path)
    check_labels(source, ("cat", "dog"), BINARY)
    with pytest.raises(UsageError, match=r"has 'cat', 'dog'\. --data must be .* Name one: --data "):
        check_labels(source, ("day", "night"), BINARY)


def test_paths_of_windows_are_found(make_folder, load):
    root = make_folder(count=3)
    names = [f"{name}\\{number}.png" for name in ("cat", "dog") for number in range(3)]
    (root / "list.csv").write_text("path,label\n" + "".join(f"{name},{name[:3]}\n" for name in names))
    data = load(root / "list.csv")
    assert [data.display_path(picture.path) for picture in data.examples] == [name.replace("\\", "/") for name in names]
    assert data.quarantine == []


def test_a_backslash_in_a_name_is_one_where_such_a_file_is_there(make_folder, tmp_path):
    root = make_folder(count=1)
    (root / "cat" / "0.png").rename(root / "cat\\0.png")
    (root / "list.csv").write_text("path,label\ncat\\0.png,cat\ndog/0.png,dog\n")
    assert load_source(str(root / "list.csv"), tmp_path).examples[0].path == root / "cat\\0.png"


@pytest.mark.parametrize(
    ("path", "message"),
    [
        (r"\\server\photos\0.png", "names a picture outside the folder"),
        (r"..\secret.png", "names a picture outside the folder"),
    ],
)
def test_a_path_of_windows_leads_nowhere_else(make_folder, tmp_path, path, message):
    root = make_folder(count=1)
    (tmp_path / "secret.png").write_bytes((root / "cat" / "0.png").read_bytes())
    (root / "list.csv").write_text(f"path,label\n{path},cat\ndog/0.png,dog\n")
    with pytest.raises(UsageError, match=message):
        load_source(str(root / "list.csv"), tmp_path)


TINY = "6 of 6 pictures looked at are less than 8 pixels high or wide: there is hardly anything to see in them."
FEW = "Fewer than 5 training pictures are of cat (1) and dog (1): too few to learn from."


@pytest.mark.parametrize(("size", "cautions"), [((1, 1), (TINY, FEW)), ((48, 40), (FEW,))])
def test_hardly_anything_to_learn_from_is_told_on_the_terminal(make_folder, load, capsys, size, cautions):
    data = load(make_folder(count=3, size=size))
    assert tuple(data.cautions) == cautions
    shown = capsys.readouterr().out.splitlines()
    assert [line.removeprefix("warning    ") for line in shown if line.startswith("warning")] == list(cautions)


def test_enough_pictures_need_no_caution(make_folder, load):
    assert load(make_folder(count=12)).cautions == []


@pytest.mark.parametrize("names", [("1", "1.0"), ("01", "1"), ("-2", "-2.00")])
def test_classes_that_are_the_same_number_are_refused(make_folder, load, names):
    root = make_folder(classes=("x", *names), count=4)
    with pytest.raises(
        UsageError, match=r"clearly different; '.*' and '.*' \('.*' has 4 pictures\) are the same number"
    ):
        load(root)


def test_classes_that_are_different_numbers_are_none_the_worse(make_folder, load):
    assert load(make_folder(classes=("1", "1.5", "10", "1e1"), count=4)).class_names == ("1", "1.5", "1e1", "10")


def test_one_path_on_several_lines_of_a_table_says_how_to_join_its_labels(make_folder, load):
    root = make_folder(count=8)
    rows = [f"{name}/{index}.png,{name}" for name in ("cat", "dog") for index in range(8)]
    again = [f"cat/{index}.png,furry" for index in range(8)]
    (root / "table.csv").write_text("\n".join(["path,label", *rows, *again]))
    message = "Set aside: 16 x one path on several lines with different labels, to be joined on one line as cat|furry"
    with pytest.raises(UsageError, match=re.escape(message)):
        load(root / "table.csv")


@pytest.mark.parametrize(
    ("broken", "notes", "told"),
    [
        ({"cat": 2}, 0, "           2 set aside"),
        ({"cat": 3, "dog": 3}, 0, "warning    6 set aside"),
        ({"cat": 2}, 30, "           32 set aside"),  # notes are no pictures
    ],
)
def test_many_files_set_aside_are_a_warning(make_folder, load, capsys, broken, notes, told):
    root = make_folder(count=25)
    for name, count in broken.items():
        for index in range(count):
            (root / name / f"{index}.png").write_bytes(b"damaged")
    for index in range(notes):
        (root / "cat" / f"{index}.txt").write_text("a cat")
    load(root)
    assert f"{told}, see quarantine.csv: " in capsys.readouterr().out


def test_most_of_a_class_set_aside_is_a_warning_that_names_it(make_folder, load, capsys):
    root = make_folder(classes=("cat", "dog", "emu"), count=60)
    for index in range(10, 60):
        (root / "emu" / f"{index}.png").unlink()
    for index in range(6):
        (root / "emu" / f"{index}.png").write_bytes(b"damaged")
    load(root)
    assert "warning    6 set aside, see quarantine.csv: 6 x not a picture; more than half of 'emu'\n" in (
        capsys.readouterr().out
    )
