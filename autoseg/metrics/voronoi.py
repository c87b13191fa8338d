"""Dice lesion by lesion, where every voxel belongs to the reference lesion that is nearest to it.

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
    """Mean Dice of the reference lesions, each with what was predicted nearer to it than to any other."""
    if comparison.one_empty:
        return 0.0
    lesions = comparison.lesions(26)
    inside = lesions.referenced[comparison.prediction & comparison.reference]
    outside = find_nearest_lesions(comparison)
    n = lesions.n_referenced + 1
    right = np.bincount(inside, minlength=n)[1:]
    predicted = right + np.bincount(outside, minlength=n)[1:]
    return float(np.mean(2 * right / (predicted + lesions.referenced_voxels)))


def find_nearest_lesions(comparison: Comparison) -> np.ndarray:
    """(n,) int64, for each voxel of the prediction outside the reference the nearest reference lesion.

    Of lesions at the same distance it is the one with the lowest number. The nearest voxel of a lesion is always one
    of its surface.
    """
    referenced = comparison.lesions(26).referenced
    surface = np.nonzero(find_surface(comparison.reference))
    numbers = referenced[surface].astype(np.int64)
    spacing = np.array(comparison.spacing)
    places = np.argwhere(comparison.prediction & ~comparison.reference) * spacing
    tree = cKDTree(np.stack(surface, axis=1) * spacing)
    nearest = np.zeros(len(places), np.int64)
    left = np.arange(len(places))
    neighbours = 2
    while len(left):
        # Where even the last neighbour is as near as the first, more may tie: ask those again for more.
        neighbours = min(neighbours, len(numbers))
        distances, which = tree.query(places[left], k=range(1, neighbours + 1))
        tied = distances <= distances[:, :1] * SAME
        nearest[left] = np.where(tied, numbers[which], np.iinfo(np.int64).max).min(axis=1)
        left = left[tied[:, -1]] if neighbours < len(numbers) else left[:0]
        neighbours *= 4
    return nearest
