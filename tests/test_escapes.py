"""No text of others steers a terminal, a table or a page."""

import json
import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from rich.table import Column
from rich.text import Text

import evaluate
import export
import predict
from app.cli import run_command
from app.escapes import visible
from app.terminal import console, make_table, show_stage
from data.csv_cells import read_table
from inference.files import find_files
from inference.load import read_run
from inference.run_record import find_examples, find_learnt_from
from tests.small_runs import make_run

OWNED = "\x1b]0;owned\x07\x1b[2J"
HOSTILE = ("cat" + OWNED, "dog\u202egnp\ud800\u2028x")
SHOWN = ("cat\\x1b]0;owned\\x07\\x1b[2J", "dog\\u202egnp\\ud800\\u2028x")


def steers(text: str) -> bool:
    lines = text.replace("\n", "")
    return visible(lines) != lines


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("caf\u00e9 \\x1b 日本 🦒\u200d", "caf\u00e9 \\x1b 日本 🦒\u200d"),
        (OWNED, "\\x1b]0;owned\\x07\\x1b[2J"),
        ("a\r\n\tb\x7f\x9b", "a\\x0d\\x0a\\x09b\\x7f\\u009b"),
        ("\u202a\u202b\u202c\u202d\u202e", "\\u202a\\u202b\\u202c\\u202d\\u202e"),
        ("\u2066\u2067\u2068\u2069", "\\u2066\\u2067\\u2068\\u2069"),
        ("\u200e\u200f\u061c", "\\u200e\\u200f\\u061c"),
        ("\u2028\u2029", "\\u2028\\u2029"),
        ("\ud800", "\\ud800"),
        (os.fsdecode(b"caf\xe9"), "caf\\xe9"),
    ],
)
def test_what_steers_is_shown_and_all_else_stays(text, shown):
    assert visible(text) == shown
    assert visible(shown) == shown


@pytest.fixture
def hostile_run(binary_run, tmp_path) -> Callable[..., Path]:
    """Returns a function that copies a run, with other values in one of its files."""

    def make(name: str, **changes: object) -> Path:
        folder = shutil.copytree(binary_run, tmp_path / "run")
        content = json.loads((folder / name).read_text())
        (folder / name).write_text(json.dumps(content | changes))
        return folder

    return make


@pytest.fixture
def run(monkeypatch, capfd):
    """Calls a command and returns its exit status and what it printed."""

    def call(command: object, *args: object) -> tuple[int, str]:
        monkeypatch.setattr(sys, "argv", ["command", *map(str, args)])
        status = 0
        try:
            run_command(command.main)
        except SystemExit as exit_request:
            status = exit_request.code
        printed = capfd.readouterr()
        return status, printed.out + printed.err

    return call


def test_class_names_of_others_steer_neither_terminal_nor_table(hostile_run, run, binary_run, tmp_path):
    folder = hostile_run("model.json", classes=HOSTILE)
    status, printed = run(predict, folder, binary_run.parent / "photos", "--csv", tmp_path / "a.csv")
    assert (status, steers(printed)) == (0, False)
    assert "owned" in printed
    table = (tmp_path / "a.csv").read_text(encoding="utf-8")
    assert not steers(table)
    assert all(f"probability_{name}" in read_table(tmp_path / "a.csv") for name in SHOWN)


def test_class_names_of_others_steer_no_export(hostile_run, run, binary_run, tmp_path):
    folder = hostile_run("model.json", classes=HOSTILE)
    sample = binary_run.parent / "photos" / "cat"
    status, printed = run(export, folder, "--format", "saved_model", "--sample", sample, "--output", tmp_path / "out")
    assert (status, steers(printed)) == (0, False), printed
    texts = {path.name: path.read_text(encoding="utf-8") for path in (tmp_path / "out").rglob("*.[tm][xd]*")}
    assert texts["labels.txt"].splitlines() == list(SHOWN)
    assert SHOWN[0] in texts["MODEL_CARD.md"]
    assert not any(map(steers, texts.values()))


@pytest.mark.parametrize("name", ["backbone", "data"])
@pytest.mark.parametrize("command", [predict, evaluate, export], ids=lambda command: command.__name__)
def test_settings_of_others_steer_no_terminal(hostile_run, run, binary_run, tmp_path, command, name):
    folder = hostile_run("config.json", **{name: f"x{OWNED}\u202e"})
    given = [binary_run.parent / "photos"] if command is predict else ["--cache-dir", tmp_path / "cache"]
    status, printed = run(command, folder, *given)
    assert status == (0 if (command, name) == (predict, "data") else 2)
    assert not steers(printed)
    assert "owned" in printed or status == 0


def test_two_classes_that_would_be_shown_alike_are_refused(hostile_run, run):
    folder = hostile_run("model.json", classes=["a\u202e", "a\\u202e"])
    status, printed = run(evaluate, folder)
    assert (status, "a class is there twice" in printed) == (2, True)


def test_nothing_that_is_printed_steers(capsys):
    show_stage("data", f"a\n{OWNED}")
    table = make_table(Column("name"))
    table.add_row(Text(OWNED))
    console.print(table)
    console.print(f"{OWNED}\u202e", markup=False)
    assert not steers(capsys.readouterr().out)
    coloured = type(console)(force_terminal=True, color_system="standard", legacy_windows=False)
    coloured.print("[red]x")
    assert "\x1b[31mx\x1b[0m" in capsys.readouterr().out  # its own commands to the terminal stay


def test_pictures_with_such_names_are_found_again(tmp_path):
    folder = make_run(tmp_path, ("cat\u200f", "dog"), val_fraction=0.3, test_fraction=0.3, head_epochs=1)
    paths = set(read_table(folder / "predictions.csv")["path"])
    assert any(path.startswith("cat\\u200f/") for path in paths)
    trained = read_run(folder)
    photos = tmp_path / "photos"
    assert len(find_examples(trained, 100, tmp_path / "cache")) == len(paths) / 2
    assert len(find_learnt_from(trained, find_files([str(photos)]))) == 24 - len(paths)
