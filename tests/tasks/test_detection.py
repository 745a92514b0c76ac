"""Maps, losses and decoding of a detector agree with each other, and figures with what a person would count."""

from collections.abc import Sequence

import keras
import numpy as np
import pytest
import tensorflow as tf

from data.boxes.vary import POLICIES, policy
from models.detector import MOST_BOXES, DecodeBoxes
from reports.detection import beside
from tasks.detection import DETECTION
from tasks.detection_maps import DISTANCES, SIDES, found, losses
from tasks.detection_metrics import SIZES, _evaluate, choose_thresholds, compare_boxes, measure_boxes
from tasks.metrics import share_interval

BOXES = np.array(
    [[[0.1, 0.1, 0.3, 0.35, 0, 0], [0.5, 0.4, 0.9, 0.8, 1, 0], [0.55, 0.1, 0.7, 0.3, 0, 0], [0, 0, 0, 0, -1, 0]]],
    np.float32,
)


def logits_of(distances: Sequence[float]) -> np.ndarray:
    """Logits whose distributions have these distances, in cells, as their means."""
    away = np.abs(np.log(distances)[:, None] - DISTANCES) / (DISTANCES[1] - DISTANCES[0])
    return np.log(np.maximum(1 - away, 1e-9)).ravel()


def maps_of(targets: np.ndarray, size: int = 20, num_classes: int = 2) -> np.ndarray:
    """Maps that answer with exactly these boxes."""
    maps = np.full((len(targets), size, size, num_classes + SIDES), -8, np.float32)
    maps[..., -SIDES:] = 0
    for row, boxes in enumerate(targets):
        for x1, y1, x2, y2, label, _ in boxes[boxes[:, 4] >= 0]:
            x1, y1, x2, y2 = (size * each for each in (x1, y1, x2, y2))
            column, line = int((x1 + x2) / 2), int((y1 + y2) / 2)
            maps[row, line, column, int(label)] = 8
            distances = column + 0.5 - x1, line + 0.5 - y1, x2 - column - 0.5, y2 - line - 0.5
            maps[row, line, column, -SIDES:] = logits_of(distances)
    return maps


def test_maps_are_decoded_to_the_boxes_they_were_made_of():
    boxes, scores, classes = (np.asarray(each) for each in DecodeBoxes()(tf.constant(maps_of(BOXES))))
    assert boxes.shape == (1, MOST_BOXES, 4)
    order = np.lexsort((boxes[0, :3, 0], classes[0, :3]))
    np.testing.assert_allclose(boxes[0, :3][order], BOXES[0, [0, 2, 1], :4], atol=1e-5)
    assert classes[0, :3][order].tolist() == [0, 0, 1]
    assert scores[0, 2] > 0.99
    assert scores[0, 3] < 0.01


def test_the_less_likely_of_two_boxes_at_one_place_is_suppressed():
    maps = maps_of(BOXES[:, :1])
    column, line = 4, 4
    maps[0, line, column + 2, 0] = 4  # no neighbour, so it is a peak of its own
    maps[0, line, column + 2, -SIDES:] = logits_of([4.5, 2.5, 0.2, 2.5])
    maps[0, line, column, -SIDES:] = logits_of([2.5, 2.5, 2.2, 2.5])
    _, scores, _ = DecodeBoxes()(tf.constant(maps))
    assert np.sum(np.asarray(scores)[0] > 0.5) == 1
    other = maps.copy()
    other[0, line, column + 2, :2] = -8, 4  # of another class, it stays
    assert np.sum(np.asarray(DecodeBoxes()(tf.constant(other))[1])[0] > 0.5) == 2


