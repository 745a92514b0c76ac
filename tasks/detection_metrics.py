"""Metrics of detection, by pycocotools: COCO's figures, and intervals by bootstrapping groups of pictures."""

import contextlib
import io
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from app.errors import UsageError
from tasks.metrics import effective_count, share_interval

RECALLS = np.linspace(0, 1, 101)
"""Recalls at which precision is averaged."""
SIZES = ("small", "medium", "large")
"""Sizes of COCO, by the side of a square of the same area: up to 32, 32 to 96, from 96 pixels on. Sides of exactly 32
or 96 count in both."""
DRAWS = 1_000
"""Number of bootstrap draws for an interval."""
FEW_INDEPENDENT = 30
"""With fewer independent pictures, the bootstrap alone is too narrow; see `_interval`."""


class Matched(NamedTuple):
    """Answers of one class matched with true boxes, at an overlap of a half."""

    scores: np.ndarray
    """Scores, float64 (answers,), of all pictures, the likeliest first."""
    right: np.ndarray
    """bool (answers,): whether an answer finds a true box that no likelier one has found; ignored ones are left out."""
    of_answers: np.ndarray
    """int (answers,): position of the picture of each answer."""
    truth: np.ndarray
    """int (pictures,): true boxes in each picture."""


class Compared(NamedTuple):
    """Comparison of the answers for a split with its true boxes, by COCO's rules; NaN without true boxes."""

    matched: list[Matched]
    """Matched boxes by class, at an overlap of a half."""
    precision: np.ndarray
    """float64 (overlaps, recalls, classes, areas): precision from ten overlaps on (intersection over union of 0.5, 0.55
    ... 0.95), at `RECALLS`; the first area is that of all sizes."""
    recall: np.ndarray
    """float64 (overlaps, classes, areas)."""


class BoxMetric(NamedTuple):
    """A metric of boxes, which `metrics.json` has as one number."""

    title: str
    hint: str
    is_share: bool = True


BOX_METRICS = {
    "ap50": BoxMetric("AP50", "right from an overlap of 50 % on"),
    "ap": BoxMetric("AP", "mean over overlaps of 50 to 95 %"),
    "ap75": BoxMetric("AP75", "right from an overlap of 75 % on"),
    "recall": BoxMetric("AR", "mean recall over overlaps of 50 to 95 %"),
}


def check_pycocotools() -> None:
    """Raises a UsageError if the package is not installed."""
    try:
        import pycocotools.mask  # noqa: F401
    except ImportError:
        raise UsageError(
            "Finding boxes is measured by pycocotools, which is not installed: pip install -r requirements-boxes.txt"
        ) from None


def compare_boxes(truth: Sequence[np.ndarray], answers: Sequence[np.ndarray], num_classes: int) -> Compared | None:
    """Compares answers with true boxes.

    Args:
        truth: for each picture float (boxes, 6): corners in pixels, number of the class, and 1 if it is ignored.
        answers: for each picture float (answers, 6): corners in pixels, probability, number of the class.
        num_classes: at least 1.

    Returns:
        None for pictures without any box.
    """
    if not any((boxes[:, 5] == 0).any() for boxes in truth):
        return None
    evaluated = _evaluate(truth, answers, num_classes)
    # The last axis is the number of answers per picture; -1 where a class has no true box.
    known = (np.where(evaluated.eval[name] < 0, np.nan, evaluated.eval[name]) for name in ("precision", "recall"))
    matched = [_matched(evaluated, number, len(truth)) for number in range(num_classes)]
    return Compared(matched, *(values[..., -1] for values in known))


