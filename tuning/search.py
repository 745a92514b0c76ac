"""A search from start to end: ask the oracle, run what it proposes, record every trial, train the best."""

import contextlib
import functools
import json
import math
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import tensorflow as tf

from app.config import TrainConfig
from app.errors import RunError
from app.files import as_read, write_json
from app.terminal import console, counted, progress_bar, show_stage
from cluster.pool import Lost, Pool
from devices.strategy import make_strategy
from reports.search_plots import ranked
from reports.search_report import write_search_report
from reports.writer import write_table
from training.folder import CONFIG_FILE, alone_in, is_finished
from training.inputs import RunInputs
from training.recipe import Plan, choose_size
from training.run import make_deterministic, train
from tuning.board import as_drawn, best_trials, live_board, varied_in
from tuning.jobs import group_trials, run_job
from tuning.network import Network
from tuning.oracles import Proposer
from tuning.records import Records, asked
from tuning.space import TuneConfig, search_space, trial_config
from tuning.trials import Job, Numbered, Outcome, checked, failed
from tuning.worker import make_worker

TrialPool = Pool[Job, Sequence[tuple[int, Outcome]]]


class Search:
    """State that the stages of a search share."""

    def __init__(
        self,
        config: TuneConfig,
        inputs: Sequence[RunInputs],
        records: Records,
        pool: TrialPool | None,
        strategy: tf.distribute.Strategy,
        started: float,
    ):
        self.config = config
        self.inputs = {each.config.model.backbone: each for each in inputs}
        self.records = records
        self.started = started
        self.seconds = {"prepare": sum(each.seconds for each in inputs)}
        self.deadline = math.inf if config.search.max_minutes is None else started + 60 * config.search.max_minutes
        before = time.perf_counter()
        self.strategy = strategy
        self.networks = {each.config.model.backbone: Network(each, config, strategy) for each in inputs}
        self.seconds["features"] = time.perf_counter() - before
        self.pool = pool
        self.repeats = 0
        """Trials of finalists beside their first."""
        self.plans: dict[int, Plan] = {}
        """Plans of all trials so far, by number."""

    @property
    def trials(self) -> pd.DataFrame:
        """Table of this search's trials; an earlier start may have been asked for more."""
        table = self.records.table
        return table[table["trial"].isin(list(self.plans))]


def search(config: TuneConfig, inputs: Sequence[RunInputs], folder: Path, started: float) -> Path:
    """Searches, and leaves a folder with all trials and a run of the best.

    Args:
        config: what is searched, and how.
        inputs: examples and settings of each backbone.
        folder: of the search; what an earlier process recorded there is taken over.
        started: value of `time.perf_counter` when it began.

    Raises:
        UsageError: the folder holds something else.
        RunError: every trial failed, or the workers died.
    """
    search, devices = config.search, config.fixed.run
    shared = search.has_workers and devices.strategy == "auto"  # the devices are for the workers
    strategy = make_strategy("one" if shared else devices.strategy, None if shared else devices.devices)
    make_deterministic(config.fixed.training.seed)
    folder.mkdir(parents=True, exist_ok=True)
    with alone_in(folder, lock_of(folder)), contextlib.ExitStack() as stack:
        records = Records(folder, asked(config, inputs))
        pool: TrialPool | None = None
        if search.has_workers:
            pool = Pool(functools.partial(make_worker, config, records.search), search.workers, search.cluster)
            stack.callback(pool.close)
        return _search(Search(config, inputs, records, pool, strategy, started))


def lock_of(folder: Path) -> Path:
    """The file that is locked while a process is at work on a search folder."""
    return folder.with_name(f".{folder.name}.lock")


def _search(run: Search) -> Path:
    """The stages of a search."""
    try:
        before = time.perf_counter()
        _run_trials(run)
        best = _choose(run)
        if run.pool is not None:
            run.pool.close()
        run.seconds["search"] = time.perf_counter() - before
        return _finish(run, best)
    except KeyboardInterrupt:
        on_record = counted(len(run.records.table), "trial", "trials")
        show_stage("stopped", f"{on_record} on record in '{run.records.folder}'; the same command resumes the search")
        raise


