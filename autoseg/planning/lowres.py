"""Rule 9: a coarser configuration for when a patch shows too little of a case, and the cascade that it feeds."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from autoseg.planning.patch import Fit, Task, fit_patch
from autoseg.planning.presets import Preset
from autoseg.planning.spacing import TargetGrid, join

LEAST_COVER = 0.25  # of the median case, in a patch
COARSER = 1.03  # per step
NEAR = 2.0  # axes whose spacings differ by less grow together
LEAST_GAIN = 2.0  # voxels of the full resolution per voxel of the low one


@dataclass(frozen=True, kw_only=True)
class LowResolution:
    """A coarser grid, and what fits there.

    Attributes:
        grid: with its own spacing, shape and reasons.
        task: what the patch was planned for.
        fit: patch, batch and network.
    """

    grid: TargetGrid
    task: Task
    fit: Fit


def plan_low_resolution(
    task: Task, grid: TargetGrid, fit: Fit, preset: Preset, *, memory_gb: float
) -> tuple[LowResolution | None, str]:
    """The low resolution that a full one calls for, or None; and why.

    Args:
        task, grid, fit: of the full resolution, three axes.

    Source: nnU-Net, doi:10.1038/s41592-020-01008-z, supplementary note on the cascade.
    """
    found = f"A patch at full resolution covers {share_covered(fit, task.shape):.0%} of the median case's voxels"
    spacing, shape, low = task.spacing, task.shape, fit
    # 9a. Coarser until a patch covers a quarter of the median case. Shares are taken of the unrounded shape.
    while share_covered(low, shape) < LEAST_COVER:
        spacing = coarsen(spacing)
        shape = tuple(full / now * n for full, now, n in zip(task.spacing, spacing, task.shape, strict=True))
        rounded = tuple(float(max(1, round(n))) for n in shape)
        smaller = replace(task, spacing=spacing, shape=rounded, dataset_voxels=math.prod(shape) * grid.cases)
        low = fit_patch(smaller, preset, memory_gb=memory_gb)
    if low is fit:
        return None, f"{found}, at least {LEAST_COVER:.0%}, so it shows enough of the surroundings."
    # 9b. Nearly the same spacing would be nearly the same configuration.
    gain = math.prod(task.shape) / math.prod(shape)
    if gain < LEAST_GAIN:
        return None, (
            f"{found}, but at {join(spacing)} mm, where one covers {LEAST_COVER:.0%}, a case has only {gain:.2g} times "
            f"fewer voxels, below {LEAST_GAIN:g}: too little to gain."
        )
    why = (
        f"{join(spacing)} mm: {found[0].lower()}{found[1:]}, below {LEAST_COVER:.0%}, so spacings were raised in steps "
        f"of {COARSER - 1:.0%}, the finer axes first where they differ by over {NEAR:g} times, until one covers "
        f"{share_covered(low, shape):.0%}."
    )
    coarse = replace(grid, spacing=spacing, shape=smaller.shape, reasons={**grid.reasons, "spacing": why})
    return LowResolution(grid=coarse, task=smaller, fit=low), why


def coarsen(spacing: Sequence[float]) -> tuple[float, ...]:
    """Spacings one step coarser: those far below the coarsest axis alone, while there are any, else all."""
    coarsest = max(spacing)
    far = [coarsest / s > NEAR for s in spacing]
    return tuple(s * COARSER if is_far or not any(far) else s for s, is_far in zip(spacing, far, strict=True))


def share_covered(fit: Fit, shape: Sequence[float]) -> float:
    """Voxels of the patch, padding included, per voxel of the median case."""
    return math.prod(fit.patch) / math.prod(shape)
