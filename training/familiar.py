"""Describes the features of the training examples, by which a model later recognises unknown examples."""

from typing import Any

import keras
import numpy as np

from data.batches import View
from features.forward_pass import apply_to_views
from inference.unknown import Familiar, learn_familiar
from models.parts import features_of
from training.frozen import PhaseInputs

MOST = 1_000
"""Most examples of a split whose features are described."""


def learn_from_run(final: PhaseInputs) -> tuple[Familiar, dict[str, Any]] | None:
    """Describes the features of the training examples, and measures the false alarms.

    Args:
        final: inputs of the last phase, with the trained network.

    Returns:
        The description, and the record `unknown` of `metrics.json`; None if the head takes no vectors, or train or val
        have too few examples.
    """
    tensor = features_of(final.model)
    if tensor is None:
        return None
    network = keras.Model(final.model.inputs, tensor)
    views = {"train": final.train[0], **final.evaluated}
    features = apply_to_views(network, {split: _some(view) for split, view in views.items() if len(view.rows)})
    none = features["train"][:0]
    familiar = learn_familiar(features["train"], features.get("val", none))
    if familiar is None:
        return None
    alarms: dict[str, Any] = {"threshold": float(familiar.threshold)}
    for split in ("val", "test"):
        found = familiar.is_unknown(features[split]) if split in features else None
        alarms[split] = None if found is None else {"false_alarms": int(found.sum()), "n": len(found)}
    return familiar, alarms


def _some(view: View) -> View:
    """Returns at most `MOST` examples of a view, evenly spaced."""
    count = len(view.rows)
    return view if count <= MOST else view._replace(rows=view.rows[np.linspace(0, count - 1, MOST).astype(int)])
