"""The figures of a search show what the table of its trials holds, whatever is in it."""

import io
import warnings
from collections.abc import Sequence

import numpy as np
import pandas as pd
import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from reports import search_plots
from reports.plots import TRAIN_COLOUR, VAL_COLOUR


def make_trials(count: int, failed: Sequence[int] = ()) -> pd.DataFrame:
    """Trials whose accuracy depends on the learning rate alone, best at 0.001; `failed` holds trial numbers."""
    rng = np.random.default_rng(0)
    trial = np.arange(1, count + 1)
    learning_rate = 10 ** rng.uniform(-5, -1, count)
    lost = np.isin(trial, failed)
    accuracy = np.where(lost, np.nan, 0.95 - 0.02 * (np.log10(learning_rate) + 3) ** 2)
    layers = rng.choice(np.array([0, 12, 40, "all"], object), count)
    return pd.DataFrame(
        {
            "trial": trial,
            "status": np.where(lost, "failed", "done"),
            "val_accuracy": accuracy,
            "val_loss": 2 * (1 - accuracy),
            "seconds": rng.uniform(20, 90, count),
            "backbone": rng.choice(
                ["resnet50", "a_name_that_is_longer_than_any_axis_is_wide", "costs_$5_or_$6"], count
            ),
            "trainable_layers": [value if value == "all" else int(value) for value in layers],
            "learning_rate": learning_rate,
            "fine_tune_learning_rate": np.where(layers == 0, np.nan, 10 ** rng.uniform(-6, -3, count)),
            "batch_size": rng.choice([16, 32, 64], count),
            "head_epochs": rng.integers(3, 40, count),
            "fine_tune_epochs": rng.integers(3, 40, count),
            "optimizer": rng.choice(["adam", "sgd"], count),
            "head_units": rng.choice(["none", "128", "256 64"], count),
            "dropout": rng.uniform(0, 0.6, count),
            "weight_decay": 10 ** rng.uniform(-5, -2, count),
            "views": rng.choice([1, 4, 8], count),
        }
    )


EMPTY = make_trials(0)
TWELVE = tuple(EMPTY.columns[5:])
"""Hyperparameters, whatever else a search may have."""
DRAWN_FROM = {"learning_rate": "log", "fine_tune_learning_rate": "log", "weight_decay": "log", "dropout": "linear"}


def scales(names: Sequence[str]) -> dict[str, str | None]:
    return {name: DRAWN_FROM.get(name) for name in names}


def search_progress(trials: pd.DataFrame, objective: str) -> Figure:
    return search_plots.search_progress(scored(trials, objective), objective)


def hyperparameter_effects(trials: pd.DataFrame, hyperparameters: dict[str, str | None], objective: str) -> Figure:
    return search_plots.hyperparameter_effects(scored(trials, objective), hyperparameters, objective)


def scored(trials: pd.DataFrame, objective: str) -> pd.DataFrame:
    """Trials whose score is the value of the objective."""
    return trials if "score" in trials else trials.assign(score=trials[objective])


def points(axes: Axes, colour: str = TRAIN_COLOUR) -> np.ndarray:
    """The dots of a colour, float (num_dots, 2)."""
    found = [line.get_xydata() for line in axes.lines if line.get_marker() == "o" and line.get_color() == colour]
    return np.concatenate(found)


def texts(figure: Figure) -> str:
    axes_texts = [text.get_text() for axes in figure.axes for text in axes.texts]
    titles = [axes.get_title(loc="left") for axes in figure.axes]
    return "\n".join([*(text.get_text() for text in figure.texts), *axes_texts, *titles])


def tick_labels(axes: Axes) -> list[str]:
    return [label.get_text() for label in axes.get_xticklabels()]


def draw(figure: Figure) -> bytes:
    written = io.BytesIO()
    figure.savefig(written, format="png", dpi=50)
    return written.getvalue()


def draw_all(trials: pd.DataFrame, hyperparameters: Sequence[str], objective: str) -> list[bytes]:
    return [
        draw(search_progress(trials, objective)),
        draw(hyperparameter_effects(trials, scales(hyperparameters), objective)),
    ]


