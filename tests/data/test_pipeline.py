"""Order and augmentation depend on the seed, the epoch and the picture, and on nothing else."""

import itertools

import numpy as np
import pytest

from data.arrays import Ragged, take_rows
from data.batches import Examples, View
from data.images.augment import AUGMENTATION, NUM_DRAWS, augment_pictures
from data.kinds import Vary
from data.pipeline import evaluation_batches, input_batches, training_batches, variation
from devices.replicas import Part

COUNT = 23
VARY = Vary(NUM_DRAWS, augment_pictures)


@pytest.fixture
def pixels() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (COUNT, 24, 24, 3), np.uint8)


def examples_of(pixels: np.ndarray) -> Examples:
    """Examples whose target is their number and whose inputs lie elsewhere: example i is picture COUNT - 1 - i."""
    targets = np.arange(COUNT, dtype=np.float32)[:, None]
    return Examples([View((pixels,), np.arange(COUNT)[::-1])], targets, targets[:, 0] + 100)


def epoch_arrays(pixels, batch_size=4, seed=0, epochs=range(1), vary=None):
    batches = training_batches(examples_of(pixels), batch_size=batch_size, seed=seed, epochs=epochs, vary=vary)
    return [np.concatenate(parts) for parts in zip(*batches.as_numpy_iterator(), strict=True)]


def test_an_epoch_has_every_picture_once_with_its_target_and_weight(pixels):
    pictures, targets, weights = epoch_arrays(pixels)
    order = targets[:, 0].astype(int)
    assert sorted(order) == list(range(COUNT))
    assert order.tolist() != list(range(COUNT))
    np.testing.assert_array_equal(pictures, pixels[::-1][order])
    sizes = np.repeat([4, 4, 4, 4, 4, 3], [4, 4, 4, 4, 4, 3])
    np.testing.assert_allclose(weights, (order + 100) / sizes, rtol=1e-6)


@pytest.mark.parametrize("vary", [None, VARY], ids=["plain", "varied"])
@pytest.mark.parametrize(("replicas", "workers"), [(1, 1), (2, 1), (4, 2), (3, 3), (8, 2)])
def test_replicas_share_every_batch(pixels, replicas, workers, vary):
    """Together they get the batches of one device, in order; what fills up the last batch counts nothing."""
    settings = {"batch_size": 6, "seed": 0, "epochs": range(2), "vary": vary}
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
            np.testing.assert_allclose(received[counted], expected, atol=1e-4 if vary else 0)
        assert set(targets[~counted, 0]) <= set(batch[1][:, 0])


def test_a_single_example_is_an_epoch(pixels):
    one = Examples([View((pixels,), np.array([7]))], np.ones((1, 1), np.float32), np.ones(1, np.float32))
    batches = list(training_batches(one, batch_size=4, seed=0, epochs=range(2), vary=VARY))
    assert [len(batch[0]) for batch in batches] == [1, 1]


def test_no_batch_spans_two_epochs(pixels):
    batches = training_batches(examples_of(pixels), batch_size=4, seed=0, epochs=range(2))
    assert [len(batch[0]) for batch in batches] == [4, 4, 4, 4, 4, 3] * 2


@pytest.mark.parametrize("vary", [None, VARY], ids=["plain", "varied"])
def test_starting_in_the_middle_gives_the_same_epochs(pixels, vary):
    whole = epoch_arrays(pixels, epochs=range(3), vary=vary)
    rest = epoch_arrays(pixels, epochs=range(1, 3), vary=vary)
    for all_epochs, later in zip(whole, rest, strict=True):
        np.testing.assert_array_equal(all_epochs[COUNT:], later)


def test_epochs_and_seeds_differ_in_order(pixels):
    order = epoch_arrays(pixels)[1]
    assert not np.array_equal(order, epoch_arrays(pixels, epochs=range(1, 2))[1])
    assert not np.array_equal(order, epoch_arrays(pixels, seed=1)[1])


