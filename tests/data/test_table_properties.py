"""Tables, names and folders of any content: nothing but a Source or a UsageError, and nothing lost or merged."""

import contextlib
import csv
import os
import re
import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.errors import UsageError
from app.escapes import visible
from data import csv_table, folder
from data.sources import Source, file_name, natural_order, printable
from tasks.classification import BINARY, MULTICLASS, MULTILABEL
from tests.bounded import READ, open_all

quick = settings(max_examples=200)

TEXT = st.text(st.characters(codec="utf-8"), max_size=12)
CLEAN = st.text(st.characters(codec="utf-8", exclude_categories=["C", "Z"], exclude_characters="|\\"), min_size=1)
"""What comes back as it is: nothing invisible, and no sign with a meaning."""
NASTY = st.sampled_from(
    ["path", "label", "split", ",", ";", '"', "\n", "\r\n", "\r", "\0", "\ufeff", "\t", " ", "|", "a" * 200_000]
)
FILE_NAME = (
    st.binary(min_size=1, max_size=12)
    .filter(lambda name: not set(name) & set(b"/\0"))
    .map(os.fsdecode)
    .filter(lambda name: name not in (".", ".."))
)


def load_bytes(content: bytes, outside: bool = True) -> Source:
    with tempfile.TemporaryDirectory() as root:
        path = Path(root, "labels.csv")
        path.write_bytes(content)
        return csv_table.load(str(path), Path(root), outside)


@quick
@given(
    st.lists(NASTY | TEXT, max_size=25).map("".join),
    st.sampled_from(["", "path,label\n", "\ufeffpath,label,split\r\n", '"path";"label"\n']),
    st.booleans(),
)
def test_a_table_of_anything_is_a_source_or_a_mistake_of_the_user(text, header, outside):
    try:
        outcome = load_bytes((header + text).encode(), outside)
    except UsageError as error:
        outcome = str(error)
    if isinstance(outcome, str):
        assert not re.search(r"[\x00-\x1f\x7f-\x9f]", outcome)
    else:
        assert outcome.examples
        assert all(picture.labels or outcome.multi_label for picture in outcome.examples)


@quick
@given(st.binary(max_size=60))
def test_a_table_of_any_bytes_is_a_source_or_a_mistake_of_the_user(content):
    with contextlib.suppress(UsageError):
        assert load_bytes(b"path,label\n" + content).examples


@quick
@given(
    st.lists(st.tuples(CLEAN, CLEAN, st.sampled_from(["train", "val", "test", ""])), min_size=1, max_size=8),
    st.permutations(["path", "label", "split", "note"]),
    st.booleans(),
    st.sampled_from(["\n", "\r\n", "\r"]),
    st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL]),
    st.booleans(),
)
def test_what_was_written_comes_back(rows, columns, byte_order_mark, line_end, quoting, blank_lines):
    with tempfile.TemporaryDirectory() as root:
        path = Path(root, "labels.csv")
        with open(path, "w", encoding="utf-8-sig" if byte_order_mark else "utf-8", newline="") as file:
            writer = csv.writer(file, lineterminator=line_end, quoting=quoting)
            writer.writerow(columns)
            for name, label, split in rows:
                row = {"path": name, "label": label, "split": split, "note": 'a "note",\nof two lines'}
                writer.writerow([row[column] for column in columns])
                if blank_lines:
                    file.write(line_end)
        source = csv_table.load(str(path), Path(root), outside=True)
        found = [(picture.path, picture.labels, picture.split) for picture in source.examples]
        assert found == [(Path(root) / name, (label,), split or None) for name, label, split in rows]
        assert not source.multi_label


@quick
@given(st.lists(st.frozensets(CLEAN, max_size=4), min_size=1, max_size=6))
def test_several_labels_come_back(rows):
    names = [",".join(sorted(row)).replace(",", "|") for row in rows]
    lines = [f"{index}.png,{csv_field(name)}" for index, name in enumerate(names)]
    source = load_bytes("\n".join(["path,label", "x.png,one|two", *lines]).encode())
    expected = [tuple(sorted(part for part in name.split("|") if part)) for name in names]
    assert [picture.labels for picture in source.examples] == [("one", "two"), *map(tuple, map(unique, expected))]


def csv_field(text: str) -> str:
    return '"' + text.replace('"', '""') + '"'


def unique(labels: tuple[str, ...]) -> list[str]:
    return sorted(set(labels))