@pytest.mark.parametrize("objective", ["val_accuracy", "val_loss"])
@pytest.mark.parametrize(
    ("trials", "hyperparameters"),
    [
        pytest.param(make_trials(1), TWELVE, id="one trial"),
        pytest.param(make_trials(4, failed=[1, 2, 4]), TWELVE, id="one finished"),
        pytest.param(make_trials(2), TWELVE, id="two trials"),
        pytest.param(make_trials(6, failed=[3]), ["learning_rate", "backbone"], id="six trials"),
        pytest.param(make_trials(11, failed=[1]), ["learning_rate"], id="one hyperparameter"),
        pytest.param(make_trials(11), ["optimizer"], id="one hyperparameter of names"),
        pytest.param(make_trials(14, failed=[2, 14]), TWELVE, id="twelve hyperparameters"),
        pytest.param(make_trials(12).assign(val_accuracy=0.1, val_loss=0.3), TWELVE[:4], id="constant objective"),
        pytest.param(make_trials(12).assign(val_accuracy=0.0, val_loss=0.0), TWELVE[:2], id="objective of zero"),
        pytest.param(make_trials(12).assign(fine_tune_learning_rate=np.nan), TWELVE[2:4], id="nothing but missing"),
        pytest.param(make_trials(12).assign(weight_decay=0.004), TWELVE[-2:], id="a value that did not vary"),
        pytest.param(make_trials(30).assign(backbone=[f"net_{i}" for i in range(30)]), TWELVE[:2], id="many names"),
        pytest.param(make_trials(2).assign(val_loss=[0.3, 0.1 + 0.2]), TWELVE[:2], id="equal but for rounding"),
        pytest.param(make_trials(12, failed=[5]).set_index(np.zeros(12)), TWELVE[:3], id="a useless index"),
    ],
)
def test_every_search_can_be_drawn_without_a_warning(trials, hyperparameters, objective):
    trials = scored(trials, objective)
    before = trials.copy(deep=True)
    with warnings.catch_warnings(action="error"):
        assert all(draw_all(trials, hyperparameters, objective))
    pd.testing.assert_frame_equal(trials, before)


def test_the_same_trials_give_the_same_figures():
    trials = make_trials(12, failed=[3])
    assert draw_all(trials, TWELVE[:4], "val_loss") == draw_all(trials, TWELVE[:4], "val_loss")


@pytest.mark.parametrize(
    ("objective", "values", "so_far"),
    [
        ("val_accuracy", [0.5, 0.7, 0.6, 0.8], [0.5, 0.7, 0.7, 0.8]),
        ("val_loss", [3.0, 1.0, 2.0, 0.5], [3, 1, 1, 0.5]),
        ("val_roc_auc", [0.5, 0.7, 0.6, 0.8], [0.5, 0.7, 0.7, 0.8]),
    ],
)
def test_the_step_line_is_the_best_so_far(objective, values, so_far):
    trials = make_trials(4).assign(**{objective: values})
    axes = search_progress(trials, objective).axes[0]
    step = next(line for line in axes.lines if line.get_label() == "best so far")
    np.testing.assert_allclose(step.get_ydata()[:4], so_far)
    np.testing.assert_allclose(points(axes), np.stack([[1, 2, 3, 4], values], axis=1))
    np.testing.assert_allclose(points(axes, VAL_COLOUR), [[4, values[3]]])


def test_failed_trials_are_crosses_and_no_values():
    # A failed trial may have left a number behind.
    trials = make_trials(12, failed=[2, 12]).fillna({"val_accuracy": 0.999})
    figure = search_progress(trials, "val_accuracy")
    crosses = next(line for line in figure.axes[0].lines if line.get_marker() == "x")
    np.testing.assert_array_equal(crosses.get_xydata(), [[2, 0], [12, 0]])
    assert set(points(figure.axes[0])[:, 0]) == set(range(1, 13)) - {2, 12}
    effects = hyperparameter_effects(trials, {"learning_rate": "log"}, "val_accuracy")
    assert len(points(effects.axes[0])) == 10


def test_of_equal_accuracies_the_lower_loss_is_marked_as_for_the_winner():
    trials = make_trials(4).assign(val_accuracy=[0.9, 0.9, 0.9, 0.8], val_loss=[0.5, 0.3, 0.4, 0.1])
    assert "in trial 2" in texts(search_progress(trials, "val_accuracy"))
    assert "in trial 4" in texts(search_progress(trials, "val_loss"))