def test_augmentation_does_not_depend_on_the_batch(pixels):
    fours, twos = (epoch_arrays(pixels, batch_size=size, vary=VARY) for size in (4, 2))
    np.testing.assert_array_equal(fours[0], twos[0])


def test_augmentation_differs_between_epochs_and_stays_in_range(pixels):
    pictures, targets, _ = epoch_arrays(pixels, epochs=range(2), vary=VARY)
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
    views = [View((np.full((COUNT, 1), number, np.float16),), np.arange(COUNT)) for number in range(3)]
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
    views = [View((np.full((COUNT, 1), number, np.float32),), np.arange(COUNT)) for number in range(3)]
    (inputs, *_), *_ = evaluation_batches(examples_of(pixels)._replace(views=views), COUNT)
    assert not np.any(inputs)


def test_pictures_in_order_are_plain_or_varied_by_their_draws(pixels):
    view = View((pixels,), np.arange(COUNT)[::-1])
    plain = np.concatenate(list(input_batches(view, 5)))
    np.testing.assert_array_equal(plain, pixels[::-1])
    drawn = variation(VARY, 0, 1, COUNT)
    varied = np.concatenate(list(input_batches(view, 5, drawn)))
    np.testing.assert_allclose(varied, augment_pictures(plain, drawn.draws), atol=1e-2)
    parts = list(input_batches(view, 6, drawn, Part(2, 0, 2)))
    assert {len(part) for part in parts} == {3}
    np.testing.assert_allclose(np.concatenate(parts)[:COUNT], varied, atol=1e-2)


def test_draws_depend_on_seed_and_number_and_not_on_the_count():
    draws = variation(VARY, 0, 1, 10).draws
    np.testing.assert_array_equal(draws, variation(VARY, 0, 1, 20).draws[:10])
    assert not np.array_equal(draws, variation(VARY, 1, 1, 10).draws)
    assert not np.array_equal(draws, variation(VARY, 0, 2, 10).draws)


def test_half_of_the_pictures_are_mirrored():
    ramp = np.broadcast_to(np.linspace(0, 255, 24, dtype=np.float32)[None, None, :, None], (200, 24, 24, 3))
    varied = augment_pictures(ramp, variation(VARY, 0, 1, 200).draws).numpy()
    mirrored = varied[:, 0, 0, 0] > varied[:, 0, -1, 0]
    assert 80 < mirrored.sum() < 120


def test_a_crop_of_everything_is_the_picture_itself(pixels):
    """The largest area, of the proportions of the picture, without a flip and a change of brightness or contrast."""
    aspect = np.log(1 / AUGMENTATION["crop_aspect"][0]) / np.log(np.divide(*AUGMENTATION["crop_aspect"][::-1]))
    varied = augment_pictures(pixels[:1].astype(np.float32), np.array([[1, aspect, 0, 0, 0, 0.5, 0.5]], np.float32))
    np.testing.assert_allclose(varied, pixels[:1], atol=0.1)


TEXTS = [np.arange(1, 1 + length, dtype=np.int32) for length in (3, 0, 20, 16, 1, 40, 7)]


def texts_view(rows) -> View:
    """Words as whole numbers, a vector beside them for each word, and one for each text."""
    words = Ragged.from_rows(TEXTS)
    vectors = Ragged(np.stack([words.values, -words.values], axis=1).astype(np.float16), words.offsets)
    return View((words, vectors, np.arange(len(TEXTS), dtype=np.int64)[:, None]), np.array(rows))


def check_texts(batch, rows, longest):
    words, vectors, numbers, mask = (np.asarray(part) for part in batch)
    assert (words.dtype, vectors.dtype, numbers.dtype, mask.dtype) == (np.int32, np.float32, np.int64, bool)
    assert words.shape == mask.shape == (len(rows), longest)
    for place, row in enumerate(rows):
        length = len(TEXTS[row])
        assert mask[place].tolist() == [True] * length + [False] * (longest - length)
        assert words[place, :length].tolist() == TEXTS[row].tolist()
        assert vectors[place, :length, 1].tolist() == (-TEXTS[row]).tolist()
        assert not words[place, length:].any()
        assert not vectors[place, length:].any()
        assert numbers[place] == row