def test_the_loss_is_least_for_the_right_maps_and_ignored_boxes_cost_nothing():
    right, wrong = maps_of(BOXES), maps_of(BOXES[:, ::-1] * [1, 1, 1, 1, 1, 1])
    wrong[..., :2] = -wrong[..., :2]
    assert losses(tf.constant(BOXES), tf.constant(right)) < losses(tf.constant(BOXES), tf.constant(wrong))
    assert np.asarray(found(tf.constant(BOXES), tf.constant(right))).tolist() == [1.0]
    assert np.asarray(found(tf.constant(BOXES), tf.constant(wrong))).tolist() == [0.0]
    ignored, without = BOXES.copy(), BOXES.copy()
    ignored[0, 1, 5] = 1
    without[0, 1, 4] = -1
    silent = maps_of(without)
    assert losses(tf.constant(ignored), tf.constant(right)) == losses(tf.constant(ignored), tf.constant(silent))
    assert losses(tf.constant(without), tf.constant(right)) > losses(tf.constant(without), tf.constant(silent))
    assert losses(tf.constant(BOXES), tf.constant(right)) < losses(tf.constant(BOXES), tf.constant(silent))


def test_losses_have_gradients_and_no_boxes_are_no_division_by_zero():
    maps, none = tf.Variable(maps_of(BOXES) * 0), np.full_like(BOXES, -1)
    none[..., 5] = 0
    for targets in (BOXES, none):
        with tf.GradientTape() as tape:
            loss = tf.reduce_sum(losses(tf.constant(targets), maps))
        assert np.isfinite(np.asarray(tape.gradient(loss, maps))).all()
    assert np.asarray(found(tf.constant(none), maps)).tolist() == [1.0]


@pytest.mark.parametrize("name", POLICIES)
def test_boxes_move_with_what_is_in_them(name):
    side, random, vary = 200, np.random.default_rng(0), policy(name)
    pictures, targets = np.zeros((16, side, side, 3), np.float32), np.zeros((16, 2, 6), np.float32)
    targets[:, 1, 4] = -1
    for picture, (target, _) in zip(pictures, targets, strict=True):
        x, y, width, height = *random.integers(70, 110, 2), *random.integers(20, 40, 2)
        picture[y : y + height, x : x + width] = 200
        target[:4] = np.array([x, y, x + width, y + height]) / side
    draws = tf.constant(random.random((16, vary.draws)), tf.float32)
    varied, moved = np.asarray(vary.apply(tf.constant(pictures), draws)), np.asarray(vary.move(targets, draws))
    for picture, box in zip(varied.max(axis=-1), moved[:, 0], strict=True):
        rows, columns = np.nonzero(picture > picture.min() + 60)
        seen = np.array([columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]) / side
        np.testing.assert_allclose(box[:4], seen, atol=0.012)
    assert (moved[:, 1, 4] == -1).all()


def test_what_is_moved_out_of_the_picture_is_no_box_any_more():
    vary, targets = policy("mild"), np.array([[[0.0, 0.0, 0.05, 0.05, 1, 0]]], np.float32)
    draws = np.full((1, vary.draws), 0.99, np.float32)
    draws[0, :2], draws[0, 3:5] = 0, 0
    assert vary.move(targets, tf.constant(draws))[0, 0, 4] == -1


TRUTH = [np.array([[0, 0, 10, 10, 0, 0], [20, 20, 40, 40, 1, 0]], float), np.array([[5, 5, 25, 25, 0, 0]], float)]


def answers(*rows: tuple[int, list[float]]) -> list[np.ndarray]:
    return [np.array([box for picture, box in rows if picture == number], float).reshape(-1, 6) for number in (0, 1)]


def test_perfect_answers_measure_one():
    found = answers((0, [0, 0, 10, 10, 0.9, 0]), (0, [20, 20, 40, 40, 0.8, 1]), (1, [5, 5, 25, 25, 0.7, 0]))
    figures = measure_boxes(TRUTH, found, ("a", "b"))
    assert figures["n"] == 2
    assert figures["boxes"] == 3
    assert [figures[name] for name in ("ap", "ap50", "ap75")] == pytest.approx([1, 1, 1])
    assert figures["ap50_ci95"] == pytest.approx(share_interval(1.0, 2))
    assert figures["by_size"]["small"]["boxes"] == 3


