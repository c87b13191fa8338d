"""A preprocessed case: output of preprocessing, input of batches and prediction."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from autoseg.core.records.space import Placement


@dataclass(frozen=True, kw_only=True)
class Lesions:
    """Positions of a case's lesions, for sampling: every lesion, and some of its voxels.

    Attributes:
        label: (L,) int16, the label value of each lesion (26-connected component of one label value).
        size: (L,) int64, its voxels on the preprocessed grid, before any thinning of ``points``.
        start: (L+1,) int64, lesion l owns ``points[start[l]:start[l + 1]]``; at least one point each.
        points: (N,3) int32, voxel indices (z,y,x), drawn evenly from each lesion where it has very many.
    """

    label: np.ndarray
    size: np.ndarray
    start: np.ndarray
    points: np.ndarray


@dataclass(frozen=True, kw_only=True)
class PreparedCase:
    """One case on the network's grid; arrays may be memory maps.

    Attributes:
        id: the case.
        image: (C,Z,Y,X) float32 or float16, normalised.
        label: (Z,Y,X) int16 or uint8, values as in the plan, or None for a scan without reference.
        placement: position of these voxels in the scan.
        lesions: voxels to sample at; None without a label.
        prior: (Z,Y,X) integer, in a cascade the mask predicted by its first stage; None otherwise.
    """

    id: str
    image: np.ndarray
    label: np.ndarray | None
    placement: Placement
    lesions: Lesions | None
    prior: np.ndarray | None = None
