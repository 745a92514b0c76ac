"""No text of a table becomes a formula, and every text comes back as it was."""

import re

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.escapes import visible
from data.csv_cells import escape_cell, read_table, table_text, unescape_cell
from inference.answer_table import csv_writer
from reports.writer import write_table

FORMULA = re.compile("[=+\\-@\t\r\n＝＋－＠]")
TEXTS = st.text() | st.text("'=+-@\t\r\n,;\"1.e\u00e9\ud800\u202e", max_size=6)
WRITABLE = st.text(st.characters(exclude_categories=["Cs"]), max_size=5) | st.text("'=+-@\t\r\n,\"1", max_size=5)


@pytest.mark.parametrize(
    ("text", "cell"),
    [
        ("=1+1", "'=1+1"),
        ("+1+1", "'+1+1"),
        ("-x.png", "'-x.png"),
        ("@a", "'@a"),
        ("\t=1", "\\x09=1"),
        ("\r=1", "\\x0d=1"),
        ("＝1", "'＝1"),
        ("'tis", "''tis"),
        ("-1", "-1"),
        ("+2.5e-3", "+2.5e-3"),
        ("-٣", "'-٣"),
        ("-1\n", "'-1\\x0a"),
        ("a=1", "a=1"),
        ("", ""),
    ],
)
def test_only_what_a_spreadsheet_would_compute_is_escaped(text, cell):
    assert escape_cell(text) == cell


@given(TEXTS)
def test_a_cell_gives_its_text_again(text):
    assert unescape_cell(escape_cell(text)) == visible(text)


@given(TEXTS)
def test_no_cell_begins_like_a_formula_but_for_numbers(text):
    cell = escape_cell(text)
    if FORMULA.match(cell):
        assert np.isfinite(float(cell))


@given(st.lists(st.tuples(WRITABLE, WRITABLE), min_size=1, max_size=4), WRITABLE)
def test_a_file_gives_its_table_again(tmp_path_factory, rows, name):
    path = tmp_path_factory.mktemp("table") / "table.csv"
    columns = ["first", visible(f"{name}*")]
    write_table(path, pd.DataFrame(rows, columns=columns))
    found = read_table(path)
    assert list(found) == columns
    assert [tuple(row) for row in found.itertuples(index=False)] == [tuple(map(visible, row)) for row in rows]


def test_classes_of_one_name_and_numbers_are_kept_apart(tmp_path):
    table = pd.DataFrame([["=a", 1.5, 2], ["b", np.nan, 3]], columns=["label", "=n", "=n"])
    write_table(tmp_path / "table.csv", table)
    assert (tmp_path / "table.csv").read_text() == "label,'=n,'=n\n'=a,1.5,2\nb,,3\n"
    assert list(table) == ["label", "=n", "=n"]


def test_a_carriage_return_in_a_name_begins_no_row():
    text = table_text(pd.DataFrame({"label": ["cat\r=1+1", "dog"], "n": [1.0, np.nan]}))
    assert text == "label,n\ncat\\x0d=1+1,1.0\ndog,\n"


def test_answers_are_escaped_as_tables_are(tmp_path):
    with csv_writer(tmp_path / "answers.csv") as write:
        write(pd.DataFrame({"path": ["=1.png"], "reason": ["@x"]}))
        write(pd.DataFrame({"path": ["2.png"], "reason": [""]}))
    assert (tmp_path / "answers.csv").read_text() == "path,reason\n'=1.png,'@x\n2.png,\n"
