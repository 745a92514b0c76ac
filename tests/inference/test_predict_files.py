"""predict.py: the run's own probabilities, for any number of files, and a reason for each that cannot be read."""

import contextlib
import io
import itertools
import json
import resource
import shutil
import signal
import subprocess
import sys
import threading
import zlib
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import predict
from app.cli import check_output_files, run_command
from app.errors import UsageError
from data.images.kind import KIND as IMAGE
from data.images.kind import picture_reader
from data.sources import LINK_OUT
from data.texts.kind import KIND as TEXT
from inference.answer_table import answer_table, answers_to, csv_writer
from inference.answering import AnsweringModel, of_run
from inference.batches import ROWS_SHOWN, Summary
from inference.files import BATCHES_AHEAD, NO_FILE, NO_MATCH, FoundFile, find_files, read_batches
from inference.load import read_run
from inference.predict_files import _with_columns, predict_files
from inference.run_record import find_learnt_from
from tasks.classification import BINARY, MULTICLASS, MULTILABEL
from tests.conftest import make_picture

REPOSITORY = Path(__file__).parent.parent.parent


def run_predict(monkeypatch, *args: object) -> int:
    """Calls predict.py and returns its exit status."""
    monkeypatch.setattr(sys, "argv", ["predict.py", *map(str, args)])
    try:
        run_command(predict.main)
    except SystemExit as exit_request:
        return exit_request.code
    return 0


def read_answers(csv: Path, photos: Path) -> pd.DataFrame:
    table = pd.read_csv(csv, dtype=str, keep_default_na=False)
    return table.assign(path=[Path(path).relative_to(photos).as_posix() for path in table["path"]])


@pytest.mark.parametrize("run", ["binary_run", "fine_tuned_run", "multi_label_run"])
def test_the_pictures_of_val_and_test_get_the_very_digits_of_predictions_csv(run, request, tmp_path):
    folder = request.getfixturevalue(run)
    photos = folder.parent / "photos"
    recorded = pd.read_csv(folder / "predictions.csv", dtype=str, keep_default_na=False)
    assert set(recorded["split"]) == {"val", "test"}
    files = find_files([str(photos / path) for path in recorded["path"]])
    predict_files(of_run(read_run(folder)), files, csv=tmp_path / "answers.csv")
    columns = ["path", "predicted", *(name for name in recorded if name.startswith("probability_"))]
    assert len(recorded) > 6
    pd.testing.assert_frame_equal(read_answers(tmp_path / "answers.csv", photos)[columns], recorded[columns])


def test_among_other_pictures_the_answers_are_the_same_to_the_bit(binary_run, tmp_path):
    photos = binary_run.parent / "photos"
    predict_files(of_run(read_run(binary_run)), find_files([str(photos)]), csv=tmp_path / "answers.csv")
    recorded = pd.read_csv(binary_run / "predictions.csv", keep_default_na=False).set_index("path")
    answers = read_answers(tmp_path / "answers.csv", photos).set_index("path")
    assert len(answers) == 24
    assert answers["predicted"][recorded.index].tolist() == recorded["predicted"].tolist()
    now = answers["probability_dog"][recorded.index].astype(np.float32)
    np.testing.assert_array_equal(now, recorded["probability_dog"].astype(np.float32))


def test_every_file_is_a_row_with_an_answer_or_a_reason(binary_run, tmp_path, monkeypatch, capsys):
    folder = tmp_path / "[b]mixed"
    (folder / "deep" / "__MACOSX").mkdir(parents=True)
    make_picture(1).save(folder / "deep" / "10.png")
    make_picture(2).save(folder / "deep" / "9.png")
    (folder / "deep" / "__MACOSX" / "9.png").write_bytes(b"resource fork")
    (folder / ".DS_Store").write_bytes(b"leftover")
    (folder / "notes.txt").write_text("no picture")
    (folder / "empty.jpg").touch()
    csv = tmp_path / "answers.csv"
    pattern = tmp_path / "nothing*.jpg"
    assert run_predict(monkeypatch, binary_run, folder, tmp_path / "gone.jpg", pattern, "--csv", csv) == 1
    table = pd.read_csv(csv, keep_default_na=False)
    assert [Path(path).relative_to(tmp_path).as_posix() for path in table["path"]] == [
        "[b]mixed/deep/9.png",
        "[b]mixed/deep/10.png",
        "[b]mixed/empty.jpg",
        "[b]mixed/notes.txt",
        "gone.jpg",
        "nothing*.jpg",
    ]
    assert table["status"].tolist() == ["answered"] * 2 + ["unreadable"] * 4
    assert table["reason"].tolist() == ["", "", *("empty file", "not a picture", NO_FILE, NO_MATCH)]
    assert list(table.columns) == [
        *("path", "predicted", "probability", "status", "reason"),
        *("probability_cat", "probability_dog"),
    ]
    shown, error = capsys.readouterr()
    assert "unreadable 4 files: 1 x empty file; 1 x not a picture; 1 x no such file or folder" in shown
    assert "2 pictures in " in shown
    assert error == f"error: '{tmp_path}/gone.jpg' and '{pattern}' match no file; the others are answered.\n"


