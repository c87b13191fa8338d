"""Rule 10: the configurations of a dataset, by rules 1-14 and 16-18: slices, volumes, low resolution and cascade."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial

from autoseg.core.errors import MemoryShortageError, PlanError
from autoseg.core.records import Configuration, Fingerprint, MemoryFacts, PreprocessingSettings
from autoseg.planning.fitting import fit_to_memory, plan_variant
from autoseg.planning.folds import labelled_groups
from autoseg.planning.imagenet import (
    IMAGENET_CONFIGURATION,
    AtHand,
    add_imagenet_weights,
    explain_absence,
    plan_encoder,
)
from autoseg.planning.lowres import describe_cover, plan_low_resolution
from autoseg.planning.mirroring import plan_mirroring
from autoseg.planning.normalization import plan_normalization
from autoseg.planning.patch import PatchPlan, PatchProblem, fit_patch
from autoseg.planning.presets import Preset
from autoseg.planning.pricing import Cost
from autoseg.planning.sampling import add_substitutions, plan_augmentation, plan_sampling
from autoseg.planning.spacing import COARSE_RATIO, TargetGrid
from autoseg.planning.storage import plan_storage
from autoseg.planning.text import count, join
from autoseg.planning.tiling import plan_tiling
from autoseg.planning.time import PlanPatch, TimeBudget, TimedGrid, fit_to_time, plan_training, time_encoder
from autoseg.planning.training import explain_training, plan_loss


@dataclass(frozen=True, kw_only=True)
class PlannedConfigurations:
    """Configurations with their reasons; the parts of a plan are joined by ``_join``.

    Attributes:
        configurations: by name.
        reasons: "name.field", or the name of a configuration that was left out -> why.
        memory: name -> memory of a training step, where it was priced.
    """

    configurations: dict[str, Configuration] = field(default_factory=dict)
    reasons: dict[str, str] = field(default_factory=dict)
    memory: dict[str, MemoryFacts] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Budget:
    """Limits of a plan, and what it includes besides.

    Attributes:
        memory_gb: what training may use.
        cost: prices a training step; None plans by the rules alone and predicts nothing.
        networks: further networks, each with a configuration of its own; they need ``cost``.
        at_hand: whether ImageNet weights of an encoder are on this machine, for rule 10c; None, or no ``cost``, leaves
            that rule out.
        time: seconds of a training and the machine's speed; None plans for as long as the preset trains.
    """

    memory_gb: float
    cost: Cost | None = None
    networks: tuple[str, ...] = ()
    at_hand: AtHand | None = None
    time: TimeBudget | None = None


def plan_configurations(
    fingerprint: Fingerprint, grid: TargetGrid, preset: Preset, budget: Budget
) -> PlannedConfigurations:
    """Every configuration that suits the dataset, with the reason of each field and of each one left out."""
    # 10a. Volumes when there is more than one slice, slices when they are large enough.
    if grid.shape[0] <= 1:
        reason = "The median case is a single slice, so there are no volumes to train on."
        return _join(_leave_out("3d", reason), _plan_slices(fingerprint, grid, preset, budget))
    volumes = _plan_volumes(fingerprint, grid, preset, budget)
    if min(grid.shape[1:]) < preset.least_slice:
        reason = (
            f"A median slice has {join(grid.shape[1:])} voxels; with fewer than {preset.least_slice} along an axis, "
            f"slices show too little."
        )
        return _join(_leave_out("2d", reason), volumes)
    return _join(_plan_slices(fingerprint, grid, preset, budget), volumes)


def count_outputs(fingerprint: Fingerprint) -> int:
    """Logits per voxel: one per region, or one per class with background."""
    if fingerprint.regions:
        return len(fingerprint.regions)
    return sum(value != fingerprint.ignore_label for value in fingerprint.labels.values())


def _plan_slices(fingerprint: Fingerprint, grid: TargetGrid, preset: Preset, budget: Budget) -> PlannedConfigurations:
    planner = _patch_planner(fingerprint, preset, budget, 2)
    timed = fit_to_time(fingerprint, grid, budget.time, planner)
    # 11a. A slice may hold no lesion at all, and its Dice would be 0 or 1 by a voxel: pool the batch.
    make = partial(_configure, fingerprint, preset=preset, pooled=True, because="a slice may hold no lesion")
    problem, rules = planner(grid)

    def make_encoder(name: str, fitted: PatchPlan) -> PlannedConfigurations:
        """20d. It can use fine detail from the start, so it keeps the full resolution."""
        return make(time_encoder(timed, grid, problem, fitted), name, fitted)

    return _join(
        _plan_networks("2d", timed.problem, timed.patch_plan, preset, budget, partial(make, timed)),
        _plan_imagenet(fingerprint, problem, rules, preset, budget, make_encoder),
    )


def _plan_imagenet(
    fingerprint: Fingerprint,
    problem: PatchProblem,
    rules: PatchPlan,
    preset: Preset,
    budget: Budget,
    make: Callable[[str, PatchPlan], PlannedConfigurations],
) -> PlannedConfigurations:
    """10c. Slices on an encoder with ImageNet weights."""
    name = IMAGENET_CONFIGURATION
    if budget.cost is None or budget.at_hand is None:
        return PlannedConfigurations()
    absence = explain_absence(fingerprint, problem.shape, budget.at_hand)
    if absence is not None:
        return _leave_out(name, absence)
    try:
        fitted = plan_encoder(problem, rules, preset, budget_gb=budget.memory_gb, cost=budget.cost)
    except (PlanError, MemoryShortageError) as error:
        return _leave_out(name, f"{str(error)[:1].upper()}{str(error)[1:]}.")
    planned = make(name, fitted)
    configuration, reason = add_imagenet_weights(planned.configurations[name], len(labelled_groups(fingerprint)))
    return replace(
        planned, configurations={name: configuration}, reasons={**planned.reasons, f"{name}.transfer": reason}
    )


def _patch_planner(fingerprint: Fingerprint, preset: Preset, budget: Budget, dimensions: int) -> PlanPatch:
    """Rules 5-8 on a grid."""

    def plan(grid: TargetGrid) -> tuple[PatchProblem, PatchPlan]:
        problem = _describe_problem(fingerprint, grid, preset, dimensions)
        return problem, fit_patch(problem, preset, memory_gb=budget.memory_gb)

    return plan


def _plan_volumes(fingerprint: Fingerprint, grid: TargetGrid, preset: Preset, budget: Budget) -> PlannedConfigurations:
    """The full resolution and, where its patch shows too little, a low one and the cascade of both (rule 9)."""
    timed = fit_to_time(fingerprint, grid, budget.time, _patch_planner(fingerprint, preset, budget, 3))
    problem, rules = timed.problem, timed.patch_plan
    low, reason = plan_low_resolution(problem, timed.grid, rules, preset, memory_gb=budget.memory_gb)
    # 11a. A patch that shows little of a case is often without lesion, as a slice is.
    seen = f"a patch shows {'only ' if low else ''}{describe_cover(rules, problem.shape)}"
    make = partial(_configure, fingerprint, timed, preset=preset, pooled=low is not None, because=seen)
    full = _plan_networks("3d", problem, rules, preset, budget, make)
    if timed.is_short:
        # 20c. Three trainings of a cascade share what is too short for one.
        return _join(full, _leave_out("3d_lowres", f"{timed.reason}: too short for a cascade."))
    if low is None:
        return _join(full, _leave_out("3d_lowres", reason))
    seen = f"a patch shows {describe_cover(low.patch_plan, low.grid.shape)}"
    fitted = _fit_to_memory(low.problem, low.patch_plan, preset, budget)
    coarse_grid = replace(timed, grid=low.grid, problem=low.problem, patch_plan=fitted)
    coarse = _configure(fingerprint, coarse_grid, "3d_lowres", fitted, preset=preset, pooled=False, because=seen)
    masks = count_outputs(fingerprint) - (not fingerprint.regions)
    with_masks = replace(problem, input_channels=problem.input_channels + masks)
    cascade = make("3d_cascade", _fit_to_memory(with_masks, rules, preset, budget))
    return _join(full, coarse, _add_cascade_input(cascade, masks))


def _plan_networks(
    name: str,
    problem: PatchProblem,
    rules: PatchPlan,
    preset: Preset,
    budget: Budget,
    make: Callable[[str, PatchPlan], PlannedConfigurations],
) -> PlannedConfigurations:
    """The preset's own network, and every further one that was requested, on the same patch and batch."""
    parts = [make(name, _fit_to_memory(problem, rules, preset, budget))]
    for network in budget.networks:
        if budget.cost is None or network == preset.network:
            continue
        variant_name = f"{name}_{network}"
        try:
            variant = plan_variant(problem, rules, network, preset, budget_gb=budget.memory_gb, cost=budget.cost)
        except (PlanError, MemoryShortageError) as error:
            parts.append(_leave_out(variant_name, f"{str(error)[:1].upper()}{str(error)[1:]}."))
        else:
            parts.append(make(variant_name, variant))
    return _join(*parts)


