"""Losses that weigh false positives and false negatives apart."""

from __future__ import annotations

from torch import Tensor

from autoseg.losses.options import ClassWeights, NotNegative, Positive
from autoseg.losses.parts import Regions, average_channels, count_overlap


def tversky(
    logits: Tensor,
    target: Tensor,
    *,
    regions: Regions = (),
    ignore_label: int | None = None,
    alpha: NotNegative = 0.3,
    beta: NotNegative = 0.7,
    batch_dice: bool = False,
    smooth: Positive = 1e-5,
    class_weights: ClassWeights = None,
) -> Tensor:
    """1 - mean Tversky index TP / (TP + alpha FP + beta FN) of the labels (without background) or regions.

    Source: Salehi et al. 2017, arXiv:1706.05721; 0.5 and 0.5 make it the Dice. 0 is perfect.

    Args:
        logits: (B,K,*spatial) float.
        target: (B,*spatial) integer.
        regions: label values of each region, or empty.
        ignore_label: label value of voxels that count neither way.
        alpha, beta: weight of false positives and of false negatives.
        batch_dice: one index over all samples together instead of their mean.
        smooth: added above and below the fraction.
        class_weights: what each class (background first, which is not looked at) or region counts; only their ratios
            matter. None counts each alike.
    """
    index = _tversky_index(logits, target, regions, ignore_label, alpha, beta, batch_dice, smooth)
    return average_channels(1 - index, class_weights)


def focal_tversky(
    logits: Tensor,
    target: Tensor,
    *,
    regions: Regions = (),
    ignore_label: int | None = None,
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
        logits: (B,K,*spatial) float.
        target: (B,*spatial) integer.
        gamma: the root that is taken; 1 makes it the Tversky loss.
        regions, ignore_label, alpha, beta, batch_dice, smooth, class_weights: as in ``tversky``.
    """
    missing = 1 - _tversky_index(logits, target, regions, ignore_label, alpha, beta, batch_dice, smooth)
    return average_channels(missing.clamp_min(1e-6) ** (1 / gamma), class_weights)  # the slope at 0 is infinite


def _tversky_index(
    logits: Tensor,
    target: Tensor,
    regions: Regions,
    ignore_label: int | None,
    alpha: float,
    beta: float,
    batch_dice: bool,
    smooth: float,
) -> Tensor:
    counts = count_overlap(logits, target, regions, ignore_label, first=0 if regions else 1)
    counts = counts.pool() if batch_dice else counts
    wrong = alpha * (counts.predicted - counts.shared) + beta * (counts.reference - counts.shared)
    return (counts.shared + smooth) / (counts.shared + wrong + smooth)
