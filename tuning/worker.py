"""A worker of a search, in a process of Ray: keeps networks from job to job.

TensorFlow is imported only when the worker is made, after the process has got its number of threads.
"""

from collections.abc import Callable, Sequence
from typing import Any

from app.errors import RunError, UsageError
from app.terminal import import_tensorflow
from tuning.inputs import load_all
from tuning.records import Job, Outcome, asked
from tuning.space import TuneConfig


def make_worker(config: TuneConfig, search: dict[str, Any]) -> Callable[[Job], Sequence[tuple[int, Outcome]]]:
    """Loads examples and networks, from the store if possible.

    Args:
        config: settings of the search.
        search: description of the search, from `tuning.records.asked`.

    Returns:
        The function that runs a job and returns number and outcome of each of its trials.

    Raises:
        UsageError: this machine has other examples, labels or weights.
    """
    inputs = load_all(config)
    if asked(config, inputs) != search:
        raise UsageError("A worker has other examples, labels or weights: all machines need the same folders.")
    import_tensorflow()
    from training.run import make_deterministic
    from tuning.network import Network

    make_deterministic(config.fixed.training.seed)
    networks = {each.config.model.backbone: Network(each, config) for each in inputs}

    def run(job: Job) -> Sequence[tuple[int, Outcome]]:
        network = networks[job[0][1].config.model.backbone]
        if any(network.complete(plan.config).config != plan.config for _, plan in job):
            raise RunError("A worker's machine computes in another way than this one: its libraries differ.")
        return list(network.run(job))

    return run
