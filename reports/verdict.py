"""Describes the result of a run in plain sentences, with reasons for caution."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from app.terminal import NAMES_SHOWN, counted, listed
from data.kinds import Kind
from data.sources import Split
from inference.run_record import measured_split
from reports.decision import is_given, promise_sentences
from reports.facts import Facts, Leaks
from reports.page import SPACE, interval, method_name, percent
from tasks.metrics import balanced_interval
from tasks.table import Task

WIDE_INTERVAL = 0.08
"""The report warns from this width of an accuracy's interval on, as a fraction."""
FEW_PICTURES = 10
"""Classes with fewer measured pictures get a warning: each picture changes their figures by a tenth or more."""
UNEVEN = 0.05
"""The report mentions the balanced accuracy if it differs from the accuracy by more than this."""
UNBALANCED = 0.8
"""An accuracy says little if always giving the most frequent answer has this accuracy."""
DIVERGED = {
    "head": "Training the head diverged (its loss is NaN); the best weights before that are kept. Try a lower "
    "--learning-rate.",
    "fine_tune": "Fine-tuning diverged (its loss is NaN); the best weights before that are kept. Try a lower "
    "--fine-tune-learning-rate.",
}
DIVERGED["deeper"] = DIVERGED["fine_tune"]
"""Caution for each phase that diverged."""


class Verdict(NamedTuple):
    """The head of a report."""

    split: Split | None
    """The measured split; None if there is none."""
    sentence: str
    accuracy: float | None
    interval: tuple[float, float] | None
    interval_note: str
    """Reason why the interval is wider than the number of pictures suggests, or ''."""
    comparison: str
    """Accuracies of simple methods."""
    cautions: list[str]
    """Reasons for caution, the most serious first."""
    headline: float | None = None
    """Leading figure of the page: accuracy, or balanced accuracy if guessing has a high accuracy."""
    detail: str = ""
    """Remark on that figure if it is not the accuracy."""


def reach_verdict(record: dict[str, Any], task: Task, kind: Kind, facts: Facts | None = None) -> Verdict:
    """Sums up a run by its test split, or by val without test.

    Args:
        record: the content of `metrics.json`.
        task: task, which decides when an example is right.
        kind: kind, which has the nouns.
        facts: facts of the run's own page; None if only the record is at hand.
    """
    leaks, doubts = (facts.leaks, facts.data.cautions) if facts else (Leaks(), ())
    found = measured_split(record)
    if found is None:
        return unknown_verdict(kind, doubts)
    split, measured = found
    count, right = measured["n"], round(measured["accuracy"] * measured["n"])
    what = "All labels right on" if task.multi_label else "Right on"
    examples = f"the one {kind.noun}" if count == 1 else f"{count:,} {kind.nouns}"
    kept = "kept from the heads that answered" if record.get("folds") else "kept for validation"
    unseen = "it had never seen" if split == "test" else kept
    simple = [f"{bar['name']} {percent(bar['value'])}" for bar in baseline_bars(record["baseline"])]
    by = ", by plain accuracy" if _is_unbalanced(record, task) else ""
    sentence, detail = f"{what} {right:,} of {examples} {unseen}", ""
    if _is_unbalanced(record, task):
        sentence, detail = _by_class(record, split, task, f"{examples} {unseen}")
    return Verdict(
        split,
        sentence,
        measured["accuracy"],
        tuple(measured["accuracy_ci95"]),
        interval_note(measured, kind),
        f"Simple methods{by}: {'; '.join(simple)}.{_difference_text(record, task)}" if simple else "",
        [
            *promise_sentences(record.get("decision"), split, kind),
            *_cautions(record, split, task, kind, leaks),
            *doubts,
        ],
        measured["balanced_accuracy" if detail else "accuracy"],
        detail,
    )


def unknown_verdict(kind: Kind, cautions: Sequence[str] = ()) -> Verdict:
    """Returns the verdict of a run without a measured split."""
    nothing = "Accuracy unknown: there is no val or test split."
    advice = f"Raise --val-fraction and --test-fraction, or add val and test {kind.nouns} to the data."
    return Verdict(None, nothing, None, None, "", "", [advice, *cautions])


def baseline_bars(baseline: Mapping[str, float | None]) -> list[dict[str, Any]]:
    """Returns the accuracies of simple methods, as bars beside that of a model."""
    methods = {name: f"logistic regression on {method_name(name)}" for name in baseline}
    methods["majority"] = "most frequent answer"
    known = [(methods[name], value) for name, value in baseline.items() if value is not None]
    return [{"name": method, "value": value, "interval": None} for method, value in known]