def test_patterns_folders_and_files_are_found_once_in_natural_order(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("photos/10.png", "photos/2.png", "photos/more/1.jpg", "a[1].png"):
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).touch()
    found = find_files(["photos/*.png", "photos", "photos/**/*.jpg", "a[1].png", "nothing*"])
    assert [(str(file.path), file.reason) for file in found] == [
        ("photos/2.png", None),
        ("photos/10.png", None),
        ("photos/more/1.jpg", None),
        ("a[1].png", None),
        ("nothing*", "no file matches"),
    ]


def test_a_table_names_files_and_leads_out_of_its_folder_only_if_asked(tmp_path):
    (tmp_path / "tables").mkdir()
    table = tmp_path / "tables" / "asked.csv"
    table.write_text("note,path\nfirst,b.png\n,deep/a.png\n")
    found = find_files([str(table)])
    assert [file.path for file in found] == [table.parent / "b.png", table.parent / "deep" / "a.png"]
    assert {file.within for file in found} == {table.parent.resolve()}
    table.write_text("path\n../a.png\n")
    with pytest.raises(UsageError, match=r"Line 2 of .* outside the folder of that file"):
        find_files([str(table)])
    assert [file.within for file in find_files([str(table)], outside=True)] == [None]


def make_links(root: Path) -> Path:
    """A folder with links of every kind, and pictures elsewhere."""
    (root / "photos" / "deep").mkdir(parents=True)
    (root / "elsewhere").mkdir()
    for path in ("photos/0.png", "photos/deep/1.png", "elsewhere/2.png"):
        make_picture(len(path)).save(root / path)
    links = {"out.png": "../elsewhere/2.png", "out": "../elsewhere", "within.png": "deep/1.png", "circle": "."}
    for name, target in {**links, "loop.png": "loop.png", "loop": "loop/loop"}.items():
        (root / "photos" / name).symlink_to(target)
    return root / "photos"


def test_a_folder_is_left_by_no_link_and_a_loop_is_a_row(tmp_path):
    photos = make_links(tmp_path)
    files = find_files([str(photos)])
    read = [file for batch in read_batches(files, picture_reader(16), 4) for file in batch.files]
    assert {file.path.relative_to(photos).as_posix(): file.reason for file in read} == {
        "0.png": None,
        "circle": "a link to a folder of the same data",
        "deep/1.png": None,
        "loop": "a link that leads to itself",
        "loop.png": "a link that leads to itself",
        "out": LINK_OUT,
        "out.png": LINK_OUT,
        "within.png": None,
    }
    followed = read_batches(find_files([str(photos)], outside=True), picture_reader(16), 4)
    names = [file.path.relative_to(photos).as_posix() for batch in followed for file in batch.files if not file.reason]
    assert names == ["0.png", "deep/1.png", "out.png", "out/2.png", "within.png"]


def test_a_link_that_is_named_itself_is_followed_and_a_pattern_enters_no_linked_folder(tmp_path, monkeypatch):
    photos = make_links(tmp_path)
    (pixels,) = [
        batch.inputs[0] for batch in read_batches(find_files([str(photos / "out.png")]), picture_reader(16), 4)
    ]
    assert len(pixels) == 1
    for place, pattern in (
        (tmp_path, "photos/**/*.png"),
        (photos, "**/*.png"),
        (tmp_path, str(photos / "**" / "*.png")),
    ):
        monkeypatch.chdir(place)
        found = {file.path.absolute().relative_to(photos).as_posix() for file in find_files([pattern])}
        assert found == {"0.png", "deep/1.png", "loop.png", "out.png", "within.png"}


