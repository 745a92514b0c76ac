"""A threshold goes from training, or from evaluate.py, to every answer."""

import dataclasses
import json

import numpy as np
import pandas as pd
import pytest

from app.decision import DecisionConfig
from exports.run import FORMATS, export_run
from exports.saved_model import open_signature
from inference.answer_table import answer_table, answers_to
from inference.answering import of_run
from inference.files import FoundFile
from inference.load import read_run
from inference.run_record import read_metrics, read_sample
from reports.decision import decision_lines, promise_sentences
from reports.mistakes import decisions
from reports.page import percent
from reports.verdict import reach_verdict
from serving.api import load_answer
from tasks.classification import BINARY
from tasks.decision import measure_decision
from tests.reports.read_page import text_of
from tests.reports.test_evaluation import copied_run, run_evaluate  # noqa: F401
from tests.small_runs import SMALL_RUNS, make_run


def test_a_run_is_trained_with_a_threshold_for_each_label(tmp_path):
    folder = make_run(tmp_path, **SMALL_RUNS["multi_label"], sensitivity=0.98)
    thresholds = json.loads((folder / "model.json").read_text())["thresholds"]
    decision = json.loads((folder / "metrics.json").read_text())["decision"]
    assert {name: each["threshold"] for name, each in decision["classes"].items()} == thresholds
    assert set(thresholds) == {"cat", "dog", "even"}
    assert all(each["val"]["sensitivity"] in (1.0, None) for each in decision["classes"].values())
    table = pd.read_csv(folder / "predictions.csv").fillna({"predicted": ""})
    for name, threshold in thresholds.items():
        said = table["predicted"].str.split("|").apply(lambda labels, name=name: name in labels)
        assert (said == (table[f"probability_{name}"].astype(np.float32) >= np.float32(threshold))).all()
    assert "The threshold of this model" in (folder / "report.html").read_text()
    assert "chosen on val by `--sensitivity 0.98`" in (folder / "MODEL_CARD.md").read_text()


def test_evaluate_chooses_a_threshold_that_every_command_obeys(copied_run, run_evaluate):  # noqa: F811
    before = pd.read_csv(copied_run / "predictions.csv")
    positive = read_run(copied_run).class_names[1]
    threshold = float(np.float32(before[f"probability_{positive}"].max() + 1) / 2)
    for name, kept in (("litert", {positive: 0.9}), ("onnx", {}), ("saved_model", {positive: threshold})):
        (copied_run / "export" / name).mkdir(parents=True)
        (copied_run / "export" / name / "MODEL_CARD.md").touch()
        (copied_run / "export" / name / "thresholds.json").write_text(json.dumps(kept))
    status, printed, figures = run_evaluate(copied_run, "--threshold", threshold)
    assert status == 0
    assert "has files that decide by another threshold: litert, onnx" in " ".join(printed.split())
    assert f"'python export.py {copied_run} --format litert onnx' writes them anew" in " ".join(printed.split())
    count = (before["label"] == positive)[before["split"] == "test"].sum()
    assert f"'{positive}' from {threshold:.4g} on (--threshold {threshold}); val: 0 of" in printed
    assert f"test: 0 of {count} found" in " ".join(printed.split())
    assert "identical to metrics.json" not in printed
    page = text_of((copied_run / "report.html").read_text())
    assert f"decision, changed by evaluate.py to --threshold {threshold}" in page
    assert "gives the same result, but for the threshold, which evaluate.py changed." in page
    report = json.loads((copied_run / "report.json").read_text())
    (simple,) = (caution for caution in report["verdict"]["cautions"] if "A simple method" in caution)
    assert "most frequent answer) may be as good: a balanced accuracy of 50.0" in simple  # it finds none, either
    run = read_run(copied_run)
    assert run.task.thresholds == (np.float32(threshold),)
    table = pd.read_csv(copied_run / "predictions.csv")
    assert (table["predicted"] == run.class_names[0]).all()  # nothing is so likely
    assert figures["test"]["per_class"][positive]["recall"] == 0
    metrics = json.loads((copied_run / "metrics.json").read_text())
    assert metrics["decision"]["flag"] == f"--threshold {threshold}"
    assert metrics["test"] == figures["test"]
    status, printed, _ = run_evaluate(copied_run)
    assert status == 0
    assert "val and test: identical to metrics.json" in printed
    outputs = np.full((1, 1), before[f"probability_{positive}"].max(), np.float32)
    row = answer_table([FoundFile(copied_run)], answers_to(outputs, run.class_names, run.task)).iloc[0]
    assert row["predicted"] == run.class_names[0]
    assert row["probability"] == pytest.approx(float(1 - outputs[0, 0]))


