"""Learning curve of a detector: trains heads on parts of the training pictures, and measures them on val."""

from typing import Any

import keras
import pandas as pd

from app.run_folder import MORE_DATA_FILE
from app.terminal import progress_bar
from data.batches import View
from devices.precision import learning_precision
from features.cuts import part_of
from features.forward_pass import apply_model
from reports.detection import measure
from reports.writer import write_table
from training.frozen import PhaseInputs, phase_examples
from training.learner import DivergedError, Learner
from training.linear_head import nested_parts
from training.state import Run


def write_more_boxes(run: Run, inputs: PhaseInputs) -> None:
    """Writes the AP on val of heads trained on parts of the training pictures, and of the run's head, trained on all.

    Args:
        run: run with a trained head.
        inputs: inputs of the head.
    """
    path, config = run.folder / MORE_DATA_FILE, run.config
    train, val = phase_examples(run.data, inputs, class_weights=False)
    if val is None or path.exists():
        return
    parts = nested_parts(run.data.groups[run.data.splits["train"]], config.training.seed)
    found = []
    with run.strategy.scope():
        head = run.classifier.build_head(head_units=config.model.head_units, seed=config.training.seed)
        features = run.classifier.features
        model = part_of(run.cuts["head"].inputs, [head(features if len(features) > 1 else features[0])])
    start, precision = head.get_weights(), learning_precision(model, run.precision)
    learner = Learner(model, run.data.task, config.training.optimizer, strategy=run.strategy, precision=precision)
    settings: dict[str, Any] = {"epochs": run.plan.head_epochs, "learning_rate": run.plan.learning_rate}
    with progress_bar("more data", len(parts)) as advance:
        for rows in parts:
            head.set_weights(start)
            try:
                learner.train("head", train.take(rows), val, run.plan, **settings)
                found.append((len(rows), _average_precision(run, model, val.views[0])))
            except DivergedError:
                pass
            advance()
    found.append((len(train.targets), _average_precision(run, inputs.model, val.views[0])))
    known = [(count, ap) for count, ap in found if ap is not None]
    write_table(path, pd.DataFrame(known, columns=["examples", "val_ap"]))


def _average_precision(run: Run, model: keras.Model, val: View) -> float | None:
    outputs = apply_model(run.classifier.answering(model), val, strategy=run.strategy)
    measured = measure(run.data, "val", outputs)
    return measured["ap"] if measured else None
