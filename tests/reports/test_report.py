"""The page of a run holds what the run's files say, for any data, and needs nothing but itself."""

import dataclasses
import json
import re
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pandas as pd
import pytest
from PIL import Image

from app.config import TrainConfig
from data.preflight import SetAside
from data.prepare import Data
from models.heads import build_head
from reports import plots
from reports.mistakes import decisions
from reports.page import FOLDER, SPACE
from reports.per_class import answers_of
from reports.report import write_report
from reports.sections import SECTIONS
from reports.summary import build_record, show_record
from tasks.answers import Answers
from tasks.classification import BINARY, MULTICLASS, MULTILABEL
from tasks.metrics import METRICS, Metric
from tests.reports.made_data import HISTORY, make_data, make_model, make_outputs
from tests.reports.read_page import BROWSER, browse, check_page, text_of

TEMPERATURE = 1.5
HOSTILE = (
    "<script>alert(1)</script>",
    "</svg><b onclick='x'>\"quoted\" & $\\frac{1}{2}$",
    "日本 🦒",
    "{{ 7 * 7 }} {% raw %}",
    'style="fill: #000000" -->',
)


def report(
    folder: Path,
    data: Data,
    outputs: dict | None = None,
    history: pd.DataFrame = HISTORY,
    temperature: float = TEMPERATURE,
    model: keras.Model | None = None,
) -> tuple[str, dict[str, Any]]:
    """Writes a report; returns the page and the record it is about."""
    outputs = make_outputs(data) if outputs is None else outputs
    config, model = (
        TrainConfig.of(data="made", image_size=32, backbone="mobilenet", weights="none"),
        model or make_model(data),
    )
    record = build_record(data, config, outputs, model, history, temperature)
    folder.mkdir(exist_ok=True)
    page = write_report(folder, data, outputs, record, model, config, history)
    assert page == folder / "report.html"
    return page.read_text(encoding="utf-8"), record


def no_mistakes(data: Data) -> dict:
    return make_outputs(data, wrong=0)


CASES = {
    "binary": (make_data(), make_outputs, HISTORY),
    "multi-class": (make_data(MULTICLASS, ("a", "b", "c")), make_outputs, HISTORY),
    "multi-label": (make_data(MULTILABEL, ("a", "b", "c")), make_outputs, HISTORY),
    "multi-label without mistakes": (make_data(MULTILABEL, ("a", "b", "c")), no_mistakes, HISTORY),
    "no val": (make_data(val=0), make_outputs, HISTORY.assign(val_loss=np.nan, val_accuracy=np.nan)),
    "no test": (make_data(test=0), make_outputs, HISTORY),
    "nothing to judge": (make_data(val=0, test=0), make_outputs, HISTORY),
    "one test picture": (make_data(test=1), make_outputs, HISTORY),
    "one test picture of several labels": (make_data(MULTILABEL, ("a", "b", "c"), test=1), make_outputs, HISTORY),
    "no mistakes": (make_data(), no_mistakes, HISTORY),
    "no epochs": (make_data(), make_outputs, HISTORY[:0]),
    "one epoch": (make_data(), make_outputs, HISTORY[:1]),
    "classes without test pictures": (make_data(MULTICLASS, tuple("abcdefgh"), test=5), make_outputs, HISTORY),
    "many classes": (make_data(MULTICLASS, tuple(f"class {i}" for i in range(22)), train=22), make_outputs, HISTORY),
}


@pytest.mark.parametrize(("data", "predict", "history"), CASES.values(), ids=CASES)
def test_any_run_gets_a_page_that_needs_nothing_else(data, predict, history, tmp_path):
    page, _ = report(tmp_path, data, predict(data), history)
    check_page(page)
    assert len(page) < 3_000_000


def test_every_section_has_a_template_and_every_template_a_section():
    assert {path.name.removesuffix(".html.j2") for path in (FOLDER / "sections").iterdir()} == set(SECTIONS)


@pytest.mark.parametrize(("case", "missing"), [("multi-label", "confusion"), ("no epochs", "learning")])
def test_a_section_without_content_leaves_no_trace(case, missing, tmp_path):
    data, predict, history = CASES[case]
    page, _ = report(tmp_path, data, predict(data), history)
    assert f'id="{missing}"' not in page
    assert f'href="#{missing}"' not in page
    assert SECTIONS[missing].title not in text_of(page)
    assert 'id="classes"' in page
    assert 'href="#classes"' in page


