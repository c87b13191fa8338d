"""Every fold of every configuration, one after the other or handed out, however often it is stopped."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Iterator, Mapping

from autoseg.core.errors import AutosegError, StorageError
from autoseg.core.parallel import Progress
from autoseg.core.records import Folds
from autoseg.core.store import Store, write_record
from autoseg.experiment.jobs import Standing, read_job_status, share_budget
from autoseg.experiment.records import ExperimentPaths, RunState
from autoseg.experiment.requests import Job, Report, TrainingRequest, Work
from autoseg.folds.training import train
from autoseg.options import LengthOptions, RunOptions

log = logging.getLogger(__name__)


class ExperimentProgress:
    """How far an experiment has come.

    Args:
        store: of the dataset.
        dataset: its name.
        folds: of the dataset.
        jobs: all.
        state: where earlier runs ended.
        cascades: configurations that wait for all others.
        lanes: jobs that are done side by side.
    """

    def __init__(
        self,
        store: Store,
        dataset: str,
        folds: Folds,
        jobs: tuple[Job, ...],
        state: RunState,
        *,
        cascades: frozenset[str] = frozenset(),
        lanes: int = 1,
    ) -> None:
        self.places, self.preprocessed = ExperimentPaths.of(store, dataset), store.preprocessed(dataset)
        self.folds, self.jobs, self.state = folds, jobs, state
        self.cascades, self.lanes = cascades, lanes
        self.before_s, self.began = self._spent(), time.monotonic()

    def standing(self, job: Job) -> Standing:
        """How far a job has come."""
        return read_job_status(self.places.results, job, self.folds.folds[int(job.fold)].validation)

    def standings(self) -> dict[Job, Standing]:
        """How far all have come."""
        return {job: self.standing(job) for job in self.jobs}

    def elapsed_s(self) -> float:
        """Seconds of all runs of the command, this one included."""
        return self.before_s + time.monotonic() - self.began

    def order(self, job: Job, length: LengthOptions) -> TrainingRequest:
        """A job with its share of the time; one that was begun keeps the length that it began with."""
        standing = self.standing(job)
        if standing.facts is not None:
            return TrainingRequest(job=job, time_budget_s=standing.facts.time_budget_s)
        if length.time_budget_s is None or standing.is_trained:
            return TrainingRequest(job=job, time_budget_s=None)
        return TrainingRequest(job=job, time_budget_s=round(self.share(length.time_budget_s), 1))

    def share(self, time_budget_s: float) -> float:
        """Seconds of training for each fold that is not begun."""
        return share_budget(
            time_budget_s,
            self.elapsed_s(),
            self.standings(),
            expected_s=self.state.expected_s,
            beside_s=self.state.beside_s,
            lanes=self.lanes,
        )

    def trained_s(self, job: Job) -> float:
        """Seconds that a job was trained, over all runs."""
        facts = self.standing(job).facts
        return 0.0 if facts is None else facts.elapsed_s

    def close(self, report: Report) -> None:
        """Note what a job took beside its training."""
        beside, name = dict(self.state.beside_s), report.job.name
        beside[name] = round(beside.get(name, 0.0) + max(0.0, report.beside_s), 1)
        self.save(self.state.model_copy(update={"beside_s": beside}))

    def save(self, state: RunState) -> None:
        """Keep what cannot be told from the folds' own files."""
        self.state = state.model_copy(update={"elapsed_s": round(self.elapsed_s(), 1)})
        write_record(self.places.state, self.state)

    def _spent(self) -> float:
        """Seconds so far; what a kill left unwritten is at least the trainings' own."""
        trained = (standing.facts.elapsed_s for standing in self.standings().values() if standing.facts is not None)
        return max(self.state.elapsed_s, (sum(trained) + sum(self.state.beside_s.values())) / self.lanes)


def train_jobs(
    course: ExperimentProgress,
    length: LengthOptions,
    work: Work,
    *,
    should_stop: Callable[[], bool],
    progress: Progress,
) -> dict[Job, str]:
    """Train and predict every job that is not done; those that fail are named, and the others go on.

    Args:
        course: of the experiment.
        length: of the trainings.
        work: does the jobs it is given.
        should_stop: asked between jobs; within them ``work`` asks.
        progress: told after every job.

    Returns:
        Job -> one sentence on why it failed.
    """
    todo = [job for job in course.jobs if not course.standing(job).is_predicted]
    done = len(course.jobs) - len(todo)
    if todo and done:
        log.info("%d of %d folds are trained and predicted already", done, len(course.jobs))
    failures: dict[Job, str] = {}

    def orders(stage: list[Job]) -> Iterator[TrainingRequest]:
        for job in stage:
            if should_stop():
                return
            yield course.order(job, length)

    for fed in (False, True):  # what feeds a cascade must be there before it
        for report in work(orders([job for job in todo if (job.configuration in course.cascades) == fed])):
            course.close(report)
            if report.failure is not None:
                log.error("%s failed: %s", report.job.name, report.failure)
                failures[report.job] = report.failure
            if not report.stopped:
                done += 1
            progress(done, len(course.jobs), "folds trained and predicted")
    return failures


def work_here(
    store: Store,
    options: RunOptions,
    course: ExperimentProgress,
    *,
    should_stop: Callable[[], bool],
    progress: Progress,
) -> Work:
    """Jobs one after the other, in this process."""
    numbers: Mapping[Job, int] = {job: number for number, job in enumerate(course.jobs, start=1)}

    def work(orders: Iterable[TrainingRequest]) -> Iterator[Report]:
        for order in orders:
            job = order.job
            log.info("%d of %d: %s %s%s", numbers[job], len(numbers), options.dataset, job.name, order.describe())
            failure = None
            began, trained_s = time.monotonic(), course.trained_s(job)
            try:
                training = order.options(options)
                train(store, training, should_stop=should_stop, progress=progress)
            except StorageError:
                raise  # the next job would not be written either
            except AutosegError as error:
                failure = str(error)
            beside_s = time.monotonic() - began - (course.trained_s(job) - trained_s)
            yield Report(job=job, failure=failure, stopped=should_stop(), beside_s=beside_s)

    return work
