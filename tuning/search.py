"""Runs a search from start to end: asks the oracle, runs its proposals, records every trial, trains the best."""

import functools
import math
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import tensorflow as tf

from app.errors import RunError
from app.files import read_json
from app.terminal import counted, progress_bar, show_stage
from cluster.pool import Lost
from devices.strategy import make_strategy
from reports.search_plots import MEASURED, objective_title, ranked, score_text
from reports.search_report import write_search_report
from training.folder import alone_in
from training.inputs import RunInputs
from training.optimizers import UPDATE_RULES
from training.plan import Plan
from training.run import make_deterministic
from tuning.heads import HEADS_AT_ONCE
from tuning.network import Network
from tuning.oracles import Proposer
from tuning.records import Job, Numbered, Outcome, Records, as_drawn, asked, checked, failed, trial_text, varied_in
from tuning.space import TuneConfig, search_space, trial_config
from tuning.winner import BEST, DEFAULT, as_trained, measure_gain, rank_finalists, show_result, train_again, train_best
from tuning.worker import make_worker


class Search:
    """State that the stages of a search share."""

    def __init__(
        self,
        config: TuneConfig,
        inputs: Sequence[RunInputs],
        records: Records,
        strategy: tf.distribute.Strategy,
        started: float,
    ):
        self.config = config
        self.inputs = {each.config.model.backbone: each for each in inputs}
        self.task = inputs[0].data.task
        self.records = records
        self.started = started
        self.seconds = {"prepare": sum(each.seconds for each in inputs)}
        minutes = config.fixed.training.max_minutes
        self.deadline = math.inf if minutes is None else started + 60 * minutes
        before = time.perf_counter()
        self.strategy = strategy
        self.networks = {name: Network(each, config, strategy) for name, each in self.inputs.items()}
        self.seconds["features"] = time.perf_counter() - before
        self.pool = inputs[0].pool
        self.make_worker = functools.partial(make_worker, config, records.search)
        self.num_repeats = 0
        """Number of repeated trials of finalists."""
        self.finalists: list[dict[str, Any]] = []
        """Means of the finalists over their seeds, the best first, for `search.json`; [] without repeats."""
        self.plans: dict[int, Plan] = {}
        """Plans of all trials so far, by number."""

    @property
    def trials(self) -> pd.DataFrame:
        """Returns the table of this search's trials; the file may have more, from an earlier start with more trials."""
        table = self.records.trials.table
        return table[table["trial"].isin(list(self.plans))]


def search(config: TuneConfig, inputs: Sequence[RunInputs], folder: Path, started: float) -> Path:
    """Searches, and leaves a folder with all trials and a run of the best.

    Args:
        config: settings of the search.
        inputs: examples and settings of each backbone.
        folder: folder of the search; recorded trials of an earlier process are taken over.
        started: value of `time.perf_counter` when the command began.

    Raises:
        UsageError: the folder holds something else.
        RunError: every trial failed, or the workers died.
    """
    # Texts and recordings have their own default networks.
    backbones = tuple(each.config.model.backbone for each in inputs)
    config = config._replace(space={**config.space, "backbone": backbones}).of_task(inputs[0].data.task)
    devices = config.fixed.run
    # With workers, the devices are for them.
    strategy = make_strategy("one" if devices.has_workers else devices.strategy, devices.devices)
    make_deterministic(config.fixed.training.seed)
    folder.mkdir(parents=True, exist_ok=True)
    with alone_in(folder, lock_of(folder)):
        records = Records(folder, asked(config, inputs))
        run = Search(config, inputs, records, strategy, started)
        try:
            return _search(run)
        except KeyboardInterrupt:
            on_record = counted(len(records.trials.table), "trial", "trials")
            show_stage("stopped", f"{on_record} on record in '{folder}'; the same command resumes the search")
            raise


def lock_of(folder: Path) -> Path:
    """Returns the lock file of a search folder."""
    return folder.with_name(f".{folder.name}.lock")


def _search(run: Search) -> Path:
    """Runs the stages of a search."""
    before = time.perf_counter()
    _run_trials(run)
    best = _choose(run)
    if run.pool is not None:
        run.pool.close()
    run.seconds["search"] = time.perf_counter() - before
    return _finish(run, best)


