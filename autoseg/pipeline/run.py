"""``autoseg_run``: plan if needed, train every fold, compare, finish the best, and report."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence

from autoseg.core.devices import choose_device, name_device
from autoseg.core.errors import AutosegError, TrainingError
from autoseg.core.parallel import Progress, no_progress
from autoseg.core.records import Experiment
from autoseg.core.runs import RUN, recorded
from autoseg.core.store import Store, claimed
from autoseg.experiment.compare import ComparisonContext, list_held_out
from autoseg.experiment.executor import open_executor, render_script
from autoseg.experiment.finish import conclude
from autoseg.experiment.jobs import choose_configurations, choose_folds
from autoseg.experiment.records import Job, Stopped
from autoseg.experiment.train_all import ExperimentProgress, log_estimate, train_all
from autoseg.metrics import METRICS
from autoseg.options import PlanOptions, ReportOptions, RunOptions, command_line
from autoseg.pipeline.plan import plan as plan_dataset
from autoseg.pipeline.report import report
from autoseg.preparation import open_raw, read_folds, read_plan

log = logging.getLogger(__name__)


def run(
    store: Store,
    options: RunOptions,
    *,
    should_stop: Callable[[], bool] = lambda: False,
    progress: Progress = no_progress,
) -> Experiment | None:
    """Run an experiment; a second call resumes it.

    Returns:
        The outcome; None when ``should_stop`` ended it early.

    Raises:
        UsageError, PlanError, DataError: invalid options, plan or data.
        TrainingError: some folds failed; the other configurations, if any, were compared without them.
    """
    path = store.results_root / options.dataset / RUN
    with recorded(store, path, ("autoseg_run", *command_line(options)), should_stop=should_stop) as record:
        experiment = prepare(store, options, progress)
        taken = f"another autoseg_run is at work on {options.dataset}; wait until it ends, then run this command again"
        with claimed(path.with_name("experiment"), taken):
            record.begin()
            record.device = name_device(choose_device(options.device))
            outcome = _run(store, options, experiment, should_stop=should_stop, progress=progress)
            record.add_model(experiment.paths.best)
            return outcome


def _run(
    store: Store,
    options: RunOptions,
    experiment: ExperimentProgress,
    *,
    should_stop: Callable[[], bool],
    progress: Progress,
) -> Experiment | None:
    failures: dict[Job, str] = {}
    try:
        with open_executor(store, options, experiment, should_stop=should_stop, progress=progress) as executor:
            log_estimate(experiment, options)
            failures = train_all(
                experiment, options, executor.run_trainings, should_stop=should_stop, progress=progress
            )
            if should_stop():
                raise Stopped
            complete = experiment.complete_configurations()
            if not complete:
                raise _failed(failures, experiment.jobs, "nothing can be compared yet")
            plan, dataset, results = experiment.plan, open_raw(store, options.dataset), experiment.paths.results
            context = ComparisonContext(
                plan=plan,
                dataset=dataset,
                paths=experiment.paths,
                configurations=complete,
                cases=list_held_out(plan, dataset, experiment.folds, experiment.fold_names, complete, results),
                target=options.target,
                should_stop=should_stop,
                run_cases=executor.run_cases,
                progress=progress,
            )
            outcome = conclude(context, experiment)
    except Stopped:
        done = sum(status.is_predicted for status in experiment.statuses().values())
        log.info("%d of %d folds are complete; the same command resumes", done, len(experiment.jobs))
        return None
    finally:
        experiment.save(experiment.state)
    if options.discard_probabilities:
        for held_out in context.cases:
            for path in held_out.probabilities.values():
                path.unlink(missing_ok=True)
    try:
        report(store, ReportOptions(dataset=options.dataset), progress=progress)
    except AutosegError as error:  # everything that it shows is on disk
        log.warning("the report was not written: %s", error)
    if failures:
        raise _failed(failures, experiment.jobs, f"{', '.join(complete)} were compared without them")
    return outcome


def write_script(store: Store, options: RunOptions) -> str:
    """The experiment as a script for SLURM; plans and preprocesses now, if that is not done.

    Raises:
        UsageError: as ``run``; or a time budget, which a queue cannot divide.
    """
    experiment = prepare(store, options, no_progress)
    return render_script(store.root.resolve(), experiment.jobs, options, cascades=experiment.cascades)


def prepare(store: Store, options: RunOptions, progress: Progress) -> ExperimentProgress:
    """Plan and preprocess what is missing, and list the jobs.

    Raises:
        UsageError: unknown metric, configuration or fold.
    """
    _ = METRICS[options.target]  # an unknown one is reported before days of training
    name = options.dataset
    if not (store.preprocessed(name) / "plan.json").exists():
        log.info("%s is not planned yet; planning it as autoseg_plan does", name)
    plan_dataset(store, PlanOptions(dataset=name, device=options.device, keep=True), progress=progress)
    plan, folds = read_plan(store, name), read_folds(store, name)
    configurations = choose_configurations(plan, options.configurations)
    fold_names = choose_folds(plan, folds, configurations, options.folds)
    return ExperimentProgress(store, plan, folds, configurations, fold_names)


def _failed(failures: Mapping[Job, str], jobs: Sequence[Job], consequence: str) -> TrainingError:
    lines = "".join(f"\n  {job.name}: {sentence}" for job, sentence in failures.items())
    return TrainingError(f"{len(failures)} of {len(jobs)} folds failed; {consequence}:{lines}")
