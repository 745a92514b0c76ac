"""Order and augmentation depend on the seed, the epoch and the picture, and on nothing else."""

import numpy as np
import pytest

from data.images.augment import AUGMENTATION, augment_pictures
from data.pipeline import (
    Examples,
    View,
    augmentation_draws,
    evaluation_batches,
    input_batches,
    training_batches,
)
from devices.replicas import Part

COUNT = 23


@pytest.fixture
def pixels() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (COUNT, 24, 24, 3), np.uint8)


def examples_of(pixels: np.ndarray) -> Examples:
    """Examples whose target is their number and whose inputs lie elsewhere: example i is picture COUNT - 1 - i."""
    targets = np.arange(COUNT, dtype=np.float32)[:, None]
    return Examples([View(pixels, np.arange(COUNT)[::-1])], targets, targets[:, 0] + 100)


def epoch_arrays(pixels, batch_size=4, seed=0, epochs=range(1), augment=False):
    batches = training_batches(examples_of(pixels), batch_size=batch_size, seed=seed, epochs=epochs, augment=augment)
    return [np.concatenate(parts) for parts in zip(*batches.as_numpy_iterator(), strict=True)]


def test_an_epoch_has_every_picture_once_with_its_target_and_weight(pixels):
    pictures, targets, weights = epoch_arrays(pixels)
    order = targets[:, 0].astype(int)
    assert sorted(order) == list(range(COUNT))
    assert order.tolist() != list(range(COUNT))
    np.testing.assert_array_equal(pictures, pixels[::-1][order])
    sizes = np.repeat([4, 4, 4, 4, 4, 3], [4, 4, 4, 4, 4, 3])
    np.testing.assert_allclose(weights, (order + 100) / sizes, rtol=1e-6)


@pytest.mark.parametrize("augment", [False, True])
@pytest.mark.parametrize(("replicas", "workers"), [(1, 1), (2, 1), (4, 2), (3, 3), (8, 2)])
def test_replicas_share_every_batch(pixels, replicas, workers, augment):
    """Together they get the batches of one device, in order; what fills up the last batch counts nothing."""
    settings = {"batch_size": 6, "seed": 0, "epochs": range(2), "augment": augment}
    whole = list(training_batches(examples_of(pixels), **settings).as_numpy_iterator())
    count, rows = replicas // workers, -(-6 // replicas)
    pipelines = [
        training_batches(examples_of(pixels), **settings, part=Part(replicas, worker * count, count))
        for worker in range(workers)
    ]
    assert all(spec.shape[0] == rows for pipeline in pipelines for spec in pipeline.element_spec)
    of_workers = [list(pipeline.as_numpy_iterator()) for pipeline in pipelines]
    assert {len(batches) for batches in of_workers} == {count * len(whole)}
    for number, batch in enumerate(whole):
        dealt = [part for batches in of_workers for part in batches[number * count : (number + 1) * count]]
        inputs, targets, weights = (np.concatenate(parts) for parts in zip(*dealt, strict=True))
        counted = weights > 0
        for received, expected in zip((inputs, targets, weights), batch, strict=True):
            np.testing.assert_allclose(received[counted], expected, atol=1e-4 if augment else 0)
        assert set(targets[~counted, 0]) <= set(batch[1][:, 0])


def test_a_single_example_is_an_epoch(pixels):
    one = Examples([View(pixels, np.array([7]))], np.ones((1, 1), np.float32), np.ones(1, np.float32))
    batches = list(training_batches(one, batch_size=4, seed=0, epochs=range(2), augment=True))
    assert [len(batch[0]) for batch in batches] == [1, 1]


def test_no_batch_spans_two_epochs(pixels):
    batches = training_batches(examples_of(pixels), batch_size=4, seed=0, epochs=range(2))
    assert [len(batch[0]) for batch in batches] == [4, 4, 4, 4, 4, 3] * 2


@pytest.mark.parametrize("augment", [False, True])
def test_starting_in_the_middle_gives_the_same_epochs(pixels, augment):
    whole = epoch_arrays(pixels, epochs=range(3), augment=augment)
    rest = epoch_arrays(pixels, epochs=range(1, 3), augment=augment)
    for all_epochs, later in zip(whole, rest, strict=True):
        np.testing.assert_array_equal(all_epochs[COUNT:], later)


def test_epochs_and_seeds_differ_in_order(pixels):
    order = epoch_arrays(pixels)[1]
    assert not np.array_equal(order, epoch_arrays(pixels, epochs=range(1, 2))[1])
    assert not np.array_equal(order, epoch_arrays(pixels, seed=1)[1])


