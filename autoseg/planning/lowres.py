"""Rule 9: a low resolution where a patch shows too little of a case, and the cascade on top of it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from autoseg.planning.patch import PatchPlan, PatchProblem, fit_patch
from autoseg.planning.presets import Preset
from autoseg.planning.spacing import TargetGrid
from autoseg.planning.text import join, percent

LEAST_COVER = 0.25  # of the median case, in a patch
COARSER = 1.03  # per step
NEAR = 2.0  # axes whose spacings differ by less are coarsened together
LEAST_GAIN = 2.0  # voxels of the full resolution per voxel of the low one


@dataclass(frozen=True, kw_only=True)
class LowResolution:
    """A coarser grid, and the patch that fits there.

    Attributes:
        grid: with its own spacing, shape and reasons.
        problem: inputs to patch planning.
        patch_plan: patch, batch and network.
    """

    grid: TargetGrid
    problem: PatchProblem
    patch_plan: PatchPlan


def plan_low_resolution(
    problem: PatchProblem, grid: TargetGrid, full: PatchPlan, preset: Preset, *, memory_gb: float
) -> tuple[LowResolution | None, str]:
    """The low resolution that a full one calls for, or None; and why.

    Args:
        problem, grid, full: of the full resolution, three axes.

    Source: nnU-Net, doi:10.1038/s41592-020-01008-z, supplementary note on the cascade.
    """
    seen = f"at full resolution a patch covers {describe_cover(full, problem.shape)}"
    spacing, shape, low = problem.spacing, problem.shape, full
    # 9a. Coarser until a patch covers a quarter of the median case. Shares are taken of the unrounded shape.
    while share_covered(low, shape) < LEAST_COVER:
        spacing = coarsen(spacing)
        shape = tuple(full_mm / mm * n for full_mm, mm, n in zip(problem.spacing, spacing, problem.shape, strict=True))
        rounded = tuple(float(max(1, round(n))) for n in shape)
        smaller = replace(problem, spacing=spacing, shape=rounded, dataset_voxels=math.prod(shape) * grid.cases)
        low = fit_patch(smaller, preset, memory_gb=memory_gb)
    if low is full:
        return None, (
            f"Not needed: {seen}; a low resolution is planned only below {LEAST_COVER:.0%}, where a patch shows too "
            f"little of its surroundings."
        )
    # 9b. Nearly the same spacing would be nearly the same configuration.
    gain = math.prod(problem.shape) / math.prod(shape)
    if gain < LEAST_GAIN:
        return None, (
            f"Not worthwhile: {seen}, below {LEAST_COVER:.0%}, but at {join(spacing)} mm, where it would cover "
            f"{LEAST_COVER:.0%}, a case has only {gain:.2g} times fewer voxels, and {LEAST_GAIN:g} times are required."
        )
    reason = (
        f"{join(spacing)} mm: {seen}, below {LEAST_COVER:.0%}, so the spacing was raised in steps of "
        f"{COARSER - 1:.0%} (fine axes first, where spacings differ by over {NEAR:g} times) until a patch covers "
        f"{share_covered(low, shape):.0%}."
    )
    coarse = replace(grid, spacing=spacing, shape=smaller.shape, reasons={**grid.reasons, "spacing": reason})
    return LowResolution(grid=coarse, problem=smaller, patch_plan=low), reason


def coarsen(spacing: Sequence[float]) -> tuple[float, ...]:
    """Spacings one step coarser: those far below the coarsest axis alone, while there are any, else all."""
    coarsest = max(spacing)
    far = [coarsest / s > NEAR for s in spacing]
    return tuple(s * COARSER if is_far or not any(far) else s for s, is_far in zip(spacing, far, strict=True))


def share_covered(patch_plan: PatchPlan, shape: Sequence[float]) -> float:
    """Voxels of the patch, padding included, per voxel of the median case."""
    return math.prod(patch_plan.patch) / math.prod(shape)


def describe_cover(patch_plan: PatchPlan, shape: Sequence[float]) -> str:
    """The share of the median case that a patch shows, in words."""
    share = share_covered(patch_plan, shape)
    return "the whole median case" if share >= 1 else f"{percent(share)} of the median case's voxels"
