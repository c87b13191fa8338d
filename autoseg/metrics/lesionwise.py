"""Lesions found, missed and invented; a lesion is one 26-connected component.

Source: ISLES'22, arXiv:2206.06694.
"""

from __future__ import annotations

import numpy as np

from autoseg.metrics.comparison import Comparison
from autoseg.metrics.declaration import metric


@metric(
    unit="",
    higher_is_better=True,
    both_empty=1.0,
    convention="TP / (TP + (FP + FN) / 2) over 26-connected lesions, one shared voxel detects (ISLES'22); "
    "0 where one mask is empty",
)
def lesion_f1(comparison: Comparison) -> float | None:
    """F1 score of lesion detection: TP and FN count reference lesions, FP counts predicted lesions."""
    referenced, n_referenced = comparison.referenced_lesions
    predicted, n_predicted = comparison.predicted_lesions
    found = _count_touched(referenced, comparison.prediction)
    missed = n_referenced - found
    invented = n_predicted - _count_touched(predicted, comparison.reference)
    return found / (found + (invented + missed) / 2)


@metric(
    unit="lesions",
    higher_is_better=False,
    both_empty=0.0,
    convention="|n_P - n_R| over 26-connected lesions (ISLES'22)",
)
def lesion_count_difference(comparison: Comparison) -> float | None:
    """Absolute difference of the numbers of lesions."""
    return float(abs(comparison.predicted_lesions[1] - comparison.referenced_lesions[1]))


def _count_touched(lesions: np.ndarray, mask: np.ndarray) -> int:
    """How many numbered lesions share a voxel with the mask."""
    touched = np.unique(lesions[mask])
    return int(np.count_nonzero(touched))