def test_augmentation_does_not_depend_on_the_batch(pixels):
    fours, twos = (epoch_arrays(pixels, batch_size=size, augment=True) for size in (4, 2))
    np.testing.assert_array_equal(fours[0], twos[0])


def test_augmentation_differs_between_epochs_and_stays_in_range(pixels):
    pictures, targets, _ = epoch_arrays(pixels, epochs=range(2), augment=True)
    first, second = (
        pictures[start : start + COUNT][targets[start : start + COUNT, 0].argsort()] for start in (0, COUNT)
    )
    assert (np.abs(first - second).reshape(COUNT, -1).max(axis=1) > 0).all()
    assert 0 <= pictures.min() <= pictures.max() <= 255
    assert pictures.shape == (2 * COUNT, 24, 24, 3)


def test_evaluation_keeps_the_order_and_every_picture(pixels):
    examples = examples_of(pixels)
    pictures, targets, _ = (np.concatenate(parts) for parts in zip(*evaluation_batches(examples, 5), strict=True))
    np.testing.assert_array_equal(targets, examples.targets)
    np.testing.assert_array_equal(pictures, pixels[::-1])


def test_every_picture_goes_through_its_views_in_turn(pixels):
    views = [View(np.full((COUNT, 1), number, np.float16), np.arange(COUNT)) for number in range(3)]
    examples = examples_of(pixels)._replace(views=views)
    seen = np.zeros((COUNT, 6), int)
    for epoch in range(6):
        batches = training_batches(examples, batch_size=4, seed=0, epochs=range(epoch, epoch + 1))
        for inputs, targets, _ in batches.as_numpy_iterator():
            assert inputs.dtype == np.float32
            seen[targets[:, 0].astype(int), epoch] = inputs[:, 0]
    assert (np.sort(seen[:, :3]) == [0, 1, 2]).all()
    np.testing.assert_array_equal(seen[:, :3], seen[:, 3:])
    assert {0, 1, 2} == set(seen[:, 0])


def test_evaluation_takes_the_first_view(pixels):
    views = [View(np.full((COUNT, 1), number, np.float32), np.arange(COUNT)) for number in range(3)]
    (inputs, *_), *_ = evaluation_batches(examples_of(pixels)._replace(views=views), COUNT)
    assert not np.any(inputs)


def test_pictures_in_order_are_plain_or_varied_by_their_draws(pixels):
    view = View(pixels, np.arange(COUNT)[::-1])
    plain = np.concatenate(list(input_batches(view, 5)))
    np.testing.assert_array_equal(plain, pixels[::-1])
    draws = augmentation_draws(0, 1, COUNT)
    varied = np.concatenate(list(input_batches(view, 5, draws)))
    np.testing.assert_allclose(varied, augment_pictures(plain, draws), atol=1e-2)
    parts = list(input_batches(view, 6, draws, Part(2, 0, 2)))
    assert {len(part) for part in parts} == {3}
    np.testing.assert_allclose(np.concatenate(parts)[:COUNT], varied, atol=1e-2)


def test_draws_depend_on_seed_and_number_and_not_on_the_count():
    draws = augmentation_draws(0, 1, 10)
    np.testing.assert_array_equal(draws, augmentation_draws(0, 1, 20)[:10])
    assert not np.array_equal(draws, augmentation_draws(1, 1, 10))
    assert not np.array_equal(draws, augmentation_draws(0, 2, 10))


def test_half_of_the_pictures_are_mirrored():
    ramp = np.broadcast_to(np.linspace(0, 255, 24, dtype=np.float32)[None, None, :, None], (200, 24, 24, 3))
    varied = augment_pictures(ramp, augmentation_draws(0, 1, 200)).numpy()
    mirrored = varied[:, 0, 0, 0] > varied[:, 0, -1, 0]
    assert 80 < mirrored.sum() < 120


def test_a_crop_of_everything_is_the_picture_itself(pixels):
    """The largest area, of the proportions of the picture, without a flip and a change of brightness or contrast."""
    aspect = np.log(1 / AUGMENTATION["crop_aspect"][0]) / np.log(np.divide(*AUGMENTATION["crop_aspect"][::-1]))
    varied = augment_pictures(pixels[:1].astype(np.float32), np.array([[1, aspect, 0, 0, 0, 0.5, 0.5]], np.float32))
    np.testing.assert_allclose(varied, pixels[:1], atol=0.1)
