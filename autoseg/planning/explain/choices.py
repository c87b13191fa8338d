"""Recommended configuration, configurations not planned, and each configuration with its reasons."""

from __future__ import annotations

from autoseg.core.records import Configuration, Plan, ScoringSettings
from autoseg.planning.explain.page import Entry, entry, head
from autoseg.planning.text import join, join_words

_TITLES = {
    "cascade_from": "Cascade",
    "preprocessing.spacing": "Voxel spacing",
    "preprocessing.axis_order": "Axis order",
    "preprocessing.region": "Region",
    "preprocessing.channels": "Intensities",
    "preprocessing.resampling": "Resampling",
    "preprocessing.storage": "Storage",
    "patch_size": "Patch",
    "context_slices": "Neighbours",
    "batch_size": "Batch",
    "network": "Network",
    "transfer": "Transfer",
    "memory": "Memory",
    "loss": "Loss",
    "optimiser": "Optimiser",
    "training": "Training",
    "sampling": "Sampling",
    "augmentation": "Augmentation",
    "tiling": "Prediction",
    "scoring": "Scores",
}


def explain_choices(plan: Plan) -> list[str]:
    """Settings of the whole plan."""
    return head("What will be trained") + [line for found in describe_choices(plan) for line in entry(*found)]


def explain_configuration(plan: Plan, name: str) -> list[str]:
    """Every value of one configuration, and why."""
    found = describe_configuration(plan, name)
    return head(f"Configuration {name}") + [line for value in found for line in entry(*value)]


def describe_choices(plan: Plan) -> list[Entry]:
    """Settings of the whole plan, with reasons."""
    labels = ", ".join(name for name, value in plan.labels.items() if value)
    found = [("Train first", plan.recommended, plan.reasons.get("recommended", ""))]
    others = [name for name in plan.configurations if name != plan.recommended]
    found += [("Also planned", ", ".join(others), "")] if others else []
    found.append(("Channels", ", ".join(plan.channels), ""))
    found.append(("Regions" if plan.regions else "Labels", ", ".join(plan.regions) or labels, ""))
    budget = " ".join(plan.reasons[key] for key in ("preset", "memory_gb") if key in plan.reasons)
    found.append(("Budget", f"{plan.memory_gb:g} GB", budget))
    if plan.time_budget_s is not None:
        found.append(("Time", f"{plan.time_budget_s:g} s per fold", plan.reasons.get("time_budget_s", "")))
    if plan.compat is not None:
        found.append(("Compatibility", plan.compat, plan.reasons.get("compat", "")))
    # A configuration that was left out has a reason under its bare name, as a field of the plan has.
    for key, reason in plan.reasons.items():
        if "." not in key and key not in plan.configurations and key not in Plan.model_fields:
            found.append(("Left out", key, reason))
    return found


def describe_configuration(plan: Plan, name: str) -> list[Entry]:
    """Every value of one configuration, and why."""
    values = _describe_values(plan, name)
    return [
        (title, values[key], plan.reasons.get(f"{name}.{key}", "(set by hand)"))
        for key, title in _TITLES.items()
        if key in values
    ]


def _describe_values(plan: Plan, name: str) -> dict[str, str]:
    c = plan.configurations[name]
    pre, net, opt, aug = c.preprocessing, c.network, c.optimiser, c.augmentation
    values = {
        "preprocessing.spacing": pre.describe_spacing(),
        "preprocessing.axis_order": join(pre.axis_order).replace(" x", ","),
        "preprocessing.region": {"nonzero": "where a scan is not zero", "head": "the head"}[pre.region],
        "preprocessing.channels": ", ".join(channel.scheme for channel in pre.channels),
        "preprocessing.resampling": f"spline order {pre.image_order} for images, {pre.label_order} for labels",
        "preprocessing.storage": pre.storage,
        "patch_size": f"{join(c.patch_size)} voxels",
        "batch_size": _describe_batch(c),
        "network": f"{net.name}, features {', '.join(map(str, net.features))}",
        "loss": c.loss.name + (" over the batch" if c.loss.options.get("batch_dice") else ""),
        "optimiser": f"{opt.name}, learning rate {opt.learning_rate:g}, {opt.schedule}",
        "training": _describe_training(c),
        "sampling": _describe_sampling(c),
        "augmentation": f"rotation {aug.rotation_degrees[0]:g} to {aug.rotation_degrees[1]:g} degrees, "
        f"scale {aug.scale[0]:g} to {aug.scale[1]:g}",
        "tiling": f"tiles of {join(c.tiling.tile_size)}, {_describe_mirroring(c)}",
    }
    if c.transfer is not None:
        rate = c.transfer.encoder_learning_rate_factor
        values["transfer"] = f"{c.transfer.source}, mode {c.transfer.mode}, encoder at {rate:g} of the learning rate"
    if c.scoring != ScoringSettings():
        preset = [f"preset {c.scoring.preset}"] if c.scoring.preset else []
        values["scoring"] = ", ".join([*preset, *c.scoring.metrics])
    if c.context_slices:
        values["context_slices"] = f"{c.context_slices} slice on either side"
    if c.cascade_from is not None:
        values["cascade_from"] = f"sees the prediction of {c.cascade_from}"
    if name in plan.memory:
        facts = plan.memory[name]
        measured = "" if facts.measured_gb is None else f", {facts.measured_gb:.3g} GB measured on {facts.device}"
        values["memory"] = f"{facts.predicted_gb:.3g} GB predicted{measured}"
    return values


def _describe_sampling(c: Configuration) -> str:
    by_voxel, by_lesion = c.sampling.foreground_share, c.sampling.lesion_share
    shares = [f"{100 * by_voxel:.3g}% of a batch centred on labelled voxels"]
    shares += [f"{100 * by_lesion:.3g}% on lesions"] if by_lesion else []
    empty = c.sampling.empty_case_share
    return ", ".join(shares if empty is None else [*shares, f"{100 * empty:.3g}% from cases without lesions"])


def _describe_mirroring(c: Configuration) -> str:
    axes = c.tiling.mirror_axes
    if len(axes) == c.dimensions:
        return "mirrored along all axes"
    numbers = join_words([str(axis) for axis in axes])
    return f"mirrored along {'axis' if len(axes) == 1 else 'axes'} {numbers}" if axes else "not mirrored"


def _describe_training(c: Configuration) -> str:
    training = c.training
    if training.time_budget_s is not None:
        length = f"{training.time_budget_s:g} s"
    else:
        length = f"{training.epochs} epochs x {training.steps_per_epoch} steps"
    stages = [
        f"to {stage.until:.0%} at {join(stage.factors)} times the spacing (patch {join(stage.patch_size)}, batch "
        f"{stage.batch_size})"
        for stage in training.stages
    ]
    return ", ".join([length, *stages])


def _describe_batch(configuration: Configuration) -> str:
    parts = configuration.training.accumulation
    return f"{configuration.batch_size}" + (f", gradient accumulation over {parts} parts" if parts > 1 else "")
