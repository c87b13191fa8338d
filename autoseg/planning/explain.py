"""A plan as a page that a clinician can read."""

from __future__ import annotations

import textwrap

from autoseg.core.records import Configuration, Plan
from autoseg.planning.spacing import join

WIDTH = 100
_TITLES = {
    "cascade_from": "Cascade",
    "preprocessing.spacing": "Voxel spacing",
    "preprocessing.axis_order": "Axis order",
    "preprocessing.channels": "Intensities",
    "preprocessing.resampling": "Resampling",
    "patch_size": "Patch",
    "batch_size": "Batch",
    "network": "Network",
    "loss": "Loss",
    "optimiser": "Optimiser",
    "training": "Training",
    "sampling": "Sampling",
    "augmentation": "Augmentation",
    "tiling": "Prediction",
}


def explain_plan(plan: Plan) -> str:
    """Plain text: what was decided, per configuration, and why."""
    labels = ", ".join(name for name, value in plan.labels.items() if value)
    head = [
        f"Plan for {plan.dataset} (preset {plan.preset}, {plan.memory_gb:g} GB)",
        "",
        *_entry("Channels", ", ".join(plan.channels), ""),
        *_entry("Regions" if plan.regions else "Labels", ", ".join(plan.regions) or labels, ""),
        *_entry("Train first", plan.recommended, plan.reasons.get("recommended", "")),
    ]
    if plan.compat is not None:
        head += _entry("Compatible", plan.compat, plan.reasons.get("compat", ""))
    # A configuration that was left out has a reason under its bare name.
    for key in sorted(set(plan.reasons) & {"2d", "3d", "3d_lowres"}):
        head += _entry("Left out", key, plan.reasons[key])
    pages = [_explain_configuration(plan, name) for name in plan.configurations]
    return "\n".join([*head, *(line for page in pages for line in page)]) + "\n"


def _explain_configuration(plan: Plan, name: str) -> list[str]:
    configuration = plan.configurations[name]
    values = _describe_values(configuration)
    lines = ["", f"Configuration {name}", "-" * (len(name) + 14)]
    for key, title in _TITLES.items():
        if key == "cascade_from" and configuration.cascade_from is None:
            continue
        lines += _entry(title, values[key], plan.reasons.get(f"{name}.{key}", "(set by hand)"))
    return lines


def _entry(title: str, value: str, reason: str) -> list[str]:
    lines = textwrap.wrap(f"{title + ':':<15}{value}", WIDTH, subsequent_indent=" " * 15)
    return lines + textwrap.wrap(reason, WIDTH, initial_indent=" " * 17, subsequent_indent=" " * 17)


def _describe_values(configuration: Configuration) -> dict[str, str]:
    c = configuration
    pre, net, opt, train, aug = c.preprocessing, c.network, c.optimiser, c.training, c.augmentation
    spacing = " x ".join("own" if s is None else f"{s:.4g}" for s in pre.spacing)
    axes = ", ".join(str(axis) for axis in c.tiling.mirror_axes) or "none"
    return {
        "cascade_from": f"sees the prediction of {c.cascade_from}",
        "preprocessing.spacing": f"{spacing} mm",
        "preprocessing.axis_order": join(pre.axis_order).replace(" x", ","),
        "preprocessing.channels": ", ".join(channel.scheme for channel in pre.channels),
        "preprocessing.resampling": f"spline order {pre.image_order} for images, {pre.label_order} for labels",
        "patch_size": f"{join(c.patch_size)} voxels",
        "batch_size": str(c.batch_size),
        "network": f"{net.name}, features {', '.join(map(str, net.features))}",
        "loss": c.loss.name + (" over the batch" if c.loss.options.get("batch_dice") else ""),
        "optimiser": f"{opt.name}, learning rate {opt.learning_rate:g}, {opt.schedule}",
        "training": f"{train.epochs} epochs x {train.steps_per_epoch} steps",
        "sampling": f"{c.sampling.foreground_share:.1%} by labelled voxel, {c.sampling.lesion_share:.1%} by lesion",
        "augmentation": f"rotation {aug.rotation_degrees[0]:g} to {aug.rotation_degrees[1]:g} degrees, "
        f"scale {aug.scale[0]:g} to {aug.scale[1]:g}",
        "tiling": f"tiles of {join(c.tiling.tile_size)}, mirrored axes: {axes}",
    }
