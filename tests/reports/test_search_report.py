"""The page of a search tells what won, how often val was looked at, and how far that can be trusted."""

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from app.files import write_json
from reports.search_report import gain_text, val_texts, write_search_report
from tasks.classification import BINARY
from tests.reports.read_page import BROWSER, browse, check_page, text_of

GAIN = {
    "accuracy": {"best": 0.9, "default": 0.85},
    "balanced_accuracy": {"best": 0.9, "default": 0.8},
    "difference": 0.05,
    "log_loss": {"best": 0.2, "default": 0.3},
    "macro_f1": {"best": 0.9, "default": 0.8},
    "difference_ci95": [-0.0912, 0.1791],
}
VARIED = {"trainable_layers": None, "learning_rate": "log", "optimizer": None}


def make_trials(count: int = 12, failed: int = 0) -> pd.DataFrame:
    """Trials of which the third is the best; the last ones failed."""
    accuracy = np.linspace(0.7, 0.8, count)
    accuracy[min(2, count - 1)] = 0.95
    lost = np.arange(count) >= count - failed
    return pd.DataFrame(
        {
            "trial": np.arange(1, count + 1),
            "status": np.where(lost, "failed", "done"),
            "score": np.where(lost, np.nan, accuracy),
            "val_accuracy": np.where(lost, np.nan, accuracy),
            "val_loss": np.where(lost, np.nan, 1 - accuracy),
            "seconds": 1.5,
            "trainable_layers": pd.Series([0, 12, "all"] * count, dtype=object)[:count],
            "learning_rate": [np.nan if number % 3 else 0.001 for number in range(count)],
            "optimizer": "<b>adam",
            "message": np.where(lost, "it <i>diverged</i>", ""),
        }
    )


def make_search(folder: Path, trials: pd.DataFrame, test: int = 20, **config: Any) -> Path:
    """The files of a finished search."""
    (folder / "best").mkdir(parents=True)
    best = int(trials["trial"][trials["val_accuracy"].argmax()])
    targets = np.array([[0], [1]] * 10, np.float32)
    outputs = np.abs(targets - 0.1)
    outputs[:2] = 1 - outputs[:2]
    measured = BINARY.measure(targets, outputs, ("cat", "dog"))
    record = {
        "data": {"classes": ["cat", "dog"], "train": 80, "val": 20, "test": test},
        "val": measured,
        "test": measured if test else None,
        "baseline": {"majority": 0.5, "raw_pixels": 0.6},
        "diverged": [],
    }
    write_json(folder / "best" / "metrics.json", record)
    write_json(folder / "best" / "model.json", {"task": "binary", "kind": "image"})
    write_json(folder / "best_config.json", {"learning_rate": 0.001, "optimizer": "<b>adam"})
    search = {
        "config": {"data": "<photos>", "objective": "val_accuracy", "finalists": 1, "optimizer": ["adam"], **config},
        "trials": {"done": int((trials["status"] == "done").sum())},
        "finalists": [],
        "best": {"trial": best, "score": 0.95, "val_accuracy": float(trials["val_accuracy"].max()), "val_loss": 0.05},
        "default": {"score": 0.7, "val_accuracy": 0.7, "val_loss": 0.3},
        "gain": GAIN if test else None,
        "seconds": {"prepare": 1.0, "features": 2.0, "search": 30.0, "best": 4.0, "total": 37.0},
    }
    write_json(folder / "search.json", search)
    return folder


def add_finalists(folder: Path) -> None:
    """Repeats of the best two trials of `make_trials()`: the second is better in the mean over three seeds."""
    search = json.loads((folder / "search.json").read_text())
    means = [(12, 0.85), (3, 0.8)]
    search["finalists"] = [
        {"trial": trial, "seeds": 3, "score": mean, "val_accuracy": mean, "val_loss": 0.2} for trial, mean in means
    ]
    search["best"] = {"trial": 12, "score": 0.8, "val_accuracy": 0.8, "val_loss": 0.2}
    write_json(folder / "search.json", search)


def page_of(folder: Path, trials: pd.DataFrame) -> str:
    page = write_search_report(folder, trials, VARIED)
    assert page == folder / "report.html"
    return page.read_text(encoding="utf-8")


