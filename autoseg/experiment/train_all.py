"""Train and predict every fold of every configuration; what a previous run completed is skipped."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Sequence

import torch

from autoseg.core.devices import choose_device, name_device, use_cores
from autoseg.core.parallel import Progress
from autoseg.core.records import Folds, Plan
from autoseg.core.store import Store, read_record, remove_leftovers, write_record
from autoseg.core.text import format_seconds
from autoseg.experiment.jobs import (
    JobStatus,
    estimate_predicting,
    estimate_training,
    list_jobs,
    read_job_status,
    share_budget,
)
from autoseg.experiment.records import ExperimentPaths, Job, RunState, RunTrainings, TrainingRequest, TrainingResult
from autoseg.model import fold_folder
from autoseg.options import RunOptions
from autoseg.preparation import arrays_folder

log = logging.getLogger(__name__)


class ExperimentProgress:
    """The jobs of an experiment, their status, and the time spent so far.

    Args:
        store: of the dataset.
        plan: of the dataset.
        folds: of the dataset.
        configurations: names of those that are compared.
        fold_names: the folds that are trained.

    Attributes:
        parallel_slots: jobs that run at the same time.
    """

    def __init__(
        self, store: Store, plan: Plan, folds: Folds, configurations: Sequence[str], fold_names: Sequence[str]
    ) -> None:
        self.paths, self.preprocessed = ExperimentPaths.of(store, plan.dataset), store.preprocessed(plan.dataset)
        self.plan, self.folds = plan, folds
        self.configurations, self.fold_names = tuple(configurations), tuple(fold_names)
        self.jobs = list_jobs(configurations, fold_names)
        self.cascades = frozenset(name for name in configurations if plan.configurations[name].cascade_from is not None)
        self.parallel_slots = 1
        self.state = self._read_state()
        self._started = time.monotonic()
        trained = (status.facts.elapsed_s for status in self.statuses().values() if status.facts is not None)
        self._previous_work_s = sum(trained) + sum(self.state.overhead_s.values())
        self._previous_s = self.state.elapsed_s

    def status(self, job: Job) -> JobStatus:
        """Status of a job."""
        return read_job_status(self.paths.results, job, self.folds.folds[int(job.fold)].validation)

    def statuses(self) -> dict[Job, JobStatus]:
        """Status of every job."""
        return {job: self.status(job) for job in self.jobs}

    def complete_configurations(self) -> tuple[str, ...]:
        """Configurations whose folds are all trained and predicted."""
        statuses = self.statuses()
        incomplete = {job.configuration for job, status in statuses.items() if not status.is_predicted}
        return tuple(name for name in self.configurations if name not in incomplete)

    def elapsed_s(self) -> float:
        """Seconds of all runs of the command, this one included; of a killed run at least its trainings count."""
        previous_s = max(self._previous_s, self._previous_work_s / self.parallel_slots)
        return previous_s + time.monotonic() - self._started

    def trained_s(self, job: Job) -> float:
        """Seconds that a job was trained, over all runs."""
        facts = self.status(job).facts
        return 0.0 if facts is None else facts.elapsed_s

    def request(self, job: Job, options: RunOptions) -> TrainingRequest:
        """A job with its share of the time budget; one that has started keeps its length."""
        status = self.status(job)
        if status.facts is not None:
            return TrainingRequest(job=job, time_budget_s=status.facts.time_budget_s)
        if options.time_budget_s is None or status.is_trained:
            return TrainingRequest(job=job, time_budget_s=None)
        return TrainingRequest(job=job, time_budget_s=round(self.fold_budget_s(options.time_budget_s), 1))

    def fold_budget_s(self, time_budget_s: float) -> float:
        """Seconds of training for each fold that has not started."""
        return share_budget(
            time_budget_s,
            self.elapsed_s(),
            self.statuses(),
            expected_s=self.state.expected_s,
            overhead_s=self.state.overhead_s,
            parallel_slots=self.parallel_slots,
        )

    def add_overhead(self, result: TrainingResult) -> None:
        """Store the seconds that a job took besides its training."""
        overhead_s, name = dict(self.state.overhead_s), result.job.name
        overhead_s[name] = round(overhead_s.get(name, 0.0) + max(0.0, result.overhead_s), 1)
        self.save(self.state.model_copy(update={"overhead_s": overhead_s}))

    def save(self, state: RunState) -> None:
        """Store the state with the time spent so far."""
        self.state = state.model_copy(update={"elapsed_s": round(self.elapsed_s(), 1)})
        write_record(self.paths.state, self.state)

    def _read_state(self) -> RunState:
        if not self.paths.state.exists():
            return RunState()
        return read_record(RunState, self.paths.state, advice="delete it; only the time spent so far is lost")


def train_all(
    experiment: ExperimentProgress,
    options: RunOptions,
    run_trainings: RunTrainings,
    *,
    should_stop: Callable[[], bool],
    progress: Progress,
) -> dict[Job, str]:
    """Train and predict every job that is not complete; a job that fails does not stop the others.

    Args:
        experiment: its jobs.
        options: length of the trainings.
        run_trainings: of an executor.
        should_stop: polled between jobs; within a job ``run_trainings`` polls.
        progress: reported after every job.

    Returns:
        Job -> one sentence on why it failed.
    """
    todo = [job for job in experiment.jobs if not experiment.status(job).is_predicted]
    for job in set(experiment.jobs) - set(todo):  # of a process that was killed after its last step
        remove_leftovers(fold_folder(experiment.paths.results / job.configuration, job.fold))
    completed = len(experiment.jobs) - len(todo)
    if todo and completed:
        log.info("%d of %d folds are already trained and predicted", completed, len(experiment.jobs))
    failures: dict[Job, str] = {}

    def requests(stage: list[Job]) -> Iterator[TrainingRequest]:
        for job in stage:
            if should_stop():
                return
            yield experiment.request(job, options)

    for is_cascade in (False, True):  # the source of a cascade is trained before it
        stage = [job for job in todo if (job.configuration in experiment.cascades) == is_cascade]
        for result in run_trainings(requests(stage)):
            experiment.add_overhead(result)
            if result.failure is not None:
                log.error("%s failed: %s", result.job.name, result.failure)
                failures[result.job] = result.failure
            if not result.stopped:
                completed += 1
            progress(completed, len(experiment.jobs), "folds trained and predicted")
    return failures


def log_estimate(experiment: ExperimentProgress, options: RunOptions) -> None:
    """Log the trainings ahead and the time they will take."""
    statuses = experiment.statuses()
    todo = [job for job, status in statuses.items() if not status.is_predicted]
    device = choose_device(options.device)
    log.info(
        "%s: %s on %d folds, %d trainings in total, %d to do, on %s",
        experiment.plan.dataset,
        ", ".join(experiment.configurations),
        len(experiment.fold_names),
        len(statuses),
        len(todo),
        name_device(device),
    )
    if not todo:
        return
    use_cores()
    if options.time_budget_s is not None:
        _log_budget(experiment, options.time_budget_s, device)
        return
    estimates = estimate_training(
        experiment.plan, statuses, device, epochs=options.epochs, steps_per_epoch=options.steps_per_epoch
    )
    for name, (seconds, source) in estimates.items():
        log.info("%s: training takes about %s (%s)", name, format_seconds(seconds), source)
    if estimates:
        total_s = sum(seconds for seconds, _ in estimates.values()) / experiment.parallel_slots
        log.info(
            "all trainings take about %s, plus predicting and comparing; limit it with --time-budget",
            format_seconds(total_s),
        )


def _log_budget(experiment: ExperimentProgress, budget_s: float, device: torch.device) -> None:
    """Divide the time budget, log how, and store the estimates that the division rests on."""
    state = experiment.state
    new = [job for job in experiment.jobs if job.name not in state.expected_s]
    if new:
        configurations = experiment.plan.configurations
        arrays = {
            name: arrays_folder(experiment.preprocessed, configurations[name].preprocessing)
            for name in experiment.configurations
        }
        estimates = estimate_predicting(experiment.plan, new, experiment.folds, arrays, device)
        experiment.save(state.model_copy(update={"expected_s": {**state.expected_s, **estimates}}))
    rest_s = max(0.0, budget_s - experiment.elapsed_s())
    log.info(
        "time budget %s, of which %s remain; each training that has not started gets %s",
        format_seconds(budget_s),
        format_seconds(rest_s),
        format_seconds(experiment.fold_budget_s(budget_s)),
    )
    predicting_s = sum(experiment.state.expected_s[job.name] for job in experiment.jobs)
    if predicting_s > budget_s / 2:
        log.warning(
            "predicting the held-out cases alone takes about %s of the budget; give more time, or choose fewer "
            "configurations or folds",
            format_seconds(predicting_s),
        )