def _run_trials(run: Search) -> None:
    """Asks for trials and runs those that are not on record."""
    config = run.config
    depths = next(iter(run.networks.values())).depths
    proposer = Proposer(config, search_space(config, depths))
    taken_over = len(run.records.table)
    if taken_over:
        show_stage("search", f"{counted(taken_over, 'trial', 'trials')} of an earlier start taken over")
    with live_board(config.search.max_trials, config.search.objective) as show:
        while proposals := proposer.propose():
            batch = [(number, _complete(run, values)) for number, values in proposals]
            run.plans.update(batch)
            outcomes = _outcomes(run, batch, show)
            if outcomes is None:
                show_stage("search", f"the time is up after {len(run.trials)} of {config.search.max_trials} trials")
                return
            proposer.report([_score(outcomes[number], config) for number, _ in batch])
    if len(run.plans) < config.search.max_trials:
        ended = counted(len(run.plans), "trial", "trials")
        show_stage(
            "search", f"{ended}, not {config.search.max_trials}: --oracle {config.search.oracle} proposes no others"
        )


def _complete(run: Search, values: Mapping[str, Any]) -> Plan:
    """Makes the plan of a trial."""
    config = trial_config(run.config, {name: network.depths for name, network in run.networks.items()}, values)
    return run.networks[config.model.backbone].complete(config)


def _outcomes(run: Search, batch: Sequence[Numbered], show: Any) -> dict[int, Outcome] | None:
    """Runs the trials of a batch that are not on record; None when the time is up before all are done."""
    known = {number: run.records.known(number, plan) for number, plan in batch}
    outcomes = {number: outcome for number, outcome in known.items() if outcome is not None}
    waiting = [(number, plan) for number, plan in batch if number not in outcomes]
    plans = dict(batch)
    for number, outcome in _run_jobs(run, waiting, run.deadline):
        outcomes[number] = outcome
        run.records.add(number, plans[number], outcome)
        show(run.trials)
    return outcomes if len(outcomes) == len(batch) else None


def _run_jobs(run: Search, trials: Sequence[Numbered], deadline: float) -> Iterator[tuple[int, Outcome]]:
    """Runs trials, those together whose heads can be trained together: on the workers, or in this process.

    Args:
        run: the search.
        trials: their settings are complete.
        deadline: value of `time.perf_counter` after which none is begun.

    Yields:
        Number and outcome of each, as soon as it is known; none for those that were not begun.
    """
    jobs = group_trials(trials, together=run.pool is None)
    if run.pool is not None:
        for index, result in run.pool.run(jobs, deadline, lambda job: 60 * run.config.search.trial_minutes * len(job)):
            numbers = [number for number, _ in jobs[index]]
            if isinstance(result, Lost):
                yield from ((number, failed(result.reason)) for number in numbers)
            else:
                yield from checked(result, numbers)
        return
    for job in jobs:
        if time.perf_counter() > deadline:
            return
        for number, outcome in run_job(run.networks[job[0][1].config.model.backbone], job):
            yield number, outcome
            if time.perf_counter() > deadline:
                return


def _score(outcome: Outcome, config: TuneConfig) -> float | None:
    return getattr(outcome, config.search.objective) if outcome.status == "done" else None


def _choose(run: Search) -> int:
    """The number of the best trial; with finalists, of the one whose mean over several seeds is best."""
    config, trials = run.config, run.trials
    order = ranked(trials, config.search.objective)
    if order.empty:
        first = trials["message"].iloc[0] if len(trials) else "the time was up before the first ended"
        raise RunError(f"None of {counted(len(trials), 'trial', 'trials')} succeeded: {first}.")
    if config.search.finalists == 1:
        return int(order["trial"].iloc[0])
    rows: list[tuple[Any, ...]] = [
        (number, *outcome)
        for number in order["trial"][: config.search.finalists]
        if (outcome := run.records.known(number, run.plans[number])) is not None
    ]
    repeats = [
        (number, run.plans[number].replace(seed=config.fixed.training.seed + repeat))
        for number, *_ in rows
        for repeat in range(1, config.search.repeats + 1)
    ]
    with progress_bar("finalists", len(repeats)) as advance:
        numbered = list(enumerate(plan for _, plan in repeats))
        for position, outcome in _run_jobs(run, numbered, math.inf):
            rows.append((repeats[position][0], *outcome))
            run.repeats += 1
            advance()
    table = pd.DataFrame(rows, columns=["trial", *Outcome._fields])
    write_table(run.records.folder / "finalists.csv", table)
    table = table[~table["trial"].isin(table.loc[table["status"] != "done", "trial"])]
    if table.empty:
        return int(order["trial"].iloc[0])
    means = table.groupby("trial", sort=False)[["val_accuracy", "val_loss"]].mean().reset_index()
    best = ranked(means.assign(status="done"), config.search.objective).iloc[0]
    text = (
        f"trial {best['trial']:.0f} has the best mean of {config.search.repeats + 1} seeds: {best['val_accuracy']:.2%}"
    )
    show_stage("finalists", text)
    return int(best["trial"])