@pytest.mark.parametrize(("count", "failed", "test"), [(12, 0, 20), (12, 3, 20), (1, 0, 20), (60, 40, 0)])
def test_any_search_gets_a_page_that_needs_nothing_else(count, failed, test, tmp_path):
    trials = make_trials(count, failed)
    page = page_of(make_search(tmp_path / "search", trials, test), trials)
    check_page(page)
    assert page.count("<svg") == 2
    assert "<b>adam" not in page


def test_the_winner_is_told_with_val_and_test_beside_each_other(tmp_path):
    trials = make_trials(12, failed=2)
    text = text_of(page_of(make_search(tmp_path / "search", trials), trials))
    assert "90.0 % The best of 10 trials: right on 18 of 20 pictures it had never seen 95 % interval" in text
    assert "winner, test 90.0 % train.py by itself, test 85.0 % winner, val 90.0 % its trial, val 95.0 %" in text
    assert "winner trial 3 by validation accuracy" in text


def test_the_gain_over_train_is_told_with_its_interval(tmp_path):
    trials = make_trials(12)
    gained = "test accuracy 90.00 %, of train.py by itself 85.00 %: a difference of +5.0 points, 95 % interval "
    text = text_of(page_of(make_search(tmp_path / "search", trials), trials))
    assert f"in the same way: {gained}-9.1 to +17.9, so either may be the better. On val it is " in text
    assert "95.00 % against 70.00 %: the lead of the best of 12, and so optimistic." in text
    balanced = gain_text(GAIN | {"difference_ci95": [0.01, 0.08]}, "val_balanced_accuracy").replace("\u00a0", " ")
    assert balanced == f"{gained}+1.0 to +8.0; test balanced accuracy 90.00 % and 80.00 %"


def test_a_winner_that_is_the_default_gained_nothing(tmp_path):
    trials = make_trials(1)
    folder = make_search(tmp_path / "search", trials)
    write_json(folder / "search.json", json.loads((folder / "search.json").read_text()) | {"gain": None})
    assert "what train.py does by itself: the search gained nothing" in text_of(page_of(folder, trials))


def test_where_nothing_varied_there_are_no_effects(tmp_path):
    trials = make_trials(1)
    page = write_search_report(make_search(tmp_path / "search", trials), trials, {}).read_text(encoding="utf-8")
    assert page.count("<svg") == 1
    assert "Each hyperparameter" not in page


def test_it_says_how_often_val_was_looked_at(tmp_path):
    trials = make_trials(12, failed=2)
    text = text_of(page_of(make_search(tmp_path / "search", trials), trials))
    assert "did best on the validation pictures, which were looked at 10 times : once for each trial." in text
    assert (
        "its validation accuracy is optimistic, the more so the more trials there were. Trust the test accuracy" in text
    )


def test_the_repeats_of_finalists_are_looks_too(tmp_path):
    trials = make_trials(12)
    folder = make_search(tmp_path / "search", trials)
    text = text_of(write_search_report(folder, trials, {"learning_rate": "log"}, repeats=4).read_text())
    assert "looked at 16 times" in text
    assert "once for each trial and each repeat of a finalist" in text


def test_the_best_mean_of_the_finalists_is_the_winner_everywhere(tmp_path):
    trials = make_trials(12)
    folder = make_search(tmp_path / "search", trials)
    add_finalists(folder)
    page = write_search_report(folder, trials, {"learning_rate": "log"}, repeats=4).read_text(encoding="utf-8")
    text = text_of(page)
    assert "The best of 2 finalists of 12 trials: right on 18 of 20" in text
    assert "The winner is the trial with the best mean over 3 seeds on the validation pictures: validation " in text
    assert "accuracy 85.00 % for trial 12 and 80.00 % for trial 3. These pictures were looked at 16 times" in text
    assert "On val it is 85.00 % (mean over 3 seeds) against 70.00 % (one seed): the first is the best of 2 " in text
    assert "winner trial 12 by validation accuracy" in text
    assert "85.00 % mean over 3 seeds: optimistic" in text
    assert "its 3 seeds, val 85.0 %" in text
    assert text.count("Best mean over 3 seeds: 85.00 % in trial 12") == 1
    assert "Best: 95.00 %" not in text
    assert "trial mean over 3 seeds val accuracy val loss learning rate seconds 3 80.00 % 95.00 %" in text
    assert " 12 85.00 % 80.00 % " in text
    assert " 11 – " in text


