"""Runs that are stopped while they learn, as by Ctrl-C, and go on."""

import contextlib
import itertools
from collections.abc import Iterator

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


@contextlib.contextmanager
def going_on() -> Iterator[None]:
    """Makes sure that the first phase that is trained within goes on in its middle, and does not begin anew."""
    train_phase, begun = Learner.train, []

    def recording(learner, *args, state=None, **rest):
        begun.append(state)
        return train_phase(learner, *args, state=state, **rest)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Learner, "train", recording)
        yield
    assert begun[0] is not None
    assert begun[0].step or begun[0].epochs