def test_what_leads_out_after_the_walk_is_not_read(tmp_path):
    photos = make_links(tmp_path)
    files = find_files([str(photos)])
    (photos / "0.png").unlink()
    (photos / "0.png").symlink_to("../elsewhere/2.png")
    (batch,) = read_batches(files, picture_reader(16), 9)
    assert batch.files[0].reason == LINK_OUT


def test_a_loop_beside_the_pictures_of_a_run_ends_nothing(binary_run, tmp_path, monkeypatch, capsys):
    photos = make_links(tmp_path)
    assert run_predict(monkeypatch, binary_run, photos, "--csv", tmp_path / "answers.csv") == 0
    table = pd.read_csv(tmp_path / "answers.csv", keep_default_na=False)
    assert table["status"].value_counts().to_dict() == {"unreadable": 5, "answered": 3}


@pytest.mark.parametrize(
    ("place", "message"),
    [
        ("phtos", "'phtos': no such file or folder. Did you mean 'photos'?"),
        ("photos/empty", "'photos/empty': no files in this folder."),
        ("*.tif", "'*.tif': no file matches."),
    ],
)
def test_where_nothing_is_found_the_error_says_why(tmp_path, monkeypatch, place, message):
    monkeypatch.chdir(tmp_path)
    Path("photos/empty").mkdir(parents=True)
    with pytest.raises(UsageError) as error:
        find_files([place])
    assert str(error.value).endswith(message)


def test_only_the_next_batches_are_read_ahead(tmp_path):
    make_picture(0).save(tmp_path / "0.png")
    looked_at = 0

    def files():
        nonlocal looked_at
        for _ in range(1_000):
            looked_at += 1
            yield FoundFile(tmp_path / "0.png")

    batches, done = read_batches(files(), picture_reader(16), batch_size=8), 0
    for batch in batches:
        done += len(batch.files)
        assert batch.inputs[0].shape == (8, 16, 16, 3)
        assert looked_at <= done + BATCHES_AHEAD * 8
    assert done == looked_at == 1_000


def test_no_picture_at_all_is_a_mistake_and_every_file_has_its_reason(binary_run, tmp_path, monkeypatch, capsys):
    (tmp_path / "page.html").write_text("<html>")
    (tmp_path / "empty.jpg").touch()
    assert run_predict(monkeypatch, binary_run, tmp_path / "page.html") == 2
    printed = capsys.readouterr()
    assert "a web page, not a picture" in printed.out
    told = f"'{tmp_path}/page.html' is no readable picture: a web page, not a picture"
    assert printed.err == f"error: {told}. Name pictures, or folders of them.\n"
    assert run_predict(monkeypatch, binary_run, tmp_path, "--csv", tmp_path / "answers.csv") == 2
    assert "error: None of the 2 files is a readable picture." in capsys.readouterr().err
    assert pd.read_csv(tmp_path / "answers.csv")["reason"].tolist() == ["empty file", "a web page, not a picture"]


def test_unknown_is_answered_below_the_given_probability():
    files = [FoundFile(Path(name)) for name in ("a", "b")]
    outputs = np.array([[0.6, 0.3, 0.1], [0.8, 0.1, 0.1]], np.float32)
    table = answer_table(files, answers_to(outputs, ("x", "y", "z"), MULTICLASS, unknown_below=0.7))
    assert table["predicted"].tolist() == ["unknown", "x"]
    assert table["status"].tolist() == ["unknown", "answered"]
    assert table["probability"].tolist() == [np.float32(0.6), np.float32(0.8)]
    assert table["probability_y"].tolist() == [np.float32(0.3), np.float32(0.1)]


def test_several_labels_are_joined_and_none_of_them_is_an_answer_too():
    files = [FoundFile(Path(name)) for name in ("a", "b")]
    outputs = np.array([[0.6, 0.9], [0.2, 0.4]], np.float32)
    table = answer_table(files, answers_to(outputs, ("x", "y"), MULTILABEL))
    assert table["predicted"].tolist() == ["x|y", ""]
    assert table["status"].tolist() == ["answered", "answered"]
    strict = answer_table(files, answers_to(outputs, ("x", "y"), MULTILABEL, unknown_below=0.5))
    assert strict["predicted"].tolist() == ["x|y", "unknown"]


def test_cells_that_a_spreadsheet_would_compute_are_shown_instead(tmp_path):
    table = answer_table(
        [FoundFile(Path("-x.png"))], answers_to(np.array([[0.2]], np.float32), ("cat", "=cmd"), BINARY)
    )
    with csv_writer(tmp_path / "answers.csv") as write:
        write(table.assign(predicted="=cmd"))
    assert (tmp_path / "answers.csv").read_text().splitlines()[1].startswith("'-x.png,'=cmd,0.8")


