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
    assert f"accuracy {100 * measured['accuracy']:.1f} % (95 % interval {low:.1f} to {high:.1f})" in card
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
