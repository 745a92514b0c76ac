"""What is left open is chosen; what is given stays."""

import math
import re

import keras
import numpy as np
import pytest

from app.config import TrainConfig
from app.errors import UsageError
from data.images.kind import useful_size
from features.cuts import Cut, cut_before_trainable, find_cuts, most_tensors_across
from models import backbones
from models.backbones import find
from models.freezing import set_trainable
from tasks.detection import DETECTION
from training import recipe
from training.memory import lacks_memory


@pytest.mark.parametrize(
    ("backbone", "shorter_side", "chosen"),
    [
        ("resnet50", 500, 224),
        ("resnet50", 28, 128),
        ("resnet50", 32, 128),
        ("inceptionv3", 9, 75),
        ("vgg16", None, 224),
    ],
)
def test_the_image_size_is_the_backbones_unless_the_pictures_are_small(backbone, shorter_side, chosen):
    useful = shorter_side and useful_size(shorter_side)
    assert recipe.choose_size(TrainConfig(), find(backbone), useful).data.image_size == chosen


def test_of_a_detector_the_head_alone_learns_however_many_pictures_there_are(cuts):
    plan = recipe.make_plan(TrainConfig(), cuts, 5000, is_linear=False, of_task=DETECTION.choices)
    assert plan.fine_tuning == []
    assert plan.has_head_phase


def test_layers_of_a_detector_that_are_asked_for_are_fine_tuned_at_its_own_rate(cuts):
    plan = recipe.make_plan(TrainConfig.of(trainable_layers=20), cuts, 200, is_linear=False, of_task=DETECTION.choices)
    assert [(layers, epochs) for _, layers, epochs in plan.fine_tuning] == [(20, DETECTION.choices["fine_tune_epochs"])]
    assert plan.fine_tune_learning_rate == DETECTION.choices["fine_tune_learning_rate"]


def test_a_given_size_stays():
    assert recipe.choose_size(TrainConfig.of(image_size=160), find("vgg16"), 500).data.image_size == 160


@pytest.fixture(scope="module")
def cuts() -> list[Cut]:
    return find_cuts(backbones.build(find("mobilenet"), 224).model)


def test_everything_is_set_and_what_is_given_stays(cuts):
    chosen = recipe.make_plan(TrainConfig.of(image_size=64, batch_size=7, trainable_layers=0, views=5), cuts, 100)
    assert (chosen.batch_size, chosen.trainable_layers, chosen.views) == (7, 0, 5)
    not_used = {"fine_tune_learning_rate"}
    assert {field for field, value in chosen.config.to_json().items() if value is None} - set(OPEN) == not_used
    again = recipe.make_plan(chosen.config.replace(trainable_layers=1, fine_tune_epochs=1), cuts, 100)
    assert np.isnan(recipe.make_plan(TrainConfig.of(learning_rate="find"), cuts, 100).learning_rate)
    assert again.fine_tune_learning_rate == recipe.make_plan(again.config, cuts, 100).fine_tune_learning_rate > 0


OPEN = {
    "layer_decay",
    "weight_decay",
    "image_size",
    "max_tokens",
    "clip_seconds",
    "kind",
    "pooling",
    "learning_rate",
    "fine_tune_augment",
    "split_seed",
    "group_by",
    "text_column",
    "positive",
}
OPEN |= {
    "max_minutes",
    "folds",
    "max_pictures",
    "sensitivity",
    "specificity",
    "precision_at_least",
    "cost",
    "threshold",
}


@pytest.mark.parametrize(
    ("backbone", "cut"),
    [
        ("efficientnet_lite0", "block6c_add"),
        ("mobilenet", "conv_dw_12_relu"),
        ("resnet50", "conv5_block1_out"),
        ("vgg16", "block4_pool"),
        ("inceptionv3", "mixed8"),
        ("efficientnetb0", "block6c_add"),
    ],
)
def test_fine_tuning_starts_where_the_fewest_numbers_cross(backbone, cut):
    model = backbones.build(find(backbone), find(backbone).image_size).model
    found = find_cuts(model)
    set_trainable(model.layers, recipe.make_plan(TrainConfig(), found, 5000).trainable_layers)
    assert cut_before_trainable(found, model).layer == cut


