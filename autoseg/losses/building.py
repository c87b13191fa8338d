"""From loss settings to one callable for a network's list of outputs."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from autoseg.core.errors import PlanError, TrainingError
from autoseg.core.records import LossSettings
from autoseg.core.registry import Table
from autoseg.losses.context import LossContext
from autoseg.losses.loss import Loss

DeepLoss = Callable[[Sequence[Tensor], Tensor], Tensor]
Regions = tuple[tuple[int, ...], ...]

LOSSES: Table[Loss] = Table(
    "loss",
    {
        "dice_ce": "autoseg.losses.catalogue:DICE_CE",
        "dice_bce": "autoseg.losses.catalogue:DICE_BCE",
        "dice_focal": "autoseg.losses.catalogue:DICE_FOCAL",
        "generalized_dice": "autoseg.losses.catalogue:GENERALIZED_DICE",
        "tversky": "autoseg.losses.catalogue:TVERSKY",
        "focal_tversky": "autoseg.losses.catalogue:FOCAL_TVERSKY",
        "focal": "autoseg.losses.catalogue:FOCAL",
        "top_k_ce": "autoseg.losses.catalogue:TOP_K_CE",
        "boundary_dice_ce": "autoseg.losses.catalogue:BOUNDARY_DICE_CE",
        "blob_dice_ce": "autoseg.losses.catalogue:BLOB_DICE_CE",
        "cc_dice_ce": "autoseg.losses.catalogue:CC_DICE_CE",
    },
    plural="losses",
)


def build_loss(
    settings: LossSettings, *, regions: Regions = (), ignore_label: int | None = None, outputs: int | None = None
) -> DeepLoss:
    """The loss of a network's outputs, finest first, as the plan has it.

    It is the weighted sum of the loss of every output against the target at that output's shape.

    Args:
        settings: name, options and the weight of each output.
        regions: label values of each overlapping region; empty where every voxel has one label.
        ignore_label: label value of voxels that count neither way.
        outputs: channels of the network, to hold class weights to; where None, the first step does, unless there are
            regions.

    Raises:
        UsageError: there is no such loss.
        PlanError: the loss has no such option, the option cannot have that value, no output counts, or the loss does
            not fit a dataset with (or without) regions.

    Source: deep supervision as in nnU-Net, doi:10.1038/s41592-020-01008-z.
    """
    name, loss = settings.name, LOSSES[settings.name]
    values = loss.check(name, settings.options)
    if regions and loss.takes == "labels":
        raise PlanError(f"loss '{name}' needs one label per voxel, but the dataset has regions; use dice_bce")
    if not regions and loss.takes == "regions":
        raise PlanError(f"loss '{name}' is for overlapping regions, but the dataset has none; use dice_ce")
    weights = settings.deep_supervision_weights or (1.0,)
    if not any(weights):
        raise PlanError("no output counts: all loss.deep_supervision_weights are 0; set at least one above 0")

    def check_class_weights(channels: int) -> None:
        class_weights = values.get("class_weights")
        if class_weights is not None and len(class_weights) != channels:
            raise PlanError(
                f"loss '{name}' has {len(class_weights)} class_weights, but the network has {channels} outputs; give "
                f"one per region, or one per class with background first, in loss.options"
            )

    def sum_outputs(logits_by_output: Sequence[Tensor], target: Tensor) -> Tensor:
        if len(weights) > 1 and len(logits_by_output) != len(weights):
            raise TrainingError(
                f"the network gave {len(logits_by_output)} outputs, but loss.deep_supervision_weights has "
                f"{len(weights)} weights; edit the plan so that they agree"
            )
        check_class_weights(logits_by_output[0].shape[1])
        parts = []
        for logits, weight in zip(logits_by_output, weights, strict=False):
            if weight > 0:
                labels = shrink_target(target, logits.shape[2:])
                context = LossContext(logits=logits, target=labels, regions=regions, ignore_label=ignore_label)
                parts.append(weight * loss(context, values))
        return torch.stack(parts).sum()

    if regions or outputs is not None:
        check_class_weights(len(regions) or outputs or 0)
    return sum_outputs


def shrink_target(target: Tensor, shape: Sequence[int]) -> Tensor:
    """The nearest voxel of a label map for every voxel of a coarser grid over the same extent.

    Args:
        target: (B,*spatial) integer.
        shape: voxels per axis of the coarser grid.

    Returns:
        (B,*shape) integer.
    """
    for axis, (fine, coarse) in enumerate(zip(target.shape[1:], shape, strict=True), start=1):
        if coarse != fine:
            centres = (2 * torch.arange(coarse, device=target.device) + 1) * fine // (2 * coarse)
            target = target.index_select(axis, centres)
    return target
