"""Terms of single voxels: cross-entropy, and its variants that stress the hard ones."""

from __future__ import annotations

import torch
from torch import Tensor

from autoseg.losses.context import LossContext
from autoseg.losses.loss import ClassWeights, Fraction, NotNegative, OpenFraction


def cross_entropy(context: LossContext, *, class_weights: ClassWeights = None) -> Tensor:
    """Mean cross-entropy of the voxels that count, or binary cross-entropy where there are regions.

    Args:
        class_weights: weight of a voxel by its class (background first) or region; only ratios matter. None weighs
            all alike.
    """
    return context.average_voxels(context.voxel_cross_entropy(), class_weights)


def focal(
    context: LossContext,
    *,
    gamma: NotNegative = 2.0,
    alpha: OpenFraction | None = None,
    class_weights: ClassWeights = None,
) -> Tensor:
    """Mean of alpha * (1 - p)^gamma * -log p, p the probability of the right answer.

    Source: Lin et al. 2017, arXiv:1708.02002, with the mean over voxels in place of the sum per object.

    Args:
        gamma: 0 makes it the cross-entropy; larger leaves easy voxels out.
        alpha: factor of lesion voxels, with 1 - alpha for background; within each region when there are some. None
            leaves the factor out.
        class_weights: as in ``cross_entropy``.
    """
    values = context.voxel_cross_entropy()
    missing = 1 - (-values).exp()
    if gamma < 1:
        missing = missing.clamp_min(1e-6)  # a root has an infinite slope at 0
    values = missing**gamma * values
    if alpha is not None:
        values = torch.where(context.inside, alpha, 1 - alpha) * values
    return context.average_voxels(values, class_weights)


def top_k_cross_entropy(context: LossContext, *, share: Fraction = 0.1) -> Tensor:
    """Mean cross-entropy of the worst voxels of the batch.

    Source: Wu et al. 2016, arXiv:1605.06885; the share of 10 % is nnU-Net's.

    Args:
        share: of all voxels (and regions) that count; at least one is taken.
    """
    values, valid = context.voxel_cross_entropy(), context.valid
    values = (values if valid is None else values.movedim(1, -1)[valid]).flatten()
    if values.numel() == 0:
        return values.sum()
    return values.topk(max(1, round(values.numel() * share)), sorted=False).values.mean()
