"""Order and augmentation depend on the seed, the epoch and the picture, and on nothing else."""

import numpy as np
import pytest

from data.pipeline import Examples, evaluation_batches, training_batches

COUNT = 23


@pytest.fixture
def pixels() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (COUNT, 24, 24, 3), np.uint8)


def examples_of(pixels: np.ndarray) -> Examples:
    """Examples whose target is their number and whose inputs lie elsewhere: example i is picture COUNT - 1 - i."""
    targets = np.arange(COUNT, dtype=np.float32)[:, None]
    return Examples(pixels, np.arange(COUNT)[::-1], targets, targets[:, 0] + 100)


def epoch_arrays(pixels, batch_size=4, seed=0, epochs=range(1), augment=False):
    batches = training_batches(examples_of(pixels), batch_size=batch_size, seed=seed, epochs=epochs, augment=augment)
    return [np.concatenate(parts) for parts in zip(*batches.as_numpy_iterator(), strict=True)]


def test_an_epoch_has_every_picture_once_with_its_target_and_weight(pixels):
    pictures, targets, weights = epoch_arrays(pixels)
    order = targets[:, 0].astype(int)
    assert sorted(order) == list(range(COUNT))
    assert order.tolist() != list(range(COUNT))
    np.testing.assert_array_equal(pictures, pixels[::-1][order])
    np.testing.assert_array_equal(weights, order + 100)


def test_a_single_example_is_an_epoch(pixels):
    one = Examples(pixels, np.array([7]), np.ones((1, 1), np.float32), np.ones(1, np.float32))
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
    pictures, targets = (np.concatenate(parts) for parts in zip(*evaluation_batches(examples, 5), strict=True))
    np.testing.assert_array_equal(targets, examples.targets)
    np.testing.assert_array_equal(pictures, pixels[::-1])
