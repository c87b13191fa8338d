"""Rules 1-14 in their order: a configuration for slices, for volumes, and for coarse volumes with their cascade."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial

from autoseg.core.errors import MemoryShortageError, PlanError
from autoseg.core.records import Configuration, Fingerprint, MemoryFacts, PreprocessingSettings
from autoseg.planning.fitting import plan_variant, settle
from autoseg.planning.lowres import plan_low_resolution, share_covered
from autoseg.planning.mirroring import plan_mirroring
from autoseg.planning.normalization import plan_normalization
from autoseg.planning.patch import Fit, Task, fit_patch
from autoseg.planning.presets import Preset
from autoseg.planning.pricing import Cost
from autoseg.planning.sampling import plan_augmentation, plan_sampling
from autoseg.planning.spacing import COARSE_RATIO, TargetGrid, join
from autoseg.planning.storage import plan_storage
from autoseg.planning.tiling import plan_tiling
from autoseg.planning.training import explain_training, plan_loss


@dataclass(frozen=True, kw_only=True)
class Configured:
    """What was planned so far.

    Attributes:
        configurations: by name.
        reasons: "name.field", or the name of one that was left out -> why.
        memory: name -> what a step needs, where it was priced.
    """

    configurations: dict[str, Configuration] = field(default_factory=dict)
    reasons: dict[str, str] = field(default_factory=dict)
    memory: dict[str, MemoryFacts] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Budget:
    """What a plan must stay within, and what it shall hold besides.

    Attributes:
        memory_gb: what training may use.
        cost: prices a training step; None plans by the rules alone and predicts nothing.
        networks: further networks, each with a configuration of its own; they need ``cost``.
    """

    memory_gb: float
    cost: Cost | None = None
    networks: tuple[str, ...] = ()


def plan_configurations(fingerprint: Fingerprint, grid: TargetGrid, preset: Preset, budget: Budget) -> Configured:
    """Every configuration that the dataset calls for, with the reason of each field and of each one left out."""
    # 10. Volumes when there is more than one slice, slices when they are large enough.
    if grid.shape[0] <= 1:
        why = f"The median case has {grid.shape[0]:g} slice, so there is no volume to learn from."
        return _join(_left_out("3d", why), _plan_slices(fingerprint, grid, preset, budget))
    volumes = _plan_volumes(fingerprint, grid, preset, budget)
    if min(grid.shape[1:]) < preset.least_slice:
        why = f"A median slice has {join(grid.shape[1:])} voxels, below {preset.least_slice}; volumes say more."
        return _join(_left_out("2d", why), volumes)
    return _join(_plan_slices(fingerprint, grid, preset, budget), volumes)


def count_outputs(fingerprint: Fingerprint) -> int:
    """Logits per voxel: one per region, or one per class with background."""
    if fingerprint.regions:
        return len(fingerprint.regions)
    return sum(value != fingerprint.ignore_label for value in fingerprint.labels.values())


def _plan_slices(fingerprint: Fingerprint, grid: TargetGrid, preset: Preset, budget: Budget) -> Configured:
    task = _describe_task(fingerprint, grid, preset, 2)
    fit = fit_patch(task, preset, memory_gb=budget.memory_gb)
    # 9b. A slice may hold no lesion at all, and its Dice would be 0 or 1 by a voxel: pool the batch.
    make = partial(_configure, fingerprint, grid, preset, pooled=True, because="a slice may be empty")
    return _plan_networks("2d", task, fit, preset, budget, make)


def _plan_volumes(fingerprint: Fingerprint, grid: TargetGrid, preset: Preset, budget: Budget) -> Configured:
    """The full resolution and, where its patch shows too little, a low one and the cascade of both (rule 9)."""
    task = _describe_task(fingerprint, grid, preset, 3)
    fit = fit_patch(task, preset, memory_gb=budget.memory_gb)
    low, why = plan_low_resolution(task, grid, fit, preset, memory_gb=budget.memory_gb)
    share = f"{share_covered(fit, task.shape):.0%} of the median case's voxels"
    # 9b. A patch that shows little of a case is often without lesion, as a slice is.
    seen = f"a patch shows {'only ' if low else ''}{share}"
    make = partial(_configure, fingerprint, grid, preset, pooled=low is not None, because=seen)
    full = _plan_networks("3d", task, fit, preset, budget, make)
    if low is None:
        return _join(full, _left_out("3d_lowres", why))
    seen = f"a patch shows {share_covered(low.fit, low.grid.shape):.0%} of the median case's voxels"
    settled = _settle(low.task, low.fit, preset, budget)
    coarse = _configure(fingerprint, low.grid, preset, "3d_lowres", settled, pooled=False, because=seen)
    masks = count_outputs(fingerprint) - (not fingerprint.regions)
    fed = replace(task, input_channels=task.input_channels + masks)
    return _join(full, coarse, _feed(make("3d_cascade", _settle(fed, fit, preset, budget)), masks))


def _plan_networks(
    name: str, task: Task, fit: Fit, preset: Preset, budget: Budget, make: Callable[[str, Fit], Configured]
) -> Configured:
    """The preset's own network, and every further one that was asked for, on the same patch and batch."""
    parts = [make(name, _settle(task, fit, preset, budget))]
    for network in budget.networks:
        if budget.cost is None or network == preset.network:
            continue
        own = f"{name}_{network}"
        try:
            variant = plan_variant(task, fit, network, preset, budget_gb=budget.memory_gb, cost=budget.cost)
        except (PlanError, MemoryShortageError) as error:
            parts.append(_left_out(own, f"{str(error)[:1].upper()}{str(error)[1:]}."))
        else:
            parts.append(make(own, variant))
    return _join(*parts)