@pytest.mark.slow
@pytest.mark.parametrize("backbone", backbones.TABLE, ids=lambda backbone: backbone.name)
def test_every_backbone_has_layers_to_fine_tune(backbone):
    model = backbones.build(backbone, backbone.image_size).model
    found = find_cuts(model, most_tensors_across(model))
    chosen = recipe.make_plan(TrainConfig(), found, 5000)
    (share,) = {cut.share_after for cut in found if cut.layers_after == chosen.trainable_layers} or {0.0}
    assert 0.03 < share < 0.25


def test_no_more_layers_are_trained_than_there_are(cuts):
    most = len(backbones.build(find("mobilenet"), 224).model.layers)
    config = TrainConfig.of(backbone="mobilenet", trainable_layers=most)
    assert recipe.make_plan(config, cuts, 100).trainable_layers == most
    message = f"--trainable-layers must be 'all', or at most {most}, all layers of mobilenet; received {most + 1}."
    with pytest.raises(UsageError, match=re.escape(message)):
        recipe.make_plan(TrainConfig.of(backbone="mobilenet", trainable_layers=most + 1), cuts, 100)


@pytest.mark.parametrize("other", [{"fine_tune_epochs": 0}, {"trainable_layers": 0}])
def test_something_has_to_learn(cuts, other):
    with pytest.raises(UsageError, match="Nothing would learn"):
        recipe.make_plan(TrainConfig.of(head_epochs=0, **other), cuts, 100)


def test_few_pictures_train_the_head_alone_unless_asked(cuts):
    assert recipe.make_plan(TrainConfig(), cuts, 300).fine_tune_epochs == 0
    assert recipe.make_plan(TrainConfig.of(trainable_layers=9), cuts, 300).fine_tune_epochs > 0
    assert recipe.make_plan(TrainConfig.of(fine_tune_epochs=2), cuts, 300).fine_tune_epochs == 2
    assert recipe.make_plan(TrainConfig(), cuts, 3000).fine_tune_epochs > 0


def test_a_run_with_folds_is_repeated_with_the_choices_of_its_recipe(cuts):
    chosen = recipe.make_plan(TrainConfig.of(folds=3), cuts, 3000).config
    assert (chosen.model.trainable_layers, chosen.training.fine_tune_epochs) != (0, None)
    assert recipe.make_plan(chosen, cuts, 3000).config == chosen
    for refused in ({"head_epochs": 0}, {"trainable_layers": 9}, {"fine_tune_epochs": 1}):
        with pytest.raises(UsageError, match="--folds is for a head that is solved"):
            recipe.make_plan(TrainConfig.of(folds=3, **refused), cuts, 3000)


def test_a_time_limit_leaves_a_task_its_most_epochs(cuts):
    plan = recipe.make_plan(TrainConfig(), cuts, 3000)
    assert recipe.most_epochs(plan, "fine_tune", "image", {}) == 2
    assert recipe.most_epochs(plan, "fine_tune", "image", {"fine_tune_epochs": 10}) == 10
    assert recipe.most_epochs(plan, "deeper", "image", {"fine_tune_epochs": 10}) == 20


def test_layers_with_several_outputs_are_counted():
    inputs = keras.Input((4, 3))
    outputs, _ = keras.layers.GRU(2, return_sequences=True, return_state=True)(inputs)
    assert lacks_memory(keras.Model(inputs, outputs), 1, 1) is None
    assert lacks_memory(keras.Model(inputs, outputs), 10**15, 1)