def measure_boxes(
    truth: Sequence[np.ndarray],
    answers: Sequence[np.ndarray],
    class_names: Sequence[str],
    groups: np.ndarray | None = None,
) -> dict[str, Any] | None:
    """Measures answers against true boxes.

    Args:
        truth: as in `compare_boxes`.
        answers: as in `compare_boxes`.
        class_names: names in the order of their numbers.
        groups: int (pictures,), the same for pictures that are not independent; None if all are.

    Returns:
        Record M of `metrics.json`; None for pictures without any box. Figures without true boxes of the class are None.
        If pictures share a group, `effective_n` is the number of independent ones.
    """
    compared = compare_boxes(truth, answers, len(class_names))
    if compared is None:
        return None
    matched, precision, recall = compared
    count, ap50 = len(truth), _mean(precision[0, ..., 0])
    groups = np.arange(count) if groups is None else groups
    effective = effective_count(groups)
    return {
        "n": count,
        "boxes": int(sum(each.truth.sum() for each in matched)),
        "ap": _mean(precision[..., 0]),
        "ap50": ap50,
        "ap50_ci95": _interval(matched, ap50, groups),
        **({"effective_n": effective} if effective < count else {}),
        "ap75": _mean(precision[5, ..., 0]),
        "recall": _mean(recall[..., 0]),
        "by_size": {
            size: {
                "ap": _mean(precision[..., area]),
                "recall50": _mean(recall[0, :, area]),
                "boxes": _count_of_size(truth, area),
            }
            for area, size in enumerate(SIZES, 1)
        },
        "per_class": {
            name: {
                "ap": _mean(precision[:, :, number, 0]),
                "ap50": _mean(precision[0, :, number, 0]),
                "boxes": int(matched[number].truth.sum()),
                "pictures": int((matched[number].truth > 0).sum()),
            }
            for number, name in enumerate(class_names)
        },
    }


def choose_thresholds(matched: Sequence[Matched], least: float) -> tuple[float, ...]:
    """Chooses for each class the threshold with the highest F1.

    A class of which no answer is right gets the highest threshold of the others, so that it does not hide their boxes.

    Args:
        matched: matched answers of val, by class.
        least: lowest threshold.

    Returns:
        Numbers exact in float32, half-way between two answers.
    """
    chosen = []
    for each in matched:
        right = np.cumsum(each.right)
        f1 = 2 * right / np.maximum(np.arange(1, len(right) + 1) + each.truth.sum(), 1)
        last = np.flatnonzero(np.append(each.scores[1:] != each.scores[:-1], True)) if len(right) else np.array([], int)
        if not right.any():
            chosen.append(np.nan)
            continue
        best = int(last[np.argmax(f1[last])])
        below = each.scores[best + 1] if best + 1 < len(right) else 0.0
        chosen.append(max(least, float(np.float32((each.scores[best] + below) / 2))))
    highest = np.nanmax(chosen) if np.isfinite(chosen).any() else least
    return tuple(float(highest) if np.isnan(each) else each for each in chosen)


def _evaluate(truth: Sequence[np.ndarray], answers: Sequence[np.ndarray], num_classes: int) -> Any:
    """Compares by pycocotools, which prints (silenced here) and counts annotations from 1."""
    check_pycocotools()
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    annotations = [
        {
            "image_id": picture,
            "category_id": int(box[4]),
            "bbox": [*box[:2].tolist(), *(box[2:4] - box[:2]).tolist()],
            "area": float(np.prod(box[2:4] - box[:2])),
            "iscrowd": int(box[5]),
        }
        for picture, boxes in enumerate(truth)
        for box in boxes
    ]
    found = [
        [picture, *box[:2], *(box[2:4] - box[:2]), box[4], box[5]]
        for picture, boxes in enumerate(answers)
        for box in boxes
    ]
    with contextlib.redirect_stdout(io.StringIO()):
        labelled = COCO()
        labelled.dataset = {
            "images": [{"id": picture} for picture in range(len(truth))],
            "annotations": [{"id": number, **each} for number, each in enumerate(annotations, 1)],
            "categories": [{"id": number} for number in range(num_classes)],
        }
        labelled.createIndex()
        predicted = labelled.loadRes(np.array(found, np.float64).reshape(-1, 7))
        evaluated = COCOeval(labelled, predicted, "bbox")
        evaluated.evaluate()
        evaluated.accumulate()
    return evaluated


