"""From loss settings to one callable for a network's list of outputs."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from functools import partial

import torch
from torch import Tensor

from autoseg.core.errors import PlanError, TrainingError
from autoseg.core.records import LossSettings
from autoseg.core.registry import Table
from autoseg.losses.options import check_class_weights, check_options

Loss = Callable[..., Tensor]
DeepLoss = Callable[[Sequence[Tensor], Tensor], Tensor]
Regions = tuple[tuple[int, ...], ...]

# A loss is ``loss(logits (B,K,*), target (B,*) integer, *, ignore_label, **options) -> scalar``. One that can
# judge overlapping regions also has the argument ``regions``; one that judges nothing else has it without default.
# The annotations of its options say which values a plan may give them.
LOSSES: Table[Loss] = Table(
    "loss",
    {
        "dice_ce": "autoseg.losses.dice:dice_ce",
        "dice_bce": "autoseg.losses.dice:dice_bce",
        "dice_focal": "autoseg.losses.dice:dice_focal",
        "generalized_dice": "autoseg.losses.dice:generalized_dice",
        "tversky": "autoseg.losses.tversky:tversky",
        "focal_tversky": "autoseg.losses.tversky:focal_tversky",
        "focal": "autoseg.losses.voxelwise:focal",
        "top_k_ce": "autoseg.losses.voxelwise:top_k_ce",
        "boundary_dice_ce": "autoseg.losses.boundary:boundary_dice_ce",
        "blob_dice_ce": "autoseg.losses.blob:blob_dice_ce",
        "cc_dice_ce": "autoseg.losses.cells:cc_dice_ce",
    },
    plural="losses",
)


def build_loss(
    settings: LossSettings, *, regions: Regions = (), ignore_label: int | None = None, outputs: int | None = None
) -> DeepLoss:
    """The loss of a network's outputs, finest first, as the plan has it.

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
    """
    loss = LOSSES[settings.name]
    options = check_options(settings.name, loss, settings.options)
    _check_regions(settings.name, loss, regions)
    weights = settings.deep_supervision_weights or (1.0,)
    if not any(weights):
        raise PlanError("no output counts: all loss.deep_supervision_weights are 0; set at least one above 0")
    channels = len(regions) or outputs
    if channels is not None:
        check_class_weights(settings.name, options, channels)
    chosen = {"regions": regions} if regions else {}
    return partial(
        _sum_outputs,
        loss=partial(loss, ignore_label=ignore_label, **chosen, **options),
        weights=weights,
        check=partial(check_class_weights, settings.name, options),
    )


def _check_regions(name: str, loss: Loss, regions: Regions) -> None:
    parameters = inspect.signature(loss).parameters
    if regions and "regions" not in parameters:
        raise PlanError(f"loss '{name}' needs one label per voxel, but the dataset has regions; use dice_bce")
    needed = "regions" in parameters and parameters["regions"].default is inspect.Parameter.empty
    if needed and not regions:
        raise PlanError(f"loss '{name}' is for overlapping regions, but the dataset has none; use dice_ce")


def _sum_outputs(
    outputs: Sequence[Tensor], target: Tensor, *, loss: Loss, weights: Sequence[float], check: Callable[[int], None]
) -> Tensor:
    """Weighted sum of the loss of every output against the target at that output's shape.

    Source: deep supervision as in nnU-Net, doi:10.1038/s41592-020-01008-z.
    """
    if len(weights) > 1 and len(outputs) != len(weights):
        raise TrainingError(
            f"the network gave {len(outputs)} outputs, but loss.deep_supervision_weights has {len(weights)} weights; "
            f"edit the plan so that they agree"
        )
    check(outputs[0].shape[1])
    terms = [
        weight * loss(logits, shrink_target(target, logits.shape[2:]))
        for logits, weight in zip(outputs, weights, strict=False)
        if weight > 0
    ]
    return torch.stack(terms).sum()


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
