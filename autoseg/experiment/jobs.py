"""Jobs of an experiment: their list, their status on disk, and the time that each takes or may take."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from autoseg.core.arrays import read_placement
from autoseg.core.errors import AutosegError, PlanError, UsageError
from autoseg.core.records import Folds, Plan, TrainedFold
from autoseg.core.registry import unknown_name
from autoseg.core.store import read_record
from autoseg.core.timing import shortest_s
from autoseg.evaluation.scoring import LAST_SCORES
from autoseg.experiment.records import RESERVED, Job
from autoseg.folds.data import TIMED_STEPS, time_step
from autoseg.folds.files import FACTS, mask_path, probabilities_path
from autoseg.model import WEIGHTS, fold_folder, planned_network
from autoseg.planning import IMAGENET_CONFIGURATION
from autoseg.prediction.sliding import count_calls
from autoseg.training import ALONE

log = logging.getLogger(__name__)

COMPARISON_SHARE = 0.05  # of a time budget, reserved for comparing
MAX_PREDICT_SHARE = 0.5  # of the remaining budget, reserved for predicting before any prediction has been timed
MIN_FOLD_SHARE = 0.1  # of an equal part of the budget, which every fold gets
PREDICT_OVERHEAD = 1.3  # reading, restoring, writing and scoring, as a multiple of the network's own time
TILE_REPEATS = 5


@dataclass(frozen=True, kw_only=True)
class JobStatus:
    """Status of a job, from its files.

    Attributes:
        facts: of its training; None where it has not started.
        is_trained: its weights exist.
        is_predicted: so do masks, probabilities and scores of all its held-out cases.
    """

    facts: TrainedFold | None
    is_trained: bool
    is_predicted: bool


# ----------------------------------------------------------------------------------------------- list and status


def choose_configurations(plan: Plan, requested: Sequence[str]) -> tuple[str, ...]:
    """The requested configurations, or all with the recommended one first; a cascade's source comes before it.

    ``2d_imagenet`` is a second network on slices, whose training is not worth its time everywhere: it is taken where it
    is requested or recommended.

    Raises:
        UsageError: the plan has no configuration of that name, or its name is reserved for the experiment.
    """
    for name in requested:
        if name not in plan.configurations:
            raise UsageError(unknown_name("configuration", name, plan.configurations, of=plan.dataset))
    usual = [name for name in plan.configurations if name != IMAGENET_CONFIGURATION or name == plan.recommended]
    if not requested and len(usual) < len(plan.configurations):
        name = IMAGENET_CONFIGURATION
        log.info("%s is not trained; to compare it, too, use: -c %s", name, " ".join(plan.configurations))
    chosen: list[str] = []
    for name in requested or sorted(usual, key=lambda name: name != plan.recommended):
        if name in RESERVED:
            raise UsageError(f"the configuration name '{name}' is reserved for experiments; rename it in the plan")
        source = plan.configurations[name].cascade_from
        chosen += [member for member in (source, name) if member is not None and member not in chosen]
    return tuple(chosen)


def choose_folds(plan: Plan, folds: Folds, configurations: Sequence[str], requested: Sequence[str]) -> tuple[str, ...]:
    """Names of the requested folds, or of all; a cascade needs all.

    Raises:
        UsageError: unknown fold, a fold without held-out cases, or only some folds for a cascade.
    """
    names = [str(number) for number in range(len(folds.folds))]
    for name in requested:
        if name not in names:
            raise UsageError(f"unknown fold '{name}' of {plan.dataset}; use 0 to {len(names) - 1}")
        if not folds.folds[int(name)].validation:
            raise UsageError(f"fold {name} of {plan.dataset} holds no case out, so nothing can be compared on it")
    chosen = tuple(name for name in names if name in requested or not requested)
    cascades = [name for name in configurations if plan.configurations[name].cascade_from is not None]
    if cascades and len(chosen) < len(names):
        raise UsageError(
            f"'{cascades[0]}' is a cascade, which needs every fold of its source; omit --folds, or choose "
            f"configurations without it"
        )
    return chosen


def list_jobs(configurations: Sequence[str], folds: Sequence[str]) -> tuple[Job, ...]:
    """One configuration after the other, each with all its folds, so that each is usable early."""
    return tuple(Job(name, fold) for name in configurations for fold in folds)


def read_job_status(results: Path, job: Job, validation: Sequence[str]) -> JobStatus:
    """Read the status of a job.

    Args:
        results: folder of the dataset's results.
        job: the job.
        validation: cases that the fold holds out.
    """
    folder = fold_folder(results / job.configuration, job.fold)
    try:
        facts = read_record(TrainedFold, folder / FACTS, advice="")
    except PlanError:
        facts = None  # not started; if damaged, training reports it
    trained = (folder / WEIGHTS).exists()
    files = [path for case in validation for path in (mask_path(folder, case), probabilities_path(folder, case))]
    files.append(folder / LAST_SCORES)
    return JobStatus(facts=facts, is_trained=trained, is_predicted=trained and all(path.exists() for path in files))


# ---------------------------------------------------------------------------------------------------------- time


def share_budget(
    budget_s: float,
    spent_s: float,
    statuses: Mapping[Job, JobStatus],
    *,
    expected_s: Mapping[str, float],
    overhead_s: Mapping[str, float],
    parallel_slots: int = 1,
) -> float:
    """Seconds of training for each fold that has not started: the rest of the budget, less overhead, in equal parts.

    A fold that has started keeps its length. A twentieth of the budget is reserved for comparing, and for every fold
    that is not predicted its expected overhead, scaled by the ratio measured in the completed ones.

    Args:
        budget_s: of everything.
        spent_s: so far.
        statuses: of all jobs.
        expected_s: job -> expected seconds besides its training.
        overhead_s: job -> the same as measured so far.
        parallel_slots: jobs that run at the same time.
    """
    new = [job for job, status in statuses.items() if status.facts is None and not status.is_trained]
    if not new:
        return 0.0
    overhead = sum(expected_s.get(job.name, 0.0) for job, status in statuses.items() if not status.is_predicted)
    completed = (job.name for job, status in statuses.items() if status.is_predicted)
    measured = [name for name in completed if name in overhead_s and expected_s.get(name)]
    if measured:
        overhead *= sum(overhead_s[name] for name in measured) / sum(expected_s[name] for name in measured)
    else:  # an estimate that is too high must not leave the first configuration untrained
        overhead = min(overhead, MAX_PREDICT_SHARE * parallel_slots * max(0.0, budget_s - spent_s))
    started = 0.0
    for status in statuses.values():
        if status.facts is not None and not status.is_trained and status.facts.time_budget_s is not None:
            started += max(0.0, status.facts.time_budget_s - status.facts.elapsed_s)
    rounds = math.ceil(len(new) / parallel_slots)  # one after the other in the busiest slot
    rest_s = budget_s * (1 - COMPARISON_SHARE) - spent_s - (started + overhead) / parallel_slots
    return max(rest_s / rounds, MIN_FOLD_SHARE * budget_s / len(statuses))


def estimate_training(
    plan: Plan,
    statuses: Mapping[Job, JobStatus],
    device: torch.device,
    *,
    epochs: int | None,
    steps_per_epoch: int | None,
) -> dict[str, tuple[float, str]]:
    """Configuration -> seconds that its folds still need, and the source of the estimate; without those that fail.

    The time of a step is that of folds that have started on this device, else that of some steps on noise.

    Args:
        plan: of the dataset.
        statuses: of all jobs.
        device: of the training.
        epochs, steps_per_epoch: instead of the plan's.
    """
    estimates = {}
    for name in dict.fromkeys(job.configuration for job in statuses):
        training = plan.configurations[name].training
        steps = (epochs or training.epochs) * (steps_per_epoch or training.steps_per_epoch)
        of_configuration = [status for job, status in statuses.items() if job.configuration == name]
        untrained = [status for status in of_configuration if not status.is_trained]
        if training.time_budget_s is not None and epochs is None and steps_per_epoch is None:
            elapsed = [status.facts.elapsed_s if status.facts else 0.0 for status in untrained]
            estimates[name] = (sum(max(0.0, training.time_budget_s - s) for s in elapsed), "as planned")
            continue
        remaining_steps = sum(max(0, steps - (status.facts.steps if status.facts else 0)) for status in untrained)
        if not remaining_steps:
            continue
        started = [status.facts for status in of_configuration if status.facts is not None and status.facts.steps > 0]
        if started:
            step_s = sum(facts.elapsed_s for facts in started) / sum(facts.steps for facts in started)
            estimates[name] = (step_s * remaining_steps, "from folds that have started")
            continue
        try:
            estimates[name] = (
                time_step(plan, name, device, ALONE) * remaining_steps,
                f"from {TIMED_STEPS} timed steps",
            )
        except (AutosegError, RuntimeError) as error:
            log.warning("cannot estimate the time of %s (%s)", name, str(error).splitlines()[0])
    return estimates


def estimate_predicting(
    plan: Plan, jobs: Sequence[Job], folds: Folds, arrays: Mapping[str, Path], device: torch.device
) -> dict[str, float]:
    """Job -> seconds that predicting its held-out cases will take, from their numbers of tiles.

    Args:
        plan: of the dataset.
        jobs: all.
        folds: of the dataset.
        arrays: configuration -> folder of its preprocessed cases.
        device: of the networks.
    """
    advice = f"rebuild it with: autoseg_plan -d {plan.dataset} --keep"
    seconds: dict[str, float] = {}
    for name in dict.fromkeys(job.configuration for job in jobs):
        call_s, tiling = time_tile(plan, name, device), plan.configurations[name].tiling
        for job in jobs:
            if job.configuration == name:
                shapes = (
                    read_placement(arrays[name], case, advice=advice).shape
                    for case in folds.folds[int(job.fold)].validation
                )
                calls = sum(count_calls(shape, tiling, networks=1) for shape in shapes)
                seconds[job.name] = round(calls * call_s * PREDICT_OVERHEAD, 1)
    return seconds


@torch.inference_mode()
def time_tile(plan: Plan, configuration_name: str, device: torch.device) -> float:
    """Seconds of a forward pass on one tile, the shortest of several."""
    network = planned_network(plan, configuration_name, seed=plan.seed).eval().to(device)
    network.deep_supervision = False  # type: ignore[assignment]
    tile_size = plan.configurations[configuration_name].tiling.tile_size
    tile = torch.zeros((1, plan.count_inputs(configuration_name), *tile_size), device=device)

    def wait() -> None:
        if device.type == "cuda":
            torch.cuda.synchronize(device)

    return shortest_s(lambda: network(tile), warm_up=0, repeats=TILE_REPEATS, wait=wait)