def test_the_interval_of_pictures_that_look_alike_is_wider_and_says_so(tmp_path):
    data = make_data()
    plain, alone = report(tmp_path / "alone", data)
    groups = data.groups.copy()
    groups[data.splits["test"][1:4]] = 0
    page, record = report(tmp_path / "alike", data._replace(groups=groups))
    assert "effective_n" not in alone["test"]
    assert record["test"]["effective_n"] == 36 / 12
    assert record["test"]["accuracy_ci95"][0] < alone["test"]["accuracy_ci95"][0]
    assert record["val"] == alone["val"]
    note = "for the interval, 6 pictures count as 3 independent ones."
    assert note in text_of(page)
    assert "independent ones" not in text_of(plain)
    recall = [pd.read_csv(tmp_path / name / "per_class.csv")["recall_low"].sum() for name in ("alone", "alike")]
    assert recall[1] < recall[0]


def test_groups_that_the_data_names_have_their_accuracy_the_lowest_first(tmp_path):
    data = make_data()
    plain, _ = report(tmp_path / "plain", data)
    outputs = make_outputs(data)
    wrong = int(np.flatnonzero(~answers_of(data, "test", outputs["test"]).right)[0])
    examples = list(data.examples)
    for number, position in enumerate(data.splits["test"]):
        group = "<b>ann</b>" if number in (wrong, (wrong + 1) % 6) else "bob"
        examples[position] = examples[position]._replace(group=group)
    page, _ = report(tmp_path / "grouped", data._replace(examples=examples))
    table = pd.read_csv(tmp_path / "grouped" / "per_group.csv")
    assert table[["group", "count", "right"]].to_numpy().tolist() == [["<b>ann</b>", 2, 1], ["bob", 4, 4]]
    assert "<b>ann" not in page
    assert 'id="groups"' in page
    assert 'id="groups"' not in plain
    assert not (tmp_path / "plain" / "per_group.csv").exists()


def test_the_verdict_is_a_sentence_with_its_interval_and_what_simple_methods_reach(tmp_path):
    page, record = report(tmp_path, make_data())
    text = text_of(page)
    assert "83.3 % Right on 5 of 6 pictures it had never seen 95 % interval 43.6 to 97.0 %." in text
    assert "Simple methods: most frequent answer 50.0 %; logistic regression on raw pixels" in text
    assert record["test"]["accuracy"] == pytest.approx(5 / 6)
    difference = record["baseline_difference"]
    low, high = difference["difference_ci95"]
    assert difference["difference"] == pytest.approx(5 / 6 - record["baseline"]["raw_pixels"])
    assert -1 <= low < difference["difference"] < high <= 1
    assert f"points over the regression (95 % interval {100 * low:+.1f} to {100 * high:+.1f})." in text
    verdict = json.loads((tmp_path / "report.json").read_text(encoding="utf-8"))["verdict"]
    assert verdict["sentence"] == "Right on 5 of 6 pictures it had never seen"
    assert "Measured on 6 pictures only: on more of them, any accuracy from 44 to 97 % is plausible." in text
    assert "Few test pictures are of cat (3) and dog (3)" in text


@pytest.mark.parametrize(
    ("accuracies", "said"),
    [
        ([0.6, 0.8, 0.9], "twice as many would make about 95.0 % right on val, 90.0 % are now"),
        ([0.99, 0.989, 0.988, 0.988], "twice as many would bring no visible gain: 98.8 % are right now"),
        ([0.93, 0.94, 0.945, 0.95], "twice as many would bring no visible gain: 95.0 % are right now"),
        ([0.5, 0.5, 0.51], None),  # as many as the most frequent answer
    ],
)
def test_more_data_promises_a_gain_that_is_more_than_chance(accuracies, said, tmp_path):
    counts = [25 * 2**number for number in range(len(accuracies))]
    pd.DataFrame({"examples": counts, "val_accuracy": accuracies}).to_csv(tmp_path / "more_data.csv", index=False)
    text = text_of(report(tmp_path, make_data(val=200))[0])
    assert said in text if said else "twice as many" not in text


def test_a_result_on_val_is_called_optimistic(tmp_path):
    text = text_of(report(tmp_path, make_data(test=0))[0])
    assert "Right on 5 of 6 pictures kept for validation" in text
    assert "There is no test split; --test-fraction or a folder 'test' makes one. These pictures also decided" in text


