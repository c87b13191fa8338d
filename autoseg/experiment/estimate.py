"""How long an experiment will take, said before it begins."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch

from autoseg.core.arrays import read_placement
from autoseg.core.errors import AutosegError
from autoseg.core.records import Folds, Plan
from autoseg.core.timing import shortest_s
from autoseg.experiment.jobs import Standing
from autoseg.experiment.requests import Job
from autoseg.folds.data import TIMED_STEPS, time_step
from autoseg.model import planned_network
from autoseg.prediction.sliding import count_calls
from autoseg.training import ALONE

log = logging.getLogger(__name__)

BESIDE = 1.3  # reading, restoring, writing and scoring beside the network itself
TRIES = 5


def estimate_training(
    plan: Plan,
    standings: Mapping[Job, Standing],
    device: torch.device,
    *,
    epochs: int | None,
    steps_per_epoch: int | None,
) -> dict[str, tuple[float, str]]:
    """Configuration -> seconds that its folds still need, and what that rests on; without those that cannot be tried.

    A step takes what it took in folds that were begun on this device, else what some steps of noise take.

    Args:
        plan: of the dataset.
        standings: of all jobs.
        device: where training will run.
        epochs, steps_per_epoch: instead of the plan's.
    """
    estimates = {}
    for name in dict.fromkeys(job.configuration for job in standings):
        training = plan.configurations[name].training
        steps = (epochs or training.epochs) * (steps_per_epoch or training.steps_per_epoch)
        own = [standing for job, standing in standings.items() if job.configuration == name]
        left = sum(max(0, steps - _steps_done(standing)) for standing in own if not standing.is_trained)
        if not left:
            continue
        measured = _measured(own)
        if measured is not None:
            estimates[name] = (measured * left, "from folds that were begun")
            continue
        try:
            estimates[name] = (time_step(plan, name, device, ALONE) * left, f"from {TIMED_STEPS} steps that were tried")
        except (AutosegError, RuntimeError) as error:
            log.warning("how long %s takes is not known (%s)", name, str(error).splitlines()[0])
    return estimates


def estimate_predicting(
    plan: Plan, jobs: Sequence[Job], folds: Folds, arrays: Mapping[str, Path], device: torch.device
) -> dict[str, float]:
    """Job -> seconds that predicting its held-out cases will take, by the tiles that they have.

    Args:
        plan: of the dataset.
        jobs: all.
        folds: of the dataset.
        arrays: configuration -> folder of its preprocessed cases.
        device: where networks will be computed.
    """
    advice = f"make it with: autoseg_plan -d {plan.dataset} --keep"
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
                seconds[job.name] = round(calls * call_s * BESIDE, 1)
    return seconds


@torch.inference_mode()
def time_tile(plan: Plan, name: str, device: torch.device) -> float:
    """Seconds that a tile takes on its way through a network, the shortest of some tries."""
    network = planned_network(plan, name, seed=plan.seed).eval().to(device)
    network.deep_supervision = False  # type: ignore[assignment]
    tile = torch.zeros((1, plan.count_inputs(name), *plan.configurations[name].tiling.tile_size), device=device)

    def wait() -> None:
        if device.type == "cuda":
            torch.cuda.synchronize(device)

    return shortest_s(lambda: network(tile), warm_up=0, repeats=TRIES, wait=wait)


def _steps_done(standing: Standing) -> int:
    return 0 if standing.facts is None else standing.facts.steps


def _measured(standings: Sequence[Standing]) -> float | None:
    """Seconds of a step in the folds of a configuration that were begun."""
    begun = [standing.facts for standing in standings if standing.facts is not None and standing.facts.steps > 0]
    steps = sum(facts.steps for facts in begun)
    return sum(facts.elapsed_s for facts in begun) / steps if steps else None
