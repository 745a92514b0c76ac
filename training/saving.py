"""Saves the model file of a run, and checks that it predicts what was measured."""

import keras
import numpy as np
import tensorflow as tf

from app.files import write_json, written_aside
from data.batches import View
from data.pipeline import input_batches
from data.sources import Split
from features.forward_pass import side_by_side
from inference.load import MODEL_FILE, RECORD_FILE, open_model
from models.backbones import find_unroll
from training.plan import Phase
from training.state import Run

EXAMPLES_CHECKED = 4
LARGEST_DIFFERENCE = 1e-3
"""Largest difference between measured probabilities and those of the saved file: rounding in another order."""


def exact_phase(run: Run) -> Phase | None:
    """Returns the last phase if it has the exact outputs of the frozen layers; else None."""
    last = run.epochs[-1].phase if run.epochs else "head"
    exact = not isinstance(run.strategy, tf.distribute.TPUStrategy)  # TPUs multiply float32 in bfloat16
    return next((phase for phase in run.cuts if phase == last and exact), None)


def save_model(
    run: Run, outputs: dict[Split, np.ndarray], temperature: float, thresholds: dict[str, float]
) -> keras.Model:
    """Saves the model, makes sure that the file predicts what was measured, and returns the model of the file."""
    phase = exact_phase(run)
    is_flat = run.classifier.whole is None or find_unroll(run.backbone) is not None
    data, cut = run.data, run.cuts[phase].layer if phase and is_flat else None
    record = {"classes": list(data.class_names), "task": data.task.name, "kind": data.kind.name}
    decided = {"thresholds": thresholds} if thresholds else {}
    write_json(run.folder / RECORD_FILE, {**record, "temperature": temperature, "cut": cut, **decided})
    path = run.folder / MODEL_FILE
    with written_aside(path) as temporary:
        run.classifier.saved.save(temporary)
        reloaded = open_model(temporary, run.backbone)
        for split, predicted in outputs.items():
            few = View(run.data.inputs, run.data.splits[split][:EXAMPLES_CHECKED])
            (batch,) = input_batches(few, EXAMPLES_CHECKED)
            found = side_by_side([np.asarray(each) for each in keras.tree.flatten(reloaded(batch, training=False))])
            apart = run.data.task.differences(found, predicted[: len(few.rows)])
            if not (apart <= LARGEST_DIFFERENCE).all():
                raise RuntimeError(f"'{temporary}' does not predict what was measured on the {split} split")
    return reloaded
