"""What is left open is chosen; what is given stays."""

import pytest

from config import TrainConfig
from models.backbones import find
from training import recipe


@pytest.mark.parametrize(
    ("backbone", "typical_size", "chosen"),
    [
        ("resnet50", 500, 224),
        ("resnet50", 28, 128),
        ("resnet50", 32, 128),
        ("inceptionv3", 9, 75),
        ("vgg16", None, 224),
    ],
)
def test_the_image_size_is_the_backbones_unless_the_pictures_are_small(backbone, typical_size, chosen):
    assert recipe.choose_image_size(TrainConfig(), find(backbone), typical_size).image_size == chosen


def test_a_given_size_stays():
    assert recipe.choose_image_size(TrainConfig(image_size=160), find("vgg16"), 500).image_size == 160


def test_everything_is_set_and_what_is_given_stays():
    config = TrainConfig(image_size=64, batch_size=7, trainable_layers=0)
    chosen = recipe.choose_training(config, [5, 9, 9, 3], 100)
    assert (chosen.batch_size, chosen.trainable_layers) == (7, 0)
    assert None not in {chosen.head_epochs, chosen.fine_tune_epochs, chosen.fine_tune_learning_rate}


def test_fewer_pictures_get_more_epochs():
    epochs = [recipe.choose_training(TrainConfig(), [9] * 5, count).fine_tune_epochs for count in (200, 4000, 100_000)]
    assert epochs == sorted(epochs, reverse=True)
    assert epochs[0] > epochs[-1] >= 1


def test_without_pretrained_weights_the_whole_backbone_learns():
    chosen = recipe.choose_training(TrainConfig(weights="none"), [9] * 5, 100)
    assert (chosen.trainable_layers, chosen.head_epochs) == ("all", 0)


def test_few_steps_get_a_lower_rate():
    rates = [recipe.choose_training(TrainConfig(), [9] * 5, count).fine_tune_learning_rate for count in (50, 7000)]
    assert rates[0] < rates[1] / 10