def _fit_to_memory(problem: PatchProblem, rules: PatchPlan, preset: Preset, budget: Budget) -> PatchPlan:
    """Rule 16, where a step can be priced."""
    if budget.cost is None:
        return rules
    return fit_to_memory(problem, rules, preset, budget_gb=budget.memory_gb, cost=budget.cost)


def _add_cascade_input(full: PlannedConfigurations, masks: int) -> PlannedConfigurations:
    """9c. A full resolution whose network also sees the low resolution's prediction."""
    ((name, configuration),) = full.configurations.items()
    reason = (
        f"As 3d, but the network also sees the prediction of 3d_lowres ({count(masks, 'mask')}, resampled to this "
        f"grid), because its own patch shows too little of the surroundings."
    )
    # 13c. Predictions on held-out cases have errors; a network that is trained with errors does not merely copy them.
    #      Source: nnU-Net, doi:10.1038/s41592-020-01008-z.
    imperfect = {"mask_shape_probability": 0.4, "mask_removal_probability": 0.2}
    augmentation = configuration.augmentation.model_copy(update=imperfect)
    why_changed = (
        f"{full.reasons[f'{name}.augmentation']} The masks of 3d_lowres are dilated, eroded, opened or closed in 40% "
        f"of the patches and lose a component in 20%, so that the network learns to correct them instead of copying."
    )
    update = {"cascade_from": "3d_lowres", "augmentation": augmentation}
    return replace(
        full,
        configurations={name: configuration.model_copy(update=update)},
        reasons={**full.reasons, f"{name}.cascade_from": reason, f"{name}.augmentation": why_changed},
    )


