"""Losses that weigh false positives and false negatives apart."""

from __future__ import annotations

from torch import Tensor

from autoseg.losses.parts import Regions, compare, overlap


def tversky(
    logits: Tensor,
    target: Tensor,
    *,
    regions: Regions = (),
    ignore_label: int | None = None,
    alpha: float = 0.3,
    beta: float = 0.7,
    batch_dice: bool = False,
    smooth: float = 1e-5,
) -> Tensor:
    """1 - mean Tversky index TP / (TP + alpha FP + beta FN) of the labels (without background) or regions.

    Source: Salehi et al. 2017, arXiv:1706.05721; 0.5 and 0.5 make it the Dice.

    Args:
        logits: (B,K,*spatial) float.
        target: (B,*spatial) integer.
        regions: label values of each region, or empty.
        ignore_label: label value of voxels that count neither way.
        alpha, beta: weight of false positives and of false negatives.
        batch_dice: one index over all samples together instead of their mean.
        smooth: added above and below the fraction.
    """
    return 1 - _tversky_index(logits, target, regions, ignore_label, alpha, beta, batch_dice, smooth).mean()


def focal_tversky(
    logits: Tensor,
    target: Tensor,
    *,
    regions: Regions = (),
    ignore_label: int | None = None,
    alpha: float = 0.3,
    beta: float = 0.7,
    gamma: float = 4 / 3,
    batch_dice: bool = False,
    smooth: float = 1e-5,
) -> Tensor:
    """Mean of (1 - Tversky index)^(1 / gamma): labels that are still bad count more.

    Source: Abraham & Khan 2018, arXiv:1810.07842.

    Args:
        logits: (B,K,*spatial) float.
        target: (B,*spatial) integer.
        gamma: above 1 flattens the end of the way.
        regions, ignore_label, alpha, beta, batch_dice, smooth: as in ``tversky``.
    """
    missing = 1 - _tversky_index(logits, target, regions, ignore_label, alpha, beta, batch_dice, smooth)
    return (missing.clamp_min(1e-6) ** (1 / gamma)).mean()  # the slope at 0 is infinite


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
    first = 0 if regions else 1
    probabilities, wanted = compare(logits, target, regions, ignore_label)
    shared, predicted, reference = overlap(probabilities[:, first:], wanted[:, first:], whole_batch=batch_dice)
    wrong = alpha * (predicted - shared) + beta * (reference - shared)
    return (shared + smooth) / (shared + wrong + smooth)
