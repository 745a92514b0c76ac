"""evaluate.py: a run's own figures again to the bit, and figures on new pictures whatever their order or number."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

import evaluate
from app.cli import run_command
from app.config import TrainConfig
from app.errors import UsageError
from inference.load import read_run
from reports.evaluation import example_changes
from reports.evaluation_inputs import load_evaluation
from tasks.metrics import METRICS, Metric
from tests.conftest import COLOURS, make_picture
from tests.small_runs import SMALL_RUNS, make_run

REPOSITORY = Path(__file__).parent.parent.parent


@pytest.fixture
def copied_run(binary_run, tmp_path) -> Path:
    """A run whose pictures may be changed."""
    shutil.copytree(binary_run, tmp_path / "run")
    shutil.copytree(binary_run.parent / "photos", tmp_path / "photos")
    config = json.loads((tmp_path / "run" / "config.json").read_text())
    (tmp_path / "run" / "config.json").write_text(json.dumps(config | {"data": str(tmp_path / "photos")}))
    return tmp_path / "run"


RUNS = ("binary_run", "fine_tuned_run", "multi_label_run")
LEARNT = "the model was trained on"


@pytest.fixture
def run_evaluate(monkeypatch, tmp_path, capsys):
    """Calls evaluate.py and returns its exit status, what it printed and the figures it wrote."""

    def call(*args: object) -> tuple[int, str, dict]:
        figures = tmp_path / "figures.json"
        figures.unlink(missing_ok=True)
        flags = ["--json", str(figures), "--cache-dir", str(tmp_path / "cache"), *map(str, args)]
        monkeypatch.setattr(sys, "argv", ["evaluate.py", *flags])
        status = 0
        try:
            run_command(evaluate.main)
        except SystemExit as exit_request:
            status = exit_request.code
        printed = capsys.readouterr()
        return status, printed.out + printed.err, json.loads(figures.read_text()) if figures.exists() else {}

    return call


@pytest.mark.parametrize("run", [*RUNS, pytest.param("uncut_run", marks=pytest.mark.slow)])
def test_the_figures_of_a_run_are_found_again_to_the_bit(run, request, run_evaluate, tmp_path):
    folder = request.getfixturevalue(run)
    status, printed, figures = run_evaluate(folder, "--csv", tmp_path / "predictions.csv")
    recorded = json.loads((folder / "metrics.json").read_text())
    assert status == 0
    assert recorded["test"] is not None
    assert {split: figures[split] for split in ("val", "test")} == {split: recorded[split] for split in ("val", "test")}
    assert (tmp_path / "predictions.csv").read_bytes() == (folder / "predictions.csv").read_bytes()
    assert "val and test: identical to metrics.json" in printed
    assert LEARNT not in printed


def test_nothing_is_kept_among_the_pictures(binary_run, run_evaluate):
    photos = binary_run.parent / "photos"
    for flags in ((), ("--data", photos)):
        status, printed, _ = run_evaluate(binary_run, *flags, "--cache-dir", photos / "cache")
        assert status == 2
        assert "error: --cache-dir must be outside the folder of --data" in printed
    assert not (photos / "cache").exists()


def test_the_split_is_that_of_its_seed_and_in_old_runs_of_the_seed(copied_run, tmp_path):
    config = json.loads((copied_run / "config.json").read_text())
    old = {name: value for name, value in config.items() if name != "split_seed"}
    seeds = [config | {"seed": 5}, old, old | {"seed": 5}]
    found = []
    for settings in (config, *seeds):
        (copied_run / "config.json").write_text(json.dumps(settings))
        found.append(load_evaluation(read_run(copied_run), None, ("test",), tmp_path).data.splits["test"].tolist())
    assert found[0] == found[1] == found[2] != found[3]


def test_a_run_on_a_part_is_measured_on_the_same_part(tmp_path, run_evaluate):
    settings = SMALL_RUNS["binary"] | {"max_pictures": 18, "split_seed": 3}
    folder = make_run(tmp_path, **settings)
    data = json.loads((folder / "metrics.json").read_text())["data"]
    assert data["train"] + data["val"] + data["test"] == 18
    status, printed, _ = run_evaluate(folder)
    assert status == 0
    assert "18 of 24 pictures, drawn at random" in printed
    assert "val and test: identical to metrics.json" in printed
    status, printed, figures = run_evaluate(folder, "--data", tmp_path / "photos")
    assert figures["all"]["n"] == 24


def test_one_split_is_judged_alone(binary_run, run_evaluate):
    status, printed, figures = run_evaluate(binary_run, "--split", "train")
    assert status == 0
    assert LEARNT in printed
    assert set(figures) == {"run", "data", "train"}
    assert figures["train"]["n"] == json.loads((binary_run / "metrics.json").read_text())["data"]["train"]


def test_new_pictures_are_judged_together_by_the_names_of_their_classes(fine_tuned_run, tmp_path, run_evaluate):
    for name, colour in (("red", 2), ("blue, dark", 0)):
        (tmp_path / "new" / name).mkdir(parents=True)
        for index in range(3):
            make_picture(900 + index, COLOURS[colour]).save(tmp_path / "new" / name / f"{index}.png")
    (tmp_path / "new" / "red" / "broken.png").write_bytes(b"broken")
    status, printed, figures = run_evaluate(fine_tuned_run, "--data", tmp_path / "new")
    assert status == 0
    assert figures["data"] == {"name": "new", "quarantined": 1, "duplicates": 0}
    assert {name: row["support"] for name, row in figures["all"]["per_class"].items()} == {
        **{"blue, dark": 3, "green": 0, "red": 3},
    }
    assert "1 set aside: 1 x not a picture" in printed
    assert "metrics.json" not in printed


def test_the_pictures_of_the_run_are_not_taken_for_new_ones(binary_run, run_evaluate):
    status, printed, figures = run_evaluate(binary_run, "--data", binary_run.parent / "photos")
    assert status == 0
    assert figures["all"]["n"] == 24
    assert LEARNT in printed


def test_renamed_copies_of_training_pictures_are_counted(binary_run, copied_run, tmp_path, run_evaluate):
    measured = set(pd.read_csv(binary_run / "predictions.csv")["path"])
    for path in (binary_run.parent / "photos").rglob("*.jpg"):
        if path.relative_to(binary_run.parent / "photos").as_posix() not in measured:
            copy = tmp_path / "new" / path.parent.name / f"copy {path.name}"
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(path, copy)
    copies = json.loads((binary_run / "metrics.json").read_text())["data"]["train"]
    make_picture(999, COLOURS[0]).save(tmp_path / "new" / "cat" / "new.jpg")
    status, printed, _ = run_evaluate(binary_run, "--data", tmp_path / "new")
    assert status == 0
    assert f"the model was trained on {copies} of these pictures: expect less on new ones" in printed
    (copied_run / "learnt_from.txt").unlink()  # as in older runs
    status, printed, _ = run_evaluate(copied_run, "--data", tmp_path / "new")
    assert status == 0
    assert LEARNT not in printed
    assert "the model was trained on some of these pictures" in run_evaluate(copied_run, "--split", "train")[1]


def test_one_picture_of_one_class_will_do(binary_run, tmp_path, run_evaluate):
    (tmp_path / "new" / "dog").mkdir(parents=True)
    shutil.copy(binary_run.parent / "photos" / "dog" / "0.jpg", tmp_path / "new" / "dog")
    status, _, figures = run_evaluate(binary_run, "--data", tmp_path / "new")
    assert status == 0
    assert figures["all"]["n"] == 1
    assert figures["all"]["roc_auc"] is None


def test_copies_of_one_picture_count_as_one_for_the_interval(binary_run, tmp_path, run_evaluate):
    (tmp_path / "new" / "dog").mkdir(parents=True)
    for number in range(4):
        shutil.copy(binary_run.parent / "photos" / "dog" / "0.jpg", tmp_path / "new" / "dog" / f"{number}.jpg")
    _, _, figures = run_evaluate(binary_run, "--data", tmp_path / "new")
    assert (figures["all"]["n"], figures["all"]["effective_n"]) == (4, 1.0)
    assert max(abs(a - b) for a, b in zip(figures["all"]["accuracy_ci95"], [0.2065, 1.0], strict=True)) < 1e-3


def test_groups_of_new_pictures_are_those_of_the_run_or_of_the_flag(copied_run, tmp_path, run_evaluate):
    (tmp_path / "new" / "dog").mkdir(parents=True)
    for number in range(4):
        photo = copied_run.parent / "photos" / "dog" / f"{number}.jpg"
        shutil.copy(photo, tmp_path / "new" / "dog" / f"rex{number // 2}_{number}.jpg")
    alone = run_evaluate(copied_run, "--data", tmp_path / "new")[2]
    assert "effective_n" not in alone["all"]
    by_flag = run_evaluate(copied_run, "--data", tmp_path / "new", "--group-by", r"(rex\d)")[2]
    assert by_flag["all"]["effective_n"] == 2.0
    config = json.loads((copied_run / "config.json").read_text())
    (copied_run / "config.json").write_text(json.dumps(config | {"group_by": r"(rex\d)"}))
    assert run_evaluate(copied_run, "--data", tmp_path / "new")[2] == by_flag
    (copied_run / "config.json").write_text(json.dumps(config | {"group_by": r"(max\d)"}))
    status, printed, figures = run_evaluate(copied_run, "--data", tmp_path / "new")
    assert status == 0
    assert figures == alone
    assert r"no groups by --group-by (max\d), as those of the run have" in " ".join(printed.split())
    assert run_evaluate(copied_run, "--data", tmp_path / "new", "--group-by", r"(max\d)")[0] == 2
    assert run_evaluate(copied_run, "--group-by", r"(rex\d)")[0] == 2


def test_moved_pictures_are_split_as_they_were(binary_run, tmp_path, run_evaluate):
    shutil.copytree(binary_run.parent / "photos", tmp_path / "moved")
    status, printed, figures = run_evaluate(binary_run, "--data", tmp_path / "moved", "--split", "val", "test")
    assert status == 0
    assert figures["test"] == json.loads((binary_run / "metrics.json").read_text())["test"]
    assert "identical to metrics.json" in printed


def test_a_split_that_the_data_makes_needs_no_other(binary_run, tmp_path, run_evaluate):
    photos = binary_run.parent / "photos"
    rows = [f"{photos}/{name}/{i}.jpg,{name},test" for name in ("dog", "cat") for i in range(2)]
    (tmp_path / "new.csv").write_text("\n".join(["path,label,split", *rows]))
    status, _, figures = run_evaluate(binary_run, "--data", tmp_path / "new.csv", "--split", "test", "--outside")
    assert status == 0
    assert figures["test"]["n"] == 4


def test_changed_pictures_and_figures_are_told(copied_run, run_evaluate):
    table = pd.read_csv(copied_run / "predictions.csv")
    gone = table[table["split"] == "test"].iloc[0]["path"]
    photo = copied_run.parent / "photos" / gone
    make_picture(555, COLOURS[2]).save(photo.with_name("new.jpg"))
    photo.unlink()
    status, printed, figures = run_evaluate(copied_run)
    assert status == 0
    assert "gone since the run; the model may have been trained on the new ones" in " ".join(printed.split())
    assert figures["test"] != json.loads((copied_run / "metrics.json").read_text())["test"]
    assert "test differs from metrics.json: " in printed


def test_a_metric_that_the_run_did_not_know_is_called_new(binary_run, run_evaluate, monkeypatch):
    monkeypatch.setitem(METRICS, "brier", Metric(lambda answers: 0.25, "Brier score", False, "0 is perfect"))
    status, printed, figures = run_evaluate(binary_run)
    assert status == 0
    assert figures["test"]["brier"] == 0.25
    assert "Brier score 0.250" in " ".join(printed.split())
    assert "val and test: identical to metrics.json" in printed
    assert "brier is new: metrics.json has no such figure" in printed
    assert "differs" not in printed


def test_any_figure_that_differs_is_named(copied_run, run_evaluate):
    path = copied_run / "metrics.json"
    metrics = json.loads(path.read_text())
    metrics["val"] |= {"balanced_accuracy": 10**400, "roc_auc": 0.125}
    path.write_text(json.dumps(metrics))
    _, printed, figures = run_evaluate(copied_run)
    found = f"roc_auc {figures['val']['roc_auc']:.6g}, was 0.125"
    assert f"val differs from metrics.json: balanced_accuracy; {found}\n" in printed


def test_changes_are_counted(binary_run):
    table = pd.read_csv(binary_run / "predictions.csv", keep_default_na=False)
    assert example_changes(read_run(binary_run), table) == ""
    changed = table.copy()
    changed.loc[0, "path"] = "cat/other.jpg"
    changed.loc[1, "label"] = "puma"
    assert (
        example_changes(read_run(binary_run), changed)
        == "1 picture is new, 1 picture is gone, 1 picture is labelled differently"
    )


def write_new(root: Path, rows: list[str]) -> Path:
    (root / "new.csv").write_text("\n".join(["path,label", *rows]))
    return root / "new.csv"


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (["x.jpg,dogg"], "the model's classes, cat, dog; 'new' has 'dogg'. Did you mean 'dog'?"),
        (["x.jpg,dog|cat"], "The model gives one label per picture; pictures of 'new' have several or none"),
        (["x.jpg,dog"], "None of the 1 files of 'new' is a readable picture"),
    ],
)
def test_pictures_that_cannot_judge_the_model_are_one_line(binary_run, tmp_path, run_evaluate, rows, message):
    status, printed, figures = run_evaluate(binary_run, "--data", write_new(tmp_path, rows))
    assert status == 2
    assert message in printed
    assert printed.count("\n") == 1
    assert figures == {}


def test_pictures_that_are_not_found_from_here_are_asked_for(copied_run, tmp_path):
    config = json.loads((copied_run / "config.json").read_text())
    (copied_run / "config.json").write_text(json.dumps(config | {"data": "photos-of-long-ago"}))
    with pytest.raises(UsageError, match=r"'photos-of-long-ago', are not found; .*start this command there\."):
        load_evaluation(read_run(copied_run), None, (), tmp_path)


def test_an_empty_split_is_named(binary_run, tmp_path):
    photos = binary_run.parent / "photos"
    data = write_new(tmp_path, [f"{photos}/{name}/{i}.jpg,{name}" for name in ("cat", "dog") for i in range(4)])
    run = read_run(binary_run)
    run = run._replace(config=TrainConfig.of(**run.config.to_json() | {"val_fraction": 0.0, "test_fraction": 0.0}))
    with pytest.raises(UsageError, match="There are no pictures in test of 'new'"):
        load_evaluation(run, str(data), ("test",), tmp_path, outside=True)


def test_help_and_mistakes_need_no_tensorflow():
    for args in (["--help"], ["nowhere"]):
        command = [sys.executable, "-X", "importtime", "evaluate.py", *args]
        done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=False)
        assert done.returncode == (0 if args == ["--help"] else 2)
        assert "--split" in done.stdout or "there is no folder 'nowhere'" in done.stderr
        assert not {"tensorflow", "keras"} & {line.split("|")[-1].strip() for line in done.stderr.splitlines()}


def test_nothing_of_a_run_or_its_data_is_written_over(binary_run, run_evaluate, tmp_path):
    (picture, *_) = sorted((binary_run.parent / "photos").glob("*/*.jpg"))
    before = picture.read_bytes(), (binary_run / "model.json").read_bytes()
    for path in (binary_run / "model.json", picture):
        status, printed, _ = run_evaluate(binary_run, "--csv", path)
        assert status == 2
        assert f"--csv must be a file of its own; '{path}' is an input" in printed
    assert (picture.read_bytes(), (binary_run / "model.json").read_bytes()) == before


def test_a_run_keeps_the_order_of_its_classes(tmp_path, run_evaluate):
    """Even one that does not say which class is positive: of as many pictures of both, 'dog' would be last now."""
    folder = make_run(tmp_path, classes=("cat", "dog"), positive="cat")
    metrics = json.loads((folder / "metrics.json").read_text())
    assert metrics["data"]["classes"] == json.loads((folder / "model.json").read_text())["classes"] == ["dog", "cat"]
    assert metrics["operating_point"]["positive"] == "cat"
    config = json.loads((folder / "config.json").read_text())
    assert config.pop("positive") == "cat"
    (folder / "config.json").write_text(json.dumps(config))
    status, printed, _ = run_evaluate(folder)
    assert status == 0
    assert "val and test: identical to metrics.json" in printed
    status, _, figures = run_evaluate(folder, "--data", tmp_path / "photos")
    assert status == 0
    assert list(figures["all"]["per_class"]) == ["dog", "cat"]