def test_settings_that_no_step_uses_are_named(cuts):
    asked = TrainConfig.of(optimizer="sgd", dropout=0.5, batch_size=8)
    assert recipe.make_plan(asked, cuts, 300).unused == ["--optimizer", "--dropout"]
    assert recipe.make_plan(asked.replace(head_epochs=3), cuts, 300).unused == []
    assert recipe.make_plan(asked, cuts, 3000).unused == []
    assert recipe.make_plan(TrainConfig(), cuts, 300).unused == []


def test_fewer_pictures_get_more_epochs(cuts):
    config = TrainConfig.of(head_solver="optimizer")
    epochs = [recipe.make_plan(config, cuts, count).head_epochs for count in (200, 4000, 100_000)]
    assert epochs == sorted(epochs, reverse=True)
    assert epochs[0] > epochs[-1] >= 1


@pytest.mark.parametrize(
    ("settings", "is_linear", "solver"),
    [
        ({}, True, "lbfgs"),
        ({}, False, "optimizer"),
        ({"augment": "fresh"}, True, "optimizer"),
        ({"learning_rate": 0.01}, True, "optimizer"),
        ({"head_epochs": 5}, True, "optimizer"),
        ({"head_epochs": 0}, True, "optimizer"),
        ({"head_solver": "lbfgs", "head_epochs": 0}, True, "lbfgs"),
        ({"weights": "none"}, True, "optimizer"),
    ],
)
def test_a_linear_head_is_solved_unless_its_training_is_asked_for(cuts, settings, is_linear, solver):
    plan = recipe.make_plan(TrainConfig.of(**settings), cuts, 5000, is_linear=is_linear)
    assert plan.head_solver == solver
    assert (plan.head_epochs == 0) == (solver == "lbfgs" or "weights" in settings or settings.get("head_epochs") == 0)
    again = recipe.make_plan(plan.config, cuts, 5000, is_linear=is_linear)
    assert again == plan


@pytest.mark.parametrize(
    ("settings", "is_linear", "against"),
    [
        ({}, False, "--head-units"),
        ({"augment": "fresh"}, True, "--augment fresh"),
        ({"head_epochs": 2}, True, "epochs"),
    ],
)
def test_a_head_that_cannot_be_solved_is_refused(cuts, settings, is_linear, against):
    with pytest.raises(UsageError, match=f"--head-solver lbfgs does not go with .*{against}"):
        recipe.make_plan(TrainConfig.of(head_solver="lbfgs", **settings), cuts, 5000, is_linear=is_linear)


@pytest.mark.parametrize(
    ("settings", "num_train", "phases"),
    [
        ({}, 5000, [("fine_tune", 2), ("deeper", 4)]),
        ({}, 300, []),
        ({"effort": "quick"}, 5000, []),
        ({"effort": "best"}, 5000, [("fine_tune", 2), ("deeper", 20)]),
        ({"effort": "best"}, 300, []),
        ({"effort": "best", "deeper_epochs": 3}, 5000, [("fine_tune", 2), ("deeper", 3)]),
        ({"trainable_layers": 9}, 5000, [("fine_tune", 2)]),
        ({"fine_tune_epochs": 5}, 5000, [("fine_tune", 5)]),
        ({"fine_tune_epochs": 5, "deeper_layers": 30}, 5000, [("fine_tune", 5), ("deeper", 4)]),
        ({"fine_tune_epochs": 0}, 5000, []),
        ({"weights": "none"}, 5000, [("fine_tune", 30)]),
    ],
)
def test_the_effort_decides_how_deep_fine_tuning_goes(cuts, settings, num_train, phases):
    plan = recipe.make_plan(TrainConfig.of(**settings), cuts, num_train)
    assert [(phase, epochs) for phase, _, epochs in plan.fine_tuning] == phases
    assert recipe.make_plan(plan.config, cuts, num_train) == plan