def _run_trials(run: Search) -> None:
    """Runs the default trial of `train.py`, asks for further trials, and runs those that are not recorded."""
    config, most = run.config, run.config.search.max_trials
    depths = {name: network.depths for name, network in run.networks.items()}
    proposer = Proposer(config, search_space(config, max(depths.values(), key=len)))
    if taken_over := len(run.records.trials.table):
        show_stage("search", f"{counted(taken_over, 'trial', 'trials')} of an earlier start taken over")
    first: list[Numbered] = [(1, next(iter(run.networks.values())).default)]
    with progress_bar("trials", most) as advance:
        while True:
            configs = [(number, trial_config(config, depths, values)) for number, values in proposer.propose()]
            proposed = [(number, run.networks[each.model.backbone].complete(each)) for number, each in configs]
            batch, first = first + proposed, []
            if not batch:
                break
            run.plans.update(batch)
            outcomes = _outcomes(run, batch, advance)
            if len(outcomes) < len(batch):
                show_stage("search", f"the time is up after {len(run.trials)} of {most} trials")
                return
            proposer.report([outcomes[number] for number, _ in proposed])
    if len(run.plans) < most:
        ended = f"{counted(len(run.plans), 'trial', 'trials')}, not {most}"
        show_stage("search", f"{ended}: --oracle {config.search.oracle} proposes no others")


def _outcomes(run: Search, batch: Sequence[Numbered], advance: Callable[..., None]) -> dict[int, Outcome]:
    """Runs the unrecorded trials of a batch while there is time, and shows each new best."""
    objective = run.config.search.objective
    known = ((number, run.records.trials.known(number, plan)) for number, plan in batch)
    outcomes = {number: outcome for number, outcome in known if outcome is not None}
    advance(len(outcomes))
    waiting = [(number, plan) for number, plan in batch if number not in outcomes]
    for number, outcome in _run_jobs(run, waiting, run.deadline):
        outcomes[number] = outcome
        run.records.trials.add(number, run.plans[number], outcome)
        advance()
        trials = run.trials
        if number in ranked(trials, objective)["trial"].head(1).to_list():
            # Trials that share graphs run together, so the best one may have a number above the count.
            text = f"{len(trials)} of {run.config.search.max_trials} done, in any order; the best is trial {number}"
            measure = f"val {run.task.measure_of_learning} {outcome.val_accuracy:.2%}"
            text += f" with {measure}, val loss {outcome.val_loss:.4f}"
            if objective not in MEASURED:
                text += f", {objective_title(objective)} {score_text(outcome.score, objective)}"
            show_stage("trials", text)
    return outcomes


def _run_jobs(run: Search, trials: Sequence[Numbered], deadline: float) -> Iterator[tuple[int, Outcome]]:
    """Runs trials on the workers or in this process; trials whose heads can be trained together are one job.

    Args:
        run: the search.
        trials: trials with complete settings.
        deadline: value of `time.perf_counter` after which no trial is started.

    Yields:
        Number and outcome of each started trial, as soon as it is known.
    """
    jobs = group_trials(trials, together=run.pool is None, heads_together=run.task.solves_linear_head)
    if run.pool is not None:
        seconds = 60 * run.config.search.trial_minutes
        for index, result in run.pool.run(run.make_worker, jobs, deadline, lambda job: seconds * len(job)):
            numbers = [number for number, _ in jobs[index]]
            if isinstance(result, Lost):
                yield from ((number, failed(result.reason)) for number in numbers)
            else:
                yield from checked(result, numbers)
        return
    for job in jobs:
        if time.perf_counter() > deadline:
            return
        heads = sum(plan.trainable_layers == 0 for _, plan in job)  # trained together before the first is told
        outcomes = run.networks[job[0][1].config.model.backbone].run(job)
        for told, (number, outcome) in enumerate(outcomes, 1):
            yield number, outcome
            if told >= heads and time.perf_counter() > deadline:
                return