def test_what_serves_and_every_export_give_the_labels_of_the_threshold(copied_run, run_evaluate, tmp_path):  # noqa: F811
    run_evaluate(copied_run, "--threshold", 1e-6)
    run = read_run(copied_run)
    positive, sample = run.class_names[1], read_sample(run, (), 16, tmp_path / "cache")
    served = load_answer(of_run(run))([(picture,) for picture in sample.inputs[0]])
    assert {tuple(answer.predicted) for answer in served} == {(positive,)}  # everything is so likely
    assert min(answer.probabilities[positive] for answer in served) < 0.5
    folders = {name: tmp_path / name for name in FORMATS}
    export_run(run, read_metrics(run), sample, folders)
    answer = open_signature(folders["saved_model"], "pictures")
    assert set(answer(pictures=sample.inputs[0].astype(np.float32))["labels"]) == {positive}
    for folder in folders.values():
        assert json.loads((folder / "thresholds.json").read_text()) == {positive: pytest.approx(1e-6)}
        assert "thresholds.json" in (folder / "MODEL_CARD.md").read_text()


def test_a_rule_is_for_val_of_the_run_itself(copied_run, run_evaluate):  # noqa: F811
    for rule, other in (("--sensitivity", "--data"), ("--sensitivity", "--split"), ("--threshold", "--split")):
        status, printed, _ = run_evaluate(copied_run, rule, 0.9, other, copied_run if other == "--data" else "test")
        assert status == 2
        assert f"leave out {other}" in printed


def test_other_pictures_are_measured_by_a_threshold_that_the_run_does_not_keep(copied_run, run_evaluate):  # noqa: F811
    before = {path.name: path.read_bytes() for path in copied_run.iterdir() if path.is_file()}
    photos, positive = copied_run.parent / "photos", read_run(copied_run).class_names[1]
    status, printed, figures = run_evaluate(copied_run, "--data", photos, "--threshold", 1e-6)
    assert status == 0
    assert figures["all"]["per_class"][positive]["recall"] == 1  # everything is so likely
    assert figures["all"]["balanced_accuracy"] == 0.5
    printed = " ".join(printed.split())
    assert f"'{positive}' from 1e-06 on (--threshold 1e-06); all: 12 of 12 found, 0 of 12 others left alone" in printed
    assert "for this measurement; the run keeps its own" in printed
    assert {path.name: path.read_bytes() for path in copied_run.iterdir() if path.is_file()} == before


def test_a_decision_that_is_replaced_is_named_with_the_way_back(copied_run, run_evaluate):  # noqa: F811
    table = pd.read_csv(copied_run / "predictions.csv")
    for flags, former in (
        (("--sensitivity", 0.9), "--threshold 0.5"),
        (("--specificity", 0.9), "--sensitivity 0.9"),
        (("--threshold", 0.5), "--specificity 0.9"),
    ):
        _, printed, _ = run_evaluate(copied_run, *flags)
        printed = "".join(printed.split())
        back = f"in place of {former}, which 'python evaluate.py {copied_run} {former}' brings back"
        assert back.replace(" ", "") in printed
    pd.testing.assert_frame_equal(pd.read_csv(copied_run / "predictions.csv"), table)  # the likelier class again
    assert "in place of" not in run_evaluate(copied_run, "--threshold", 0.5)[1]


def test_a_promise_that_test_does_not_show_is_said_with_the_number_that_would(binary_run):
    run = read_run(binary_run)
    point = {"sensitivity": 8 / 9, "sensitivity_ci95": [0.56, 0.98], "counts": {"sensitivity": [8, 9]}, "shown": False}
    promise = {"share": "sensitivity", "least": 0.98, "needed": 149}
    val = {"counts": {"sensitivity": [5, 5], "specificity": [3, 6]}}
    decision = {"flag": "", "promise": promise, "classes": {"dog": {"threshold": 0.1, "val": val, "test": point}}}
    (said,) = promise_sentences(decision, "test", run.kind)
    assert said.startswith("Missed on test: the threshold was chosen on val (5 of 5) for a sensitivity of 98")
    assert "8 of 9 (88.9\u00a0%; 56.0 to 98.0\u00a0%) of the pictures that are 'dog' are found" in said
    assert "To show 98\u00a0% at 95\u00a0% confidence takes 149, all right; there are 9." in said
    val["counts"]["specificity"] = [0, 0]
    (said,) = promise_sentences(decision, "test", run.kind)
    chosen = "no threshold was chosen for a sensitivity of 98\u00a0%, as val lacks examples; it is 0.1; on test, 8 of 9"
    assert said.startswith(f"Missed on test: {chosen}")


@pytest.mark.parametrize(("right", "standing"), [(9, "Not confirmed"), (8, "Missed"), (200, "Confirmed")])
def test_a_promise_is_confirmed_or_not_or_missed_on_test(binary_run, right, standing):
    targets, outputs = np.ones((max(right, 9), 1), np.float32), np.zeros((max(right, 9), 1), np.float32)
    outputs[:right] = 1
    task, rule = dataclasses.replace(BINARY, thresholds=(0.5,)), DecisionConfig.of(sensitivity=0.95).rule
    split = targets, outputs, np.arange(len(targets))
    decision = measure_decision(rule, task, ("cat", "dog"), {"test": split})
    kind = read_run(binary_run).kind
    (said,) = promise_sentences(decision, "test", kind, confirmed=right == 200)
    assert said.startswith(f"{standing} on test: no threshold was chosen for a sensitivity of 95\u00a0%, as val lacks")
    assert promise_sentences(decision, "test", kind, confirmed=right != 200) == []
    assert decision_lines(decision)[0].startswith(f"{standing} on test: 'dog' from 0.5 on")