def test_a_csv_that_an_error_ends_leaves_nothing_and_keeps_an_earlier_one(tmp_path):
    path = tmp_path / "answers.csv"
    path.write_text("earlier")
    table = answer_table([FoundFile(Path("x.png"))], answers_to(np.array([[0.2]], np.float32), ("cat", "dog"), BINARY))
    with contextlib.suppress(MemoryError), csv_writer(path) as write:
        write(table)
        raise MemoryError
    with contextlib.suppress(KeyboardInterrupt), csv_writer(path) as write:  # before the first answer
        raise KeyboardInterrupt
    assert path.read_text() == "earlier"
    assert list(tmp_path.iterdir()) == [path]
    with csv_writer(path) as write:
        write(table)
        write(table)
    assert len(pd.read_csv(path)) == 2


def test_a_probability_below_1_is_never_shown_as_100_percent(tmp_path, capsys):
    make_picture(0).save(tmp_path / "0.png")
    outputs = np.array([[0.9999, 0.00007, 0.00003]], np.float32)
    network = AnsweringModel(("x", "y", "z"), MULTICLASS, IMAGE, picture_reader(16), lambda: lambda pixels: outputs)
    predict_files(network, find_files([str(tmp_path)]))
    shown = " ".join(capsys.readouterr().out.split())
    assert "x 99.9% y 0.0%, z 0.0%" in shown
    assert "100.0%" not in shown


@pytest.mark.parametrize(("signal_number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_an_interrupted_csv_keeps_the_rows_so_far(tmp_path, monkeypatch, capsys, signal_number, status):
    for index in range(24):
        make_picture(index).save(tmp_path / f"{index}.png")
    files, path = find_files([str(tmp_path)]), tmp_path / "answers.csv"
    monkeypatch.setattr("inference.batches.BATCH_SIZE", 4)
    batches = itertools.count(1)

    def answer(pixels: np.ndarray) -> np.ndarray:
        if next(batches) == interrupted_at:
            signal.pthread_kill(threading.main_thread().ident, signal_number)
        return pixels.mean(axis=(1, 2, 3))[:, None] / 255

    network = AnsweringModel(("cat", "dog"), BINARY, IMAGE, picture_reader(16), lambda: answer)
    interrupted_at = None
    predict_files(network, files, csv=path)
    whole = path.read_text()
    batches, interrupted_at = itertools.count(1), 3
    with pytest.raises(SystemExit) as ended:
        run_command(lambda: predict_files(network, files, csv=path))
    assert ended.value.code == status
    kept = path.read_text()
    assert whole.startswith(kept)
    assert kept.endswith("\n")
    rows = len(pd.read_csv(path))
    assert rows in (4, 8, 12)
    told = f"The first {rows} answers are in '{path}'; the other files are not answered.\ninterrupted\n"
    assert capsys.readouterr().err.endswith(told)
    assert not list(tmp_path.glob(".partial-*"))


def test_a_csv_on_a_full_disk_is_named(tmp_path, capsys):
    """Files cannot grow beyond a limit, which is what a full disk looks like to those who write."""
    path = tmp_path / "answers.csv"
    table = answer_table([FoundFile(Path("x.png"))], answers_to(np.array([[0.2]], np.float32), ("cat", "dog"), BINARY))

    def write_answers():
        with csv_writer(path) as write:
            write(table)

    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1, before[1]))
    try:
        with pytest.raises(SystemExit) as exit_status:
            run_command(write_answers)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert exit_status.value.code == 1
    assert capsys.readouterr().err == f"error: The disk of '{path}' is full. Make room.\n"
    assert list(tmp_path.iterdir()) == []


def test_the_terminal_shows_the_first_files_and_counts_all(binary_run, tmp_path, monkeypatch, capsys):
    photos = binary_run.parent / "photos"
    assert run_predict(monkeypatch, binary_run, photos, "--top", "1", "--unknown-below", "1") == 0
    shown = capsys.readouterr().out
    learnt = json.loads((binary_run / "metrics.json").read_text())["data"]["train"]
    assert "files      24 files\n" in shown
    assert f"warning    the model was trained on {learnt} of these files (" in shown
    assert f"and {24 - ROWS_SHOWN} files more" in shown
    assert "answers    24 unknown" in shown
    (row,) = [line for line in shown.splitlines() if "0.jpg" in line and "unknown" in line][:1]
    assert "%" not in row  # the probability of a class that was not answered would read as that of 'unknown'


