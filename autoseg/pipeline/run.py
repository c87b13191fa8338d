"""The command itself: train everything, choose, finish, and leave a model that predicts."""

from __future__ import annotations

import importlib.metadata
import logging
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, replace

import torch

import autoseg
from autoseg.core.devices import choose_device, name_device, use_cores
from autoseg.core.errors import AutosegError, TrainingError
from autoseg.core.parallel import Progress, no_progress
from autoseg.core.records import Dataset, Experiment, Folds, Plan
from autoseg.core.store import Store, hash_settings, read_record, write_record
from autoseg.core.text import format_seconds
from autoseg.evaluation.selection import list_candidates
from autoseg.experiment.best import write_best
from autoseg.experiment.cluster import open_cluster, run_on_cluster, work_on_cluster
from autoseg.experiment.comparison import EMPTY_SCORE, Field, RunCases, compare, list_held_out
from autoseg.experiment.estimate import estimate_predicting, estimate_training
from autoseg.experiment.finishing import finish
from autoseg.experiment.jobs import choose_configurations, choose_folds, list_jobs
from autoseg.experiment.records import ExperimentPaths, RunState
from autoseg.experiment.requests import Job, Stopped, Work
from autoseg.experiment.script import render_script
from autoseg.experiment.training import ExperimentProgress, train_jobs, work_here
from autoseg.folds.files import probabilities_path
from autoseg.metrics import METRICS
from autoseg.model import WEIGHTS, fold_folder
from autoseg.options import PlanOptions, ReportOptions, RunOptions
from autoseg.pipeline.plan import plan as plan_dataset
from autoseg.pipeline.report import report
from autoseg.prediction.ensembles import BEST_RECORD
from autoseg.preparation import arrays_folder, open_raw, read_folds, read_plan
from autoseg.preparation.cases import run_cases

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Setup:
    """A planned dataset, and what is to be done with it."""

    plan: Plan
    dataset: Dataset
    folds: Folds
    configurations: tuple[str, ...]
    chosen: tuple[str, ...]
    course: ExperimentProgress


def run(
    store: Store,
    options: RunOptions,
    *,
    work: Work | None = None,
    should_stop: Callable[[], bool] = lambda: False,
    progress: Progress = no_progress,
) -> Experiment | None:
    """Plan if needed, train and predict what is left, choose, finish, write; what is done is not redone.

    Args:
        store: of the dataset.
        options: what is asked for.
        work: does the jobs; None does them here, one after the other.
        should_stop: asked between any two steps.
        progress: of what is under way.

    Returns:
        What was found; None when ``should_stop`` ended it early.

    Raises:
        UsageError, PlanError, DataError: each says what to do.
        TrainingError: some folds failed; the experiment is done without their configurations, if any others are left.
    """
    _ = METRICS[options.target]  # before days are spent
    setup = prepare(store, options, progress)
    course = setup.course
    with ExitStack() as stack:
        failures: dict[Job, str] = {}
        try:
            hands = _choose_hands(stack, setup, store, options, should_stop, progress)
            if work is not None:
                hands = replace(hands, work=work)
            _say_how_long(setup, options)
            failures = train_jobs(course, options, hands.work, should_stop=should_stop, progress=progress)
            if should_stop():
                raise Stopped
            complete = _complete_ones(setup)
            if not complete:
                raise _failed(failures, course.jobs, "; nothing can be compared yet")
            experiment = _conclude(setup, complete, options, hands, should_stop, progress)
        except Stopped:
            left = sum(not standing.is_predicted for standing in course.standings().values())
            done, jobs = len(course.jobs) - left, len(course.jobs)
            log.info("%d of %d folds are done; the same command resumes from here", done, jobs)
            return None
        finally:
            course.save(course.state)
    _report(store, options.dataset, progress)
    if failures:
        raise _failed(failures, course.jobs, f"; {', '.join(complete)} were compared without them")
    return experiment


def write_script(store: Store, options: RunOptions) -> str:
    """The same as a script for SLURM; plans and preprocesses now, if that is not done.

    Args:
        store, options: as for ``run``.

    Raises:
        UsageError: as ``run``; or a time budget is asked for.
    """
    _ = METRICS[options.target]
    setup = prepare(store, options, no_progress)
    course = setup.course
    return render_script(store.root.resolve(), course.jobs, options, cascades=course.cascades)