@pytest.mark.parametrize(
    ("settings", "against"),
    [
        ({"weights": "none"}, "--weights none"),
        ({"head_solver": "optimizer"}, "--head-solver optimizer"),
        ({"head_epochs": 3}, "--head-epochs"),
        ({"trainable_layers": 5}, "--trainable-layers"),
        ({"fine_tune_epochs": 1}, "--fine-tune-epochs"),
    ],
)
def test_folds_are_for_a_head_that_is_solved(cuts, settings, against):
    with pytest.raises(UsageError, match=f"--folds .* goes without {against}"):
        recipe.make_plan(TrainConfig.of(folds=5, **settings), cuts, 5000)
    assert recipe.make_plan(TrainConfig.of(folds=5), cuts, 5000).fine_tuning == []


def test_minutes_leave_the_epochs_open_and_take_one_view(cuts):
    plan = recipe.make_plan(TrainConfig.of(max_minutes=3), cuts, 5000)
    assert [phase for phase, *_ in plan.fine_tuning] == ["fine_tune", "deeper"]
    assert all(math.isnan(epochs) for *_, epochs in plan.fine_tuning)
    assert (plan.config.training.fine_tune_epochs, plan.config.training.deeper_epochs) == (None, None)
    assert plan.views == 1
    for settings, num_train in (({"effort": "quick"}, 5000), ({}, 300)):
        assert recipe.make_plan(TrainConfig.of(max_minutes=3, **settings), cuts, num_train).fine_tuning == []
    given = recipe.make_plan(TrainConfig.of(max_minutes=3, fine_tune_epochs=1.5), cuts, 5000)
    assert [epochs for *_, epochs in given.fine_tuning] == [1.5]


def test_without_pretrained_weights_the_whole_backbone_learns(cuts):
    chosen = recipe.make_plan(TrainConfig.of(weights="none"), cuts, 100)
    assert (chosen.trainable_layers, chosen.head_epochs) == ("all", 0)


def test_without_augmentation_there_is_one_view(cuts):
    assert recipe.make_plan(TrainConfig(), cuts, 5000).views > 1
    assert recipe.make_plan(TrainConfig.of(effort="quick"), cuts, 5000).views == 1
    for augment in ("none", "fresh"):
        assert recipe.make_plan(TrainConfig.of(augment=augment, views=3), cuts, 100).views == 1


def test_recordings_have_views_where_they_are_asked_for(cuts):
    def views(**settings) -> int:
        return recipe.make_plan(TrainConfig.of(**settings), cuts, 5000, kind="sound").views

    assert [views(), views(weights="none"), views(views=3), views(vary="specaugment")] == [1, 1, 3, 2]


def test_what_is_not_varied_has_one_view_and_is_not_varied_anew(cuts):
    plan = recipe.make_plan(TrainConfig.of(weights="none"), cuts, 100, varies=False)
    assert plan.views == 1
    assert recipe.choose_fine_tune_augment(plan, has_cut=False).fine_tune_augment == "none"


def test_few_steps_get_a_lower_rate(cuts):
    rates = [
        recipe.make_plan(TrainConfig.of(trainable_layers=9), cuts, count).fine_tune_learning_rate
        for count in (50, 7000)
    ]
    assert rates[0] < rates[1] / 10


def test_narrow_features_get_a_higher_rate_for_the_head():
    features = np.random.default_rng(0).normal(size=(500, 20)).astype(np.float32)

    def rate(features: np.ndarray | None, **settings) -> float:
        plan = recipe.Plan.of(TrainConfig.of(**{"batch_size": 32, "head_solver": "optimizer"} | settings))
        return recipe.choose_head_learning_rate(plan, features).learning_rate

    assert [rate(features), rate(features * 0.5)] == pytest.approx([1e-3, 2e-3], rel=0.1)
    assert rate(features * 0) == pytest.approx(1e-2)
    assert rate(None) == 1e-3
    assert rate(features, learning_rate=0.5) == 0.5