@pytest.mark.parametrize("separator", [";", "\t"])
@pytest.mark.parametrize(
    "table",
    ["path,label\na.png,cat\nb.png,dog\n", 'path,label,"a;b;c;d\te\tf"\na.png,cat,"1, 2"\nb.png,dog,"3;4"\n'],
    ids=["plain", "quoted"],
)
def test_semicolons_and_tabs_may_stand_in_place_of_commas(table, separator):
    changed = re.sub(r',(?=(?:[^"]|"[^"]*")*$)', separator, table)  # commas outside quotation marks
    assert changed.count(",") == table.count(", ")
    found = [(Path(each.path).name, each.labels) for each in load_bytes(changed.encode()).examples]
    assert found == [("a.png", ("cat",)), ("b.png", ("dog",))]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "the first line of '.*' is empty"),
        (b"\xef\xbb\xbf", "the first line of '.*' is empty"),
        (b"path,label\n", "needs a line for each example"),
        (b"path,label\n\n\na.png\n", r"Line 4 of '.*' has no label\.$"),
        (b"path,label\na.png,\nb.png,cat\nc.png,\n", r"Line 2 of '.*' has no label \(2 lines have none\)\.$"),
        (b'path,label\n"a\nb.png",cat\nc.png,\n', "Line 4 of '.*' has no label"),
        (b"path,label\na.png,cat,more\n", "Line 2 of '.*' has more fields than the first"),
        (
            b'path,label\na.png,"cat\nb.png,dog\n',
            "Line 2 of '.*' is damaged, or lacks a quotation mark: unexpected end",
        ),
        (b"path,label\na.png,caf\xe9\n", "must be a CSV file in UTF-8"),
        ("path,label\na.png,cat".encode("utf-16-le"), "lacks path and label"),
        (
            b"path,label,who\na.png,cat,x\nb.png,dog,J\xfcrgen\n",
            r"in UTF-8; line 3 is not: it has 'J\\xfcrgen'\. Save it",
        ),
        (b"path,label,gr\xfcn\na.png,cat,x\n", r"in UTF-8; line 1 is not: it has 'gr\\xfcn'\. Save it"),
        (b"sep=,\npath,label\na.png,cat\n", r"it has sep=, \. Remove the first line, which only Excel reads\.$"),
        (b"path,label\na.png,cat\nb.png,|\n", r"Line 3 of '.*' has no label\.$"),
    ],
    ids=range(14),
)
def test_what_is_wrong_with_a_table_is_told_with_its_line(content, message):
    with pytest.raises(UsageError, match=message):
        load_bytes(content)


HEADER = b"path,label\n"
ROWS = HEADER + b"a.png,cat\nb.png,dog\n"
TABLES = {
    "zeros": bytes(10**6),
    "a line of 100 MB": HEADER + b"a" * 10**8,
    "a million columns": b"," * 10**6 + b"path,label\n",
    "quotation marks": HEADER + b'"' * 10**6,
    "an open quotation mark": HEADER + b'"' + b"a.png,cat\n" * 10**6,
    "no header": b"a.png,cat\nb.png,dog\n",
    "a header twice": b"path,label,path\na,b,c\n",
    "no UTF-8": ROWS + b"\xff\xfe.png,cat\n",
    "half a letter": ROWS + "é".encode()[:1],
    "a mark alone": b"\xef\xbb\xbf",
    "a picture": b"\x89PNG\r\n\x1a\n" + bytes(99),
    "a web page": b"<!DOCTYPE html><html>404</html>\n",
    "a password": ROWS + b"/etc/passwd,cat\n",
    "a way out": ROWS + b"../../../etc/passwd,cat\n",
    "a way out through a folder": ROWS + b"x/../../y.png,cat\n",
    "no label": ROWS + b"c.png,\n",
    "no path": ROWS + b",cat\n",
    "a split of its own": b"path,label,split\na.png,cat,holdout\n",
    "an escape": b"path,label,split\na.png,cat,\x1b]0;owned\x07\n",
    "an escape for a column": b"\x1b[2J,label\na.png,cat\n",
    "nothing but a header": HEADER,
    "blank lines": HEADER + b"\n" * 10**5,
}
READ_TABLES = {
    "UTF-16": ROWS.decode().encode("utf-16"),
    "semicolons": ROWS.replace(b",", b";"),
    "a drive": ROWS + b"C:\\photos\\a.png,cat\n",
    "a million fields": ROWS + b"," * 10**6,
    "zeros in a row": ROWS + b"\0.png,cat\n",
    "a label of many": ROWS + b"c.png," + b"|".join(b"%d" % number for number in range(10_000)) + b"\n",
    "a deep path": ROWS + b"x/" * 20_000 + b"c.png,cat\n",
}


