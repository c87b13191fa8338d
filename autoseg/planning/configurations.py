"""Rules 1-14 in their order: a configuration for slices, for volumes, and for coarse volumes with their cascade."""

from __future__ import annotations

import math

from autoseg.core.records import Configuration, Fingerprint, PreprocessingSettings
from autoseg.planning.lowres import plan_low_resolution, share_covered
from autoseg.planning.mirroring import plan_mirroring
from autoseg.planning.normalization import plan_normalization
from autoseg.planning.patch import Fit, Task, fit_patch
from autoseg.planning.presets import Preset
from autoseg.planning.sampling import plan_augmentation, plan_sampling
from autoseg.planning.spacing import COARSE_RATIO, TargetGrid, join
from autoseg.planning.tiling import plan_tiling
from autoseg.planning.training import explain_training, plan_loss

# Configurations by name, and "name.field" (or the name of one left out) -> why.
Configured = tuple[dict[str, Configuration], dict[str, str]]


def plan_configurations(
    fingerprint: Fingerprint, grid: TargetGrid, preset: Preset, *, memory_gb: float, cascade: bool = True
) -> Configured:
    """Every configuration that the dataset calls for, with the reason of each field and of each one left out."""
    # 10. Volumes when there is more than one slice, slices when they are large enough.
    if grid.shape[0] <= 1:
        why = f"The median case has {grid.shape[0]:g} slice, so there is no volume to learn from."
        return _join(({}, {"3d": why}), _plan_slices(fingerprint, grid, preset, memory_gb))
    volumes = _plan_volumes(fingerprint, grid, preset, memory_gb, cascade)
    if min(grid.shape[1:]) < preset.least_slice:
        why = f"A median slice has {join(grid.shape[1:])} voxels, below {preset.least_slice}; volumes say more."
        return _join(({}, {"2d": why}), volumes)
    return _join(_plan_slices(fingerprint, grid, preset, memory_gb), volumes)


def count_outputs(fingerprint: Fingerprint) -> int:
    """Logits per voxel: one per region, or one per class with background."""
    if fingerprint.regions:
        return len(fingerprint.regions)
    return sum(value != fingerprint.ignore_label for value in fingerprint.labels.values())


def _plan_slices(fingerprint: Fingerprint, grid: TargetGrid, preset: Preset, memory_gb: float) -> Configured:
    fit = fit_patch(_describe_task(fingerprint, grid, preset, 2), preset, memory_gb=memory_gb)
    # 9b. A slice may hold no lesion at all, and its Dice would be 0 or 1 by a voxel: pool the batch.
    return _configure("2d", fingerprint, grid, preset, fit, pooled=True, because="a slice may be empty")


def _plan_volumes(
    fingerprint: Fingerprint, grid: TargetGrid, preset: Preset, memory_gb: float, cascade: bool
) -> Configured:
    """The full resolution and, where its patch shows too little, a low one and the cascade of both (rule 9)."""
    task = _describe_task(fingerprint, grid, preset, 3)
    fit = fit_patch(task, preset, memory_gb=memory_gb)
    low, why = plan_low_resolution(task, grid, fit, preset, memory_gb=memory_gb)
    share = f"{share_covered(fit, task.shape):.0%} of the median case's voxels"
    # 9b. A patch that shows little of a case is often without lesion, as a slice is.
    seen = f"a patch shows {'only ' if low else ''}{share}"
    full = _configure("3d", fingerprint, grid, preset, fit, pooled=low is not None, because=seen)
    if low is None:
        return _join(full, ({}, {"3d_lowres": why}))
    seen = f"a patch shows {share_covered(low.fit, low.grid.shape):.0%} of the median case's voxels"
    coarse = _configure("3d_lowres", fingerprint, low.grid, preset, low.fit, pooled=False, because=seen)
    if not cascade:
        return _join(full, coarse)
    return _join(full, coarse, _cascade(full, count_outputs(fingerprint) - (not fingerprint.regions)))


def _cascade(full: Configured, masks: int) -> Configured:
    """The full resolution again, with the low one's prediction beside the scan."""
    (configuration,), (_, reasons) = full[0].values(), full
    why = (
        f"As 3d, but its network also sees the prediction of 3d_lowres, {masks} mask{'s'[: masks != 1]} resampled to "
        f"this grid, because its own patch shows too little of the surroundings."
    )
    copied = {key.replace("3d.", "3d_cascade.", 1): reason for key, reason in reasons.items()}
    return (
        {"3d_cascade": configuration.model_copy(update={"cascade_from": "3d_lowres"})},
        {**copied, "3d_cascade.cascade_from": why},
    )


def _join(*parts: Configured) -> Configured:
    configurations = {name: made for part, _ in parts for name, made in part.items()}
    return configurations, {key: reason for _, part in parts for key, reason in part.items()}


def _describe_task(fingerprint: Fingerprint, grid: TargetGrid, preset: Preset, dimensions: int) -> Task:
    axes = slice(3 - dimensions, 3)
    outputs = count_outputs(fingerprint)
    if preset.counts_all_labels:
        outputs += bool(fingerprint.regions) + (fingerprint.ignore_label is not None)
    return Task(
        spacing=grid.spacing[axes],
        shape=grid.shape[axes],
        dataset_voxels=math.prod(grid.shape) * grid.cases,
        input_channels=len(fingerprint.channels),
        output_channels=outputs,
    )


def _configure(
    name: str, fingerprint: Fingerprint, grid: TargetGrid, preset: Preset, fit: Fit, *, pooled: bool, because: str
) -> Configured:
    """One complete configuration and the reason of each of its fields."""
    preprocessing, reasons = _plan_preprocessing(fingerprint, grid, preset, len(fit.patch))
    loss, reasons["loss"] = plan_loss(fingerprint, fit.network, pooled=pooled, because=because)
    sampling, reasons["sampling"] = plan_sampling(fingerprint, by_lesion=preset.lesion_sampling)
    mirroring = plan_mirroring(fingerprint, grid.axis_order, len(fit.patch), spares_positions=preset.spares_positions)
    augmentation, reasons["augmentation"] = plan_augmentation(fit.patch, mirroring, light=preset.light_augmentation)
    tiling, reasons["tiling"] = plan_tiling(preset, fit.patch, grid.shape, fit.gflop, mirroring)
    configuration = Configuration(
        dimensions=len(fit.patch),  # type: ignore[arg-type]
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
    reasons |= fit.reasons | explain_training(preset)
    return {name: configuration}, {f"{name}.{key}": reason for key, reason in reasons.items()}


def _plan_preprocessing(
    fingerprint: Fingerprint, grid: TargetGrid, preset: Preset, dimensions: int
) -> tuple[PreprocessingSettings, dict[str, str]]:
    """Rules 1-4."""
    channels, why_channels = plan_normalization(fingerprint, preset.channel_names)
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
        orientation=grid.orientation,
        axis_order=grid.axis_order,
        spacing=(None if dimensions == 2 else first, second, third),
        channels=channels,
        coarse_axis_ratio=COARSE_RATIO,
    )
    return settings, reasons
