"""Losses that judge voxel by voxel and stress the hard ones."""

from __future__ import annotations

from torch import Tensor

from autoseg.losses.parts import Regions, mean_value, voxel_cross_entropy


def focal(
    logits: Tensor, target: Tensor, *, regions: Regions = (), ignore_label: int | None = None, gamma: float = 2.0
) -> Tensor:
    """Mean of (1 - p)^gamma * -log p, p the probability of the right answer.

    Source: Lin et al. 2017, arXiv:1708.02002.

    Args:
        logits: (B,K,*spatial) float.
        target: (B,*spatial) integer.
        regions: label values of each region, or empty.
        ignore_label: label value of voxels that count neither way.
        gamma: 0 makes it the cross-entropy; larger leaves easy voxels out.
    """
    values = voxel_cross_entropy(logits, target, regions, ignore_label)
    return mean_value((1 - (-values).exp()) ** gamma * values)


def top_k_ce(
    logits: Tensor, target: Tensor, *, regions: Regions = (), ignore_label: int | None = None, share: float = 0.1
) -> Tensor:
    """Mean cross-entropy of the worst voxels of the batch.

    Source: Wu et al. 2016, arXiv:1605.06885; the share of 10 % is nnU-Net's.

    Args:
        logits: (B,K,*spatial) float.
        target: (B,*spatial) integer.
        regions: label values of each region, or empty.
        ignore_label: label value of voxels that count neither way.
        share: of all voxels (and regions) that counts; at least one does.
    """
    values = voxel_cross_entropy(logits, target, regions, ignore_label).flatten()
    if values.numel() == 0:
        return mean_value(values)
    return values.topk(max(1, round(values.numel() * share)), sorted=False).values.mean()
