"""The whole plan: checks, configurations, the one to train first (10b), and reasons."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Literal

from autoseg.core.choices import PresetName
from autoseg.core.errors import DataError, UsageError
from autoseg.core.records import Configuration, Fingerprint, Plan
from autoseg.fingerprint import crop_to_region
from autoseg.planning.configurations import Budget, plan_configurations
from autoseg.planning.imagenet import AtHand
from autoseg.planning.normalization import plan_region
from autoseg.planning.presets import NNUNET_PLANNERS, Preset, check_class_weights, find_preset
from autoseg.planning.pricing import Cost
from autoseg.planning.spacing import TargetGrid, plan_grid
from autoseg.planning.text import amount, join
from autoseg.planning.time import TimeBudget
from autoseg.planning.training import weigh_loss


def make_plan(
    fingerprint: Fingerprint,
    *,
    preset: PresetName,
    memory_gb: float,
    seed: int = 12345,
    compat: Literal["nnunet"] | None = None,
    networks: tuple[str, ...] = (),
    class_weights: Literal["frequency"] | None = None,
    cost: Cost | None = None,
    at_hand: AtHand | None = None,
    time: TimeBudget | None = None,
) -> Plan:
    """Choose every value, each with its reason; the same fingerprint and budget give the same plan.

    Args:
        fingerprint: of the dataset.
        preset: a name in the PRESETS table.
        memory_gb: memory that training may use, of the GPU or of the machine without one.
        seed: of every random stream of training.
        compat: ``nnunet`` makes every choice as nnU-Net's planner does, on the axes as they are stored.
        networks: further networks; each adds ``3d_<network>`` and ``2d_<network>``, and needs ``cost``.
        class_weights: ``frequency`` weights the classes of every loss by the inverse of their share of the voxels.
        cost: prices a training step (``price_step``): a configuration over the budget is made cheaper, and the plan
            holds the prediction. None plans by nnU-Net's rules alone, which hold from 4 GB on.
        at_hand: whether ImageNet weights of an encoder are on this machine (``weights_at_hand``): where they are and
            cases are few, ``2d_imagenet`` is added, which needs ``cost``; never with ``compat``.
        time: seconds of one fold's training and the machine's speed; None plans for the preset's length.

    Raises:
        UsageError: no such preset (or nnU-Net has none like it) or network, or a budget that is not positive.
        PlanError: class weights are requested, and a label occurs nowhere.
        DataError: the fingerprint has no case or no labelled voxel.
        MemoryShortageError: nothing fits the budget.
    """
    table = find_preset(preset, compat)
    check_class_weights(class_weights, compat)
    if not (math.isfinite(memory_gb) and memory_gb > 0):
        raise UsageError(f"--memory must be positive, not {memory_gb:g} GB")
    _check_labels(fingerprint)
    fingerprint, grid = _crop_and_plan_grid(fingerprint, table)
    at_hand = at_hand if compat is None else None
    budget = Budget(memory_gb=memory_gb, cost=cost, networks=networks, at_hand=at_hand, time=time)
    planned = plan_configurations(fingerprint, grid, table, budget)
    configurations, reasons = planned.configurations, dict(planned.reasons)
    if class_weights is not None:
        configurations = _weigh_losses(fingerprint, configurations, reasons)
    reasons |= _explain_budget(table, memory_gb, time)
    if compat is not None:
        reasons["compat"] = _explain_compat(preset, memory_gb)
    recommended, reasons["recommended"] = _recommend(grid, tuple(planned.configurations))
    return Plan(
        dataset=fingerprint.dataset,
        channels=fingerprint.channels,
        labels=fingerprint.labels,
        regions=fingerprint.regions,
        ignore_label=fingerprint.ignore_label,
        preset=preset,
        memory_gb=memory_gb,
        compat=compat,
        seed=seed,
        networks=networks,
        class_weights=class_weights,
        time_budget_s=None if time is None else time.seconds,
        speed=None if time is None else time.speed,
        recommended=recommended,
        reasons=reasons,
        memory=planned.memory,
        configurations=configurations,
    )


def _crop_and_plan_grid(fingerprint: Fingerprint, table: Preset) -> tuple[Fingerprint, TargetGrid]:
    """Rules 1, 2 and 3c: the fingerprint of the cropped scans, and the grid to train on."""
    region, reason = plan_region(fingerprint) if table.finds_head else ("nonzero", "As nnU-Net crops.")
    fingerprint = crop_to_region(fingerprint, region)
    grid = plan_grid(fingerprint, table.orientation)
    return fingerprint, replace(grid, region=region, reasons={**grid.reasons, "region": reason})


def _weigh_losses(
    fingerprint: Fingerprint, configurations: dict[str, Configuration], reasons: dict[str, str]
) -> dict[str, Configuration]:
    """Every configuration with class weights in its loss, and one sentence more in its reason."""
    weighted = {}
    for name, configuration in configurations.items():
        loss, reason = weigh_loss(fingerprint, configuration.loss)
        weighted[name] = configuration.model_copy(update={"loss": loss})
        reasons[f"{name}.loss"] = f"{reasons[f'{name}.loss']} {reason}"
    return weighted


def _check_labels(fingerprint: Fingerprint) -> None:
    if not any(sum(case.label_voxels.values()) for case in fingerprint.cases):
        raise DataError(
            f"none of the {len(fingerprint.cases)} cases of dataset {fingerprint.dataset} has a labelled voxel; add "
            f"label files, or check their values against dataset.json"
        )


def _explain_compat(preset: PresetName, memory_gb: float) -> str:
    return (
        f"Every choice of nnU-Net 2.8.1's {NNUNET_PLANNERS[preset]} at {memory_gb:g} GB is made in the same way, on "
        f"the axes as they are stored."
    )


def _explain_budget(preset: Preset, memory_gb: float, time: TimeBudget | None) -> dict[str, str]:
    slices, volumes = (amount(elements * memory_gb / preset.reference_gb) for elements in preset.reference_elements)
    memory = (
        f"{memory_gb:g} GB hold {slices} convolution outputs per slice at a batch of {preset.reference_batch[0]}, or "
        f"{volumes} per volume at a batch of {preset.reference_batch[1]}, in proportion to the preset's reference "
        f"values at {preset.reference_gb:g} GB."
    )
    return {"memory_gb": memory} | ({} if time is None else {"time_budget_s": time.explain()})


def _recommend(grid: TargetGrid, names: tuple[str, ...]) -> tuple[str, str]:
    """10b. The configuration to train first, and why."""
    if len(names) == 1:
        return names[0], f"{names[0]} is the only configuration: the median case has {join(grid.shape)} voxels."
    if "3d" not in names:
        return "2d", f"There is no 3d configuration: the median case has {join(grid.shape)} voxels."
    thickness, in_plane = grid.spacing[0], max(grid.spacing[1:])
    if "2d" in names and grid.is_coarse:
        return "2d", (
            f"Slices are {thickness:.4g} mm apart and voxels only {in_plane:.4g} mm wide, so neighbouring slices share "
            f"little information; compare with 3d by cross-validation."
        )
    return "3d", (
        f"Slices are {thickness:.4g} mm apart and voxels {in_plane:.4g} mm wide, close enough for the neighbouring "
        f"slices to help."
    )
