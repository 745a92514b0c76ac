"""What a user types: flags, help, and every error as one line and its exit status."""

from app.oldest_python import OLDEST

import ast
import errno
import functools
import re
import resource
import shutil
import subprocess
import sys
import time
import tomllib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import cache
import train
from app.cli import CLOSED_PIPE_STATUS, run_command
from app.config import TrainConfig
from app.errors import RunError, UsageError
from app.flags import parse_flags
from data.store import Store
from demo import DemoFlags
from evaluate import EvaluateFlags
from export import ExportFlags
from predict import PredictFlags
from training.flags import TrainFlags, parse_config
from tuning.space import SearchFlags

REPOSITORY = Path(__file__).parent.parent
COMMANDS = [path.name for path in sorted(REPOSITORY.glob("[!c]*.py")) if "run_command(" in path.read_text()]
COMMANDS += ["cache.py", "devices/launch.py"]


def run_train(monkeypatch, *args: object) -> int:
    monkeypatch.setattr(sys, "argv", ["train.py", *map(str, args)])
    with pytest.raises(SystemExit) as exit_status:
        run_command(train.main)
    return exit_status.value.code


@pytest.fixture(scope="module")
def prepared(tmp_path_factory) -> Path:
    """A cache that keeps the bundled pictures from one test to the next."""
    return tmp_path_factory.mktemp("cache")


def _files() -> list[Path]:
    """All that is in the project's folder but what Python and the tests beside this one keep there."""
    # A test that looks whether it may write makes a file tmp... for a moment.
    kept = ("__pycache__", ".hypothesis", ".pytest_cache")
    return sorted(path for path in REPOSITORY.iterdir() if path.name not in kept and path.name[:3] != "tmp")


def test_flags_override_a_config_file(tmp_path):
    path = tmp_path / "config.json"
    path.write_text('{"backbone": "vgg16", "dropout": 0.5, "head_units": [8]}')
    config = parse_config(["--config", str(path), "--backbone", "resnet50", "--trainable-layers", "all"])
    assert config == TrainConfig.of(backbone="resnet50", dropout=0.5, head_units=(8,), trainable_layers="all")


def test_help_is_in_paragraphs_and_speaks_of_no_none(capsys):
    with pytest.raises(SystemExit):
        parse_config(["--help"])
    text = " ".join(capsys.readouterr().out.split())
    assert "a folder of CLASS/file (with or without train/, val/ and test/ above them), a .csv" in text
    assert "None" not in text
    assert "(default: )" not in text
    titles = re.findall(r"(\w+) options", text)
    assert titles == ["data", "model", "training", "run", "decision"]


KINDS = [TrainFlags, SearchFlags, PredictFlags, EvaluateFlags, ExportFlags, DemoFlags]


@pytest.mark.parametrize(
    "flags",
    [
        ["--csv", "x.csv", "run", "a.jpg", "b"],
        ["run", "--csv", "x.csv", "a.jpg", "b"],
        ["run", "a.jpg", "--csv", "x.csv", "b"],
        ["--csv", "x.csv", "--", "run", "a.jpg", "b"],
    ],
)
def test_paths_stand_before_flags_and_after_them(flags):
    read = parse_flags(PredictFlags, flags)
    assert (read.places, read.csv) == (("run", "a.jpg", "b"), Path("x.csv"))


@pytest.mark.parametrize("kind", [TrainFlags, SearchFlags])
def test_every_setting_has_a_name_of_its_own_and_a_group(kind):
    names = [name for _, name, _ in kind.fields()]
    assert len(set(names)) == len(names)
    assert [name for group, name, _ in kind.fields() if not group] in ([], ["config"])


@pytest.mark.parametrize("kind", KINDS)
def test_what_may_be_left_open_says_what_it_is_then(kind):
    left_open = {name: field.description for _, name, field in kind.fields() if field.default is None and name != "run"}
    assert [name for name, text in left_open.items() if "Default: " not in text] == []


@pytest.mark.parametrize("kind", KINDS)
def test_every_flag_has_a_help(kind):
    assert [name for _, name, field in kind.fields() if not field.description] == []