def group_trials(trials: Sequence[Numbered], together: bool = True, heads_together: bool = True) -> list[Job]:
    """Groups trials whose heads can be trained together: at most `HEADS_AT_ONCE` of each update rule.

    Args:
        trials: trials with complete settings.
        together: whether to group trials that fine-tune, too; with several workers, each of these is its own job.
        heads_together: whether to group trials at all; heads of detectors are not grouped.
    """
    jobs: dict[tuple, list[Numbered]] = defaultdict(list)
    of_rule: Counter[tuple] = Counter()
    for number, plan in trials:
        config = plan.config
        head = config.model.head_units, plan.head_solver
        alike = (config.model.backbone, plan.batch_size, *head, plan.views, config.training.seed)
        rule = UPDATE_RULES[config.training.optimizer]
        alone = number if not heads_together or (plan.trainable_layers != 0 and not together) else 0
        jobs[*alike, of_rule[alike, rule] // HEADS_AT_ONCE, alone].append((number, plan))
        of_rule[alike, rule] += 1
    return list(jobs.values())


def _choose(run: Search) -> int:
    """Returns the number of the best trial; with finalists, the one with the best mean over several seeds."""
    config, trials = run.config.search, run.trials
    order = ranked(trials, config.objective)
    if order.empty:
        first = trials["message"].iloc[0] if len(trials) else "the time was up before the first ended"
        raise RunError(f"None of {counted(len(trials), 'trial', 'trials')} succeeded: {first}.")
    best = int(order["trial"].iloc[0])
    if config.finalists > 1:
        run.finalists = rank_finalists(_repeat(run, order["trial"].head(config.finalists).to_list()), config.objective)
    if not run.finalists:
        return best
    first = run.finalists[0]
    text = f"the best mean of {first['seeds']} seeds: {score_text(first['score'], config.objective)}"
    show_stage("finalists", f"trial {first['trial']} has {text}")
    return first["trial"]


def _repeat(run: Search, finalists: Sequence[int]) -> pd.DataFrame:
    """Runs trials again with other seeds, unless that is on record, and returns the outcomes of all seeds."""
    first, record = run.config.fixed.training.seed, run.records.repeats
    seeds = range(first + 1, first + run.config.search.repeats + 1)
    repeats = [(number, run.plans[number].replace(seed=seed)) for number in finalists for seed in seeds]
    waiting = [each for each in repeats if record.known(*each) is None]
    run.num_repeats = len(repeats)
    with progress_bar("finalists", len(repeats)) as advance:
        advance(len(repeats) - len(waiting))
        jobs = list(enumerate(plan for _, plan in waiting))  # by position: several repeats have the same number
        for position, outcome in _run_jobs(run, jobs, math.inf):
            record.add(*waiting[position], outcome)
            advance()
    table = pd.concat([run.trials, record.table])
    return table[table["trial"].isin(finalists) & table["seed"].isin([first, *seeds])]


def _finish(run: Search, best: int) -> Path:
    """Trains the best configuration as `train.py` would, and measures it once on the test split."""
    folder, trials = run.records.folder, run.trials
    failed = int((trials["status"] == "failed").sum())
    counts = {"done": len(trials) - failed, "failed": failed}
    known = run.records.result
    is_same = known.get("trials") == counts and known.get("finalists") == run.finalists
    if is_same and known["best"]["trial"] == best and (folder / "report.html").exists():
        show_stage("done", f"this search is finished: {folder}")
        return folder
    show_stage("winner", trial_text(trials, best))
    before, plan = time.perf_counter(), run.plans[best]
    inputs, default = run.inputs[plan.config.model.backbone], run.networks[plan.config.model.backbone].default
    train_best(inputs, as_trained(plan, default), folder, run.strategy)
    record = read_json(folder / BEST / "metrics.json")
    run.seconds["best"] = time.perf_counter() - before
    scores, gain = trials.set_index("trial").loc[:, ["score", "val_accuracy", "val_loss"]], None
    has_default = best != 1 and math.isfinite(scores["score"].get(1, math.nan))
    if has_default:
        before, config = time.perf_counter(), run.plans[1].config
        train_again(run.inputs[config.model.backbone], config, folder / DEFAULT, run.strategy)
        gain = measure_gain(folder, run.config.search.objective, run.task)
        run.seconds["default"] = time.perf_counter() - before
    total = time.perf_counter() - run.started
    run.seconds |= {"other": total - sum(run.seconds.values()), "total": total}
    result = {
        "trials": counts,
        "best": {"trial": best, **scores.loc[best].to_dict()},
        "finalists": run.finalists,
        "default": scores.loc[1].to_dict() if has_default else None,
        "gain": gain,
        "retrained": {split: record[split] and record[split][run.task.leading_figure] for split in ("val", "test")},
        "seconds": {stage: round(seconds, 3) for stage, seconds in run.seconds.items()},
    }
    run.records.finish(result)
    write_search_report(folder, as_drawn(trials), varied_in(trials), run.num_repeats)
    ended = f"{counted(len(trials), 'trial', 'trials')}, {counted(failed, 'failure', 'failures')}"
    show_stage("search", f"{ended}; the best is trial {best}")
    show_result(result, run.config.search.objective, inputs.data.kind.nouns, run.task)
    show_stage("report", str(folder / "report.html"))
    show_stage("done", f"{total:.0f} seconds; search folder: {folder}")
    return folder
