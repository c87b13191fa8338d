"""``autoseg_run --learning-curve``: the same training on ever more cases, scored on the same held-out ones."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence

from autoseg.core.errors import PlanError, UsageError
from autoseg.core.parallel import Progress, no_progress
from autoseg.core.records import CurvePoint, LearningCurve, Plan, Scores, Subsets
from autoseg.core.store import Store, read_record, write_record
from autoseg.evaluation.statistics import describe_values, list_patients
from autoseg.evaluation.summary import mean_over_labels
from autoseg.experiment.jobs import choose_configurations, choose_folds
from autoseg.folds.training import train
from autoseg.metrics import METRICS
from autoseg.options import RunOptions, TrainOptions
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
    """Train on subsets of each fold and on all its cases, and write what each reached; what is done is not redone.

    Args:
        options: sizes (subsets are chosen where there are none yet), configurations (empty for the recommended one),
            folds, target, device and length; a time budget is shared evenly by all trainings.

    Returns:
        The curve; None when ``should_stop`` ended it early.

    Raises:
        UsageError, PlanError, TrainingError: each says what to do; the same command goes on.
    """
    _ = METRICS[options.target]
    name, sizes = options.dataset, options.learning_curve or ()
    plan, folds = read_plan(store, name), read_folds(store, name)
    configurations = choose_configurations(plan, options.configurations or (plan.recommended,))
    fed = [own for own in configurations if plan.configurations[own].cascade_from is not None]
    if fed:
        raise UsageError(f"'{fed[0]}' is a cascade, whose source has seen every case; leave it out of -c")
    chosen = choose_folds(plan, folds, configurations, options.folds)
    wanted = sorted(set(sizes))
    _choose_cases(store, plan, wanted)
    jobs = [(own, size, fold) for own in configurations for size in (*wanted, None) for fold in chosen]
    budget_s = options.time_budget_s
    scores: dict[tuple[str, int | None], list[Scores]] = {}
    for number, (own, size, fold) in enumerate(jobs, start=1):
        if should_stop():
            return None
        log.info("%d of %d: %s fold %s", number, len(jobs), own if size is None else subset_name(own, size), fold)
        found = train(
            store,
            TrainOptions(
                dataset=name,
                configuration=own,
                fold=fold,
                device=options.device,
                epochs=options.epochs,
                steps_per_epoch=options.steps_per_epoch,
                time_budget_s=None if budget_s is None else round(budget_s / len(jobs), 1),
                subset=size,
            ),
            should_stop=should_stop,
            progress=progress,
        )
        if found is None:
            return None
        scores.setdefault((own, size), []).append(found)
    points = tuple(_place(own, size, found, options.target) for (own, size), found in scores.items())
    curve = LearningCurve(dataset=name, target_metric=options.target, folds=chosen, points=points)
    write_record(store.results_root / name / CURVE, curve)
    log.info("wrote %s", store.results_root / name / CURVE)
    return curve


def render_curve(curve: LearningCurve) -> str:
    """The curve as a table; ends in a newline."""
    rows = [("configuration", "cases", f"mean {curve.target_metric}", "95 % interval", "scored")]
    for point in curve.points:
        mean = "-" if point.mean is None else f"{point.mean:.4f}"
        bounds = "-" if point.lower is None else f"{point.lower:.4f} to {point.upper:.4f}"
        size = "all" if point.size is None else str(point.size)
        rows.append((point.configuration, size, mean, bounds, str(point.cases)))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "".join(
        "  ".join(cell.ljust(n) for cell, n in zip(row, widths, strict=True)).rstrip() + "\n" for row in rows
    )


def _choose_cases(store: Store, plan: Plan, sizes: Sequence[int]) -> None:
    """Choose subsets of sizes that were not chosen yet; those that were stay."""
    try:
        before = read_record(Subsets, store.preprocessed(plan.dataset) / FILE, advice="")
    except PlanError:
        make_subset_file(store, plan.dataset, sizes)
        return
    if set(sizes) - set(before.sizes):
        make_subset_file(store, plan.dataset, [*before.sizes, *sizes], seed=before.seed)


def _place(configuration: str, size: int | None, found: Sequence[Scores], target: str) -> CurvePoint:
    cases = [case for scores in found for case in scores.cases]
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