@pytest.mark.parametrize("command", COMMANDS)
def test_an_older_python_is_told_before_anything_that_it_lacks(command):
    """Parsed as one reads it, and run by those that are installed here."""
    tree = ast.parse((REPOSITORY / command).read_text(), feature_version=(3, 7))
    assert isinstance(tree.body[1], ast.Import)
    assert [name.name for name in tree.body[1].names] == ["app.oldest_python"]
    ast.parse((REPOSITORY / "app/oldest_python.py").read_text(), feature_version=(3, 7))
    how = ["-m", command.removesuffix(".py").replace("/", ".")] if "/" in command else [command]
    for python in older_pythons():
        ended = subprocess.run([python, *how], cwd=REPOSITORY, capture_output=True, text=True, check=False)
        assert ended.returncode == 2
        assert re.fullmatch(r"error: Headstart needs Python 3\.11 or newer; this is Python 3\.\d+\. .*\n", ended.stderr)


@functools.cache
def older_pythons() -> list[str]:
    """Those of the path, and those that pyenv keeps."""
    names = [f"python3.{minor}" for minor in range(7, OLDEST[1])]
    found = [shutil.which(name) for name in names]
    kept = [sorted(Path.home().glob(f".pyenv/versions/{name.removeprefix('python')}.*/bin/python")) for name in names]
    pythons = [str(path) for paths in kept for path in paths[:1]] + [path for path in found if path]
    return [path for path in pythons if subprocess.run([path, "-c", ""], capture_output=True).returncode == 0]


def test_the_oldest_python_is_the_same_everywhere():
    text = f"{OLDEST[0]}.{OLDEST[1]}"
    assert tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]["requires-python"] == f">={text}"
    assert f"Python must be {text} to 3." in (REPOSITORY / "README.md").read_text()


@pytest.mark.parametrize("script", ["train.py", "tune.py"])
def test_help_explains_every_setting_without_loading_tensorflow(script):
    command = [sys.executable, "-X", "importtime", script, "--help"]
    finished = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=True)
    assert "--trainable-layers" in finished.stdout
    assert not re.search(r"\| +(numpy|tensorflow|keras)$", finished.stderr, re.MULTILINE)


def test_a_mistake_is_answered_without_loading_tensorflow():
    command = [sys.executable, "-X", "importtime", "train.py", "--backbone", "resnet5"]
    finished = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=False)
    assert finished.returncode == 2
    error = "error: --backbone must be one of 101 names; received 'resnet5'. Did you mean 'resnet50'?"
    assert finished.stderr.splitlines()[-1] == error
    assert not re.search(r"\| +(tensorflow|keras)$", finished.stderr, re.MULTILINE)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--backbone", "resnet5"], "received 'resnet5'. Did you mean 'resnet50'?"),
        (["--backbnoe", "resnet50"], "Unknown options: --backbnoe resnet50. Did you mean '--backbone'?"),
        (["--augment", "mirror"], "--augment must be one of views, fresh, none; received 'mirror'"),
        (["--optimizer", "adm"], "received 'adm'. Did you mean 'adam'?"),
        (["--augment", "none", "--vary", "rotate"], "--augment none varies none. Leave out one of them."),
        (["--val-fraction", "x"], "--val-fraction must be a number of at least 0 and below 1; received x."),
        (
            ["--learning-rate", "fnd"],
            "--learning-rate must be a number above 0 and at most 10, or 'find'; received fnd.",
        ),
        (["--head-units", "64", "x"], "--head-units must be whole numbers of at least 1; received x."),
        (["--seed"], "--seed must be a whole number of at least 0; received nothing."),
        (
            ["--image-size", "None"],
            "--image-size must be a whole number of at least 1 and at most 4096; received None.",
        ),
        (["tests"], "Unknown options: tests. Did you mean '--data tests'?"),
        (["--epochs", "5"], "Did you mean '--head-epochs' or '--fine-tune-epochs' or '--deeper-epochs'?"),
        (["--resume", "tests/nothing"], "must be the folder of an unfinished run; 'tests/nothing' holds none.\n"),
        (["--learning-rate", "find", "--weights", "none"], "--learning-rate find needs a head phase"),
        (["--config"], "--config must be a path; received nothing"),
        (["--dropout", "2"], "--dropout must be a number of at least 0 and below 1; received 2"),
        (["--data", "nowhere"], "'nowhere', and there is no such file or folder"),
        (["--data", "README.md"], "a .csv file, a .json of COCO or 'tfds:NAME'; received 'README.md', which is none"),
        (["--data", "tests/../test"], "Did you mean 'tests/../tests'?"),
        (["--data", "test"], "there is no such file or folder. Did you mean 'tests'?"),
        (["--data", ""], "received ''"),
        (["--weights", "imagnet"], "Did you mean 'imagenet'?"),
        (["--output", "/proc/run"], "'/proc/run' cannot be made in '/proc'"),
        (["--data", "nowhere.csv"], "'nowhere.csv', and there is no such file"),
        (["--weights", "nowhere.h5"], "'nowhere.h5' cannot be read: No such file or directory"),
        (["--weights", "README.md"], "'README.md' is not one"),
        (["--image-size", "16"], "--image-size must be at least 32 for efficientnet_lite0; received 16"),
        (["--backbone", "inceptionv3", "--weights", "none", "--image-size", "64"], "at least 75 for inceptionv3"),
        (["--output", "README.md/run"], "--output must be a folder that can be written"),
        (["--output", "tests"], "--output must be a new or empty folder; 'tests' holds files"),
        (["--config", "nowhere.json"], "--config must be a run's config.json"),
    ],
)
def test_a_wrong_flag_is_one_message_and_status_2(monkeypatch, capsys, prepared, flags, message):
    monkeypatch.chdir(REPOSITORY)
    before = _files()
    assert run_train(monkeypatch, *flags, "--cache-dir", prepared) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert error.count("\n") == 1
    assert message in error
    assert _files() == before