def test_a_metric_of_the_table_is_in_the_record_on_the_page_and_on_the_terminal(tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(METRICS, "brier", Metric(lambda answers: 0.25, "Brier score", True, "0 is perfect"))
    page, record = report(tmp_path, make_data())
    assert record["val"]["brier"] == record["test"]["brier"] == 0.25
    assert "Brier score 25.0 % 0 is perfect" in text_of(page)
    show_record(record, tmp_path, make_data())
    assert capsys.readouterr().out.count("Brier score 25.0%") == 2


def test_a_page_has_the_sections_of_its_task_and_no_others(tmp_path):
    without_curves = dataclasses.replace(BINARY, sections=("classes", "mistakes"))
    tasks = {"all": BINARY, "several labels": MULTILABEL, "few": without_curves}
    found = {}
    for name, task in tasks.items():
        page, _ = report(tmp_path / name, make_data(task, ("a", "b", "c") if task.multi_label else ("a", "b")))
        found[name] = re.findall('<section id="(.*?)">', page)
        assert re.findall('<a href="#(.*?)"', page) == found[name]
    assert [name for name in found["all"] if name not in found["several labels"]] == ["confusion"]
    assert [name for name in found["all"] if name not in found["few"]] == ["confusion", "thresholds", "certainty"]
    assert not (tmp_path / "few" / "reliability.csv").exists()


@pytest.mark.parametrize("wrong", [1, 0])
def test_a_network_that_grad_cam_does_not_understand_costs_the_overlays(tmp_path, capsys, wrong):
    data = make_data()
    pictures = keras.Input(data.inputs[0].shape[1:])
    sides = [layer()(pictures) for layer in (keras.layers.GlobalAveragePooling2D, keras.layers.GlobalMaxPooling2D)]
    pooled = keras.layers.Concatenate(name="pooling")(sides)
    model = keras.Model(pictures, build_head(6, data.task, len(data.class_names))(pooled))
    page, _ = report(tmp_path, data, make_outputs(data, wrong=wrong), model=model)
    check_page(page)
    said = "Where it looked (Grad-CAM) could not be made: "
    assert said in text_of(page)
    printed = capsys.readouterr().out
    assert f"warning    {said}" in printed
    assert "(data/images/explain.py, line " in printed
    assert "bright areas" not in page
    assert (tmp_path / "figures" / "mistakes.png").exists()


def test_a_run_that_was_not_measured_says_so(tmp_path):
    text = text_of(report(tmp_path, make_data(val=0, test=0))[0])
    assert "Accuracy unknown: there is no val or test split." in text
    assert "Learning" in text
    assert "mistakes" not in text


def test_many_right_answers_need_no_caution(tmp_path):
    data = make_data(train=20, val=0, test=400)
    report(tmp_path, data)
    verdict = json.loads((tmp_path / "report.json").read_text(encoding="utf-8"))["verdict"]
    # Raw pixels tell noise of two colours apart as well.
    simple = "A simple method (logistic regression on raw pixels) may be as good: 100\u00a0% on the same pictures."
    assert verdict["cautions"] == [simple]


@pytest.mark.parametrize("test", [6, 0])
def test_what_the_pictures_themselves_give_cause_for_is_among_the_cautions(tmp_path, test):
    text = text_of(report(tmp_path, make_data(val=0, test=test)._replace(cautions=["Hardly anything to see."]))[0])
    assert "Hardly anything to see." in text


def test_names_can_hold_anything(tmp_path):
    quarantine = [SetAside(Path("/made/<img src=x onerror=alert(2)>.png"), "not a <picture> & \x1b[2J\u202emore")]
    data = make_data(MULTICLASS, HOSTILE, quarantine, names="<i>é日本🦒{}.png", train=20, test=20)
    page, _ = report(tmp_path / "<u>run", data)
    text = text_of(page)
    for name in (
        *HOSTILE,
        "<i>é日本🦒26.png",
        "<img src=x onerror=alert(2)>.png",
        "not a <picture> & \\x1b[2J\\u202emore",
    ):
        assert name in text
    assert page.count("<script") == 1
    assert "<b onclick" not in page
    assert "<u>run" not in page
    assert "<img src=x" not in page
    assert set(pd.read_csv(tmp_path / "<u>run" / "per_class.csv")["class"]) == set(HOSTILE)


def test_the_tables_hold_what_the_page_shows(tmp_path):
    data = make_data(MULTICLASS, ("a", "b", "c"))
    outputs = make_outputs(data)
    _, record = report(tmp_path, data, outputs)
    table = pd.read_csv(tmp_path / "per_class.csv", index_col="class")
    for name, measured in record["test"]["per_class"].items():
        np.testing.assert_allclose(table.loc[name, list(measured)].astype(float), list(measured.values()))
    assert table.loc["a", "train"] == 4
    assert (table.loc["a", "taken_for"], table.loc["a", "taken_for_count"]) == ("b", 1)
    assert table["roc_auc"].mean() == pytest.approx(record["test"]["roc_auc"])
    roc = pd.read_csv(tmp_path / "roc.csv")
    for name, rows in roc.groupby("class"):
        area = np.trapezoid(rows["true_positive_rate"], rows["false_positive_rate"])
        assert area == pytest.approx(table.loc[name, "roc_auc"])
    assert set(pd.read_csv(tmp_path / "pr.csv")) == {"class", "threshold", "recall", "precision"}
    before = MULTICLASS.apply_temperature(outputs["test"], 1 / TEMPERATURE)
    reliability = pd.read_csv(tmp_path / "reliability.csv").set_index("temperature_scaling")
    for stage, predicted in (("before", before), ("after", outputs["test"])):
        rows = reliability.loc[[stage]]
        gap = (rows["count"] * (rows["accuracy"] - rows["confidence"]).abs()).sum() / rows["count"].sum()
        assert gap == pytest.approx(record["calibration"]["test"][f"ece_{stage}"])
        assert (rows["count"] * rows["confidence"]).sum() == pytest.approx(predicted.max(axis=1).sum(), rel=1e-5)


def test_two_classes_get_a_threshold_with_sensitivity_and_specificity(tmp_path):
    page, record = report(tmp_path, make_data())
    text, point = text_of(page), record["operating_point"]
    assert "The positive class, the one to find, is “dog”; --positive of train.py names another." in text
    assert "When to say “dog”" in text
    assert f"From a probability of {point['threshold']:.4g} on." in text
    assert re.search(r"test 100 % 43\.9 to 100 % 66\.7 % 20\.8 to 93\.9 %", text)
    assert (tmp_path / "figures" / "thresholds.png").exists()


def test_the_most_confident_mistake_comes_first(tmp_path):
    data = make_data()
    outputs = make_outputs(data, wrong=3)
    outputs["test"][:3, 0] = [0.6, 0.05, 0.8]
    page, _ = report(tmp_path, data, outputs)
    text = text_of(page)
    assert "3 of 3, the most confident first." in text
    assert text.index("cat, 95.0 % sure label: dog 19.png") < text.index("dog, 80.0 % sure label: cat 20.png")
    assert text.index("dog, 80.0 % sure") < text.index("dog, 60.0 % sure label: cat 18.png")


def test_a_mistake_by_a_threshold_is_shown_with_both(tmp_path):
    data = make_data(dataclasses.replace(BINARY, thresholds=(0.2,)))
    outputs = make_outputs(data, wrong=0)
    outputs["test"][:2, 0] = [0.3, 0.1]
    text = text_of(report(tmp_path, data, outputs)[0])
    assert "dog at 30.0 % (threshold 20.0 %) label: cat 18.png" in text
    assert "cat, dog at 10.0 % (threshold 20.0 %) label: dog 19.png" in text


def test_of_several_labels_the_wrong_one_is_named(tmp_path):
    data = make_data(MULTILABEL, ("cat", "indoors", "night"))
    outputs = make_outputs(data, wrong=0)
    outputs["test"][0] = [0.02, 0.9, 0.1]
    text = text_of(report(tmp_path, data, outputs)[0])
    assert "not cat, 98.0 % sure labels: cat|indoors" in text


def test_the_most_confident_label_is_the_one_that_was_surest_of_its_answer():
    truth, predicted = np.zeros((1, 2), bool), np.array([[True, True]])
    sure = Answers(truth, predicted, np.array([[0.06, 0.3]]), True)  # by thresholds of 5 %
    assert [float(each[0]) for each in decisions(sure)] == [1, 0.3]


def test_folds_show_no_accuracy_of_a_decision_by_a_rule(tmp_path, capsys):
    data = make_data()
    _, record = report(tmp_path, data)
    record["folds"] = {"accuracy": [0.5, 0.6], "mean": 0.55, "deviation": 0.07}
    for decision, is_shown in ((None, True), ({"flag": "--cost 9:1", "promise": None, "classes": {}}, False)):
        show_record(record | {"decision": decision}, tmp_path, data)
        printed = " ".join(capsys.readouterr().out.split())
        assert "val: 2 heads, each measured on pictures that it has not seen" in printed
        assert ("55.0% ± 7.0%" in printed) == is_shown


def test_one_mistake_in_many_is_not_shown_as_none(tmp_path, capsys):
    data = make_data()
    _, record = report(tmp_path, data)
    record["test"] |= {"accuracy": 0.9999, "accuracy_ci95": [0.9995, 1.0], "n": 10_000}
    show_record(record | {"baseline": {"majority": 0.9999}, "val": None}, tmp_path, data)
    printed = capsys.readouterr().out
    assert "99.9%      99.9% to 100.0%" in printed
    assert printed.count("100.0%") == 1


def test_look_alikes_of_val_are_a_caution_as_well(tmp_path):
    data = make_data(val=8, test=10)
    data.inputs[0][13], data.signatures[13] = data.inputs[0][3], data.signatures[3]
    data.groups[13] = data.groups[3]
    text = text_of(report(tmp_path, data)[0])
    assert "1 val picture looks the same as a training picture (see below): the epoch was chosen by pictures" in text
    assert json.loads((tmp_path / "report.json").read_text())["val_near_duplicates"] == 1


def test_a_leak_is_shown_and_taken_off(tmp_path):
    data = make_data(test=10)
    data.inputs[0][20], data.signatures[20] = data.inputs[0][3], data.signatures[3]
    data.groups[20] = data.groups[3]
    page, _ = report(tmp_path, data)
    suspects = pd.read_csv(tmp_path / "suspects.csv")
    assert suspects.loc[suspects["kind"] == "near_duplicate", ["path", "split", "other_path"]].values.tolist() == [
        ["20.png", "test", "3.png"]
    ]
    assert "1 test picture looks the same as a training picture (see below). Without them, the accuracy is 88.9 %." in (
        text_of(page)
    )
    assert json.loads((tmp_path / "report.json").read_text())["near_duplicates"] == 1


def test_what_was_set_aside_is_counted_by_reason(tmp_path):
    broken = [SetAside(Path(f"/made/{i}.gif"), "empty file" if i % 3 else "not a picture") for i in range(60)]
    text = text_of(report(tmp_path, make_data(quarantine=broken))[0])
    assert "60 pictures were not used." in text
    assert "reason pictures empty file 40 not a picture 20" in text
    assert "The first 50" in text
    assert "49.gif" in text
    assert "50.gif" not in text


def test_the_same_run_gives_the_same_page(tmp_path):
    data = make_data(MULTICLASS, ("a", "b", "c"))
    report(tmp_path / "run", data)
    first = (tmp_path / "run" / "report.html").read_bytes()
    assert report(tmp_path / "run", data)[0].encode() == first


@pytest.mark.skipif(BROWSER is None, reason="no Chromium")
def test_a_browser_shows_the_page_and_sorts_its_tables(tmp_path):
    page, _ = report(tmp_path, make_data(MULTICLASS, ("a", "b10", "b9"), test=14))
    screenshot = tmp_path / "page.png"
    complaints = browse(tmp_path / "report.html", f"--screenshot={screenshot}", "--window-size=390,2000").stderr
    assert "CONSOLE" not in complaints
    pixels = np.asarray(Image.open(screenshot).convert("L"))
    assert pixels.shape == (2000, 390)
    assert pixels.std() > 10
    # The page itself lets no script in, so the click goes into a copy that does.
    click = "<script>document.querySelectorAll('#classes th button')[0].click()</script></body>"
    copy = re.sub(r"<meta http-equiv[^>]*>", "", page).replace("</body>", click)
    (tmp_path / "copy.html").write_text(copy, encoding="utf-8")
    dumped = browse(tmp_path / "copy.html", "--dump-dom").stdout
    rows = re.findall(r'<tr><td class="name">(\w+)', dumped[dumped.index('id="classes"') :])
    assert rows == ["a", "b9", "b10"]
    assert re.findall(r'<tr><td class="name">(\w+)', page[page.index('id="classes"') :]) == ["a", "b10", "b9"]


def test_a_confusion_matrix_writes_its_zeros():
    axes = plots.confusion_matrix(np.array([[3, 0], [1, 2]]), ("cat", "dog"), "test").axes[0]
    assert [text.get_text() for text in axes.texts] == ["3", "0", "1", "2"]


def test_accuracies_are_percentages_in_figures_as_on_the_page():
    axes = plots.learning_curve(HISTORY, "accuracy").axes[0]
    assert {text.get_text()[-2:] for text in axes.get_yticklabels()} == {f"{SPACE}%"}
