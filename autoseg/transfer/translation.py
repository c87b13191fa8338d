"""Translate nnU-Net's plans, dataset and checkpoint to a plan with one configuration, or refuse with a reason."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from autoseg.core.choices import NNUNET_CONFIGURATIONS
from autoseg.core.errors import ModelError, PlanError
from autoseg.core.records import Plan, parse_record
from autoseg.datasets.folders import read_names
from autoseg.datasets.nnunet import read_labels
from autoseg.planning.mirroring import Mirroring
from autoseg.planning.sampling import FORCED_SHARE, plan_augmentation
from autoseg.planning.training import weigh_heads
from autoseg.transfer.documents import NETWORKS, ForeignConfiguration, ForeignPlans, Resampling
from autoseg.transfer.model_files import Checkpoint

SCHEMES = {
    "ZScoreNormalization": "zscore",
    "CTNormalization": "ct",
    "RescaleTo01Normalization": "rescale",
    "RGBTo01Normalization": "rgb",
    "NoNormalization": "none",
}
# Planner class -> preset and GB; for information only.
PRESETS = {
    "nnUNetPlannerResEncM": ("residual_m", 8),
    "nnUNetPlannerResEncL": ("residual_l", 24),
    "nnUNetPlannerResEncXL": ("residual_xl", 40),
}
NEVER_SEPARATE = 1e9  # a ratio of spacings that no scan has


def own_name(configuration: str) -> str:
    """autoseg's name of a configuration of nnU-Net."""
    return NNUNET_CONFIGURATIONS.get(configuration, configuration)


def translate_plan(
    plans: ForeignPlans,
    configuration: ForeignConfiguration,
    described: dict[str, Any],
    checkpoint: Checkpoint,
    *,
    dataset: str,
    where: Path,
    previous_plan: Plan | None = None,
) -> Plan:
    """Plan for a trained configuration of nnU-Net.

    Settings of prediction are nnU-Net's. Those of training alone (loss, augmentation, optimiser) are in nnU-Net's code
    and not in its files; they are set to nnU-Net's defaults.

    Args:
        plans, configuration: of its ``plans.json``.
        described: its ``dataset.json``.
        checkpoint: of one fold.
        dataset: the imported model's name.
        where: its folder, for messages.
        previous_plan: of a cascade, the plan of its previous stage.

    Raises:
        ModelError: it cannot be reproduced.
    """
    name = own_name(checkpoint.configuration)
    channels, (labels, regions, ignore) = _read_dataset(described, where / "dataset.json")
    preset, memory = PRESETS.get(plans.experiment_planner_used, ("standard", 8))
    settings = _translate_training(configuration, checkpoint.mirror_axes, overlap=bool(regions))
    settings["preprocessing"] = _translate_preprocessing(plans, configuration, len(channels), where)
    settings["network"] = network = _translate_network(configuration, where)
    settings["loss"]["deep_supervision_weights"] = weigh_heads(len(network["features"]) - 1)
    reasons, configurations = _explain(name, plans, checkpoint), {name: settings}
    if previous_plan is not None:
        _add_cascade_input(settings, previous_plan, where)
        reasons = {**previous_plan.reasons, **reasons}
        configurations = {**previous_plan.model_dump(mode="json")["configurations"], **configurations}
    values = {
        "schema": 1,
        "dataset": dataset,
        "channels": channels,
        "labels": labels,
        "regions": regions,
        "ignore_label": ignore,
        "preset": preset,
        "memory_gb": memory,
        "compat": "nnunet",
        "recommended": name,
        "reasons": reasons,
        "configurations": configurations,
    }
    try:
        return parse_record(Plan, json.dumps(values), path=where, advice="it is inconsistent; copy it again")
    except PlanError as error:
        raise ModelError(str(error)) from error


def _translate_training(
    configuration: ForeignConfiguration, mirrored: Sequence[int], *, overlap: bool
) -> dict[str, Any]:
    """All but preprocessing and network: from the files, else nnU-Net's defaults."""
    patch = configuration.patch_size
    augmentation, _ = plan_augmentation(patch, Mirroring(axes=tuple(mirrored), reason=""))
    return {
        "dimensions": len(patch),
        "patch_size": patch,
        "batch_size": configuration.batch_size,
        "loss": {
            "name": "dice_bce" if overlap else "dice_ce",
            "options": {"batch_dice": True} if configuration.batch_dice else {},
        },
        "optimiser": {},
        "training": {},
        "sampling": {"foreground_share": FORCED_SHARE, "lesion_share": 0.0},
        "augmentation": augmentation.model_dump(),
        "tiling": {"tile_size": patch, "mirror_axes": mirrored},
    }


def _add_cascade_input(settings: dict[str, Any], previous_plan: Plan, where: Path) -> None:
    """Add the previous stage's mask as an input.

    Source: nnU-Net, doi:10.1038/s41592-020-01008-z; the probabilities are those of its trainer.
    """
    if previous_plan.regions:
        raise ModelError(
            f"{where} is a cascade of overlapping regions, whose network sees a mask of every label, where autoseg's "
            f"sees one of every region; choose another configuration with -c"
        )
    settings["cascade_from"] = previous_plan.recommended
    settings["augmentation"] |= {"mask_shape_probability": 0.4, "mask_removal_probability": 0.2}


def _explain(name: str, plans: ForeignPlans, checkpoint: Checkpoint) -> dict[str, str]:
    origin = f"from nnU-Net's {plans.plans_name}, configuration {checkpoint.configuration}"
    return {
        f"{name}.preprocessing": f"Taken {origin}, on axes as they are stored.",
        f"{name}.network": f"Taken {origin}; the weights were trained for it.",
        f"{name}.training": f"Trained by nnU-Net with {checkpoint.trainer}; the values here are nnU-Net's defaults.",
        f"{name}.tiling": "Half a tile between tiles and the mirror axes of the checkpoint, as nnU-Net predicts.",
    }