def test_every_hostile_table_is_opened_in_time_and_memory(tmp_path):
    for name, content in {**TABLES, **READ_TABLES}.items():
        (tmp_path / f"{name}.csv").write_bytes(content)
    os.mkfifo(tmp_path / "pipe.csv")
    (tmp_path / "loop.csv").symlink_to("loop.csv")
    (tmp_path / "device.csv").symlink_to("/dev/zero")
    with open(tmp_path / "endless.csv", "wb") as file:
        file.truncate(3_000_000_000)  # a hole, which takes no room
    outcomes = open_all("tables", tmp_path)
    assert len(outcomes) > 30
    assert {name for name, outcome in outcomes.items() if outcome == READ} == {f"{name}.csv" for name in READ_TABLES}


@quick
@given(st.lists(CLEAN, min_size=2, max_size=6, unique=True), st.data())
def test_labels_come_back_from_the_targets(class_names, data):
    task = data.draw(st.sampled_from([MULTILABEL, BINARY if len(class_names) == 2 else MULTICLASS]))
    one = st.sampled_from(class_names).map(lambda name: (name,))
    several = st.frozensets(st.sampled_from(class_names)).map(tuple)
    labels = data.draw(st.lists(several if task.multi_label else one, min_size=1, max_size=10))
    targets = task.encode(labels, tuple(class_names))
    assert targets.shape == (len(labels), 1 if task.two_classes else len(class_names))
    if task.two_classes:
        targets = np.hstack([1 - targets, targets])
    found = [{class_names[column] for column in np.flatnonzero(row)} for row in targets]
    assert found == [set(names) for names in labels]


@quick
@given(st.lists(st.text(max_size=8) | st.text("0123456789ab٣", max_size=5), max_size=20))
def test_the_natural_order_is_total_and_equal_only_for_equal_names(names):
    keys = [natural_order(name) for name in names]
    for first, one in zip(names, keys, strict=True):
        for second, other in zip(names, keys, strict=True):
            assert (one < other) + (other < one) + (first == second) == 1


def test_a_name_of_thousands_of_digits_has_a_place_too():
    names = ["9" * 10_000, "9" * 10_000 + "a", "8"]
    assert sorted(names, key=natural_order) == ["8", *names[:2]]


ODD_NAME = FILE_NAME | st.text("\\xu5cf02e\x1b\n\x9b\u202e\ud800\udc9b", max_size=12)


@quick
@given(ODD_NAME, ODD_NAME)
def test_printable_names_have_no_control_characters_and_stay_apart(first, second):
    for name in (first, second):
        text = printable(name)
        assert not any(ord(char) < 32 or 127 <= ord(char) < 160 or 0xD800 <= ord(char) < 0xE000 for char in text)
        assert file_name(text) == name
        assert visible(text) == text
    assert (printable(first) == printable(second)) == (first == second)


def test_printable_names_look_as_they_are_where_they_can():
    names = ["cat", "a\\b", "\\x", os.fsdecode(b"caf\xe9"), "caf\\xe9", "a\nb", "a\\x0ab"]
    assert [printable(name) for name in names] == [
        *("cat", "a\\b", "\\x", "caf\\xe9", "caf\\x5cxe9", "a\\x0ab", "a\\x5cx0ab"),
    ]


ORDINARY_NAME = FILE_NAME.filter(lambda name: not folder.is_leftover(name) and name.lower() not in folder.SPLIT_FOLDERS)
FILES = st.lists(st.tuples(ORDINARY_NAME, st.lists(FILE_NAME, min_size=1, max_size=3)), min_size=1, max_size=8)


@settings(max_examples=100)
@given(FILES, st.booleans())
def test_every_file_is_found_once_under_the_folder_of_its_class(files, with_splits):
    with tempfile.TemporaryDirectory() as directory:
        root = Path(directory)
        top = root / "train" if with_splits else root
        for class_name, parts in files:
            path = Path(top, class_name, *parts)
            with contextlib.suppress(OSError):  # another file has the name of this folder
                path.parent.mkdir(parents=True, exist_ok=True)
                path.touch()
        below = [path for path in top.glob("*/**/*") if path.is_file()]
        expected = {
            path: (printable(path.relative_to(top).parts[0]),)
            for path in below
            if not any(folder.is_leftover(part) for part in path.relative_to(top).parts)
        }
        if len(set(expected.values())) < len([path for path in top.iterdir() if path.is_dir()]) or not expected:
            with pytest.raises(UsageError, match=r"is empty|has none|no folder in it"):
                folder.load(str(root), root, outside=False)
            return
        source = folder.load(str(root), root, outside=False)
        assert len(source.examples) == len(expected)
        assert {picture.path: picture.labels for picture in source.examples} == expected
        assert {picture.split for picture in source.examples} == ({"train"} if with_splits else {None})
