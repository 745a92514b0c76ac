"""Runs that are stopped while they learn, as by Ctrl-C."""

import itertools

import pytest

from app.config import TrainConfig
from training.folder import open_folder
from training.inputs import load_inputs
from training.learner import Learner
from training.run import train


def train_until(config: TrainConfig, last: int) -> None:
    """Trains up to a step, counted from 1 over all phases that are trained, and leaves what can be resumed."""
    steps, train_phase = itertools.count(1), Learner.train

    def stopping(learner, *args, on_step, **rest):
        def stop(make_state):
            on_step(make_state)
            if next(steps) == last:
                raise KeyboardInterrupt

        return train_phase(learner, *args, on_step=stop, **rest)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Learner, "train", stopping)
        with pytest.raises(KeyboardInterrupt), open_folder(config) as opened:
            train(load_inputs(opened))