def _one_class(root: Path) -> Path:
    (root / "dog").rename(root.parent / "elsewhere")
    return root


def _empty_class(root: Path) -> Path:
    (root / "empty").mkdir()
    return root


def _nothing_readable(root: Path) -> Path:
    for path in root.rglob("*.png"):
        path.write_text("<html>not found</html>")
    return root


def _no_class_folders(root: Path) -> Path:
    return root / "dog"


def _csv(content: str) -> Callable[[Path], Path]:
    """Spoils nothing, but names the pictures in a file of this content."""

    def write(root: Path) -> Path:
        path = root / "labels.csv"
        path.write_text(content)
        return path

    return write


def _unknown_label_in_val(root: Path) -> Path:
    rows = [f"{name}/{index}.png,{name},train" for name in ("cat", "dog") for index in range(4)]
    return _csv("\n".join(["path,label,split", *rows, "cat/4.png,puma,val", "dog/4.png,dog,val"]))(root)


def _no_train_folder(root: Path) -> Path:
    (root / "cat").rename(root / "val")
    (root / "dog").rename(root / "test")
    return root


def _unreadable_test_split(root: Path) -> Path:
    for name in ("cat", "dog"):
        for split in ("train", "test"):
            (root / split / name).mkdir(parents=True)
        for index in range(6):
            (root / name / f"{index}.png").rename(root / "train" / name / f"{index}.png")
        (root / name).rmdir()
        (root / "test" / name / "0.png").write_bytes(b"no picture")
    return root


def _same_pictures(root: Path) -> Path:
    shutil.rmtree(root / "dog")
    shutil.copytree(root / "cat", root / "dog")
    return root


def _class_of_copies(root: Path) -> Path:
    (root / "copy").mkdir()
    shutil.copy(root / "cat" / "0.png", root / "copy")
    return root


