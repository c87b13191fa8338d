"""The whole plan: rules 1-14 in their order, one configuration for slices and one for volumes."""

from __future__ import annotations

import math

from autoseg.core.errors import DataError, UsageError
from autoseg.core.records import Configuration, Fingerprint, Plan, PreprocessingSettings
from autoseg.planning.normalization import plan_normalization
from autoseg.planning.patch import Task, fit_patch
from autoseg.planning.presets import Preset, find_preset
from autoseg.planning.sampling import plan_augmentation, plan_sampling
from autoseg.planning.spacing import COARSE_RATIO, TargetGrid, join, plan_grid
from autoseg.planning.tiling import plan_tiling
from autoseg.planning.training import explain_training, plan_loss

SLICE_EXTENT = 16  # in-plane voxels below which slices say too little


def make_plan(fingerprint: Fingerprint, *, preset: str, memory_gb: float, seed: int = 12345) -> Plan:
    """Decide everything, each value with its reason; the same fingerprint and budget give the same plan.

    Args:
        fingerprint: of the dataset.
        preset: ``pocket`` (no GPU), ``standard`` or ``large``.
        memory_gb: what training may use, of the GPU or of the machine without one.
        seed: of every random stream of training.

    Raises:
        UsageError: no such preset, or a budget that is not positive.
        DataError: the fingerprint has no case or no labelled voxel.
        MemoryShortageError: nothing fits the budget.
    """
    numbers = find_preset(preset)
    if not (math.isfinite(memory_gb) and memory_gb > 0):
        raise UsageError(f"a budget of {memory_gb:g} GB cannot hold a network; give a positive number of GB")
    _check_labels(fingerprint)
    grid = plan_grid(fingerprint)
    names, left_out = _choose_dimensions(grid)
    reasons = {"memory_gb": _explain_budget(numbers, memory_gb), **left_out}
    configurations = {}
    for name, dimensions in names.items():
        configurations[name], why = _configure(fingerprint, grid, numbers, dimensions, memory_gb)
        reasons |= {f"{name}.{key}": reason for key, reason in why.items()}
    recommended, reasons["recommended"] = _recommend(grid, tuple(names))
    return Plan(
        dataset=fingerprint.dataset,
        channels=fingerprint.channels,
        labels=fingerprint.labels,
        regions=fingerprint.regions,
        ignore_label=fingerprint.ignore_label,
        preset=preset,  # type: ignore[arg-type]
        memory_gb=memory_gb,
        seed=seed,
        recommended=recommended,
        reasons=reasons,
        configurations=configurations,
    )


def count_outputs(fingerprint: Fingerprint) -> int:
    """Logits per voxel: one per region, or one per class with background."""
    if fingerprint.regions:
        return len(fingerprint.regions)
    return sum(value != fingerprint.ignore_label for value in fingerprint.labels.values())


def _check_labels(fingerprint: Fingerprint) -> None:
    if not any(sum(case.label_voxels.values()) for case in fingerprint.cases):
        raise DataError(
            f"dataset {fingerprint.dataset} has no labelled voxel in any of its {len(fingerprint.cases)} cases; "
            f"add label files, or check that their values are those of dataset.json"
        )


def _choose_dimensions(grid: TargetGrid) -> tuple[dict[str, int], dict[str, str]]:
    """Rule 10: volumes when there is more than one slice, slices when they are large enough; else why not."""
    if grid.shape[0] <= 1:
        return {"2d": 2}, {"3d": f"The median case has {grid.shape[0]:g} slice, so there is no volume to learn from."}
    if min(grid.shape[1:]) < SLICE_EXTENT:
        small = f"A median slice has {join(grid.shape[1:])} voxels, below {SLICE_EXTENT}; volumes say more."
        return {"3d": 3}, {"2d": small}
    return {"2d": 2, "3d": 3}, {}