def test_the_newest_finished_run_is_suggested_in_place_of_a_missing_one(binary_run, monkeypatch, capsys):
    (binary_run.parent / "search-unfinished").mkdir()
    assert run_predict(monkeypatch, binary_run.parent / "gone", "README.md") == 2
    assert f"The newest there is '{binary_run}'." in capsys.readouterr().err


def test_a_huge_picture_and_a_bomb_are_refused_by_name(binary_run, tmp_path, monkeypatch, capsys):
    header = b"\x89PNG\r\n\x1a\n" + b"\x00\x00\x00\rIHDR" + (60_000).to_bytes(4, "big") * 2 + b"\x08\x02\x00\x00\x00"
    header += zlib.crc32(header[12:]).to_bytes(4, "big")
    (tmp_path / "bomb.png").write_bytes(header + b"\x00\x00\x00\x00IEND\xaeB`\x82")
    assert run_predict(monkeypatch, binary_run, tmp_path / "bomb.png", "--csv", tmp_path / "a.csv") == 2
    assert "more than the limit of 100,000,000" in pd.read_csv(tmp_path / "a.csv")["reason"][0]


@pytest.mark.parametrize(
    ("args", "message"),
    [
        ([], "predict.py needs RUN and PATH"),
        (["runs/x"], "predict.py needs RUN and PATH"),
        (["--backbone", "mobilenet"], "predict.py needs PATH"),
        (["nowhere", "README.md"], "there is no folder 'nowhere'"),
        (["tests", "README.md"], "'tests' has no config.json"),
        (["--backbone", "mobilnet", "README.md"], "Did you mean 'mobilenet'?"),
        (["--backbone", "efficientnet_lite0", "nowhere.jpg"], "'nowhere.jpg': no such file or folder."),
        (["--backbone", "mobilenet", "--weights", "none", "README.md"], "random weights know no classes"),
        (["--weights", "x.h5", "runs/x", "README.md"], "--weights is for --backbone"),
        (["--resize", "pad", "runs/x", "README.md"], "--resize is for --backbone"),
        (["--top", "0", "runs/x", "README.md"], "--top must be a whole number of at least 1; received 0"),
        (["--unknown-below", "1.5", "runs/x", "README.md"], "--unknown-below must be a number above 0 and at most 1"),
        (
            ["--backbone", "efficientnet_lite0", "README.md", "--csv", "tests"],
            "--csv must be a file; 'tests' is a folder",
        ),
        (["--backbone", "efficientnet_lite0", "README.md", "--csv", "no/a.csv"], "--csv must be writable; 'no/a.csv'"),
    ],
)
def test_a_mistake_is_one_line_and_status_2(monkeypatch, capsys, args, message):
    monkeypatch.chdir(REPOSITORY)
    assert run_predict(monkeypatch, *args) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert error.count("\n") == 1
    assert message in error


@pytest.mark.parametrize("args", [["--help"], ["--backbone", "efficientnet_lite0", "nowhere.jpg"]])
def test_help_and_mistakes_need_no_tensorflow(args):
    command = [sys.executable, "-X", "importtime", "predict.py", *args]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=False)
    assert done.returncode == (0 if args == ["--help"] else 2)
    imported = {line.split("|")[-1].strip() for line in io.StringIO(done.stderr)}
    assert "app.cli" in imported
    assert not imported & {"tensorflow", "keras"}


def test_a_damaged_model_is_one_line(binary_run, tmp_path, monkeypatch, capsys):
    copy = tmp_path / "run"
    copy.mkdir()
    for name in ("config.json", "model.json", "metrics.json"):
        (copy / name).write_bytes((binary_run / name).read_bytes())
    (copy / "model.keras").write_bytes(b"no model")
    assert run_predict(monkeypatch, copy, binary_run.parent / "photos") == 2
    assert "cannot be loaded, it is damaged" in capsys.readouterr().err
    assert json.loads((copy / "model.json").read_text())["classes"] == ["cat", "dog"]


