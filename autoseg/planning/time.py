"""Rule 20: what a time budget holds, and how a training that is too short for its data is made to learn more in it.

A short training shows the network the whole dataset only a few times. It learns more on a coarser grid, where the same
arithmetic shows more of each case, so the grid is made coarser, and the first half of the time coarser still.
docs/time.md has the measurements, also where they show no gain.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

from autoseg.core.records import Configuration, Fingerprint, MachineSpeed, TrainingSettings, TrainingStage
from autoseg.fingerprint import crop_to_region
from autoseg.planning.memory import step_gflop
from autoseg.planning.patch import PatchPlan, PatchProblem
from autoseg.planning.presets import LAPTOP_GFLOPS, Preset
from autoseg.planning.spacing import TargetGrid, plan_grid
from autoseg.planning.text import amount, join, join_words, percent
from autoseg.planning.topology import Topology

FEW_PASSES = 30.0  # times that a training shows the whole dataset; fewer make it a short one
LEAST_PASSES = 4.0  # with fewer, a coarser grid learns more
FACTOR = 2  # between one grid and the next
LEAST_LESION = 5.0  # voxels across that three of four lesions keep on a coarser grid
LEAST_SHAPE = 16  # voxels that an axis keeps there
STAGE_END = 0.5  # share of the time on the coarser grid
STAGE_BATCH = 64  # largest
LEAST_BOTTOM = 2  # voxels per axis of a stage's patch at the network's coarsest stage

PlanPatch = Callable[[TargetGrid], tuple[PatchProblem, PatchPlan]]


@dataclass(frozen=True, kw_only=True)
class TimeBudget:
    """Seconds of a training, and how fast the machine trains.

    Attributes:
        seconds: of one fold of one configuration.
        speed: of real training steps.
    """

    seconds: float
    speed: MachineSpeed

    def count_steps(self, patch_plan: PatchPlan) -> int:
        """Training steps that the time holds, at least one."""
        rate = self.speed.gflops(len(patch_plan.patch)) or LAPTOP_GFLOPS
        return max(1, int(self.seconds * rate / step_gflop(patch_plan.gflop, patch_plan.batch)))

    def count_passes(self, problem: PatchProblem, patch_plan: PatchPlan) -> float:
        """Times that these steps show the whole dataset."""
        voxels = self.count_steps(patch_plan) * patch_plan.batch * math.prod(patch_plan.patch)
        return voxels / problem.dataset_voxels

    def explain(self) -> str:
        """Speed of the machine, a sentence."""
        rates = {"2D": self.speed.gflops_2d, "3D": self.speed.gflops_3d}
        measured = join_words([f"{rate:.0f} GFLOP per second in {axes}" for axes, rate in rates.items() if rate])
        return f"Real training steps were timed on {self.speed.device}: {measured}."

    def describe(self, problem: PatchProblem, patch_plan: PatchPlan) -> str:
        """Steps and passes, a clause."""
        return (
            f"{self.seconds:g} s hold about {amount(self.count_steps(patch_plan))} steps of {patch_plan.batch} samples "
            f"of {join(patch_plan.patch)} voxels, which show the whole dataset "
            f"{self.count_passes(problem, patch_plan):.2g} times"
        )


@dataclass(frozen=True, kw_only=True)
class TimedGrid:
    """The grid to train on, as far as the time decides it.

    Attributes:
        grid: with the reason of its spacing.
        problem, patch_plan: on that grid.
        budget: of time; None plans no length.
        is_short: the time shows the dataset at full resolution so few times that the plan is made for it.
        reason: what the time holds at full resolution, a clause.
    """

    grid: TargetGrid
    problem: PatchProblem
    patch_plan: PatchPlan
    budget: TimeBudget | None = None
    is_short: bool = False
    reason: str = ""


def fit_to_time(fingerprint: Fingerprint, grid: TargetGrid, budget: TimeBudget | None, plan: PlanPatch) -> TimedGrid:
    """20a. The finest grid on which the time shows the dataset often enough, as far as lesions stay large enough.

    Args:
        fingerprint: of the dataset, for its lesions.
        grid: full resolution.
        budget: of time; None takes the full resolution.
        plan: rules 5-8.
    """
    problem, patch_plan = plan(grid)
    timed = TimedGrid(grid=grid, problem=problem, patch_plan=patch_plan, budget=budget)
    if budget is None:
        return timed
    reason = budget.describe(problem, patch_plan)
    if budget.count_passes(problem, patch_plan) >= FEW_PASSES:
        return replace(timed, reason=reason)
    axes = len(problem.shape)
    factor = 1
    while budget.count_passes(problem, patch_plan) < LEAST_PASSES:
        coarser = coarsen_grid(grid, factor * FACTOR, axes=axes)
        if coarser is None or count_lesion_voxels(fingerprint, coarser) < LEAST_LESION:
            break
        factor *= FACTOR
        problem, patch_plan = plan(coarser)
        spacing_why = (
            f"{grid.reasons['spacing']} At this spacing {reason}, and a training that sees it fewer than "
            f"{LEAST_PASSES:g} times learns more on a coarser grid: at {join(coarser.spacing)} mm it sees it "
            f"{budget.count_passes(problem, patch_plan):.2g} times, and three of four lesions are still over "
            f"{count_lesion_voxels(fingerprint, coarser):.0f} voxels wide."
        )
        timed = replace(timed, grid=replace(coarser, reasons={**grid.reasons, "spacing": spacing_why}))
    return replace(timed, problem=problem, patch_plan=patch_plan, is_short=True, reason=reason)


def time_encoder(timed: TimedGrid, grid: TargetGrid, problem: PatchProblem, patch_plan: PatchPlan) -> TimedGrid:
    """The share of the dataset that an encoder with ImageNet weights sees in the time, at full resolution.

    Args:
        timed: the other slices.
        grid, problem: at full resolution.
        patch_plan: of the encoder.
    """
    timed = replace(timed, grid=grid, problem=problem, patch_plan=patch_plan)
    if timed.budget is None:
        return timed
    budget = replace(timed.budget, speed=timed.budget.speed.of_encoder())
    is_short = budget.count_passes(problem, patch_plan) < FEW_PASSES
    return replace(timed, budget=budget, is_short=is_short, reason=budget.describe(problem, patch_plan))


def plan_training(preset: Preset, timed: TimedGrid, patch_plan: PatchPlan) -> tuple[TrainingSettings, dict[str, str]]:
    """Length and stages of a training, with reasons where the time decides them.

    Args:
        timed: the grid.
        patch_plan: on that grid, fitted to the memory.
    """
    training = preset.training.model_copy(update={"accumulation": patch_plan.accumulation})
    if timed.budget is None:
        return training, {}
    seconds = timed.budget.seconds
    length = f"{seconds:g} s per fold, as requested (--time-budget). {_capital(timed.reason)}"
    training = training.model_copy(update={"time_budget_s": seconds})
    if not timed.is_short:
        reason = f"{length}: enough to plan as for any length."
        return training, {"training": reason}
    stages, why_stages = plan_stages(timed.problem, patch_plan)
    reasons = {"training": f"{length} at full resolution, fewer than {FEW_PASSES:g}. {why_stages}"}
    return training.model_copy(update={"stages": stages}), reasons


def stages_of_planned(
    configuration: Configuration, fingerprint: Fingerprint, budget: TimeBudget, *, forward_gflop: float
) -> tuple[tuple[TrainingStage, ...], str]:
    """Rule 20b for a configuration that was planned for another length; and why.

    Args:
        configuration: its grid, patch and network stay.
        fingerprint: of the dataset.
        budget: of time.
        forward_gflop: of one sample.
    """
    preprocessing, axes = configuration.preprocessing, configuration.dimensions
    grid = plan_grid(crop_to_region(fingerprint, preprocessing.region), preprocessing.orientation)
    spacing = tuple(full if s is None else s for s, full in zip(preprocessing.spacing, grid.spacing, strict=True))
    shape = tuple(n * full / s for n, full, s in zip(grid.shape, grid.spacing, spacing, strict=True))
    problem = PatchProblem(
        spacing=spacing[3 - axes :],
        shape=shape[3 - axes :],
        dataset_voxels=math.prod(shape) * grid.cases,
        input_channels=configuration.image_inputs,
        output_channels=1,
    )
    network, patch = configuration.network, configuration.patch_size
    patch_plan = PatchPlan(
        topology=Topology(kernels=network.kernels, strides=network.strides, patch=patch),
        batch=configuration.batch_size,
        network=network,
        elements=0,
        gflop=forward_gflop,
        accumulation=configuration.training.accumulation,
        reasons={},
    )
    described = _capital(budget.describe(problem, patch_plan))
    if budget.count_passes(problem, patch_plan) >= FEW_PASSES:
        return (), f"{described}: enough to train as planned."
    stages, reason = plan_stages(problem, patch_plan)
    return stages, f"{described}, fewer than {FEW_PASSES:g}. {reason}"


def plan_stages(problem: PatchProblem, patch_plan: PatchPlan) -> tuple[tuple[TrainingStage, ...], str]:
    """20b. A first stage on a grid twice as coarse, with as many samples as cost the same; and why.

    Source: Fischer et al. 2024, arXiv:2407.07853, for patches that grow.
    """
    divisors = patch_plan.topology.divisors
    if len(divisors) == 3 and all(n >= m for n, m in zip(patch_plan.patch, problem.shape, strict=True)):
        return (), "A patch shows a whole case, so a coarser beginning would show no more of it."
    factors = tuple(FACTOR if s < FACTOR * min(problem.spacing) else 1 for s in problem.spacing)
    sizes = zip(patch_plan.patch, factors, divisors, strict=True)
    patch = tuple(math.ceil(n / factor / divisor) * divisor for n, factor, divisor in sizes)
    if any(n < LEAST_BOTTOM * divisor for n, divisor in zip(patch, divisors, strict=True) if divisor > 1):
        return (), f"A patch half as large, {join(patch)} voxels, is too small for a stage on a coarser grid."
    gain = math.prod(patch_plan.patch) / math.prod(patch)  # samples for the arithmetic of one
    parts = patch_plan.accumulation
    batch = max(parts, min(int(patch_plan.batch * gain), max(STAGE_BATCH, patch_plan.batch)) // parts * parts)
    return (TrainingStage(until=STAGE_END, factors=factors, patch_size=patch, batch_size=batch),), (
        f"For the first {percent(STAGE_END)} of the time the grid is {join(factors)} times coarser, with patches of "
        f"{join(patch)} voxels and {batch} samples a step: the same arithmetic shows {math.prod(factors)} times as "
        f"much of the cases. The rest of the time trains at the planned spacing."
    )


def coarsen_grid(grid: TargetGrid, factor: int, *, axes: int) -> TargetGrid | None:
    """The grid with its fine axes coarser by a factor; None where an axis would become too short.

    Args:
        axes: of a patch. In 2D the distance between slices stays; in 3D so does the spacing of an axis that is as
            coarse already.
    """
    finest = min(grid.spacing)
    factors = [factor if axis >= 3 - axes and s < factor * finest else 1 for axis, s in enumerate(grid.spacing)]
    shape = tuple(n if f == 1 else float(round(n / f)) for n, f in zip(grid.shape, factors, strict=True))
    if any(n < LEAST_SHAPE for n, f in zip(shape, factors, strict=True) if f > 1):
        return None
    return replace(grid, spacing=tuple(s * f for s, f in zip(grid.spacing, factors, strict=True)), shape=shape)


def count_lesion_voxels(fingerprint: Fingerprint, grid: TargetGrid) -> float:
    """Width, in voxels of a slice, of a ball with the volume that three of four lesions exceed."""
    diameter_mm = (6 * 1000 * fingerprint.lesions.quartile_1_ml / math.pi) ** (1 / 3)
    return diameter_mm / max(grid.spacing[1:])


def _capital(clause: str) -> str:
    return clause[:1].upper() + clause[1:]