def test_pictures_of_a_group_confirm_a_promise_as_one(binary_run):
    targets = np.ones((200, 1), np.float32)
    task, rule = dataclasses.replace(BINARY, thresholds=(0.5,)), DecisionConfig.of(sensitivity=0.95).rule
    decision = measure_decision(rule, task, ("cat", "dog"), {"test": (targets, targets, np.arange(200) // 4)})
    (said,) = promise_sentences(decision, "test", read_run(binary_run).kind)
    assert said.startswith("Not confirmed")
    assert "takes 59 independent pictures, all right; there are 200 pictures, which count as 50." in said


def test_unbalanced_classes_lead_with_what_is_found_of_each(binary_run):
    run = read_run(binary_run)
    per_class = {"cat": {"recall": 1.0, "support": 105}, "dog": {"recall": 5 / 9, "support": 9}}
    measured = {"n": 114, "accuracy": 110 / 114, "accuracy_ci95": [0.9, 0.99], "per_class": per_class}
    measured["balanced_accuracy"] = 7 / 9
    record = {"test": measured, "val": None, "baseline": {"majority": 105 / 114}, "diverged": []}
    record["data"] = {"classes": ["cat", "dog"]}
    verdict = reach_verdict(record, run.task, run.kind)
    assert verdict.sentence.startswith("Finds 5 of 9 'dog', and leaves 105 of 105 'cat' alone")
    assert verdict.headline == 7 / 9
    assert "The plain accuracy is 96.5\u00a0%." in verdict.detail
    assert verdict.comparison == "Simple methods, by plain accuracy: most frequent answer 92.1\u00a0%."
    record["baseline"] = {"majority": 0.6}
    verdict = reach_verdict(record, run.task, run.kind)
    assert verdict.sentence.startswith("Right on 110 of 114 pictures")
    assert verdict.headline == verdict.accuracy


@pytest.mark.parametrize(("of_regression", "is_warned"), [(0.5, False), (0.95, True)])
def test_unbalanced_classes_are_compared_by_their_balanced_accuracy(binary_run, of_regression, is_warned):
    """A regression that always gives the frequent answer has the better accuracy here, and finds no dog."""
    run = read_run(binary_run)
    truth = np.arange(1000) < 80
    answers = np.where(truth, np.arange(1000) % 10 > 0, np.arange(1000) % 10 == 0)  # nine of ten are right
    measured = run.task.measure(truth[:, None].astype(np.float32), answers[:, None].astype(np.float32), ("cat", "dog"))
    difference = {"difference": -0.02, "difference_ci95": [-0.04, -0.01], "simple_balanced_accuracy": of_regression}
    record = {"test": measured, "val": None, "diverged": [], "data": {"classes": ["cat", "dog"]}}
    record |= {"baseline": {"majority": 0.92, "raw_pixels": 0.92}, "baseline_difference": difference}
    verdict = reach_verdict(record, run.task, run.kind)
    assert verdict.headline == pytest.approx(0.9)
    assert f"The balanced accuracy of the regression is {percent(of_regression)}." in verdict.comparison
    warned = "A simple method (logistic regression on raw pixels) is better: a balanced accuracy of 95.0\u00a0%"
    assert verdict.cautions == ([f"{warned} on the same pictures."] if is_warned else [])


def test_a_model_that_is_hardly_better_than_guessing_is_told_with_a_threshold_as_well(binary_run):
    run = read_run(binary_run)
    truth = np.arange(900) < 60
    outputs = np.full((900, 1), 0.1, np.float32)  # no dog is found
    measured = run.task.measure(truth[:, None].astype(np.float32), outputs, ("cat", "dog"))
    point = {"threshold": 0.3, "val": None, "test": None}
    record = {
        "test": None,
        "val": measured,
        "diverged": [],
        "data": {"classes": ["cat", "dog"]},
        "folds": {"mean": 0.9},
    }
    record |= {"baseline": {"majority": 0.93, "raw_pixels": 0.93}, "baseline_difference": None}
    guessing = "A simple method (most frequent answer) may be as good: a balanced accuracy of 50.0\u00a0% on the same"
    optimistic = "The threshold was chosen on these pictures, so sensitivity and specificity are optimistic."
    for flag, expected in (("--threshold 0.3", []), ("--cost 10:1", [optimistic])):
        record["decision"] = {"flag": flag, "promise": None, "classes": {"dog": point}}
        assert reach_verdict(record, run.task, run.kind).cautions == [*expected, f"{guessing} pictures."]


def test_a_mistake_by_a_threshold_is_told_by_the_answer_and_its_own_probability():
    task = dataclasses.replace(BINARY, thresholds=(0.2,))
    answers = task.answers(np.zeros((2, 1), np.float32), np.array([[0.3], [0.1]], np.float32))
    classes, certainty = decisions(answers)
    assert classes.tolist() == [1, 0]
    assert certainty == pytest.approx([0.3, 0.9])
