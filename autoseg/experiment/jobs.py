"""Which configurations and folds an experiment trains, in which order, and how long each may take."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from autoseg.core.errors import PlanError, UsageError
from autoseg.core.records import Folds, Plan, TrainedFold
from autoseg.core.registry import unknown_name
from autoseg.core.store import read_record
from autoseg.experiment.records import RESERVED
from autoseg.experiment.requests import Job
from autoseg.folds.files import FACTS, mask_path, probabilities_path
from autoseg.model import WEIGHTS, fold_folder

RESERVE = 0.05  # of a time budget, for comparing
GUESS = 0.5  # of what is left of it; more is not kept for predicting before anything was predicted
FLOOR = 0.1  # of an equal part of the budget; what a fold gets where predicting leaves less


@dataclass(frozen=True, kw_only=True)
class Standing:
    """How far a job has come, by its files.

    Attributes:
        facts: of its training; None where it was never begun.
        is_trained: its weights are there.
        is_predicted: so are masks and probabilities of all held-out cases.
    """

    facts: TrainedFold | None
    is_trained: bool
    is_predicted: bool


def choose_configurations(plan: Plan, wanted: Sequence[str]) -> tuple[str, ...]:
    """Those asked for, or all of the plan with the recommended one first; what feeds a cascade comes before it.

    Raises:
        UsageError: the plan has no configuration of that name, or one whose name an experiment needs for itself.
    """
    unknown = [name for name in wanted if name not in plan.configurations]
    if unknown:
        raise UsageError(unknown_name("configuration", unknown[0], plan.configurations, of=plan.dataset))
    chosen: list[str] = []
    for name in wanted or sorted(plan.configurations, key=lambda name: name != plan.recommended):
        if name in RESERVED:
            raise UsageError(f"a configuration cannot be called '{name}' here; give it another name in the plan")
        source = plan.configurations[name].cascade_from
        chosen += [each for each in (source, name) if each is not None and each not in chosen]
    return tuple(chosen)


def choose_folds(plan: Plan, folds: Folds, configurations: Sequence[str], wanted: Sequence[str]) -> tuple[str, ...]:
    """Names of the folds asked for, or of all; a cascade needs all.

    Raises:
        UsageError: there is no such fold, it holds no case out, or a cascade is given some of them only.
    """
    names = [str(number) for number in range(len(folds.folds))]
    for name in wanted:
        if name not in names:
            raise UsageError(
                f"there is no fold '{name}' of {plan.dataset} that holds cases out; use 0 to {len(names) - 1}"
            )
        if not folds.folds[int(name)].validation:
            raise UsageError(f"fold {name} of {plan.dataset} holds no case out, so nothing can be compared on it")
    chosen = tuple(name for name in names if name in wanted or not wanted)
    cascades = [name for name in configurations if plan.configurations[name].cascade_from is not None]
    if cascades and len(chosen) < len(names):
        raise UsageError(
            f"'{cascades[0]}' is a cascade, which needs every fold of what feeds it; leave --folds out, or choose "
            f"configurations without it"
        )
    return chosen


def list_jobs(configurations: Sequence[str], folds: Sequence[str]) -> tuple[Job, ...]:
    """One configuration after the other, each with all its folds, so that each is soon of use."""
    return tuple(Job(name, fold) for name in configurations for fold in folds)


def read_job_status(results: Path, job: Job, validation: Sequence[str]) -> Standing:
    """How far a job has come.

    Args:
        results: folder of the dataset's results.
        job: the job.
        validation: cases that the fold holds out.
    """
    here = fold_folder(results / job.configuration, job.fold)
    try:
        facts = read_record(TrainedFold, here / FACTS, advice="")
    except PlanError:
        facts = None  # not begun; or training will say what is wrong
    trained = (here / WEIGHTS).exists()
    files = [path for case in validation for path in (mask_path(here, case), probabilities_path(here, case))]
    return Standing(facts=facts, is_trained=trained, is_predicted=trained and all(path.exists() for path in files))


def share_budget(
    budget_s: float,
    spent_s: float,
    standings: Mapping[Job, Standing],
    *,
    expected_s: Mapping[str, float],
    beside_s: Mapping[str, float],
    lanes: int = 1,
) -> float:
    """Seconds of training for each fold that is not begun: what is left, less what comes on top, in equal parts.

    A fold that was begun keeps the length it began with. A twentieth of the budget is kept for comparing, and for
    every fold that is still to be predicted what that is expected to take, scaled by how the finished ones kept to it.

    Args:
        budget_s: of everything.
        spent_s: so far.
        standings: of all jobs.
        expected_s: job -> seconds that it should take beside its training.
        beside_s: job -> seconds that it took so far.
        lanes: jobs that are done side by side.
    """
    new = [job for job, standing in standings.items() if standing.facts is None and not standing.is_trained]
    if not new:
        return 0.0
    coming = sum(expected_s.get(job.name, 0.0) for job, standing in standings.items() if not standing.is_predicted)
    done = (job.name for job, standing in standings.items() if standing.is_predicted)
    known = [name for name in done if name in beside_s and expected_s.get(name)]
    if known:
        coming *= sum(beside_s[name] for name in known) / sum(expected_s[name] for name in known)
    else:  # a guess that is too high must not leave the first configuration untrained
        coming = min(coming, GUESS * lanes * max(0.0, budget_s - spent_s))
    begun = 0.0
    for standing in standings.values():
        if standing.facts is not None and not standing.is_trained and standing.facts.time_budget_s is not None:
            begun += max(0.0, standing.facts.time_budget_s - standing.facts.elapsed_s)
    rounds = math.ceil(len(new) / lanes)  # one after the other in the busiest lane
    left = budget_s * (1 - RESERVE) - spent_s - (begun + coming) / lanes
    return max(left / rounds, FLOOR * budget_s / len(standings))