def interval_note(measured: dict[str, Any], kind: Kind) -> str:
    """Explains how dependent examples are counted, if there are any."""
    if "effective_n" not in measured:
        return ""
    independent = counted(round(measured["effective_n"]), "independent one", "independent ones")
    return (
        f"Copies, look-alikes and {kind.nouns} of one group are right or wrong together: for the interval, "
        f"{measured['n']:,} {kind.nouns} count as {independent}."
    )


def wide_interval(measured: dict[str, Any], kind: Kind, figure: str, bounds: list[float]) -> list[str]:
    """Says that few measured examples leave a wide interval of a figure; [] if it is narrow."""
    if bounds[1] - bounds[0] <= WIDE_INTERVAL:
        return []
    count, independent = measured["n"], round(measured.get("effective_n", measured["n"]))
    examples = f"a single {kind.noun}" if count == 1 else f"{count:,} {kind.nouns}"
    few = f"{examples} only: on more of them"
    if 2 * independent < count:
        few = f"{examples} that count as only {independent:,}: on more independent ones"
    return [f"Measured on {few}, any {figure} from {interval(bounds, 0)} is plausible."]


def _is_unbalanced(record: dict[str, Any], task: Task) -> bool:
    """Returns whether an accuracy says little: guessing almost reaches it, or a threshold optimises another measure."""
    majority = record["baseline"].get("majority") or 0.0
    return not task.multi_label and (majority >= UNBALANCED or bool(record.get("decision")))


def _by_class(record: dict[str, Any], split: Split, task: Task, examples: str) -> tuple[str, str]:
    """Describes in a sentence, and in more detail, how much of each class is found."""
    measured = record[split]
    balanced = (
        f"{percent(measured['balanced_accuracy'])} is the balanced accuracy, in which every class counts the same"
    )
    plain = f"The plain accuracy is {percent(measured['accuracy'])}."
    if not task.two_classes:
        share, bounds = percent(measured["balanced_accuracy"], 0), _balanced_interval(measured)
        told = f" (95{SPACE}% interval {interval(bounds)})" if bounds else ""
        return f"Finds {share} of a class, on average, on {examples}", f"{balanced}{told}. {plain}"
    other, positive = record["data"]["classes"]
    found, shares = {}, []
    for share, name in (("sensitivity", positive), ("specificity", other)):
        count = measured["per_class"][name]["support"]
        right = round(measured["per_class"][name]["recall"] * count)
        found[name] = f"{right:,} of {count:,} '{name}'"
        bounds = measured.get("recall_ci95", {}).get(name)
        value = percent(right / count) if count else "unknown"
        shares.append(f"{share} {value}{f' (95{SPACE}% interval {interval(bounds)})' if bounds else ''}")
    sentence = f"Finds {found[positive]}, and leaves {found[other]} alone, of {examples}"
    return sentence, f"{shares[0].capitalize()}, {shares[1]}. {balanced}. {plain}"


def _cautions(record: dict[str, Any], split: Split, task: Task, kind: Kind, leaks: Leaks) -> list[str]:
    measured, found, decision = record[split], [], record.get("decision")
    balanced_bounds = _balanced_interval(measured) if _is_unbalanced(record, task) else None
    figure, (low, high) = "accuracy", measured["accuracy_ci95"]
    if balanced_bounds:
        figure, (low, high) = "balanced accuracy", balanced_bounds
    if split == "val" and not record.get("folds"):
        found.append(
            f"There is no test split; --test-fraction or a folder 'test' makes one. These {kind.nouns} also decided "
            "when training stopped, so the accuracy is optimistic."
        )
    if split == "val" and decision and not is_given(decision["flag"]):
        found.append(f"The threshold was chosen on these {kind.nouns}, so sensitivity and specificity are optimistic.")
    found += [DIVERGED[phase] for phase in record["diverged"]]
    if balanced_bounds:
        simple = _simple_balanced(record, split)
        if decision:  # the threshold of the regression was not chosen
            simple = {"majority": simple["majority"]}
        found += _simple_cautions(simple, low, high, kind, None, "a balanced accuracy of ")
    elif not decision and not _is_unbalanced(record, task):
        difference = record.get("baseline_difference")
        found += _simple_cautions(record["baseline"], low, high, kind, difference and difference["difference_ci95"])
    found += wide_interval(measured, kind, figure, [low, high])
    if leaks.near_duplicates:
        without = leaks.accuracy_without
        rest = "" if without is None else f" Without them, the accuracy is {percent(without)}."
        found.append(f"{alike(leaks.near_duplicates, split, kind)}.{rest}")
    if leaks.val_near_duplicates:
        in_val = alike(leaks.val_near_duplicates, "val", kind)
        found.append(f"{in_val}: the epoch was chosen by {kind.nouns} that are too easy.")
    found += _class_cautions(measured, split, kind)
    balanced = measured["balanced_accuracy"]
    if not task.multi_label and not _is_unbalanced(record, task) and abs(balanced - measured["accuracy"]) > UNEVEN:
        found.append(f"Balanced accuracy, in which every class counts the same, is {percent(balanced)}.")
    return found