def test_other_columns_of_a_table_stand_behind_its_answers(binary_run, tmp_path, monkeypatch):
    for number in range(3):
        make_picture(number).save(tmp_path / f"{number}.png")
    rows = ["path,id,label,predicted", "2.png,c7,cat,mine", "gone.png,,,", "0.png,=1+1,,"]
    (tmp_path / "asked.csv").write_text("\n".join(rows))
    csv = tmp_path / "answers" / "answers.csv"
    csv.parent.mkdir()
    assert run_predict(monkeypatch, binary_run, tmp_path / "asked.csv", tmp_path / "1.png", "--csv", csv) == 0
    table = pd.read_csv(csv, keep_default_na=False, dtype=str)
    assert [Path(path).name for path in table["path"]] == ["2.png", "gone.png", "0.png", "1.png"]
    assert list(table)[-3:] == ["id", "label", "predicted_given"]
    assert table["label"].tolist() == ["cat", "", "", ""]
    assert table["id"].tolist() == ["c7", "", "'=1+1", ""]
    assert table["predicted_given"].tolist() == ["mine", "", "", ""]
    assert set(table["predicted"]) <= {"cat", "dog", ""}


def test_rows_of_a_table_about_one_file_are_answered_each(tmp_path):
    make_picture(0).save(tmp_path / "a.png")
    (tmp_path / "asked.csv").write_text("path,patient\na.png,1\na.png,2\na.png,2\n")
    assert [file.columns["patient"] for file in find_files([str(tmp_path / "asked.csv")])] == ["1", "2"]


def test_a_table_is_one_behind_a_pattern_too_and_no_text_in_a_folder(tmp_path):
    (tmp_path / "table.csv").write_text("text\none\ntwo\n")
    (tmp_path / "a.txt").write_text("three")
    for place in ("table.csv", "*.csv"):
        assert [file.content for file in find_files([str(tmp_path / place)], kind=TEXT)] == [b"one", b"two"]
    found = {file.path.name: file.reason for file in find_files([str(tmp_path)], kind=TEXT)}
    assert found == {"a.txt": None, "table.csv": "a table: name it by itself"}
    with pytest.raises(UsageError, match="A path must not be empty"):
        find_files([""])


def test_names_of_columns_stay_apart():
    table = pd.DataFrame({"path": ["a"], "predicted": ["cat"]})
    given = {"predicted_given": "x", "predicted": "y"}
    (row,) = _with_columns(table, [FoundFile(Path("a"), columns=given)], list(given), IMAGE).to_dict("records")
    assert row == {"path": "a", "predicted": "cat", "predicted_given": "x", "predicted_given_given": "y"}


def test_no_file_is_written_over(tmp_path):
    table, other = tmp_path / "table.csv", tmp_path / "other.csv"
    table.write_text("path")
    check_output_files({"--csv": other, "--coco": None}, [table, "gone", "*"])
    with pytest.raises(UsageError, match=r"--csv must be a file of its own; '.*' is an input"):
        check_output_files({"--csv": tmp_path / "." / "table.csv"}, [table])
    with pytest.raises(UsageError, match=r"--coco must be a file of its own; '.*' is --csv"):
        check_output_files({"--csv": other, "--coco": other}, [])


def test_a_picture_in_a_folder_is_no_output(binary_run, monkeypatch, capsys):
    photos = binary_run.parent / "photos"
    assert run_predict(monkeypatch, binary_run, photos, "--csv", photos / "cat" / "0.jpg") == 2
    assert "--csv must be a file of its own" in capsys.readouterr().err


def test_what_lies_beside_the_data_is_not_what_was_learnt(binary_run, tmp_path):
    copy = tmp_path / "run"
    shutil.copytree(binary_run, copy)
    photos = tmp_path / "photos"
    shutil.copytree(binary_run.parent / "photos", photos)
    make_picture(77).save(photos / "cat" / "new.png")
    config = json.loads((copy / "config.json").read_text())
    (copy / "config.json").write_text(json.dumps(config | {"data": str(photos)}))
    learnt = find_learnt_from(read_run(copy), find_files([str(photos)]))
    assert len(learnt) == json.loads((copy / "metrics.json").read_text())["data"]["train"]
    assert "new.png" not in {file.path.name for file in learnt}


def test_reasons_are_counted(capsys):
    summary = Summary([], lambda row: (), lambda row: ())
    summary._reasons.update({"a web page": 3, "truncated": 2})
    summary.show("file", "files")
    assert "5 files: 3 x a web page; 2 x truncated" in capsys.readouterr().out


def test_nothing_to_answer_for_is_a_mistake():
    with pytest.raises(UsageError, match="There is no file to answer for"):
        find_files([])