@pytest.mark.parametrize("pictures", [4, 15])
def test_draws_of_pictures_without_boxes_leave_the_interval_finite(pictures):
    empty = [np.zeros((0, 6))] * (pictures - 2)
    found = answers((0, [0, 0, 10, 10, 0.9, 0]), (1, [5, 5, 25, 25, 0.7, 0]))
    low, high = measure_boxes(TRUTH + empty, found + empty, ("a", "b"))["ap50_ci95"]
    assert 0 <= low < high <= 1


def pictures_of(right: Sequence[bool]) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Pictures with one box each, and answers that are either right or elsewhere."""
    box, elsewhere = [5, 5, 25, 25], [60, 60, 80, 80]
    found = [np.array([[*(box if each else elsewhere), 0.9, 0]], float) for each in right]
    return [np.array([[*box, 0, 0]], float)] * len(right), found


@pytest.mark.parametrize("right", [True, False])
@pytest.mark.parametrize("count", [3, 40])
def test_pictures_that_are_all_right_or_all_wrong_leave_the_interval_a_width(right, count):
    measured = measure_boxes(*pictures_of([right] * count), ("a",))
    assert measured["ap50"] == right
    assert measured["ap50_ci95"] == pytest.approx(share_interval(float(right), count))


def test_few_independent_pictures_widen_the_interval_to_that_of_a_share():
    few = measure_boxes(*pictures_of([True, True, True, False] * 2), ("a",))
    low, high = few["ap50_ci95"]
    share_low, share_high = share_interval(few["ap50"], 8)
    assert 0 <= low <= share_low < share_high <= high <= 1
    copied = measure_boxes(*pictures_of(np.repeat([True, True, True, False] * 2, 8)), ("a",), np.repeat(range(8), 8))
    share_low, share_high = share_interval(copied["ap50"], 8)
    assert copied["ap50_ci95"][0] <= share_low < share_high <= copied["ap50_ci95"][1]
    many_low, many_high = measure_boxes(*pictures_of([True, True, True, False] * 16), ("a",))["ap50_ci95"]
    assert share_low < many_low < many_high < share_high


def test_pictures_without_boxes_make_few_with_boxes_no_more_certain():
    truth, found = pictures_of([True] * 3)
    empty = [np.zeros((0, 6))] * 50
    measured = measure_boxes(truth + empty, found + empty, ("a",))
    assert measured["ap50_ci95"] == pytest.approx(share_interval(1.0, 3))


def test_pictures_of_one_group_count_together_in_the_interval():
    groups = np.repeat(np.arange(40), 5)
    right = np.random.default_rng(0).random(40) < 0.7
    truth, found = pictures_of(right[groups])
    alone, grouped = (measure_boxes(truth, found, ("a",), each) for each in (None, groups))
    assert alone == measure_boxes(truth, found, ("a",), np.arange(200)[::-1])
    assert "effective_n" not in alone
    assert grouped.pop("effective_n") == 40
    widths = [np.ptp(each.pop("ap50_ci95")) for each in (alone, grouped)]
    assert alone == grouped
    assert widths[1] > 1.8 * widths[0]  # about the square root of 5
    of_groups = measure_boxes(*pictures_of(right), ("a",))["ap50_ci95"]
    assert measure_boxes(truth, found, ("a",), 99 - groups)["ap50_ci95"] == pytest.approx(of_groups, abs=0.02)


def test_boxes_of_each_size_are_counted_as_pycocotools_counts_them():
    sides = (0, 10, 32, 33, 96, 97, 200)
    truth = [np.array([[0, 0, side, side, 0, side == 10]], float) for side in sides]
    truth.append(np.zeros((0, 6)))
    found = [np.array([[0, 0, 10, 10, 0.9, 0]])] * len(truth)
    counted = [each["boxes"] for each in measure_boxes(truth, found, ("a",))["by_size"].values()]
    compared = np.array(_evaluate(truth, found, 1).evalImgs, object).reshape(1 + len(SIZES), len(truth))
    expected = [sum(int(np.sum(1 - each["gtIgnore"])) for each in row if each) for row in compared[1:]]
    assert counted == expected == [2, 3, 3]


def test_ap_counts_what_is_missed_and_what_is_not_there():
    half = answers((0, [0, 0, 10, 10, 0.9, 0]), (1, [60, 60, 80, 80, 0.95, 1]))
    measured = measure_boxes(TRUTH, half, ("a", "b"))
    assert measured["per_class"]["a"]["ap50"] == pytest.approx(51 / 101)  # recalls up to a half
    assert measured["per_class"]["b"]["ap50"] == 0
    found, missed = choose_thresholds(compare_boxes(TRUTH, half, 2).matched, 0.05)
    assert found == missed == pytest.approx(0.45)


def test_an_ignored_box_is_neither_missed_nor_a_false_alarm():
    ignored = [TRUTH[0].copy(), TRUTH[1]]
    ignored[0][0, 5] = 1
    found = answers((0, [0, 0, 10, 10, 0.9, 0]), (0, [20, 20, 40, 40, 0.8, 1]), (1, [5, 5, 25, 25, 0.7, 0]))
    figures = measure_boxes(ignored, found, ("a", "b"))
    assert figures["boxes"] == 2
    assert figures["ap50"] == pytest.approx(1)


def test_an_answer_within_an_ignored_box_is_ignored_by_the_table_as_by_ap():
    crowd, other = [0, 0, 200, 200, 0, 1], [300, 0, 320, 20, 0, 0]
    within, astray = [10, 10, 50, 50, 0.9, 0], [190, 190, 260, 260, 0.8, 0]
    matched = beside(np.array([crowd, other], float), np.array([within, astray, [300, 0, 320, 20, 0.7, 0]], float))
    assert matched.to_ignored.tolist() == [True, False, False]
    assert matched.is_right.tolist() == [False, False, True]


def test_without_boxes_nothing_is_measured():
    assert measure_boxes([np.zeros((0, 6))], [np.zeros((0, 6))], ("a",)) is None


def test_answers_begin_at_the_threshold_of_their_class():
    outputs = np.zeros((1, 3, 6), np.float32)
    outputs[0, :, 4], outputs[0, :, 5] = [0.6, 0.4, 0.0], [0, 1, 0]
    task = DETECTION.with_thresholds(("a", "b"), {"a": 0.7, "b": 0.3})
    assert task.answered(outputs).tolist() == [[False, True, False]]
    assert task.thresholds_of(("a", "b")) == {"a": 0.7, "b": 0.3}
    with pytest.raises(ValueError, match="no numbers for its classes"):
        DETECTION.with_thresholds(("a", "b"), {"a": 0.7})


def test_the_decoder_can_be_written_and_read():
    inputs = keras.Input((8, 8, 2 + SIDES))
    model = keras.Model(inputs, DecodeBoxes()(inputs))
    again = keras.Model.from_config(model.get_config())
    assert [tuple(each.shape) for each in again.outputs] == [(None, 100, 4), (None, 100), (None, 100)]


def test_answers_are_compared_whatever_their_order():
    one = np.zeros((1, 3, 6), np.float32)
    one[0, :2] = [[0.1, 0.1, 0.3, 0.3, 0.9, 0], [0.5, 0.5, 0.8, 0.9, 0.9, 0]]
    assert DETECTION.differences(one, one[:, [1, 0, 2]]).tolist() == [0]
    less = one.copy()
    less[0, 1] = 0
    assert DETECTION.differences(one, less)[0] > 0.2