def _mixed_folders(root: Path) -> Path:
    (root / "train").mkdir()
    return root


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (_one_class, "at least two classes; the data has 1 (cat)"),
        (_empty_class, "empty' is empty. Fill it or remove it"),
        (_nothing_readable, "None of the 12 files of 'photos' is a readable picture"),
        (_no_class_folders, "has no folder in it"),
        (_csv("file,class\ncat/0.png,cat\n"), "lacks path and label: it has file, class"),
        (_csv("path,label,split\ncat/0.png,cat,train\ncat/1.png,cat,holdout\n"), "line 3 of"),
        (_csv("path,label\ncat/0.png,cat\ncat/1.png,\n"), "Line 3 of"),
        (_unknown_label_in_val, "'puma' has pictures only in val"),
        (_csv("path,label\ncat/0.png,cat,train\ndog/0.png,dog,train\n"), "has more fields than the first"),
        (_csv("path,label,Label\ncat/0.png,cat,cat\n"), "repeats one: it has path, label, label"),
        (_no_train_folder, "needs a folder train/ beside test, val"),
        (_unreadable_test_split, "The test split of the data has no readable pictures"),
        (_same_pictures, "Set aside: 12 x copies of one picture have different labels: cat, dog. Repair or"),
        (
            _class_of_copies,
            "'copy' has pictures in no split. Set aside: 2 x copies of one picture have different labels",
        ),
        (_mixed_folders, "mixes train with cat, dog"),
    ],
)
def test_wrong_data_is_one_message_and_status_2(monkeypatch, capsys, tmp_path, make_folder, spoil, message):
    data = spoil(make_folder())
    output = tmp_path / "run"
    assert run_train(monkeypatch, "--data", data, "--output", output, "--cache-dir", tmp_path / "cache") == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert error.count("\n") == 1
    assert message in error
    assert not output.exists()


def test_a_class_with_too_few_pictures_is_named(monkeypatch, capsys, tmp_path, make_folder):
    root = make_folder()
    for path in sorted((root / "cat").iterdir())[2:]:
        path.write_bytes(b"")
    assert run_train(monkeypatch, "--data", root, "--output", tmp_path / "run", "--cache-dir", tmp_path) == 2
    assert "The class 'cat' has too few readable pictures: 2" in capsys.readouterr().err


def test_weights_of_another_network_leave_no_run_folder(monkeypatch, capsys, tmp_path, make_folder):
    import keras

    weights = tmp_path / "other.weights.h5"
    keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)]).save_weights(weights)
    flags = ["--backbone", "mobilenet", "--weights", weights, "--image-size", 32, "--output", tmp_path / "run"]
    assert run_train(monkeypatch, "--data", make_folder(), "--cache-dir", tmp_path, *flags) == 2
    assert "must be weights of mobilenet without its top layer" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_sigterm_exits_with_143_whatever_a_library_makes_of_it():
    code = """
import os, signal
from app.cli import run_command

def command():
    try:
        os.kill(os.getpid(), signal.SIGTERM)
    except KeyboardInterrupt:
        raise KeyboardInterrupt from None

run_command(command)
"""
    assert subprocess.run([sys.executable, "-c", code], cwd=REPOSITORY, stderr=subprocess.DEVNULL).returncode == 143


def test_ctrl_c_exits_with_130(capsys, monkeypatch):
    monkeypatch.setattr("app.interrupts._received", set())  # whatever other tests sent to this process

    def interrupted():
        raise KeyboardInterrupt

    with pytest.raises(SystemExit) as exit_status:
        run_command(interrupted)
    assert exit_status.value.code == 130
    assert capsys.readouterr().err == "interrupted\n"


def test_help_may_be_cut_short():
    command = f"{sys.executable} train.py --help | head -1"
    finished = subprocess.run(command, shell=True, cwd=REPOSITORY, capture_output=True, text=True, check=True)
    assert finished.stdout == "usage: train.py [-h] [OPTIONS]\n"
    assert finished.stderr == ""


def test_a_run_that_is_missing_is_told():
    command = [sys.executable, "evaluate.py"]
    finished = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=False)
    assert finished.returncode == 2
    text = "evaluate.py needs a RUN: a run folder, or a search folder, whose best run is taken. --help explains it."
    assert finished.stderr == f"error: {text}\n"


def test_a_file_that_cannot_be_used_is_named(capsys):
    def denied():
        raise PermissionError(13, "Permission denied", "photos")

    with pytest.raises(SystemExit) as exit_status:
        run_command(denied)
    assert exit_status.value.code == 2
    assert capsys.readouterr().err == "error: 'photos' cannot be used: Permission denied.\n"


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (RunError("A worker is gone."), "A worker is gone."),
        (OSError(errno.ENOSPC, "No space left on device", "run/a.csv"), "The disk of 'run/a.csv' is full. Make room."),
        (OSError(errno.ENOSPC, "No space left on device"), "A disk is full. Make room."),
        (MemoryError(), "The memory is too small for this. Close other programs, or use a smaller model."),
    ],
)
def test_what_is_no_mistake_of_the_user_ends_with_1(capsys, error, message):
    def unlucky():
        raise error

    with pytest.raises(SystemExit) as exit_status:
        run_command(unlucky)
    assert exit_status.value.code == 1
    assert capsys.readouterr().err == f"error: {message}\n"


