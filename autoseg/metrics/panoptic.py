"""Panoptic quality: recognition of lesions, and segmentation of the recognised ones.

Source: Kirillov et al., arXiv:1801.00868; for lesions: panoptica, arXiv:2312.02608.
"""

from __future__ import annotations

from autoseg.metrics.comparison import Comparison
from autoseg.metrics.declaration import metric

MIN_IOU = 0.5


@metric(
    unit="",
    higher_is_better=True,
    both_empty="undefined",
    worst=0.0,
    convention="TP / (TP + (FP + FN) / 2) over 26-connected lesions matched one to one at IoU >= 0.5 (panoptica's RQ); "
    "0 where one mask is empty",
)
def recognition_quality(comparison: Comparison) -> float | None:
    """F1 score of lesions that overlap their match by at least a half."""
    lesions = comparison.lesions(26)
    return len(lesions.match(MIN_IOU)) / ((lesions.n_reference + lesions.n_predicted) / 2)


@metric(
    unit="",
    higher_is_better=True,
    both_empty="undefined",
    worst=0.0,
    convention="mean IoU of the matched lesions (panoptica's SQ); undefined where none is matched",
)
def segmentation_quality(comparison: Comparison) -> float | None:
    """Mean overlap of recognised lesions."""
    matched = comparison.lesions(26).match(MIN_IOU)
    return float(matched.mean()) if len(matched) else None


@metric(
    unit="",
    higher_is_better=True,
    both_empty="undefined",
    worst=0.0,
    convention="recognition_quality x segmentation_quality (panoptica's PQ); 0 where no lesion is matched",
)
def panoptic_quality(comparison: Comparison) -> float | None:
    """Recognition quality times segmentation quality."""
    lesions = comparison.lesions(26)
    matched = lesions.match(MIN_IOU)
    return float(matched.sum() / ((lesions.n_reference + lesions.n_predicted) / 2))
