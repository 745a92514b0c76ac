"""The phase of the head, on the frozen backbone: solves it, or trains it at a given or a searched learning rate.

A head of random weights would send large, meaningless gradients into the pretrained layers; so the head comes first
(Keras' guide to transfer learning; LP-FT, Kumar et al., ICLR 2022).
"""

import functools
import math

import numpy as np
import pandas as pd

from app.run_folder import MORE_DATA_FILE, checkpoints_of
from app.terminal import counted, progress_bar, show_stage
from data.batches import Examples
from data.folds import folds_of
from devices.precision import learning_precision
from devices.replicas import chief_decides, is_chief
from models.heads import set_output
from reports import plots, writer
from tasks.table import classes_of
from training import checkpoint
from training.budget import is_spent
from training.frozen import PhaseInputs, examples, features_sample, phase_examples
from training.learner import EpochResult, PhaseResult
from training.linear_head import STRENGTH, STRENGTHS, Solution, cross_validate, nested_parts, solve, solve_on_parts
from training.more_boxes import write_more_boxes
from training.phases import phase_inputs, record_epochs, save_ended, show_phase, take_over, train_phase
from training.plan import Phase
from training.range_test import STEPS, choose_rate, range_test
from training.recipe import choose_head_learning_rate
from training.state import Run
from training.steps import Measured, assign


def choose_learning_rate(run: Run, inputs: dict[Phase, PhaseInputs]) -> None:
    """Sets the learning rate of a head to train, by a range test or by the spread of its features.

    Args:
        run: run whose plan is completed.
        inputs: inputs of the phases that have a cut.
    """
    if run.config.training.learning_rate == "find":
        with run.clock.timed("find"):
            run.plan = run.plan.replace(learning_rate=_find_learning_rate(run, inputs))
    else:
        is_open = run.data.task.solves_linear_head and "head" in inputs and math.isnan(run.plan.learning_rate)
        features = features_sample(inputs["head"]) if is_open else None
        run.plan = choose_head_learning_rate(run.plan, features)


def _find_learning_rate(run: Run, inputs: dict[Phase, PhaseInputs]) -> float:
    """Searches the learning rate of the head, and records the losses of the test."""
    model, views, _, vary = phase_inputs(run, "head", inputs)
    train = examples(run.data, "train", views, run.config.training.class_weights)
    with progress_bar("find", STEPS) as advance:
        curve = range_test(
            model,
            run.data.task,
            train,
            run.plan,
            vary=vary,
            strategy=run.strategy,
            precision=learning_precision(model, run.precision),
            on_step=advance,
        )
    writer.write_table(run.folder / "learning_rate.csv", curve)
    rate = choose_rate(curve)
    writer.write_figure(run.folder / "figures" / "learning_rate.png", plots.learning_rate(curve, rate))
    tried = f"{counted(len(curve), 'step', 'steps')} up to {curve['learning_rate'].iloc[-1]:.2g}"
    show_stage("find", f"learning rate {rate:g}, around which the loss falls most, of {tried}")
    return rate


def train_head(run: Run, inputs: dict[Phase, PhaseInputs]) -> None:
    """Solves or trains the new head on the frozen backbone, or resumes that from a checkpoint.

    Args:
        run: the run.
        inputs: inputs of the phases that have a cut.

    Raises:
        RunError: training diverges before anything is learnt.
        BatchTooLargeError: a step needs more memory than there is.
    """
    if run.plan.head_solver == "lbfgs":
        with run.clock.timed("head"):
            _solve_head(run, inputs["head"])
    elif run.plan.head_epochs:
        with run.clock.timed("head"):
            train_phase(run, "head", inputs, epochs=run.plan.head_epochs, learning_rate=run.plan.learning_rate)
            measures_parts = not run.data.task.solves_linear_head and run.config.training.effort == "best"
            if measures_parts and "head" in inputs and not is_spent(run):
                write_more_boxes(run, inputs["head"])


def _solve_head(run: Run, inputs: PhaseInputs) -> None:
    """Solves the head, or takes the solution from a checkpoint; solving counts as one epoch."""
    path = checkpoints_of(run.folder) / "head.npz"
    begun = checkpoint.load(path)
    if begun is not None:
        take_over(run, begun)
        assign(inputs.model.variables, begun.state.arrays["model"])
        run.out_of_fold = next(iter(begun.state.arrays.get("out_of_fold", [])), None)
        return show_phase(run, "head", PhaseResult(begun.state.epochs, 1))
    train, val = phase_examples(run.data, inputs, run.config.training.class_weights)
    strength, out_of_fold = STRENGTH, []
    folds = folds_of(run.data, run.config)
    if folds is not None:
        with progress_bar("folds", len(np.unique(folds))) as advance:
            validate = functools.partial(cross_validate, train, folds, classes_of(run.data.task), advance)
            strength, outputs = chief_decides(run.strategy, validate)
        run.out_of_fold = np.array(outputs, np.float32)
        out_of_fold = [run.out_of_fold]
    with progress_bar("head", 1 if val is None else len(STRENGTHS)) as advance:
        solved = chief_decides(run.strategy, lambda: solve(train, val, classes_of(run.data.task), advance, strength))
        solution = Solution(*solved)
    if val is not None and is_chief(run.strategy) and not is_spent(run):
        _write_more_data(run, train, val, solution)
    set_output(run.classifier.head, solution.kernel, solution.bias)
    epoch = EpochResult("head", 1, None, *solution.train, *(solution.val or (None, None)))
    record_epochs(run, [epoch])
    save_ended(run, checkpoint.Saver(path, 0), "head", inputs.model, PhaseResult([epoch], 1), out_of_fold=out_of_fold)


def _write_more_data(run: Run, train: Examples, val: Examples, solution: Solution) -> None:
    """Writes the accuracy on val of heads solved on parts of the training examples, and on all of them."""
    parts = nested_parts(run.data.groups[run.data.splits["train"]], run.config.training.seed)
    with progress_bar("more data", len(parts)) as advance:
        points = solve_on_parts(train, val, classes_of(run.data.task), parts, advance)
    points.append((len(train.targets), Measured(*(solution.val or ())).accuracy))
    writer.write_table(run.folder / MORE_DATA_FILE, pd.DataFrame(points, columns=["examples", "val_accuracy"]))
