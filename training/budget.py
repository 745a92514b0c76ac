"""Keeps a run within `--max-minutes`.

The epochs of a phase are decided before it begins, by timing a few steps, and recorded as a setting: a run that is
resumed, or repeated with its `config.json`, learns the same.
"""

import math
from collections.abc import Callable

from app.files import write_json
from app.run_folder import CONFIG_FILE
from app.terminal import show_stage
from data.batches import Examples
from data.kinds import Vary
from devices.replicas import chief_decides, has_workers
from training.learner import Learner
from training.plan import EPOCHS_TO_FIT, Phase, title
from training.recipe import most_epochs
from training.state import Run

LEAST_EPOCHS = 0.2
"""Least epochs of a phase: fewer are not worth compiling its graphs."""
PLANNED_SHARE = 0.95
"""Share of the minutes to plan epochs for: later steps may be slower than the timed ones."""
SECONDS_TO_WRITE = 10.0
"""Seconds to save and check the model and to write the report, without the part that grows with val and test."""
SECONDS_TO_BEGIN = 8.0
"""Seconds to compile the graphs of a phase and to time its steps: with less left, it is not begun."""
SHARE_BEFORE_DEEPER = 0.25
"""Share of the remaining time for the last layers if the whole network is trained after them."""


def seconds_left(run: Run, share: float = 1.0) -> float:
    """Returns the seconds left of a share of `--max-minutes`, without those to write; infinity without a limit."""
    minutes = run.config.training.max_minutes
    return math.inf if minutes is None else share * 60 * minutes - SECONDS_TO_WRITE - run.clock.seconds()["total"]


def is_spent(run: Run) -> bool:
    """Says whether too little is left of `--max-minutes` for anything a run can do without."""
    return seconds_left(run, PLANNED_SHARE) < SECONDS_TO_BEGIN


def in_time(
    run: Run, phase: Phase, learner: Learner, train: Examples, val: Examples | None, vary: Vary | None, epochs: float
) -> tuple[float, Callable[[], bool]]:
    """Fits the epochs of a phase into the minutes of a run, and records them in `config.json`.

    Args:
        run: run whose plan is completed.
        phase: next phase.
        learner: learner of the phase.
        train: examples to learn from.
        val: examples to evaluate on.
        vary: how the examples are varied in each epoch.
        epochs: maximum epochs; NaN if open.

    Returns:
        The epochs, 0 if too few fit (the setting then stays open); and a function that says whether to end at once, as
        the phase is slower than planned.
    """
    minutes = run.config.training.max_minutes
    if minutes is None:
        return epochs, lambda: False
    is_open = math.isnan(epochs)
    if is_open and run.epochs and chief_decides(run.strategy, lambda: is_spent(run)):
        return 0, lambda: False
    step, evaluation = learner.seconds(train, val, run.plan, vary)
    # Val is predicted again for calibration, and val and test for the measurement.
    num_val, num_test = (len(run.data.splits[split]) for split in ("val", "test"))
    seconds_to_predict = evaluation * (2 + num_test / max(num_val, 1))
    if is_open:
        seconds = seconds_left(run, PLANNED_SHARE) - seconds_to_predict
        seconds -= 2 * evaluation  # before the first epoch and after a partial one
        can_go_deeper = val is not None or run.config.training.effort == "best"
        if phase == "fine_tune" and can_go_deeper and any(each == "deeper" for each, *_ in run.plan.fine_tuning):
            seconds *= SHARE_BEFORE_DEEPER
        epoch = math.ceil(len(train.targets) / run.plan.batch_size) * step + evaluation
        most = most_epochs(run.plan, phase, run.data.kind.name, run.data.task.choices)
        fitting = min(most, round(seconds / epoch, 2))
        if fitting < LEAST_EPOCHS:
            fitting = 0 if run.epochs else LEAST_EPOCHS
        epochs = chief_decides(run.strategy, lambda: fitting)
        if epochs:
            run.plan = run.plan.replace(**{EPOCHS_TO_FIT[phase]: epochs})
            write_json(run.folder / CONFIG_FILE, run.config.to_json())
            show_stage(title(phase), f"{epochs:g} epochs of {epoch:.1f} seconds fit into --max-minutes {minutes:g}")
    return epochs, lambda: not has_workers(run.strategy) and seconds_left(run) < seconds_to_predict
