"""Every run has a card of its data, figures with intervals, limits and licence; an export's has all that, and more."""

import json
import shutil

import pytest

from inference.load import read_run
from inference.run_record import read_metrics
from reports.model_card import CARD_FILE, Export, write_card

HEADINGS = ["Classes", "Data", "Training", "Inputs and outputs", "Preparing a picture", "Accuracy", "Use and limits"]


def headings(card: str) -> list[str]:
    return [line.removeprefix("## ") for line in card.splitlines() if line.startswith("## ")]


@pytest.mark.parametrize("kind", ["binary_run", "fine_tuned_run", "multi_label_run"])
def test_a_run_has_a_card(kind, request):
    folder = request.getfixturevalue(kind)
    card, metrics = (folder / CARD_FILE).read_text(encoding="utf-8"), read_metrics(read_run(folder))
    assert headings(card) == [*HEADINGS, "Licence of the pretrained weights"]
    measured = metrics["test"]
    low, high = (100 * end for end in measured["accuracy_ci95"])
    assert f"accuracy {100 * measured['accuracy']:.1f} % (95 % interval {low:.1f} % to {high:.1f} %)" in card
    assert f"{100 * measured['accuracy']:.1f} % ({low:.1f} % to {high:.1f} %) |" in card
    for name, row in measured["per_class"].items():
        low, high = (100 * end for end in measured["recall_ci95"][name])
        line = f"{row['support']} | {100 * row['recall']:.1f} % ({low:.1f} % to {high:.1f} %) |"
        assert f"| `{name}` | {line}" in card
    assert f"split into {metrics['data']['train']} pictures to train on" in card
    assert "Apache-2.0" in card
    assert ("fine-tuned" in card) == (kind == "fine_tuned_run")
    assert str(folder.parent) not in card
    cautions = json.loads((folder / "report.json").read_text())["verdict"]["cautions"]
    assert cautions
    assert card.count("\n- ") == len(cautions)


def test_the_card_of_an_export_has_all_of_it(binary_run, tmp_path):
    run = read_run(binary_run)
    write_card(tmp_path / CARD_FILE, run, read_metrics(run), Export("onnx", {"model.onnx": "no difference"}, []))
    card, own = ((place / CARD_FILE).read_text(encoding="utf-8") for place in (tmp_path, binary_run))
    assert headings(card) == headings(own)
    assert "- `model.onnx`: no difference" in card
    assert "onnxruntime.InferenceSession" in card
    table = own[own.index("## Accuracy") : own.index("## Use")]
    assert table.rstrip() in card


def test_figures_that_no_run_writes_are_left_out(binary_run, tmp_path):
    run = read_run(shutil.copytree(binary_run, tmp_path / "run"))
    metrics = read_metrics(run)
    metrics["test"]["per_class"] = {"cat": {"recall": 7, "support": "many"}, "dog": []}
    metrics["baseline"] = [1]
    (run.folder / "report.json").write_text('{"verdict": {"cautions": ["[a](b) <i>", 3]}}')
    write_card(tmp_path / CARD_FILE, run, metrics)
    card = (tmp_path / CARD_FILE).read_text(encoding="utf-8")
    assert "recall" not in card
    assert "Simple methods" not in card
    assert r"- \[a\](b) \<i\>" in card


def card_of(folder, path, change):
    """The card of a run whose `metrics.json` is changed by a function."""
    run = read_run(folder)
    metrics = read_metrics(run)
    change(metrics)
    write_card(path, run, metrics)
    return path.read_text(encoding="utf-8")


def test_one_mistake_in_many_is_not_shown_as_none(binary_run, tmp_path):
    def change(metrics):
        almost = {"accuracy": 0.9999, "accuracy_ci95": [0.9994, 0.99999]}
        metrics["test"] |= {**almost, "per_class": {"cat": {"recall": 0.9999, "support": 10_000}}}
        metrics["baseline"] = {"majority": 0.9999}

    card = card_of(binary_run, tmp_path / CARD_FILE, change)
    assert "accuracy 99.9 % (95 % interval 99.9 % to 99.9 %)" in card
    assert "Simple methods reach: majority 99.9 %." in card
    assert "| `cat` | 10,000 | 99.9 % " in card


@pytest.mark.parametrize(
    ("flag", "said"), [("--threshold 0.3", "given by"), ("--sensitivity 0.98", "chosen on val by")]
)
def test_a_threshold_is_given_or_chosen(binary_run, tmp_path, flag, said):
    copy = shutil.copytree(binary_run, tmp_path / "run")
    facts = json.loads((copy / "model.json").read_text())
    (copy / "model.json").write_text(json.dumps(facts | {"thresholds": {"dog": 0.3}}))
    card = card_of(copy, tmp_path / CARD_FILE, lambda metrics: metrics.update(decision={"flag": flag}))
    assert f", {said} `{flag}`." in card


def test_a_calibration_with_class_weights_says_what_it_means_where_classes_are_uneven(binary_run, tmp_path):
    assert "are calibrated on val (temperature" in (binary_run / CARD_FILE).read_text(encoding="utf-8")
    copy = shutil.copytree(binary_run, tmp_path / "run")
    config = json.loads((copy / "config.json").read_text())
    (copy / "config.json").write_text(json.dumps(config | {"class_weights": True}))
    card = card_of(copy, tmp_path / CARD_FILE, lambda metrics: None)
    assert "calibrated on val as if every class were equally frequent" in card
    assert "they overstate the rare ones" in card


@pytest.mark.parametrize(("count", "said"), [(6, "of the 6 pictures of test"), (5, "of 5 pictures of test")])
def test_a_part_of_the_test_split_is_called_no_more_than_that(binary_run, tmp_path, count, said):
    def change(metrics):
        metrics["test"]["n"] = 6
        metrics["unknown"] = {"test": {"false_alarms": 1, "n": count}}

    assert f"wrongly for 1 {said}" in card_of(binary_run, tmp_path / CARD_FILE, change)
