"""Losses built on the Dice overlap of whole labels or regions."""

from __future__ import annotations

import torch
from torch import Tensor

from autoseg.losses.options import ClassWeights, NotNegative, OpenShare, Positive
from autoseg.losses.parts import (
    Regions,
    average_channels,
    average_voxels,
    count_overlap,
    measure_dice,
    sum_parts,
    voxel_cross_entropy,
    weigh_voxels,
)
from autoseg.losses.voxelwise import focal


def dice_ce(
    logits: Tensor,
    target: Tensor,
    *,
    ignore_label: int | None = None,
    batch_dice: bool = False,
    background: bool = False,
    smooth: Positive = 1e-5,
    dice_weight: NotNegative = 1.0,
    ce_weight: NotNegative = 1.0,
    class_weights: ClassWeights = None,
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
        dice_weight, ce_weight: of the two parts; a part that weighs 0 is not computed.
        class_weights: what each class counts in both parts, background first; only their ratios matter. None counts
            each alike.
    """
    return sum_parts(
        (
            dice_weight,
            lambda: dice_part(
                logits,
                target,
                (),
                ignore_label,
                whole_batch=batch_dice,
                smooth=smooth,
                first=0 if background else 1,
                class_weights=class_weights,
            ),
        ),
        (ce_weight, lambda: ce_part(logits, target, (), ignore_label, class_weights=class_weights)),
    )


def dice_bce(
    logits: Tensor,
    target: Tensor,
    *,
    regions: Regions,
    ignore_label: int | None = None,
    batch_dice: bool = False,
    smooth: Positive = 1e-5,
    dice_weight: NotNegative = 1.0,
    bce_weight: NotNegative = 1.0,
    class_weights: ClassWeights = None,
) -> Tensor:
    """Soft Dice loss of overlapping regions plus binary cross-entropy; 0 is perfect.

    Source: nnU-Net, doi:10.1038/s41592-020-01008-z.

    Args:
        logits: (B,R,*spatial) float, one channel per region.
        target: (B,*spatial) integer.
        regions: label values of each region.
        ignore_label, batch_dice, smooth: as in ``dice_ce``.
        dice_weight, bce_weight: of the two parts; a part that weighs 0 is not computed.
        class_weights: what each region counts in both parts; only their ratios matter. None counts each alike.
    """
    return sum_parts(
        (
            dice_weight,
            lambda: dice_part(
                logits,
                target,
                regions,
                ignore_label,
                whole_batch=batch_dice,
                smooth=smooth,
                first=0,
                class_weights=class_weights,
            ),
        ),
        (bce_weight, lambda: ce_part(logits, target, regions, ignore_label, class_weights=class_weights)),
    )


def dice_focal(
    logits: Tensor,
    target: Tensor,
    *,
    regions: Regions = (),
    ignore_label: int | None = None,
    gamma: NotNegative = 2.0,
    alpha: OpenShare | None = 0.25,
    batch_dice: bool = False,
    background: bool = False,
    smooth: Positive = 1e-5,
    dice_weight: NotNegative = 1.0,
    focal_weight: NotNegative = 1.0,
    class_weights: ClassWeights = None,
) -> Tensor:
    """Soft Dice loss of the labels or regions plus the focal loss; 0 is perfect.

    Source: the sum as in AnatomyNet, arXiv:1808.05238; the focal loss, Lin et al. 2017, arXiv:1708.02002.

    Args:
        logits: (B,K,*spatial) float.
        target: (B,*spatial) integer.
        regions: label values of each region, or empty.
        gamma, alpha: as in ``focal``.
        background: background has a Dice, too; without regions.
        dice_weight, focal_weight: of the two parts; a part that weighs 0 is not computed.
        ignore_label, batch_dice, smooth, class_weights: as in ``dice_ce``.
    """
    return sum_parts(
        (
            dice_weight,
            lambda: dice_part(
                logits,
                target,
                regions,
                ignore_label,
                whole_batch=batch_dice,
                smooth=smooth,
                first=0 if regions or background else 1,
                class_weights=class_weights,
            ),
        ),
        (
            focal_weight,
            lambda: focal(
                logits,
                target,
                regions=regions,
                ignore_label=ignore_label,
                gamma=gamma,
                alpha=alpha,
                class_weights=class_weights,
            ),
        ),
    )


def generalized_dice(
    logits: Tensor,
    target: Tensor,
    *,
    regions: Regions = (),
    ignore_label: int | None = None,
    smooth: Positive = 1e-5,
) -> Tensor:
    """1 - generalized Dice: all labels, background too, in one fraction, each weighted by 1 / volume^2.

    Source: Sudre et al. 2017, arXiv:1707.03237. The weights are scaled so that the smallest label of a sample
    weighs 1; a label that the sample does not hold weighs 1, too (its own weight would be infinite).

    Args:
        logits: (B,K,*spatial) float.
        target: (B,*spatial) integer.
        regions, ignore_label, smooth: as in ``dice_bce``.
    """
    counts = count_overlap(logits, target, regions, ignore_label, first=0)
    present = counts.reference > 0
    smallest = counts.reference.where(present, torch.inf).amin(1, keepdim=True)
    weights = torch.where(present, (smallest / counts.reference.clamp_min(1)) ** 2, 1.0)
    above = 2 * (weights * counts.shared).sum(1)
    below = (weights * (counts.predicted + counts.reference)).sum(1)
    return 1 - ((above + smooth) / (below + smooth)).mean()


def dice_part(
    logits: Tensor,
    target: Tensor,
    regions: Regions,
    ignore_label: int | None,
    *,
    whole_batch: bool,
    smooth: float,
    first: int,
    class_weights: ClassWeights = None,
    weights: Tensor | None = None,
) -> Tensor:
    """1 - mean soft Dice of the channels from ``first`` on.

    Args:
        weights: as in ``count_overlap``.
    """
    counts = count_overlap(logits, target, regions, ignore_label, first=first, weights=weights)
    missing = 1 - measure_dice(counts.pool() if whole_batch else counts, smooth=smooth)
    return average_channels(missing, class_weights)


def ce_part(
    logits: Tensor,
    target: Tensor,
    regions: Regions,
    ignore_label: int | None,
    *,
    class_weights: ClassWeights = None,
    weights: Tensor | None = None,
) -> Tensor:
    """Mean cross-entropy of the voxels that count, or binary cross-entropy where there are regions.

    Args:
        weights: (B,1,*spatial) float, or with regions (B,R,*spatial): what a voxel counts.
    """
    values = voxel_cross_entropy(logits, target, regions, ignore_label)
    counts = weigh_voxels(target, regions, ignore_label, class_weights=class_weights, weights=weights)
    return average_voxels(values, counts)