def _matched(evaluated: Any, number: int, pictures: int) -> Matched:
    """Gathers the matches of a class, for all sizes, at the least overlap."""
    scores, right, of_answers, counts = [], [], [], np.zeros(pictures, int)
    areas = len(evaluated.params.areaRng)
    for picture in range(pictures):
        one = evaluated.evalImgs[number * areas * pictures + picture]
        if one is None:
            continue
        kept = ~one["dtIgnore"][0].astype(bool)
        scores.append(np.array(one["dtScores"])[kept])
        right.append(one["dtMatches"][0][kept] > 0)
        of_answers.append(np.full(kept.sum(), picture))
        counts[picture] = int((~one["gtIgnore"].astype(bool)).sum())
    joined = [
        np.concatenate([np.zeros(0, dtype), *parts])
        for dtype, parts in ((float, scores), (bool, right), (int, of_answers))
    ]
    order = np.argsort(-joined[0], kind="mergesort")
    return Matched(joined[0][order], joined[1][order].astype(bool), joined[2][order].astype(int), counts)


def _interval(matched: Sequence[Matched], ap50: float | None, groups: np.ndarray) -> list[float] | None:
    """Returns the 95 % interval of AP50 over bootstrap draws of groups (Field and Welsh, 2007).

    The percentiles of a bootstrap are too close together for few pictures (Hesterberg, 2015) or few groups (Cameron,
    Gelbach and Miller, 2008), and are one point where all pictures are right or all are wrong. There the interval also
    covers that of a share (Wilson, 1927) of as many independent pictures. Only pictures with boxes count for this:
    the others hold nothing to find, however many they are.

    Args:
        matched: matched answers, by class.
        ap50: the measured AP50.
        groups: int (pictures,), the same for pictures that are not independent.
    """
    known = [each for each in matched if each.truth.any()]
    if not known or ap50 is None:
        return None
    numbers, names = pd.factorize(groups)  # in order of appearance: the interval does not depend on the names
    of_groups = np.random.default_rng(0).multinomial(len(names), np.full(len(names), 1 / len(names)), DRAWS)
    draws = np.take(of_groups, numbers, axis=1)
    found = np.full((len(known), DRAWS), np.nan)
    for row, each in enumerate(known):
        total = draws @ each.truth
        for draw, weights in enumerate(draws):
            if total[draw]:
                found[row, draw] = _average_precision(each, weights, total[draw])
    means = np.nanmean(found[:, ~np.isnan(found).all(axis=0)], axis=0)  # a draw may hold pictures without boxes alone
    low, high = (float(bound) for bound in np.quantile(means, [0.025, 0.975]))
    independent = effective_count(groups[np.sum([each.truth for each in known], axis=0) > 0])
    if independent < FEW_INDEPENDENT or low == high:
        share_low, share_high = share_interval(ap50, independent)
        low, high = min(low, share_low), max(high, share_high)
    return [low, high]


def _average_precision(matched: Matched, weights: np.ndarray, total: int) -> float:
    """Returns the average precision as COCO computes it, for pictures that may count several times."""
    counts = weights[matched.of_answers]
    right = np.cumsum(counts * matched.right)
    precision = right / np.maximum(np.cumsum(counts), 1)
    precision = np.maximum.accumulate(precision[::-1])[::-1]
    places = np.searchsorted(right / total, RECALLS, side="left")
    return float(np.append(precision, 0.0)[np.minimum(places, len(precision))].mean())


def _mean(values: np.ndarray) -> float | None:
    known = values[~np.isnan(values)]
    return float(known.mean()) if known.size else None


def _count_of_size(truth: Sequence[np.ndarray], area: int) -> int:
    """Counts the boxes of a size as pycocotools does, which includes both ends of its range."""
    from pycocotools.cocoeval import Params

    low, high = Params("bbox").areaRng[area]
    areas = np.concatenate([np.prod(boxes[:, 2:4] - boxes[:, :2], axis=1)[boxes[:, 5] == 0] for boxes in truth])
    return int(((areas >= low) & (areas <= high)).sum())