def test_ragged_rows_are_filled_up_to_the_longest_of_their_batch_and_come_with_a_mask():
    rows = [6, 5, 0, 1, 6, 4]
    batches = list(input_batches(texts_view(rows), 3))
    assert len(batches) == 2
    check_texts(batches[0], rows[:3], 40)
    check_texts(batches[1], rows[3:], 8)


def test_replicas_get_ragged_rows_in_one_shape():
    rows = [0, 1, 2, 3, 4, 6]
    parts = list(input_batches(texts_view(rows), 4, part=Part(2, 0, 2)))
    assert {part[0].shape for part in parts} == {(2, 20)}
    check_texts(parts[1], rows[2:4], 20)


def test_each_epoch_takes_the_next_view_of_ragged_examples():
    rows = np.arange(len(TEXTS))
    other = Ragged.from_rows([text[::-1] for text in TEXTS])
    views = [View((Ragged.from_rows(TEXTS),), rows), View((other,), rows)]
    examples = Examples(views, rows[:, None].astype(np.float32), np.ones(len(rows), np.float32))
    for epoch in range(2):
        for (words, mask), targets, _ in training_batches(
            examples, batch_size=4, seed=0, epochs=range(epoch, epoch + 1)
        ):
            for text, kept, number in zip(words.numpy(), mask.numpy(), targets.numpy()[:, 0].astype(int), strict=True):
                expected = TEXTS[number][:: 1 if (number + epoch) % 2 == 0 else -1]
                assert text[kept].tolist() == expected.tolist()


def test_vectors_of_several_inputs_are_picked_from_memory_in_their_dtypes():
    floats, numbers = np.random.default_rng(0).random((COUNT, 3), np.float32), np.arange(COUNT, dtype=np.int32)[:, None]
    view = View((floats, numbers), np.arange(COUNT)[::-1])
    assert view.has_vectors
    first, second = (np.concatenate(parts) for parts in zip(*input_batches(view, 5), strict=True))
    np.testing.assert_array_equal(first, floats[::-1])
    np.testing.assert_array_equal(second, numbers[::-1])
    assert second.dtype == np.int32


def test_rows_of_ragged_tensors_are_taken_in_any_order():
    tensor = Ragged.from_rows(TEXTS)
    taken = take_rows(tensor, np.array([5, 1, 0, 5]))
    assert taken.lengths.tolist() == [40, 0, 3, 40]
    assert [
        taken.values[start:end].tolist() for start, end in zip(taken.offsets[:-1], taken.offsets[1:], strict=True)
    ] == [TEXTS[row].tolist() for row in (5, 1, 0, 5)]


def test_batches_have_texts_of_about_one_length_and_are_the_same_from_any_step():
    lengths = np.random.default_rng(0).integers(1, 200, 1_000)
    texts = Ragged.from_rows([np.full(length, 1, np.int32) for length in lengths])
    numbers = np.arange(1_000, dtype=np.float32)
    examples = Examples([View((texts,), np.arange(1_000))], numbers[:, None], np.ones_like(numbers))

    def epoch(number: int, first_step: int = 0) -> list[list[int]]:
        epochs = range(number, number + 1)
        batches = training_batches(examples, batch_size=8, seed=3, epochs=epochs, first_step=first_step)
        return [targets.numpy()[:, 0].astype(int).tolist() for _, targets, _ in batches]

    first, second = epoch(0), epoch(1)
    assert sorted(itertools.chain(*first)) == list(range(1_000))
    assert first != second
    assert first[5:] == epoch(0, first_step=5)
    filled = sum(len(batch) * lengths[batch].max() for batch in first) / lengths.sum()
    assert (
        filled < 1.2 < 1.5 < sum(8 * lengths[start : start + 8].max() for start in range(0, 1_000, 8)) / lengths.sum()
    )
    assert abs(np.corrcoef(np.arange(125), [lengths[batch].mean() for batch in first])[0, 1]) < 0.3
