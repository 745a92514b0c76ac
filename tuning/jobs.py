"""Trials that run together, and what becomes of those that fail."""

from collections import Counter
from collections.abc import Iterator, Sequence

import tensorflow as tf

from training.optimizers import UPDATE_RULES
from tuning.heads import HEADS_AT_ONCE
from tuning.network import Network
from tuning.trials import Job, Numbered, Outcome, failed


def group_trials(trials: Sequence[Numbered], together: bool = True) -> list[Job]:
    """Groups trials whose heads can be trained together: at most `HEADS_AT_ONCE` of each update rule.

    Args:
        trials: their settings are complete.
        together: whether those that fine-tune are grouped as well; for several workers, each is on its own.
    """
    jobs: dict[tuple, list[Numbered]] = {}
    of_rule: Counter[tuple] = Counter()
    for number, plan in trials:
        config = plan.config
        alike = (config.model.backbone, plan.batch_size, config.model.head_units, plan.views, config.training.seed)
        rule = UPDATE_RULES[config.training.optimizer]
        round_number = of_rule[alike, rule] // HEADS_AT_ONCE
        of_rule[alike, rule] += 1
        alone = number if plan.trainable_layers != 0 and not together else 0
        jobs.setdefault((*alike, round_number, alone), []).append((number, plan))
    return list(jobs.values())


def run_job(network: Network, job: Job) -> Iterator[tuple[int, Outcome]]:
    """Runs trials together; where that takes more memory than there is, one after the other."""
    waiting = dict(job)
    try:
        for position, outcome in network.run([plan for _, plan in job]):
            del waiting[job[position][0]]
            yield job[position][0], outcome
    except (tf.errors.ResourceExhaustedError, MemoryError) as error:
        if len(job) == 1:
            yield job[0][0], failed(f"{type(error).__name__}: {error}".splitlines()[0])
            return
        for trial in waiting.items():
            yield from run_job(network, [trial])