def _read_dataset(
    described: dict[str, Any], where: Path
) -> tuple[tuple[str, ...], tuple[dict[str, int], dict[str, tuple[int, ...]], int | None]]:
    """Channels, and labels with regions and the value to ignore."""
    key = "modality" if "modality" in described else "channel_names"
    missing = [name for name in (key, "labels") if name not in described]
    if missing:
        raise ModelError(f"{where} lacks '{missing[0]}'; copy the model again")
    stated = described["labels"]
    if isinstance(stated, dict) and not any(isinstance(v, list) and len(v) > 1 for v in stated.values()):
        # A list of one value is a class, unless there are regions beside it.
        plain = {name: value[0] if isinstance(value, list) and value else value for name, value in stated.items()}
        described = {**described, "labels": plain}
    return read_names(where, key, described[key]), read_labels(where, described)


def _translate_preprocessing(
    plans: ForeignPlans, configuration: ForeignConfiguration, channels: int, where: Path
) -> dict[str, Any]:
    data, label = configuration.resampling_fn_data_kwargs, configuration.resampling_fn_seg_kwargs
    probability = configuration.resampling_fn_probabilities_kwargs
    ratios = {_coarse_ratio(arguments) for arguments in (data, label, probability)}
    if len(ratios) > 1 or (data.is_seg, label.is_seg, probability.is_seg) != (False, True, False):
        raise ModelError(
            f"{where / 'plans.json'} resamples images, labels and probabilities differently, "
            f"which autoseg cannot reproduce"
        )
    spacing: Sequence[float | None] = configuration.spacing
    if len(configuration.patch_size) == 2 and len(spacing) == 2:
        spacing = (None, *spacing)
    return {
        "orientation": "stored",
        "axis_order": plans.transpose_forward,
        "spacing": spacing,
        "channels": _translate_normalization(plans, configuration, channels, where),
        "image_order": data.order,
        "label_order": label.order,
        "probability_order": probability.order,
        "coarse_axis_ratio": ratios.pop(),
    }


def _coarse_ratio(resampling: Resampling) -> float:
    return NEVER_SEPARATE if resampling.force_separate_z is False else resampling.separate_z_anisotropy_threshold


def _translate_normalization(
    plans: ForeignPlans, configuration: ForeignConfiguration, channels: int, where: Path
) -> list[dict[str, Any]]:
    schemes, masked = configuration.normalization_schemes, configuration.use_mask_for_norm
    if len(schemes) != channels or len(masked) != channels:
        raise ModelError(
            f"{where / 'plans.json'} normalises {len(schemes)} channels, but its dataset.json names {channels}; "
            f"copy the whole model again"
        )
    normalizations = []
    for number, (scheme, inside) in enumerate(zip(schemes, masked, strict=True)):
        if scheme not in SCHEMES:
            raise ModelError(
                f"{where / 'plans.json'} has the normalisation {scheme}, which autoseg does not support; "
                f"supported: {', '.join(SCHEMES)}"
            )
        kind = SCHEMES[scheme]
        settings: dict[str, Any] = {"scheme": kind, "inside_mask": inside and kind == "zscore"}
        if kind == "ct":
            facts = plans.intensities.get(str(number))
            if facts is None:
                raise ModelError(f"{where / 'plans.json'} lacks the foreground intensities of channel {number} (CT)")
            settings |= {
                "mean": facts.mean,
                "std": facts.std,
                "lower": facts.percentile_00_5,
                "upper": facts.percentile_99_5,
            }
        normalizations.append(settings)
    return normalizations


def _translate_network(configuration: ForeignConfiguration, where: Path) -> dict[str, Any]:
    architecture, stages = configuration.architecture, configuration.architecture.arch_kwargs
    kind = NETWORKS.get(architecture.network_class_name)
    if kind is None:
        supported = ", ".join(dict.fromkeys(name.rpartition(".")[2] for name in NETWORKS))
        raise ModelError(
            f"{where / 'plans.json'} has the network {architecture.network_class_name}, which autoseg does not "
            f"support; supported: {supported}"
        )
    axes = len(configuration.patch_size)
    if not (stages.conv_op.endswith(f"{axes}d") and stages.norm_op.endswith(f"{axes}d")):
        raise ModelError(f"{where / 'plans.json'} has layers that do not fit a patch of {axes} axes; copy it again")
    blocks = stages.n_conv_per_stage if kind == "unet" else stages.n_blocks_per_stage
    if blocks is None or None not in (stages.n_conv_per_stage, stages.n_blocks_per_stage):
        raise ModelError(f"{where / 'plans.json'} gives blocks per stage that {kind} does not have; copy it again")
    count = stages.n_stages
    return {
        "name": kind,
        "features": _per_stage(stages.features_per_stage, count),
        "kernels": _per_stage_and_axis(stages.kernel_sizes, count, axes),
        "strides": _per_stage_and_axis(stages.strides, count, axes),
        "encoder_blocks": _per_stage(blocks, count),
        # nnU-Net counts from the coarsest stage, ours from the finest.
        "decoder_blocks": _per_stage(stages.n_conv_per_stage_decoder, count - 1)[::-1],
        "deep_supervision": True,
    }


def _per_stage(value: int | Sequence[int], stages: int) -> list[int]:
    return [value] * stages if isinstance(value, int) else list(value)


def _per_stage_and_axis(value: int | Sequence[int | Sequence[int]], stages: int, axes: int) -> list[list[int]]:
    per_stage = [value] * stages if isinstance(value, int) else value
    return [[size] * axes if isinstance(size, int) else list(size) for size in per_stage]