def _leave_out(name: str, reason: str) -> PlannedConfigurations:
    return PlannedConfigurations(reasons={name: reason})


def _join(*parts: PlannedConfigurations) -> PlannedConfigurations:
    return PlannedConfigurations(
        configurations={name: configuration for part in parts for name, configuration in part.configurations.items()},
        reasons={key: reason for part in parts for key, reason in part.reasons.items()},
        memory={name: facts for part in parts for name, facts in part.memory.items()},
    )


def _describe_problem(fingerprint: Fingerprint, grid: TargetGrid, preset: Preset, dimensions: int) -> PatchProblem:
    axes = slice(3 - dimensions, 3)
    outputs = count_outputs(fingerprint)
    if preset.counts_all_labels:
        outputs += bool(fingerprint.regions) + (fingerprint.ignore_label is not None)
    return PatchProblem(
        spacing=grid.spacing[axes],
        shape=grid.shape[axes],
        dataset_voxels=math.prod(grid.shape) * grid.cases,
        input_channels=len(fingerprint.channels),
        output_channels=outputs,
    )


def _configure(
    fingerprint: Fingerprint,
    timed: TimedGrid,
    name: str,
    patch_plan: PatchPlan,
    *,
    preset: Preset,
    pooled: bool,
    because: str,
) -> PlannedConfigurations:
    """One complete configuration and the reason of each of its fields."""
    grid = timed.grid
    preprocessing, reasons = _plan_preprocessing(fingerprint, grid, preset, len(patch_plan.patch))
    loss, reasons["loss"] = plan_loss(fingerprint, patch_plan.network, pooled=pooled, because=because)
    sampling, reasons["sampling"] = plan_sampling(fingerprint, by_lesion=preset.lesion_sampling)
    mirroring = plan_mirroring(
        fingerprint, grid.axis_order, len(patch_plan.patch), keeps_positional_axes=preset.keeps_positional_axes
    )
    augmentation, reasons["augmentation"] = plan_augmentation(
        patch_plan.patch, mirroring, light=preset.light_augmentation
    )
    if preset.substitutes_channels:
        augmentation, why_copies = add_substitutions(fingerprint, augmentation)
        reasons["augmentation"] += why_copies
    tiling, reasons["tiling"] = plan_tiling(preset, patch_plan.patch, grid.shape, patch_plan.gflop, mirroring)
    training, why_training = plan_training(preset, timed, patch_plan)
    configuration = Configuration(
        dimensions=len(patch_plan.patch),  # type: ignore[arg-type]
        preprocessing=preprocessing,
        patch_size=patch_plan.patch,
        batch_size=patch_plan.batch,
        network=patch_plan.network,
        loss=loss,
        optimiser=preset.optimiser,
        training=training,
        sampling=sampling,
        augmentation=augmentation,
        tiling=tiling,
    )
    reasons |= patch_plan.reasons | explain_training(preset) | why_training
    return PlannedConfigurations(
        configurations={name: configuration},
        reasons={f"{name}.{key}": reason for key, reason in reasons.items()},
        memory={} if patch_plan.predicted_gb is None else {name: MemoryFacts(predicted_gb=patch_plan.predicted_gb)},
    )


def _plan_preprocessing(
    fingerprint: Fingerprint, grid: TargetGrid, preset: Preset, dimensions: int
) -> tuple[PreprocessingSettings, dict[str, str]]:
    """Rules 1-4."""
    channels, why_channels = plan_normalization(fingerprint, preset.channel_names, grid.region)
    reasons = {f"preprocessing.{key}": reason for key, reason in grid.reasons.items()}
    reasons["preprocessing.channels"] = why_channels
    # 4. The record's defaults: images cubic, labels and probabilities linear, a coarse axis separately.
    reasons["preprocessing.resampling"] = (
        f"Images are interpolated by cubic splines (order 3), labels linearly, class by class (order 1). Where the "
        f"largest spacing of a case is over {COARSE_RATIO:.0f} times the smallest, that axis takes the nearest slice."
    )
    first, second, third = grid.spacing
    if dimensions == 2:
        reasons["preprocessing.spacing"] += " Slices are not resampled along the first axis."
    settings = PreprocessingSettings(
        region=grid.region,
        orientation=grid.orientation,
        axis_order=grid.axis_order,
        spacing=(None if dimensions == 2 else first, second, third),
        channels=channels,
        coarse_axis_ratio=COARSE_RATIO,
    )
    settings, reasons["preprocessing.storage"] = plan_storage(fingerprint, settings, preset)
    return settings, reasons