@dataclass(frozen=True, kw_only=True)
class Executor:
    """Executor of trainings, and of functions over cases."""

    work: Work
    run_cases: RunCases


def _choose_hands(
    stack: ExitStack,
    setup: Setup,
    store: Store,
    options: RunOptions,
    should_stop: Callable[[], bool],
    progress: Progress,
) -> Executor:
    """This process, or a cluster that is open as long as the stack."""
    course = setup.course
    if options.cluster is None:
        here = work_here(store, options, course, should_stop=should_stop, progress=progress)
        return Executor(work=here, run_cases=run_cases)
    gpus = torch.cuda.device_count() if choose_device(options.device).type == "cuda" else 0
    cluster = stack.enter_context(open_cluster(options, store, gpus, should_stop))
    course.lanes = cluster.lanes
    away = work_on_cluster(cluster, store, options, course, should_stop=should_stop)
    return Executor(work=away, run_cases=run_on_cluster(cluster, should_stop))


def _complete_ones(setup: Setup) -> tuple[str, ...]:
    """Configurations whose folds are all trained and predicted."""
    course = setup.course
    standings = course.standings()
    return tuple(
        conf
        for conf in setup.configurations
        if all(standing.is_predicted for job, standing in standings.items() if job.configuration == conf)
    )


def prepare(store: Store, options: RunOptions, progress: Progress) -> Setup:
    """The plan and its arrays, made where they are missing, and the jobs that they give."""
    name = options.dataset
    planned = store.preprocessed(name) / "plan.json"
    if not planned.exists():
        log.info("%s is not planned yet; planning it as autoseg_plan does", name)
    plan_dataset(store, PlanOptions(dataset=name, device=options.device, keep=True), progress=progress)
    plan, folds = read_plan(store, name), read_folds(store, name)
    configurations = choose_configurations(plan, options.configurations)
    chosen = choose_folds(plan, folds, configurations, options.folds)
    places = ExperimentPaths.of(store, name)
    return Setup(
        plan=plan,
        dataset=open_raw(store, name),
        folds=folds,
        configurations=configurations,
        chosen=chosen,
        course=ExperimentProgress(
            store,
            name,
            folds,
            list_jobs(configurations, chosen),
            _read_state(places),
            cascades=frozenset(conf for conf in configurations if plan.configurations[conf].cascade_from is not None),
        ),
    )


def _read_state(places: ExperimentPaths) -> RunState:
    if not places.state.exists():
        return RunState()
    return read_record(RunState, places.state, advice="delete it; only the time spent so far is forgotten")


def _say_how_long(setup: Setup, options: RunOptions) -> None:
    """Log the planned work, and about how long it takes."""
    course = setup.course
    standings = course.standings()
    left = [job for job, standing in standings.items() if not standing.is_predicted]
    device = choose_device(options.device)
    log.info(
        "%s: %s on %d folds, %d trainings in all, %d still to do, on %s",
        setup.plan.dataset,
        ", ".join(setup.configurations),
        len(setup.chosen),
        len(standings),
        len(left),
        name_device(device),
    )
    if not left:
        return
    use_cores()
    if options.time_budget_s is not None:
        _say_budget(setup, options.time_budget_s, device)
        return
    estimates = estimate_training(
        setup.plan, standings, device, epochs=options.epochs, steps_per_epoch=options.steps_per_epoch
    )
    for name, (seconds, source) in estimates.items():
        log.info("%s: training will take about %s (%s)", name, format_seconds(seconds), source)
    if estimates:
        total = format_seconds(sum(seconds for seconds, _ in estimates.values()) / course.lanes)
        log.info(
            "all trainings together about %s; predicting and comparing come on top; --time-budget limits it", total
        )