SHOWS = """
from app.cli import run_command
from app.terminal import show_stage, silent_stderr
def show():
    with silent_stderr():
        show_stage("done", "shown")
run_command(show)
"""


def test_output_that_nobody_reads_ends_a_command_as_shells_do_and_without_stderr_it_works():
    closed = subprocess.Popen([sys.executable, "-c", f"input(){SHOWS}"], cwd=REPOSITORY, stdin=-1, stdout=-1, stderr=-1)
    closed.stdout.close()
    closed.stdin.write(b"\n")
    closed.stdin.close()
    assert (closed.wait(60), closed.stderr.read()) == (CLOSED_PIPE_STATUS, b"")
    closed.stderr.close()
    without = ["bash", "-c", 'exec "$0" -c "$1" 2>&-', sys.executable, SHOWS]
    ended = subprocess.run(without, cwd=REPOSITORY, stdout=subprocess.PIPE, text=True)
    assert (ended.returncode, ended.stdout) == (0, "done       shown\n")


@pytest.mark.parametrize("year", [1970, 2108])
def test_a_clock_that_no_zip_file_can_tell_is_named(monkeypatch, capsys, year):
    monkeypatch.setattr("app.cli.time.localtime", lambda: time.struct_time((year, 1, 1, 0, 0, 0, 3, 1, 0)))
    with pytest.raises(SystemExit) as exit_status:
        run_command(lambda: None)
    assert exit_status.value.code == 1
    assert capsys.readouterr().err.startswith(f"error: The clock of this machine says {year}, ")


def test_no_place_for_temporary_files_is_a_sentence():
    code = "import tempfile; from app.cli import run_command; run_command(tempfile.TemporaryDirectory)"
    no_bytes = lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))  # noqa: E731
    command = [sys.executable, "-B", "-c", code]
    ended = subprocess.run(command, cwd=REPOSITORY, preexec_fn=no_bytes, capture_output=True, text=True, check=False)
    assert ended.returncode == 1
    assert ended.stderr == (
        "error: No folder for temporary files can be written. Make room, or let TMPDIR name another.\n"
    )


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ({"cache_dir": ""}, "--cache-dir must be a path; received nothing."),
        ({"max_minutes": float("inf")}, "--max-minutes must be below 4294967296; received inf."),
        ({"checkpoint_seconds": float("inf")}, "--checkpoint-seconds must be below 4294967296; received inf."),
    ],
)
def test_neither_nothing_nor_the_infinite_is_a_setting(flags, message):
    with pytest.raises(UsageError, match=re.escape(message)):
        TrainConfig.of(**flags)


def test_a_cache_that_is_not_there_is_told(tmp_path, monkeypatch):
    monkeypatch.setattr("sys.argv", ["cache.py", "--clear", "--cache-dir", str(tmp_path / "gone")])
    with pytest.raises(UsageError, match=r"--cache-dir must be a folder; '.*gone' is not one\."):
        cache.main()


def test_the_cache_is_listed_and_cleared(tmp_path):
    store = Store(tmp_path / "store", limit=10**9)
    with store.writing({"a": 1}, "animals [red], vgg16, 64 px, pooling", (1000, 600), "float32") as writer:
        writer.append(np.ones((1000, 600), np.float32))
    command = [sys.executable, "cache.py", "--cache-dir", str(tmp_path)]
    listed = subprocess.run(command, capture_output=True, text=True, cwd=REPOSITORY, check=True).stdout
    assert "2.3 MiB  animals [red], vgg16, 64 px, pooling" in listed
    assert "1 entry, 2.3 MiB, in " in listed
    cleared = subprocess.run([*command, "--clear"], capture_output=True, text=True, cwd=REPOSITORY, check=True).stdout
    assert "1 entry, 2.3 MiB, deleted from " in cleared
    assert store.entries() == []
    wrong = subprocess.run([*command, "--cler"], capture_output=True, text=True, cwd=REPOSITORY)
    assert wrong.returncode == 2
    assert wrong.stderr == "error: Unknown options: --cler. Did you mean '--clear'? --help explains every flag.\n"