def test_the_trial_that_the_repeats_chose_is_marked():
    trials = make_trials(4).assign(val_accuracy=[0.9, 0.8, 0.7, 0.6])
    trials, winner = scored(trials, "val_accuracy"), search_plots.Winner(2, 0.85, 0.85, seeds=3)
    progress = search_plots.search_progress(trials, "val_accuracy", winner)
    assert texts(progress).replace("\u00a0", " ") == "Best mean over 3 seeds: 85.00 % in trial 2"
    np.testing.assert_allclose(points(progress.axes[0], VAL_COLOUR), [[2, 0.8]])
    effects = search_plots.hyperparameter_effects(trials, {"dropout": "linear"}, "val_accuracy", winner)
    np.testing.assert_allclose(points(effects.axes[0], VAL_COLOUR), [[trials["dropout"][1], 0.8]])


def test_a_panel_per_hyperparameter_marks_the_same_trial_as_best():
    trials = make_trials(20, failed=[7])
    figure = hyperparameter_effects(trials, scales(TWELVE[:5]), "val_loss")
    panels = [axes for axes in figure.axes if axes.axison]
    assert [axes.get_title(loc="left") for axes in panels] == [
        "backbone", "trainable layers", "learning rate", "fine tune learning rate", "batch size",
    ]  # fmt: skip
    best = trials.loc[trials["val_loss"].idxmin()]
    assert {points(axes, VAL_COLOUR)[0, 1] for axes in panels} == {best["val_loss"]}
    assert points(panels[2], VAL_COLOUR)[0, 0] == best["learning_rate"]


@pytest.mark.parametrize(
    ("name", "values", "scale"),
    [
        ("learning_rate", [1e-4, 3e-4, 7e-4, 3e-3], "log"),
        ("dropout", [0.01, 0.2, 0.35, 0.5], "linear"),
        ("fine_tune_learning_rate", [1e-5, np.nan, 1e-3, 1e-4], "log"),
    ],
)
def test_numbers_get_the_scale_on_which_they_were_drawn(name, values, scale):
    trials = make_trials(4).drop(columns=name).assign(**{name: values})
    axes = hyperparameter_effects(trials, {name: scale}, "val_accuracy").axes[0]
    assert axes.get_xscale() == scale
    np.testing.assert_array_equal(points(axes)[:, 0], values)


@pytest.mark.parametrize(
    ("name", "values", "labels"),
    [
        ("batch_size", [128, 32, 64, 32], ["32", "64", "128"]),
        ("trainable_layers", ["all", 12, 0, 0], ["0", "12", "all"]),
        ("head_units", ["128", "none", "256 64", "128"], ["none", "128", "256 64"]),
        ("optimizer", ["sgd", "adam", "sgd", "adam"], ["adam", "sgd"]),
        ("head_epochs", [10.0, np.nan, 5.0, 10.0], ["5", "10"]),
        ("backbone", ["a$b$", "c", "c", "c"], [r"a\$b\$", "c"]),
    ],
)
def test_choices_stand_in_order(name, values, labels):
    trials = make_trials(4).drop(columns=name).assign(**{name: values})
    axes = hyperparameter_effects(trials, {name: None}, "val_accuracy").axes[0]
    assert tick_labels(axes) == labels
    assert np.nanmax(np.abs(points(axes)[:, 0] - np.round(points(axes)[:, 0]))) < 0.3


def test_a_strip_keeps_its_trials_apart_and_marks_their_median():
    trials = make_trials(6).assign(optimizer=["adam"] * 3 + ["sgd"] * 3, val_accuracy=[0.1, 0.2, 0.9, 0.5, 0.6, 0.7])
    axes = hyperparameter_effects(trials, {"optimizer": None}, "val_accuracy").axes[0]
    places = points(axes)[:, 0]
    assert len(set(places)) == 6
    np.testing.assert_array_equal(np.round(places), [0, 0, 0, 1, 1, 1])
    medians = [bar[0, 1] for bar in axes.collections[0].get_segments()]
    np.testing.assert_allclose(medians, [0.2, 0.6])


def test_trials_far_worse_than_most_stand_together_at_the_edge():
    trials = make_trials(12).assign(val_accuracy=[0.1, 0.02, *np.linspace(0.9, 0.95, 10)])
    axes = search_progress(trials, "val_accuracy").axes[0]
    far_off = next(line for line in axes.lines if line.get_label() == "far worse than shown").get_xydata()
    assert list(far_off[:, 0]) == [1, 2]
    assert far_off[0, 1] == far_off[1, 1]
    assert 0.85 < far_off[0, 1] < 0.9
    np.testing.assert_allclose(points(axes)[:, 1], trials["val_accuracy"][2:])