def _configure(
    fingerprint: Fingerprint, grid: TargetGrid, preset: Preset, dimensions: int, memory_gb: float
) -> tuple[Configuration, dict[str, str]]:
    """One complete configuration and the reason of each of its fields."""
    axes = slice(3 - dimensions, 3)
    task = Task(
        spacing=grid.spacing[axes],
        shape=grid.shape[axes],
        dataset_voxels=math.prod(grid.shape) * grid.cases,
        input_channels=len(fingerprint.channels),
        output_channels=count_outputs(fingerprint),
    )
    preprocessing, reasons = _plan_preprocessing(fingerprint, grid, dimensions)
    fit = fit_patch(task, preset, memory_gb=memory_gb)
    loss, reasons["loss"] = plan_loss(fingerprint, fit.network, dimensions)
    sampling, reasons["sampling"] = plan_sampling(fingerprint)
    augmentation, reasons["augmentation"] = plan_augmentation(fit.patch)
    tiling, reasons["tiling"] = plan_tiling(preset, fit.patch, grid.shape, fit.gflop)
    configuration = Configuration(
        dimensions=dimensions,  # type: ignore[arg-type]
        preprocessing=preprocessing,
        patch_size=fit.patch,
        batch_size=fit.batch,
        network=fit.network,
        loss=loss,
        optimiser=preset.optimiser,
        training=preset.training,
        sampling=sampling,
        augmentation=augmentation,
        tiling=tiling,
    )
    return configuration, reasons | fit.reasons | explain_training(preset)


def _plan_preprocessing(
    fingerprint: Fingerprint, grid: TargetGrid, dimensions: int
) -> tuple[PreprocessingSettings, dict[str, str]]:
    """Rules 1-4."""
    channels, why_channels = plan_normalization(fingerprint)
    reasons = {f"preprocessing.{key}": why for key, why in grid.reasons.items()}
    reasons["preprocessing.channels"] = why_channels
    # 4. The record's defaults: images cubic, labels and probabilities linear, a coarse axis apart.
    reasons["preprocessing.resampling"] = (
        f"Images are interpolated by cubic splines (order 3), labels linearly per class (order 1); in a case whose "
        f"spacings differ by more than {COARSE_RATIO:.0f} times, the coarse axis takes the nearest slice."
    )
    first, second, third = grid.spacing
    if dimensions == 2:
        reasons["preprocessing.spacing"] += " Slices are not resampled along the first axis."
    settings = PreprocessingSettings(
        axis_order=grid.axis_order,
        spacing=(None if dimensions == 2 else first, second, third),
        channels=channels,
        coarse_axis_ratio=COARSE_RATIO,
    )
    return settings, reasons


def _explain_budget(preset: Preset, memory_gb: float) -> str:
    slices, volumes = (elements * memory_gb / preset.reference_gb for elements in preset.reference_elements)
    return (
        f"{memory_gb:g} GB hold {slices:.3g} convolution outputs per slice at a batch of {preset.reference_batch[0]} "
        f"or {volumes:.3g} per volume at a batch of {preset.reference_batch[1]}, in proportion to the "
        f"{preset.reference_gb:g} GB that preset's reference numbers were measured at."
    )


def _recommend(grid: TargetGrid, names: tuple[str, ...]) -> tuple[str, str]:
    """The configuration to train first, and why."""
    if len(names) == 1:
        return names[0], f"{names[0]} is the only configuration: the median case has {join(grid.shape)} voxels."
    ratio = grid.spacing[0] / max(grid.spacing[1:])
    if grid.is_coarse:
        return "2d", (
            f"Slices lie {ratio:.2g} times further apart than their voxels ({join(grid.spacing)} mm), so neighbours "
            f"share little; compare with 3d by cross-validation."
        )
    return "3d", (
        f"Slices lie only {ratio:.2g} times as far apart as their voxels ({join(grid.spacing)} mm), so a lesion's "
        f"neighbours in all directions help."
    )
