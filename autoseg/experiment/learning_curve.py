"""``autoseg_run --learning-curve``: train on more and more cases, scored on the same held-out cases."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from autoseg.core.errors import PlanError, UsageError
from autoseg.core.parallel import Progress, no_progress
from autoseg.core.records import CurvePoint, Forecast, LearningCurve, Plan, Scores, Subsets
from autoseg.core.runs import RUN, recorded
from autoseg.core.store import Store, claimed, read_record, write_record
from autoseg.evaluation.forecast import forecast
from autoseg.evaluation.statistics import describe_values, list_patients
from autoseg.evaluation.summary import mean_over_labels
from autoseg.experiment.jobs import choose_configurations, choose_folds
from autoseg.folds.training import train
from autoseg.metrics import METRICS
from autoseg.options import RunOptions, TrainOptions, command_line
from autoseg.preparation import read_folds, read_plan
from autoseg.preparation.subsets import FILE, make_subset_file, subset_name

log = logging.getLogger(__name__)

CURVE = "learning_curve.json"


def draw_curve(
    store: Store,
    options: RunOptions,
    *,
    should_stop: Callable[[], bool] = lambda: False,
    progress: Progress = no_progress,
) -> LearningCurve | None:
    """Train on subsets of each fold and on all its cases, and write the scores of each; a second call resumes.

    Args:
        options: sizes (missing subsets are chosen), configurations (empty for the recommended one), folds, target,
            device and length; a time budget is divided evenly among all trainings.

    Returns:
        The curve; None when ``should_stop`` ended it early.

    Raises:
        UsageError, PlanError: invalid options or plan.
        TrainingError: a training failed.
    """
    _ = METRICS[options.target]
    dataset_name = options.dataset
    plan, folds = read_plan(store, dataset_name), read_folds(store, dataset_name)
    configurations = choose_configurations(plan, options.configurations or (plan.recommended,))
    cascades = [name for name in configurations if plan.configurations[name].cascade_from is not None]
    if cascades:
        raise UsageError(f"'{cascades[0]}' is a cascade, whose source is trained on every case; remove it from -c")
    fold_names = choose_folds(plan, folds, configurations, options.folds)
    sizes = sorted(set(options.learning_curve or ()))
    _choose_cases(store, plan, sizes)
    jobs = [(name, size, fold) for name in configurations for size in (*sizes, None) for fold in fold_names]
    path = store.results_root / dataset_name / CURVE
    words = ("autoseg_run", *command_line(options))
    taken = f"another autoseg_run is at work on {dataset_name}; wait until it ends, then run this command again"
    with (
        recorded(store, path.with_suffix(f".{RUN}"), words, should_stop=should_stop) as record,
        claimed(path.with_name("experiment"), taken),
    ):
        record.begin()
        scores = _train_jobs(store, options, jobs, should_stop=should_stop, progress=progress)
        if scores is None:
            return None
        points = tuple(_make_point(name, size, of_folds, options.target) for (name, size), of_folds in scores.items())
        trained = [len(folds.folds[int(name)].train) for name in fold_names]
        curve = LearningCurve(
            dataset=dataset_name,
            target_metric=options.target,
            folds=fold_names,
            points=points,
            forecasts=tuple(
                _forecast(name, [*sizes, sum(trained) / len(trained)], scores, options.target)
                for name in configurations
            ),
        )
        write_record(path, curve)
        log.info("wrote %s", path)
        return curve


def _train_jobs(
    store: Store,
    options: RunOptions,
    jobs: Sequence[tuple[str, int | None, str]],
    *,
    should_stop: Callable[[], bool],
    progress: Progress,
) -> dict[tuple[str, int | None], list[Scores]] | None:
    """Scores of the folds of each configuration and size; None where it was stopped."""
    budget_s = options.time_budget_s
    scores: dict[tuple[str, int | None], list[Scores]] = {}
    for number, (name, size, fold) in enumerate(jobs, start=1):
        if should_stop():
            return None
        log.info("%d of %d: %s fold %s", number, len(jobs), name if size is None else subset_name(name, size), fold)
        training = TrainOptions(
            dataset=options.dataset,
            configuration=name,
            fold=fold,
            device=options.device,
            epochs=options.epochs,
            steps_per_epoch=options.steps_per_epoch,
            time_budget_s=None if budget_s is None else round(budget_s / len(jobs), 1),
            subset=size,
            postprocessing=False,  # the curve is of masks as predicted
        )
        of_fold = train(store, training, should_stop=should_stop, progress=progress)
        if of_fold is None:
            return None
        scores.setdefault((name, size), []).append(of_fold)
    return scores


def _choose_cases(store: Store, plan: Plan, sizes: Sequence[int]) -> None:
    """Choose missing subsets; existing ones stay."""
    try:
        previous = read_record(Subsets, store.preprocessed(plan.dataset) / FILE, advice="")
    except PlanError:
        make_subset_file(store, plan.dataset, sizes)
        return
    if set(sizes) - set(previous.sizes):
        make_subset_file(store, plan.dataset, [*previous.sizes, *sizes], seed=previous.seed)


def _forecast(
    configuration: str,
    sizes: Sequence[float],
    scores: Mapping[tuple[str, int | None], Sequence[Scores]],
    target: str,
) -> Forecast:
    """The forecast of one configuration, over the cases whose score is defined at every size."""
    if METRICS[target].unit or not METRICS[target].higher_is_better:
        return Forecast(
            configuration=configuration, reason=f"only scores with a best value of 1 have one, not {target}"
        )
    rows: list[dict[str, float | None]] = []
    patients: dict[str, str] = {}
    for (name, _), of_folds in scores.items():
        if name == configuration:
            cases = [case for of_fold in of_folds for case in of_fold.cases]
            rows.append({case.case: mean_over_labels(case, list(case.scores), target) for case in cases})
            patients |= {case.case: case.group or case.case for case in cases}
    compared = [case for case in rows[0] if all(row.get(case) is not None for row in rows)]
    values = np.array([[row[case] for case in compared] for row in rows], dtype=float)
    return forecast(configuration, sizes, values, [patients[case] for case in compared])


def _make_point(configuration: str, size: int | None, scores: Sequence[Scores], target: str) -> CurvePoint:
    cases = [case for of_fold in scores for case in of_fold.cases]
    values = [mean_over_labels(case, list(case.scores), target) for case in cases]
    statistics = describe_values(values, list_patients(cases))
    lower, upper = statistics.interval or (None, None)
    return CurvePoint(
        configuration=configuration,
        size=size,
        cases=statistics.count,
        mean=statistics.mean,
        lower=lower,
        upper=upper,
    )
