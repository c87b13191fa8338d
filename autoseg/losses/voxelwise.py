"""Losses that judge voxel by voxel and stress the hard ones."""

from __future__ import annotations

import torch
from torch import Tensor

from autoseg.losses.options import ClassWeights, NotNegative, OpenShare, Share
from autoseg.losses.parts import (
    Regions,
    average_voxels,
    find_counted,
    find_members,
    voxel_cross_entropy,
    weigh_voxels,
)


def focal(
    logits: Tensor,
    target: Tensor,
    *,
    regions: Regions = (),
    ignore_label: int | None = None,
    gamma: NotNegative = 2.0,
    alpha: OpenShare | None = None,
    class_weights: ClassWeights = None,
) -> Tensor:
    """Mean of alpha * (1 - p)^gamma * -log p, p the probability of the right answer.

    Source: Lin et al. 2017, arXiv:1708.02002, with the mean over voxels in place of the sum per object.

    Args:
        logits: (B,K,*spatial) float.
        target: (B,*spatial) integer.
        regions: label values of each region, or empty.
        ignore_label: label value of voxels that count neither way.
        gamma: 0 makes it the cross-entropy; larger leaves easy voxels out.
        alpha: factor of lesion voxels, with 1 - alpha for background; within each region when there are some. None
            leaves the factor out.
        class_weights: what a voxel of each class (background first) or each region counts in the mean; only their
            ratios matter. None counts each alike.
    """
    values = voxel_cross_entropy(logits, target, regions, ignore_label)
    missing = 1 - (-values).exp()
    if gamma < 1:
        missing = missing.clamp_min(1e-6)  # a root has an infinite slope at 0
    values = missing**gamma * values
    if alpha is not None:
        if regions:
            inside = torch.stack([find_members(target, region, regions) for region in range(len(regions))], dim=1)
        else:
            inside = (target != 0)[:, None]
        values = torch.where(inside, alpha, 1 - alpha) * values
    return average_voxels(values, weigh_voxels(target, regions, ignore_label, class_weights=class_weights))


def top_k_ce(
    logits: Tensor,
    target: Tensor,
    *,
    regions: Regions = (),
    ignore_label: int | None = None,
    share: Share = 0.1,
) -> Tensor:
    """Mean cross-entropy of the worst voxels of the batch.

    Source: Wu et al. 2016, arXiv:1605.06885; the share of 10 % is nnU-Net's.

    Args:
        logits: (B,K,*spatial) float.
        target: (B,*spatial) integer.
        regions: label values of each region, or empty.
        ignore_label: label value of voxels that count neither way.
        share: of all voxels (and regions) that count; at least one is taken.
    """
    values = voxel_cross_entropy(logits, target, regions, ignore_label)
    counted = find_counted(target, ignore_label)
    values = (values if counted is None else values.movedim(1, -1)[counted]).flatten()
    if values.numel() == 0:
        return values.sum()
    return values.topk(max(1, round(values.numel() * share)), sorted=False).values.mean()