@pytest.mark.parametrize(
    ("optimizer", "batch_size", "factor"), [("adam", 32, 1), ("adam", 128, 2), ("lion", 8, 0.5), ("sgd", 128, 4)]
)
def test_the_rates_belong_to_the_batch_size(cuts, optimizer, batch_size, factor):
    config = TrainConfig.of(optimizer=optimizer, batch_size=batch_size, weights="none")
    assert recipe.make_plan(config, cuts, 1000).fine_tune_learning_rate == 1e-3 * factor
    assert recipe.choose_head_learning_rate(recipe.make_plan(config, cuts, 1000), None).learning_rate == 1e-3 * factor


@pytest.mark.parametrize(
    ("settings", "has_cut", "chosen"),
    [
        ({}, True, "views"),
        ({}, False, "fresh"),
        ({"views": 1}, False, "none"),
        ({"augment": "none"}, False, "none"),
        ({"augment": "fresh"}, True, "fresh"),
        ({"fine_tune_augment": "none"}, False, "none"),
        ({"fine_tune_augment": "fresh"}, True, "fresh"),
        ({"augment": "none", "fine_tune_augment": "views"}, True, "views"),
    ],
)
def test_fine_tuning_is_augmented_as_the_head_where_it_can_be(cuts, settings, has_cut, chosen):
    plan = recipe.make_plan(TrainConfig.of(trainable_layers=9, **settings), cuts, 5000)
    assert recipe.choose_fine_tune_augment(plan, has_cut).fine_tune_augment == chosen
    assert (plan.views > 1) == (
        "views" in (plan.augment, plan.config.training.fine_tune_augment) and "views" not in settings
    )


def test_views_are_refused_where_the_whole_network_is_fine_tuned(cuts):
    config = TrainConfig.of(trainable_layers="all", fine_tune_augment="views")
    chosen = recipe.make_plan(config, cuts, 5000)
    with pytest.raises(UsageError, match=r"--fine-tune-augment views needs .* Choose 'fresh' or 'none'"):
        recipe.choose_fine_tune_augment(chosen, has_cut=False)


def test_a_network_without_a_cut_before_its_last_blocks_is_said_to_learn_the_head_only(capsys):
    """All of its work is in one layer, as where an encoder hides its blocks."""
    inputs = keras.Input((4,))
    cuts = find_cuts(keras.Model(inputs, keras.layers.Dense(4)(inputs)))
    chosen = recipe.make_plan(TrainConfig(), cuts, 5_000)
    assert chosen.trainable_layers == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "cannot be cut before its last blocks: only the head learns" in said
    whole = recipe.make_plan(TrainConfig.of(trainable_layers="all"), cuts, 5_000)
    assert whole.trainable_layers == "all"


def test_texts_fine_tune_half_of_their_network_and_go_no_deeper():
    found = find_cuts(backbones.build(find("minilm"), 256).model)
    plan = recipe.make_plan(TrainConfig.of(backbone="minilm"), found, 3_000, varies=False, kind="text")
    assert (plan.trainable_layers, plan.fine_tune_epochs, plan.deeper_layers, plan.views) == (3, 3, 0, 1)
    assert recipe.make_plan(plan.config, found, 3_000, varies=False, kind="text") == plan
    best = recipe.make_plan(TrainConfig.of(backbone="minilm", effort="best"), found, 3_000, varies=False, kind="text")
    assert (best.deeper_layers, best.deeper_epochs) == ("all", 4)


@pytest.mark.parametrize(
    ("settings", "num_train", "said"),
    [
        ({}, 999, True),
        ({}, 1000, False),
        ({"effort": "quick"}, 10, False),
        ({"fine_tune_epochs": 0}, 10, False),
        ({"trainable_layers": 6}, 10, False),
        ({"weights": "none"}, 10, False),
    ],
)
def test_too_few_examples_to_fine_tune_are_told_where_nobody_decided(settings, num_train, said):
    assert recipe.is_too_small(TrainConfig.of(**settings), num_train) == said