def _finish(run: Search, best: int) -> Path:
    """Trains the best configuration as `train.py` would, and measures it once on the test split."""
    folder, objective = run.records.folder, run.config.search.objective
    trials = run.trials
    failed = int((trials["status"] == "failed").sum())
    counts = {"done": len(trials) - failed, "failed": failed}
    known = run.records.result
    if known.get("trials") == counts and known["best"]["trial"] == best and (folder / "report.html").exists():
        show_stage("done", f"this search is finished: {folder}")
        return folder
    console.print(best_trials(trials, objective))
    _write_best_config(run.plans[best].config, folder)
    before = time.perf_counter()
    record = _train_best(run, run.plans[best].config, folder / "best")
    run.seconds["best"] = time.perf_counter() - before
    total = time.perf_counter() - run.started
    run.seconds |= {"other": total - sum(run.seconds.values()), "total": total}
    row = trials[trials["trial"] == best].iloc[0]
    run.records.finish(
        {
            "trials": counts,
            "best": {"trial": best, "val_accuracy": float(row["val_accuracy"]), "val_loss": float(row["val_loss"])},
            "retrained": {split: record[split] and record[split]["accuracy"] for split in ("val", "test")},
            "seconds": {stage: round(seconds, 3) for stage, seconds in run.seconds.items()},
        }
    )
    write_search_report(folder, as_drawn(trials), varied_in(trials), run.repeats)
    ended = f"{counted(len(trials), 'trial', 'trials')}, {counted(failed, 'failure', 'failures')}"
    show_stage("search", f"{ended}; the best is trial {best}")
    competed = f"for which {counted(len(trials) - failed, 'trial', 'trials')} competed"
    show_stage("", f"val accuracy {row['val_accuracy']:.2%}, {competed}")
    if record["test"] is not None:
        nouns = run.inputs[run.plans[best].config.model.backbone].data.kind.nouns
        show_stage("", f"test accuracy {record['test']['accuracy']:.2%}, on {nouns} that no trial has seen")
    show_stage("report", str(folder / "report.html"))
    show_stage("done", f"{run.seconds['total']:.0f} seconds; search folder: {folder}")
    return folder


def _train_best(run: Search, config: TrainConfig, folder: Path) -> dict[str, Any]:
    """A run folder of the configuration, unless it is already there; one that was begun goes on."""
    if not is_finished(folder):
        inputs, begun = run.inputs[config.model.backbone], folder / CONFIG_FILE
        if begun.exists():  # with half the batch, perhaps
            before = TrainConfig.from_file(begun)
            before = before.replace(cache_dir=config.run.cache_dir, cache_gb=config.run.cache_gb)
            config = choose_size(before, inputs.backbone, config.data.chosen_size)
        config = config.replace(output=folder)
        show_stage("winner", "trained again, as train.py would, and measured on the test split")
        train(inputs._replace(config=config, started=time.perf_counter()), run.strategy)
    return json.loads((folder / "metrics.json").read_text(encoding="utf-8"))


def _write_best_config(config: TrainConfig, folder: Path) -> None:
    """Writes `best_config.json`; a run of another configuration is deleted."""
    path, settings = folder / "best_config.json", as_read(config.to_json())
    if not path.exists() or json.loads(path.read_text(encoding="utf-8")) != settings:
        shutil.rmtree(folder / "best", ignore_errors=True)
        write_json(path, settings)
