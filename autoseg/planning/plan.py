"""The whole plan: checks, configurations, what to train first, and why."""

from __future__ import annotations

import math
from typing import Literal

from autoseg.core.errors import DataError, UsageError
from autoseg.core.records import Configuration, Fingerprint, Plan
from autoseg.planning.configurations import Budget, plan_configurations
from autoseg.planning.presets import NNUNET_PLANNERS, Preset, check_weighing, find_preset
from autoseg.planning.pricing import Cost
from autoseg.planning.spacing import TargetGrid, join, plan_grid
from autoseg.planning.training import weigh_loss


def make_plan(
    fingerprint: Fingerprint,
    *,
    preset: str,
    memory_gb: float,
    seed: int = 12345,
    compat: Literal["nnunet"] | None = None,
    networks: tuple[str, ...] = (),
    class_weights: Literal["frequency"] | None = None,
    cost: Cost | None = None,
) -> Plan:
    """Decide everything, each value with its reason; the same fingerprint and budget give the same plan.

    Args:
        fingerprint: of the dataset.
        preset: ``pocket`` (no GPU), ``standard``, ``large``, ``residual_m``, ``residual_l`` or ``residual_xl``.
        memory_gb: what training may use, of the GPU or of the machine without one.
        seed: of every random stream of training.
        compat: ``nnunet`` makes every choice as nnU-Net's planner does, on the axes as they are stored.
        networks: further networks; each adds ``3d_<network>`` and ``2d_<network>``, and needs ``cost``.
        class_weights: ``frequency`` weighs the classes of every loss by the inverse of their share of the voxels.
        cost: prices a training step (``price_step``): what is too dear for the budget is made cheaper, and the plan
            holds the prediction. None plans by nnU-Net's rules alone, which hold from 4 GB on.

    Raises:
        UsageError: no such preset (or nnU-Net has none like it) or network, or a budget that is not positive.
        PlanError: class weights are asked for, and a label was measured nowhere.
        DataError: the fingerprint has no case or no labelled voxel.
        MemoryShortageError: nothing fits the budget.
    """
    numbers = find_preset(preset, compat)
    check_weighing(class_weights, compat)
    if not (math.isfinite(memory_gb) and memory_gb > 0):
        raise UsageError(f"a budget of {memory_gb:g} GB cannot hold a network; give a positive number of GB")
    _check_labels(fingerprint)
    grid = plan_grid(fingerprint, numbers.orientation)
    budget = Budget(memory_gb=memory_gb, cost=cost, networks=networks)
    planned = plan_configurations(fingerprint, grid, numbers, budget)
    configurations, reasons = planned.configurations, dict(planned.reasons)
    if class_weights is not None:
        configurations = _weigh_losses(fingerprint, configurations, reasons)
    reasons["memory_gb"] = _explain_budget(numbers, memory_gb)
    if compat is not None:
        reasons["compat"] = (
            f"Every choice that nnU-Net 2.8.1's {NNUNET_PLANNERS[preset]} makes at {memory_gb:g} GB is made as it "
            f"makes it, on the axes as they are stored."
        )
    recommended, reasons["recommended"] = _recommend(grid, tuple(planned.configurations))
    return Plan(
        dataset=fingerprint.dataset,
        channels=fingerprint.channels,
        labels=fingerprint.labels,
        regions=fingerprint.regions,
        ignore_label=fingerprint.ignore_label,
        preset=preset,  # type: ignore[arg-type]
        memory_gb=memory_gb,
        compat=compat,
        seed=seed,
        networks=networks,
        class_weights=class_weights,
        recommended=recommended,
        reasons=reasons,
        memory=planned.memory,
        configurations=configurations,
    )


def _weigh_losses(
    fingerprint: Fingerprint, configurations: dict[str, Configuration], reasons: dict[str, str]
) -> dict[str, Configuration]:
    """Every configuration with class weights in its loss, and a clause more in its reason."""
    weighed = {}
    for name, configuration in configurations.items():
        loss, why = weigh_loss(fingerprint, configuration.loss)
        weighed[name] = configuration.model_copy(update={"loss": loss})
        reasons[f"{name}.loss"] = f"{reasons[f'{name}.loss']} {why}"
    return weighed


def _check_labels(fingerprint: Fingerprint) -> None:
    if not any(sum(case.label_voxels.values()) for case in fingerprint.cases):
        raise DataError(
            f"dataset {fingerprint.dataset} has no labelled voxel in any of its {len(fingerprint.cases)} cases; "
            f"add label files, or check that their values are those of dataset.json"
        )


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
    if "3d" not in names:
        return "2d", f"There is no 3d configuration: the median case has {join(grid.shape)} voxels."
    ratio = grid.spacing[0] / max(grid.spacing[1:])
    if "2d" in names and grid.is_coarse:
        return "2d", (
            f"Slices lie {ratio:.2g} times further apart than their voxels ({join(grid.spacing)} mm), so neighbours "
            f"share little; compare with 3d by cross-validation."
        )
    return "3d", (
        f"Slices lie only {ratio:.2g} times as far apart as their voxels ({join(grid.spacing)} mm), so a lesion's "
        f"neighbours in all directions help."
    )
