"""Shares of voxels. A share of nothing is undefined.

Source: Taha and Hanbury, doi:10.1186/s12880-015-0068-x.
"""

from __future__ import annotations

from autoseg.metrics.comparison import Comparison
from autoseg.metrics.declaration import metric


@metric(unit="", higher_is_better=True, both_empty="selectable", worst=0.0, convention="2 |P and R| / (|P| + |R|)")
def dice(comparison: Comparison) -> float | None:
    """Dice coefficient."""
    return _share(2 * comparison.true_positives, comparison.predicted_voxels + comparison.reference_voxels)


@metric(unit="", higher_is_better=True, both_empty="selectable", worst=0.0, convention="|P and R| / |P or R|")
def iou(comparison: Comparison) -> float | None:
    """Intersection over union (Jaccard index)."""
    return _share(comparison.true_positives, comparison.predicted_voxels + comparison.false_negatives)


@metric(
    unit="",
    higher_is_better=True,
    both_empty="selectable",
    worst=0.0,
    convention="|P and R| / |P|; undefined where only the prediction is empty",
)
def precision(comparison: Comparison) -> float | None:
    """Share of the prediction that is correct."""
    return _share(comparison.true_positives, comparison.predicted_voxels)


@metric(
    unit="",
    higher_is_better=True,
    both_empty="selectable",
    worst="empty",
    convention="|P and R| / |R|; undefined where only the reference is empty",
)
def sensitivity(comparison: Comparison) -> float | None:
    """Share of the reference that is predicted."""
    return _share(comparison.true_positives, comparison.reference_voxels)


@metric(
    unit="",
    higher_is_better=True,
    both_empty=1.0,
    worst=0.0,
    convention="TN / (TN + FP) over the whole grid, less ignored voxels; grows with the empty space around the head",
)
def specificity(comparison: Comparison) -> float | None:
    """Share of the voxels outside the reference that are not predicted."""
    return _share(comparison.true_negatives, comparison.true_negatives + comparison.false_positives)


@metric(
    unit="",
    higher_is_better=True,
    both_empty=1.0,
    worst=0.0,
    convention="(TP + TN) / all voxels of the whole grid, less ignored ones; grows with the empty space",
)
def accuracy(comparison: Comparison) -> float | None:
    """Share of all voxels that are correct."""
    return _share(comparison.true_positives + comparison.true_negatives, comparison.voxels)


def _share(part: int, whole: int) -> float | None:
    return part / whole if whole else None
