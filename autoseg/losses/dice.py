"""Losses built on the Dice overlap."""

from __future__ import annotations

import torch
from torch import Tensor

from autoseg.losses.parts import Regions, compare, mean_value, overlap, voxel_cross_entropy


def dice_ce(
    logits: Tensor,
    target: Tensor,
    *,
    ignore_label: int | None = None,
    batch_dice: bool = False,
    background: bool = False,
    smooth: float = 1e-5,
    dice_weight: float = 1.0,
    ce_weight: float = 1.0,
) -> Tensor:
    """Soft Dice loss of the labels plus cross-entropy; 0 is perfect.

    Source: nnU-Net, doi:10.1038/s41592-020-01008-z (which writes -Dice where we write 1 - Dice).

    Args:
        logits: (B,K,*spatial) float.
        target: (B,*spatial) integer.
        ignore_label: label value of voxels that count neither way.
        batch_dice: one Dice over all samples together instead of their mean.
        background: background has a Dice, too.
        smooth: added above and below the fraction.
        dice_weight, ce_weight: of the two parts.
    """
    values = voxel_cross_entropy(logits, target, (), ignore_label)
    dice = dice_part(
        logits, target, (), ignore_label, whole_batch=batch_dice, smooth=smooth, first=0 if background else 1
    )
    return dice_weight * dice + ce_weight * mean_value(values)


def dice_bce(
    logits: Tensor,
    target: Tensor,
    *,
    regions: Regions,
    ignore_label: int | None = None,
    batch_dice: bool = False,
    smooth: float = 1e-5,
    dice_weight: float = 1.0,
    bce_weight: float = 1.0,
) -> Tensor:
    """Soft Dice loss of overlapping regions plus binary cross-entropy; 0 is perfect.

    Source: nnU-Net, doi:10.1038/s41592-020-01008-z.

    Args:
        logits: (B,R,*spatial) float, one channel per region.
        target: (B,*spatial) integer.
        regions: label values of each region.
        ignore_label, batch_dice, smooth: as in ``dice_ce``.
        dice_weight, bce_weight: of the two parts.
    """
    values = voxel_cross_entropy(logits, target, regions, ignore_label)
    dice = dice_part(logits, target, regions, ignore_label, whole_batch=batch_dice, smooth=smooth, first=0)
    return dice_weight * dice + bce_weight * mean_value(values)


def dice_part(
    logits: Tensor,
    target: Tensor,
    regions: Regions,
    ignore_label: int | None,
    *,
    whole_batch: bool,
    smooth: float,
    first: int,
) -> Tensor:
    """1 - mean soft Dice of the channels from ``first`` on, 2 |P and R| / (|P| + |R|) each.

    Source: V-Net, arXiv:1606.04797, without its squares.
    """
    probabilities, wanted = compare(logits, target, regions, ignore_label)
    shared, predicted, reference = overlap(probabilities[:, first:], wanted[:, first:], whole_batch=whole_batch)
    return 1 - ((2 * shared + smooth) / (predicted + reference + smooth)).mean()


def generalized_dice(
    logits: Tensor,
    target: Tensor,
    *,
    regions: Regions = (),
    ignore_label: int | None = None,
    smooth: float = 1e-5,
) -> Tensor:
    """1 - generalized Dice: all labels, background too, in one fraction, each weighted by 1 / volume^2.

    Source: Sudre et al. 2017, arXiv:1707.03237. The weights are scaled so that the smallest label of a sample
    weighs 1; a label that the sample does not hold weighs 1, too (its own weight would be infinite).

    Args:
        logits: (B,K,*spatial) float.
        target: (B,*spatial) integer.
        regions, ignore_label, smooth: as in ``dice_bce``.
    """
    shared, predicted, reference = overlap(*compare(logits, target, regions, ignore_label), whole_batch=False)
    present = reference > 0
    smallest = reference.where(present, torch.inf).amin(1, keepdim=True)
    weights = torch.where(present, (smallest / reference.clamp_min(1)) ** 2, 1.0)
    fraction = (2 * (weights * shared).sum(1) + smooth) / ((weights * (predicted + reference)).sum(1) + smooth)
    return 1 - fraction.mean()
