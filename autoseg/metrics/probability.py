"""Scores of a probability map, independent of a threshold."""

from __future__ import annotations

import numpy as np

from autoseg.metrics.comparison import Comparison
from autoseg.metrics.declaration import metric


@metric(
    unit="",
    higher_is_better=True,
    both_empty="undefined",
    worst="empty",
    needs_probability=True,
    convention="voxel-wise average precision: sum of precision x gain in recall over falling thresholds, not "
    "interpolated, whole grid less ignored voxels; undefined where the reference is empty",
)
def average_precision(comparison: Comparison) -> float | None:
    """Area under the precision-recall curve of voxels, as a step function.

    Source: Zhu, Recall, precision and average precision, University of Waterloo 2004.
    """
    if not comparison.reference_voxels:
        return None
    if comparison.probability is None:  # a mask is its own map of zeros and ones
        recall = comparison.true_positives / comparison.reference_voxels
        precision = comparison.true_positives / max(comparison.predicted_voxels, 1)
        return recall * precision + (1 - recall) * comparison.reference_voxels / comparison.voxels
    probability, positive = comparison.probability
    all_voxels, lesion = np.sort(probability, kind="stable"), np.sort(probability[positive], kind="stable")
    thresholds, first = np.unique(lesion, return_index=True)
    hits = len(lesion) - first  # positive voxels at or above each threshold
    selected = len(all_voxels) - np.searchsorted(all_voxels, thresholds, side="left")  # voxels at or above it
    gains = hits - np.append(hits[1:], 0)
    return float(np.sum(hits / selected * gains) / len(lesion))