def alike(count: int, split: Split, kind: Kind) -> str:
    """Says that measured examples look like training examples."""
    looks = f"{kind.noun} looks" if count == 1 else f"{kind.nouns} look"
    return f"{count:,} {split} {looks} the same as a training {kind.noun} (see below)"


def _balanced_interval(measured: dict[str, Any]) -> list[float] | None:
    """Returns the 95 % interval of the balanced accuracy; None for a record of an older version."""
    bounds = measured.get("recall_ci95", {})
    known = [(row["recall"], bounds[name]) for name, row in measured["per_class"].items() if bounds.get(name)]
    return balanced_interval(*zip(*known, strict=True)) if known else None


def _simple_balanced(record: dict[str, Any], split: Split) -> dict[str, float | None]:
    """Returns the balanced accuracy of each simple method; None where it is unknown."""
    occurring = sum(row["support"] > 0 for row in record[split]["per_class"].values())
    regression = (record.get("baseline_difference") or {}).get("simple_balanced_accuracy")
    return {name: 1 / occurring if name == "majority" else regression for name in record["baseline"]}


def _difference_text(record: dict[str, Any], task: Task) -> str:
    """Says by how much the model is better than the regression, on the same examples; '' where that is unknown."""
    found = record.get("baseline_difference")  # older runs have none
    if not found or record.get("decision"):  # a threshold gives accuracy up
        return ""
    if _is_unbalanced(record, task):
        regression = found.get("simple_balanced_accuracy")
        return "" if regression is None else f" The balanced accuracy of the regression is {percent(regression)}."
    points, low, high = (100 * value for value in (found["difference"], *found["difference_ci95"]))
    return f" This model: {points:+.1f} points over the regression (95{SPACE}% interval {low:+.1f} to {high:+.1f})."


def _simple_cautions(
    baseline: Mapping[str, float | None],
    low: float,
    high: float,
    kind: Kind,
    difference: list[float] | None,
    figure: str = "",
) -> list[str]:
    """Says that a simple method may be as good as the model.

    Args:
        baseline: accuracy, or balanced accuracy, of each simple method.
        low: lowest plausible accuracy of the model.
        high: highest plausible accuracy of the model.
        kind: kind of input.
        difference: interval of the difference from the regression on the same examples, used in place of both if known.
        figure: words before the figure of the simple method.
    """
    best = max(baseline_bars(baseline), key=lambda bar: bar["value"], default=None)
    if best is not None and difference is not None and best["value"] != baseline.get("majority"):
        low, high = (best["value"] + bound for bound in difference)
    if best is None or best["value"] < low:
        return []
    compared = "is better" if best["value"] > high else "may be as good"
    return [f"A simple method ({best['name']}) {compared}: {figure}{percent(best['value'])} on the same {kind.nouns}."]


def _class_cautions(measured: dict[str, Any], split: Split, kind: Kind) -> list[str]:
    found, classes = [], measured["per_class"]
    missing = [name for name, row in classes.items() if row["support"] == 0]
    if missing:
        found.append(f"No {split} {kind.noun} is of {listed(missing)}, so nothing is known about that.")
    few = [f"{name} ({row['support']})" for name, row in classes.items() if 0 < row["support"] < FEW_PICTURES]
    if len(few) > max(NAMES_SHOWN, len(classes) / 2):
        found.append(
            f"{len(few):,} of {len(classes):,} classes have fewer than {FEW_PICTURES} {split} {kind.nouns}: "
            "figures of single classes are rough."
        )
    elif few:
        found.append(f"Few {split} {kind.nouns} are of {listed(few)}: figures of single classes are rough.")
    return found