def _say_budget(setup: Setup, budget_s: float, device: torch.device) -> None:
    """Divide a time budget, say how, and keep what the division rests on."""
    course, plan = setup.course, setup.plan
    unknown = [job for job in course.jobs if job.name not in course.state.expected_s]
    if unknown:
        folder = course.preprocessed
        arrays = {name: arrays_folder(folder, plan.configurations[name].preprocessing) for name in setup.configurations}
        found = estimate_predicting(plan, unknown, setup.folds, arrays, device)
        course.save(course.state.model_copy(update={"expected_s": {**course.state.expected_s, **found}}))
    share, rest = course.share(budget_s), max(0.0, budget_s - course.elapsed_s())
    log.info(
        "a time budget of %s for all of it, %s of which are left; each training that is not begun gets %s",
        format_seconds(budget_s),
        format_seconds(rest),
        format_seconds(share),
    )
    predicting = sum(course.state.expected_s[job.name] for job in course.jobs)
    if predicting > budget_s / 2:
        log.warning(
            "predicting the held-out cases alone will take about %s of the budget; give more time, or choose fewer "
            "configurations or folds",
            format_seconds(predicting),
        )


def _conclude(
    setup: Setup,
    configurations: tuple[str, ...],
    options: RunOptions,
    hands: Executor,
    should_stop: Callable[[], bool],
    progress: Progress,
) -> Experiment:
    """Compare, choose and finish, unless that is done and nothing has changed."""
    course, plan, places = setup.course, setup.plan, setup.course.places
    held_out = list_held_out(plan, setup.dataset, setup.folds, setup.chosen, configurations, places.results)
    key = _outcome_key(setup, configurations, options)
    if course.state.concluded == key and (places.best / BEST_RECORD).exists() and places.outcome.exists():
        log.info("everything is done already; %s holds what was found", places.outcome)
        return read_record(Experiment, places.outcome, advice="delete it and run the same command again")
    scene = Field(
        plan=plan,
        dataset=setup.dataset,
        places=places,
        configurations=configurations,
        cases=held_out,
        target=options.target,
        should_stop=should_stop,
        run_cases=hands.run_cases,
    )
    reached, choice, scores = compare(scene, list_candidates(configurations), progress)
    log.info("%s", choice.reason)
    members = reached[choice.winner].members
    finished = finish(scene, members, scores[choice.winner], progress)
    write_best(
        places,
        plan.dataset,
        members,
        setup.chosen,
        postprocessing=finished.postprocessing,
        temperature=finished.calibration.temperature,
    )
    experiment = Experiment(
        dataset=plan.dataset,
        target_metric=options.target,
        empty_score=EMPTY_SCORE,
        folds=setup.chosen,
        candidates=reached,
        winner=choice.winner,
        reason=choice.reason,
        postprocessing=finished.postprocessing,
        target_before=finished.target_before,
        target_after=finished.target_after,
        calibration=finished.calibration,
        doubts=finished.doubts,
        elapsed_s=round(course.elapsed_s(), 1),
        versions={"autoseg": autoseg.__version__, "torch": importlib.metadata.version("torch")},
    )
    write_record(places.outcome, experiment)
    course.save(course.state.model_copy(update={"concluded": key}))
    log.info("wrote %s and %s, which autoseg_predict now uses", places.outcome, places.best)
    if options.discard_probabilities:
        _discard_probabilities(setup, configurations)
    return experiment


def _outcome_key(setup: Setup, configurations: tuple[str, ...], options: RunOptions) -> str:
    """A hash of the weights, the cases and all that is asked for."""
    results = setup.course.places.results
    stats = []
    for conf in configurations:
        for fold in setup.chosen:
            found = (fold_folder(results / conf, fold) / WEIGHTS).stat()
            stats.append((conf, fold, found.st_size, found.st_mtime_ns))
    return hash_settings(setup.plan, setup.folds, stats, options.target, EMPTY_SCORE, autoseg.__version__)


def _report(store: Store, name: str, progress: Progress) -> None:
    """The report, which is no reason to fail: all that it shows is on disk already."""
    try:
        report(store, ReportOptions(dataset=name), progress=progress)
    except AutosegError as error:
        log.warning("the report was not written: %s", error)


def _discard_probabilities(setup: Setup, configurations: tuple[str, ...]) -> None:
    for conf in configurations:
        for fold in setup.chosen:
            here = fold_folder(setup.course.places.results / conf, fold)
            for case in setup.folds.folds[int(fold)].validation:
                probabilities_path(here, case).unlink(missing_ok=True)


def _failed(failures: Mapping[Job, str], jobs: tuple[Job, ...], rest: str) -> TrainingError:
    lines = "".join(f"\n  {job.name}: {sentence}" for job, sentence in failures.items())
    return TrainingError(f"{len(failures)} of {len(jobs)} folds failed{rest}:{lines}")