def _settle(task: Task, fit: Fit, preset: Preset, budget: Budget) -> Fit:
    """Rule 16, where a step can be priced."""
    if budget.cost is None:
        return fit
    return settle(task, fit, preset, budget_gb=budget.memory_gb, cost=budget.cost)


def _feed(full: Configured, masks: int) -> Configured:
    """A full resolution with the low one's prediction beside the scan."""
    ((name, configuration),) = full.configurations.items()
    why = (
        f"As 3d, but its network also sees the prediction of 3d_lowres, {masks} mask{'s'[: masks != 1]} resampled to "
        f"this grid, because its own patch shows too little of the surroundings."
    )
    # 13c. Masks of cases that were held out are never right; a network that sees them so does not merely copy them.
    #      Source: nnU-Net, doi:10.1038/s41592-020-01008-z.
    imperfect = {"mask_shape_probability": 0.4, "mask_removal_probability": 0.2}
    augmentation = configuration.augmentation.model_copy(update=imperfect)
    why_changed = (
        f"{full.reasons[f'{name}.augmentation']} The masks of 3d_lowres are dilated, eroded, opened or closed in 40% "
        f"of the patches and lose a component in 20%, so that the network learns to mend them and not to copy them."
    )
    update = {"cascade_from": "3d_lowres", "augmentation": augmentation}
    return replace(
        full,
        configurations={name: configuration.model_copy(update=update)},
        reasons={**full.reasons, f"{name}.cascade_from": why, f"{name}.augmentation": why_changed},
    )


def _left_out(name: str, why: str) -> Configured:
    return Configured(reasons={name: why})


def _join(*parts: Configured) -> Configured:
    return Configured(
        configurations={name: made for part in parts for name, made in part.configurations.items()},
        reasons={key: reason for part in parts for key, reason in part.reasons.items()},
        memory={name: facts for part in parts for name, facts in part.memory.items()},
    )


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
    fingerprint: Fingerprint, grid: TargetGrid, preset: Preset, name: str, fit: Fit, *, pooled: bool, because: str
) -> Configured:
    """One complete configuration and the reason of each of its fields."""
    preprocessing, reasons = _plan_preprocessing(fingerprint, grid, preset, len(fit.patch))
    loss, reasons["loss"] = plan_loss(fingerprint, fit.network, pooled=pooled, because=because)
    sampling, reasons["sampling"] = plan_sampling(fingerprint, by_lesion=preset.lesion_sampling)
    mirroring = plan_mirroring(
        fingerprint, grid.axis_order, len(fit.patch), keeps_positional_axes=preset.keeps_positional_axes
    )
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
        training=preset.training.model_copy(update={"accumulation": fit.accumulation}),
        sampling=sampling,
        augmentation=augmentation,
        tiling=tiling,
    )
    reasons |= fit.reasons | explain_training(preset)
    return Configured(
        configurations={name: configuration},
        reasons={f"{name}.{key}": reason for key, reason in reasons.items()},
        memory={} if fit.predicted_gb is None else {name: MemoryFacts(predicted_gb=fit.predicted_gb)},
    )


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
    settings, reasons["preprocessing.storage"] = plan_storage(fingerprint, settings, preset)
    return settings, reasons
