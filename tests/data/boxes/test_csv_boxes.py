"""A table of boxes gives each picture its boxes, its split and its groups, whatever the columns are called."""

from pathlib import Path

import pytest

from app.errors import UsageError
from data.sources import Source, load_source
from tests.data.boxes.forms import SIZE, WANTED, as_csv


def load(root: Path, columns: str, *ends: str, group_by: str | None = None) -> Source:
    """Adds columns to the table; its lines are two of a.jpg, and one each of b.jpg and c.jpg."""
    path = Path(as_csv(root))
    lines = path.read_text().splitlines()
    path.write_text("\n".join(f"{line},{end}" for line, end in zip(lines, (columns, *ends), strict=True)))
    return load_source(str(path), root, group_by=group_by)


def groups(source: Source) -> dict[str, str]:
    return {example.path.name: example.group for example in source.examples}


def test_the_column_group_names_the_groups_of_pictures_with_boxes(tmp_path):
    source = load(tmp_path / "data", "group", "anna", "anna", "anna", "")
    assert groups(source) == {"a.jpg": "anna", "b.jpg": "anna", "c.jpg": ""}
    assert {example.path.name: example.boxes.size for example in source.examples} == dict.fromkeys(groups(source), SIZE)


def test_any_column_with_one_value_for_each_picture_may_name_the_groups(tmp_path):
    source = load(tmp_path / "data", "Patient,area", "1,20", "1,30", "2,40", "1,", group_by="patient")
    assert groups(source) == {"a.jpg": "1", "b.jpg": "2", "c.jpg": "1"}
    assert list(source.columns) == ["patient", "area", "group"]


@pytest.mark.parametrize("name", ["split", "group", "patient"])
def test_lines_of_a_picture_that_contradict_each_other_are_told(tmp_path, name):
    values = ("test", "train", "train", "train")
    message = f"must have one {name}; line 3 of .* has 'train', and line 2 'test'. Make them equal.$"
    with pytest.raises(UsageError, match=message):
        load(tmp_path / "data", name, *values, group_by="patient" if name == "patient" else None)


def test_names_of_one_split_agree(tmp_path):
    source = load(tmp_path / "data", "split", "Valid", "val", "train", "")
    assert [example.split for example in source.examples] == ["val", "train", None]


def test_a_column_that_is_not_there_is_told_with_those_that_are(tmp_path):
    with pytest.raises(UsageError, match=r"must be a column of the \.csv \(it has patient, group\)"):
        load(tmp_path / "data", "patient", "1", "1", "2", "3", group_by="doctor")


def boxes_of(source: Source) -> dict[str, list[tuple[str, tuple[float, ...]]]]:
    assert source.has_boxes
    return {each.path.name: list(zip(each.boxes.labels, each.boxes.corners, strict=True)) for each in source.examples}


def test_corners_may_be_called_xmin_and_so_on(tmp_path):
    path = Path(as_csv(tmp_path))
    path.write_text(path.read_text().replace("x1,y1,x2,y2", "xmin,yMin,xmax,ymax"))
    assert boxes_of(load_source(str(path), tmp_path)) == WANTED


def test_of_two_names_for_corners_the_first_counts(tmp_path):
    source = load(tmp_path, "xmin,ymin,xmax,ymax", *["0,0,1,1"] * 4)
    assert boxes_of(source) == WANTED


def test_a_table_that_lacks_a_column_is_told(tmp_path):
    (tmp_path / "boxes.csv").write_text("filename,class,xmin,ymin,xmax,ymax\n")
    with pytest.raises(
        UsageError, match=r"columns path, label, x1, y1, x2, y2 once each; .* has filename, class, xmin, "
    ):
        load_source(str(tmp_path / "boxes.csv"), tmp_path)
