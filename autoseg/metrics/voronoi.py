"""Dice lesion by lesion, where every voxel belongs to the nearest reference lesion.

Source: Jaus et al., Every Component Counts (CC-Metrics), arXiv:2410.18684.
"""

from __future__ import annotations

import numpy as np
from scipy.spatial import cKDTree

from autoseg.metrics.comparison import Comparison, find_surface
from autoseg.metrics.declaration import metric

SAME = 1 + 1e-9  # two distances are equal up to rounding


@metric(
    unit="",
    higher_is_better=True,
    both_empty=1.0,
    worst=0.0,
    convention="mean of Dice over the Voronoi cells (in mm) of the 26-connected reference lesions (CC-Metrics); "
    "0 where one mask is empty",
)
def cc_dice(comparison: Comparison) -> float | None:
    """Mean Dice of the reference lesions, each with the prediction that is nearer to it than to any other."""
    if comparison.exactly_one_empty:
        return 0.0
    lesions = comparison.lesions(26)
    inside = lesions.reference[comparison.prediction & comparison.reference]
    outside = find_nearest_lesions(comparison)
    n = lesions.n_reference + 1
    right = np.bincount(inside, minlength=n)[1:]
    predicted = right + np.bincount(outside, minlength=n)[1:]
    return float(np.mean(2 * right / (predicted + lesions.reference_sizes)))


def find_nearest_lesions(comparison: Comparison) -> np.ndarray:
    """(n,) int64, for each voxel of the prediction outside the reference the nearest reference lesion.

    Of lesions at the same distance it is the one with the lowest number. The nearest voxel of a lesion is always one
    of its surface.
    """
    reference = comparison.lesions(26).reference
    surface = np.nonzero(find_surface(comparison.reference))
    numbers = reference[surface].astype(np.int64)
    spacing = np.array(comparison.spacing)
    voxels_mm = np.argwhere(comparison.prediction & ~comparison.reference) * spacing
    tree = cKDTree(np.stack(surface, axis=1) * spacing)
    nearest = np.zeros(len(voxels_mm), np.int64)
    open_rows = np.arange(len(voxels_mm))
    neighbours = 2
    while len(open_rows):
        # Where even the last neighbour is as near as the first, more may tie: query these voxels for more.
        neighbours = min(neighbours, len(numbers))
        distances, indices = tree.query(voxels_mm[open_rows], k=range(1, neighbours + 1))
        tied = distances <= distances[:, :1] * SAME
        nearest[open_rows] = np.where(tied, numbers[indices], np.iinfo(np.int64).max).min(axis=1)
        open_rows = open_rows[tied[:, -1]] if neighbours < len(numbers) else open_rows[:0]
        neighbours *= 4
    return nearest
