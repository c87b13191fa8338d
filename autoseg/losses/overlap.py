"""Terms of the overlap between whole labels or regions and their prediction: Dice, generalized Dice, Tversky."""

from __future__ import annotations

import torch
from torch import Tensor

from autoseg.losses.context import LossContext, average_channels
from autoseg.losses.loss import ClassWeights, NotNegative, Positive


def dice(
    context: LossContext,
    *,
    batch_dice: bool = False,
    background: bool = False,
    smooth: Positive = 1e-5,
    class_weights: ClassWeights = None,
) -> Tensor:
    """1 - mean soft Dice of the labels or regions; 0 is perfect.

    Source: nnU-Net, doi:10.1038/s41592-020-01008-z (which writes -Dice where we write 1 - Dice).

    Args:
        batch_dice: one Dice over all samples together instead of their mean.
        background: background has a Dice, too; without regions.
        smooth: added above and below the fraction.
        class_weights: weight of each class, background first, or region; only ratios matter. None weighs all alike.
    """
    counts = context.count_overlap(first=0) if background and not context.regions else context.overlap
    return average_channels(1 - (counts.pool() if batch_dice else counts).dice(smooth=smooth), class_weights)


def generalized_dice(context: LossContext, *, smooth: Positive = 1e-5) -> Tensor:
    """1 - generalized Dice: all labels, background too, in one fraction, each weighted by 1 / volume^2.

    Source: Sudre et al. 2017, arXiv:1707.03237. The weights are scaled so that the smallest label of a sample
    weighs 1; a label that the sample does not hold weighs 1, too (its own weight would be infinite).

    Args:
        smooth: added above and below the fraction.
    """
    counts = context.count_overlap(first=0)
    present = counts.reference > 0
    smallest = counts.reference.where(present, torch.inf).amin(1, keepdim=True)
    weights = torch.where(present, (smallest / counts.reference.clamp_min(1)) ** 2, 1.0)
    above = 2 * (weights * counts.intersection).sum(1)
    below = (weights * (counts.predicted + counts.reference)).sum(1)
    return 1 - ((above + smooth) / (below + smooth)).mean()


def tversky(
    context: LossContext,
    *,
    alpha: NotNegative = 0.3,
    beta: NotNegative = 0.7,
    batch_dice: bool = False,
    smooth: Positive = 1e-5,
    class_weights: ClassWeights = None,
) -> Tensor:
    """1 - mean Tversky index TP / (TP + alpha FP + beta FN) of the labels (without background) or regions.

    Source: Salehi et al. 2017, arXiv:1706.05721; 0.5 and 0.5 make it the Dice. 0 is perfect.

    Args:
        alpha, beta: weight of false positives and of false negatives.
        batch_dice: one index over all samples together instead of their mean.
        smooth, class_weights: as in ``dice``.
    """
    return average_channels(1 - _tversky_index(context, alpha, beta, batch_dice, smooth), class_weights)


def focal_tversky(
    context: LossContext,
    *,
    alpha: NotNegative = 0.3,
    beta: NotNegative = 0.7,
    gamma: Positive = 4 / 3,
    batch_dice: bool = False,
    smooth: Positive = 1e-5,
    class_weights: ClassWeights = None,
) -> Tensor:
    """Mean of (1 - Tversky index)^(1 / gamma); a perfect prediction has 1e-6^(1 / gamma), 3e-5 by default.

    Above 1, gamma is steep where a label is nearly right and flat where it is bad, below 1 the reverse.

    Source: Abraham & Khan 2018, arXiv:1810.07842, who write the sum over classes and alpha where we write beta.

    Args:
        gamma: the root that is taken; 1 makes it the Tversky loss.
        alpha, beta, batch_dice, smooth, class_weights: as in ``tversky``.
    """
    missing = 1 - _tversky_index(context, alpha, beta, batch_dice, smooth)
    return average_channels(missing.clamp_min(1e-6) ** (1 / gamma), class_weights)  # the slope at 0 is infinite


def _tversky_index(context: LossContext, alpha: float, beta: float, batch_dice: bool, smooth: float) -> Tensor:
    counts = context.overlap.pool() if batch_dice else context.overlap
    wrong = alpha * (counts.predicted - counts.intersection) + beta * (counts.reference - counts.intersection)
    return (counts.intersection + smooth) / (counts.intersection + wrong + smooth)