def test_a_default_that_is_a_finalist_is_compared_by_its_mean(tmp_path):
    folder = make_search(tmp_path / "search", make_trials(12))
    add_finalists(folder)
    search = json.loads((folder / "search.json").read_text())
    search["finalists"][1]["trial"] = 1
    assert val_texts(search, "val_loss") == ("0.8500 (mean over 3 seeds)", "0.8000 (mean over 3 seeds)")
    assert val_texts(search | {"default": None}, "val_loss")[1] is None
    assert val_texts(search | {"finalists": []}, "val_loss") == ("0.8000", "0.7000")


def test_without_a_test_split_no_figure_is_called_unbiased(tmp_path):
    trials = make_trials()
    text = text_of(page_of(make_search(tmp_path / "search", trials, test=0), trials))
    assert "There was no test split, so no unbiased figure is known" in text
    assert "Trust the test accuracy" not in text


@pytest.mark.parametrize("objective", ["val_accuracy", "val_loss"])
def test_the_best_trial_comes_first_and_only_what_varied_is_shown(objective, tmp_path):
    trials = make_trials(30)
    trials["score"] = trials[objective]
    page = page_of(make_search(tmp_path / "search", trials, objective=objective), trials)
    section = page[page.index('id="trials"') : page.index('id="settings"')]
    rows = re.findall(r"<tr>(.*?)</tr>", section, flags=re.DOTALL)
    headings, *cells = [re.findall(r"<t[hd][^>]*>(.*?)</t[hd]>", row, flags=re.DOTALL) for row in rows]
    assert headings == [
        "trial",
        "val accuracy",
        "val loss",
        "trainable layers",
        "learning rate",
        "optimizer",
        "seconds",
    ]
    assert len(cells) == 20
    assert cells[0] == ["3", "95.00\u00a0%", "0.0500", "all", "–", "&lt;b&gt;adam", "1.5"]
    assert [row[0] for row in cells[1:3]] == ["30", "29"]


def test_another_objective_has_a_column_and_decides(tmp_path):
    trials = make_trials(12).assign(score=np.linspace(0.5, 0.6, 12))
    text = text_of(page_of(make_search(tmp_path / "search", trials, objective="val_macro_f1"), trials))
    assert "trial validation mean F1 val accuracy val loss" in text
    assert "12 0.6000 80.00 % 0.2000" in text
    assert text.index("12 0.6000") < text.index("3 0.5182 95.00 %")


def test_failures_are_counted_by_reason(tmp_path):
    trials = make_trials(12, failed=4)
    text = text_of(page_of(make_search(tmp_path / "search", trials), trials))
    assert "4 trials failed and were left out: 4 x it <i>diverged</i>." in text


def test_the_winners_own_page_is_linked_where_there_is_one(tmp_path):
    trials = make_trials()
    folder = make_search(tmp_path / "search", trials)
    assert "best/report.html" not in page_of(folder, trials)
    (folder / "best" / "report.html").write_text("<!DOCTYPE html>", encoding="utf-8")
    assert '<a href="best/report.html">' in page_of(folder, trials)


def test_the_settings_are_those_of_the_search(tmp_path):
    trials = make_trials()
    folder = make_search(tmp_path / "search", trials)
    text = text_of(page_of(folder, trials))
    assert "Asked data <photos> objective val_accuracy" in text
    assert json.loads((folder / "search.json").read_text())["config"]["data"] == "<photos>"


@pytest.mark.skipif(BROWSER is None, reason="no Chromium")
def test_a_browser_has_nothing_to_complain_about(tmp_path):
    trials = make_trials()
    folder = make_search(tmp_path / "search", trials)
    page_of(folder, trials)
    shown = browse(folder / "report.html", "--dump-dom")
    assert "CONSOLE" not in shown.stderr
    assert '<button type="button">' in shown.stdout
