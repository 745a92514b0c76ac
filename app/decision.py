"""Settings of the decision between yes and no, which training and `evaluate.py` share."""

import re
from typing import Annotated, NamedTuple

from annotated_types import Gt, Lt

from app.errors import UsageError
from app.fields import Settings, Text, flag_of, settings

Share = Annotated[float, Gt(0), Lt(1)]
COUNTERPARTS = {"sensitivity": "specificity", "specificity": "sensitivity"}
"""Share that a search maximises, by the share that its rule fixes."""


class Rule(NamedTuple):
    """Rule that chooses the threshold of a class on val."""

    name: str
    """Field of `DecisionConfig`."""
    value: float
    """A share; for 'cost', the cost of a missed example relative to that of a false alarm."""
    flag: str
    """The flag as typed, such as '--sensitivity 0.98'."""


@settings
class DecisionConfig(Settings):
    """Rule that chooses the probability from which the answer is the positive class (multi-label: each label). Give at
    most one of these."""

    sensitivity: Share | None = None
    """Least share of the positive examples to find, such as 0.98: takes the threshold that finds this share on val with
    the fewest false alarms. Default: the likelier class is the answer."""

    specificity: Share | None = None
    """Least share of the negative examples to call negative: of the thresholds that do so on val, takes the one that
    finds most positive examples. Default: see --sensitivity."""

    precision_at_least: Share | None = None
    """Least share of positive answers that are right: of the thresholds that reach it on val, takes the one that finds
    most positive examples. Default: see --sensitivity."""

    cost: Text | None = None
    """Cost of a missed example and of a false alarm as FN:FP, such as 10:1: takes the threshold with the least cost on
    val. Default: see --sensitivity."""

    threshold: Share | None = None
    """The threshold itself. Default: see --sensitivity."""

    def __post_init__(self):
        given = [name for name, value in self.flat().items() if value is not None]
        if len(given) > 1:
            flags = " and ".join(map(flag_of, given))
            raise UsageError(f"Only one flag can choose the threshold; received {flags}. Leave out all but one.")
        if self.cost is not None:
            _ratio(self.cost)

    @property
    def rule(self) -> Rule | None:
        """The rule that the flags ask for; None for the likelier class."""
        for name, value in self.flat().items():
            if value is not None:
                number = _ratio(value) if name == "cost" else value
                return Rule(name, number, f"{flag_of(name)} {value}")
        return None


def check_rule(rule: Rule | None, num_classes: int, multi_label: bool, num_val: int | None = None) -> None:
    """Raises a UsageError if a rule does not fit the classes, or has no val split to choose on."""
    if rule is None:
        return
    if num_classes > 2 and not multi_label:
        raise UsageError(
            f"{rule.flag} needs two classes, or several labels for each example: one threshold cannot decide between "
            f"{num_classes:,} classes. Leave it out."
        )
    if num_val == 0 and rule.name != "threshold":
        raise UsageError(
            f"{rule.flag} is chosen on val, and there is none. Give --threshold, or train with a val split."
        )


def objective_of(rule: Rule | None) -> str | None:
    """Returns what a search optimises for a rule, such as 'val_specificity_at_sensitivity_98'; None for its default."""
    if rule is None or rule.name not in COUNTERPARTS:
        return None
    return f"val_{COUNTERPARTS[rule.name]}_at_{rule.name}_{100 * rule.value:.10g}"


def rule_of(objective: str) -> Rule | None:
    """Returns the rule in the name of an objective, as `objective_of` makes it; None where there is none."""
    found = re.fullmatch(r"val_(\w+)_at_(\w+)_(\d+(?:\.\d+)?)", objective)
    if found is None or COUNTERPARTS.get(found[2]) != found[1] or not 0 < float(found[3]) < 100:
        return None
    return Rule(found[2], float(found[3]) / 100, f"--objective {objective}")


def _ratio(cost: str) -> float:
    """Returns the cost of a missed example, in costs of a false alarm."""
    try:
        missed, alarm = (float(part) for part in cost.split(":"))
        if not (0 < missed < 1e9 and 0 < alarm < 1e9):
            raise ValueError
    except ValueError:
        raise UsageError(f"--cost must be FN:FP, two numbers above 0 such as 10:1; received {cost}.") from None
    return missed / alarm
