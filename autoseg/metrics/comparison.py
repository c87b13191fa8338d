"""Comparison of two masks on one grid: everything that metrics need, computed lazily and once."""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, TypeVar

import edt
import numpy as np
from scipy.spatial import cKDTree

from autoseg.core.geometry import bounding_box, box_slices
from autoseg.core.masks import Connectivity
from autoseg.metrics.lesions import LesionPair, pair_lesions

T = TypeVar("T")

# Where surfaces have no more pairs of voxels than this times the voxels of the box, nearest neighbours come from a
# tree, which at worst compares every pair once; otherwise one distance transform of the box is faster.
PAIRS_PER_VOXEL = 16


@dataclass(frozen=True, kw_only=True, eq=False)
class Comparison:
    """A prediction beside its reference; made by ``compare``.

    Attributes:
        prediction: (Z,Y,X) bool, the joint bounding box of both masks with one empty voxel all around.
        reference: (Z,Y,X) bool, the same box.
        spacing: mm along (z,y,x).
        voxels: size of the domain in which a voxel can be right or wrong (the whole grid, less ignored voxels).
        shape: (Z,Y,X) of the whole grid.
        probability: (n,) float, probability of every voxel of the domain, and (n,) bool, whether the reference holds
            it; None where the prediction is a mask alone.
    """

    prediction: np.ndarray
    reference: np.ndarray
    spacing: tuple[float, ...]
    voxels: int
    shape: tuple[int, ...]
    probability: tuple[np.ndarray, np.ndarray] | None = None
    cache: dict[Hashable, Any] = field(default_factory=dict, repr=False)

    def once(self, key: Hashable, compute: Callable[[], T]) -> T:
        """Result of ``compute``, computed once for the first metric that uses this key."""
        if key not in self.cache:
            self.cache[key] = compute()
        return self.cache[key]

    @cached_property
    def true_positives(self) -> int:
        """Voxels in both masks."""
        return int(np.count_nonzero(self.prediction & self.reference))

    @cached_property
    def predicted_voxels(self) -> int:
        """Voxels in the prediction."""
        return int(np.count_nonzero(self.prediction))

    @cached_property
    def reference_voxels(self) -> int:
        """Voxels in the reference."""
        return int(np.count_nonzero(self.reference))

    @property
    def false_positives(self) -> int:
        """Voxels in the prediction alone."""
        return self.predicted_voxels - self.true_positives

    @property
    def false_negatives(self) -> int:
        """Voxels in the reference alone."""
        return self.reference_voxels - self.true_positives

    @property
    def true_negatives(self) -> int:
        """Voxels of the domain in neither mask."""
        return self.voxels - self.predicted_voxels - self.false_negatives

    @property
    def both_empty(self) -> bool:
        """Both masks are empty."""
        return self.predicted_voxels == 0 and self.reference_voxels == 0

    @property
    def exactly_one_empty(self) -> bool:
        """One mask is empty and the other is not."""
        return (self.predicted_voxels == 0) != (self.reference_voxels == 0)

    @property
    def voxel_volume_ml(self) -> float:
        """Volume of one voxel in millilitres."""
        return math.prod(self.spacing) / 1000

    @property
    def diagonal_mm(self) -> float:
        """Diagonal of the whole grid in mm, the largest distance of two voxels."""
        return math.hypot(*(n * mm for n, mm in zip(self.shape, self.spacing, strict=True)))

    @property
    def predicted_ml(self) -> float:
        """Volume of the prediction in millilitres."""
        return self.predicted_voxels * self.voxel_volume_ml

    @property
    def reference_ml(self) -> float:
        """Volume of the reference in millilitres."""
        return self.reference_voxels * self.voxel_volume_ml

    @cached_property
    def distances(self) -> tuple[np.ndarray, np.ndarray]:
        """Distances between the surfaces, centre to centre, in mm; infinite where the other mask is empty.

        Returns:
            (n,) float64 from each surface voxel of the prediction to the reference's nearest surface voxel, and
            (m,) float64 the other way.
        """
        axes = tuple(range(self.reference.ndim))
        return self._measure(axes)

    @cached_property
    def in_plane_distances(self) -> tuple[np.ndarray, np.ndarray]:
        """Distances between the outlines within each slice (the last two axes)."""
        axes = tuple(range(self.reference.ndim))
        return self._measure(axes[-2:])

    def _measure(self, axes: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
        predicted, reference = find_surface(self.prediction, axes), find_surface(self.reference, axes)
        pairs = np.count_nonzero(predicted) * np.count_nonzero(reference)
        if 0 < pairs <= PAIRS_PER_VOXEL * predicted.size:
            predicted_mm, reference_mm = (
                np.argwhere(surface) * np.array(self.spacing) for surface in (predicted, reference)
            )
            return cKDTree(reference_mm).query(predicted_mm)[0], cKDTree(predicted_mm).query(reference_mm)[0]
        return _distances(predicted, reference, self.spacing), _distances(reference, predicted, self.spacing)

    def lesions(self, connectivity: Connectivity) -> LesionPair:
        """The lesions of both masks, numbered and paired."""
        return self.once(connectivity, lambda: pair_lesions(self.prediction, self.reference, connectivity))


def compare(
    prediction: np.ndarray,
    reference: np.ndarray,
    spacing: Sequence[float],
    *,
    voxels: int | None = None,
    probability: tuple[np.ndarray, np.ndarray] | None = None,
) -> Comparison:
    """Compare two masks; this crops them, and the rest is computed when a metric needs it.

    Args:
        prediction: (Z,Y,X) bool.
        reference: (Z,Y,X) bool, same shape.
        spacing: mm along (z,y,x).
        voxels: size of the domain where some voxels of the grid do not count; the whole grid if None.
        probability: as in ``Comparison``.
    """
    box = box_slices(bounding_box(prediction | reference))
    return Comparison(
        prediction=np.pad(prediction[box], 1),  # so that outside the grid counts as outside the mask
        reference=np.pad(reference[box], 1),
        spacing=tuple(float(mm) for mm in spacing),
        voxels=reference.size if voxels is None else voxels,
        shape=reference.shape,
        probability=probability,
    )


def find_surface(mask: np.ndarray, axes: Sequence[int] | None = None) -> np.ndarray:
    """Voxels of the mask with at least one face neighbour outside it.

    Args:
        mask: (*axes) bool, False on its outermost layer.
        axes: of the neighbours; all if None.

    Returns:
        (*axes) bool.
    """
    inner = mask.copy()
    for axis in range(mask.ndim) if axes is None else axes:
        along, result = np.moveaxis(mask, axis, 0), np.moveaxis(inner, axis, 0)
        result[1:] &= along[:-1]
        result[:-1] &= along[1:]
    return mask & ~inner


def _distances(surface: np.ndarray, target: np.ndarray, spacing: tuple[float, ...]) -> np.ndarray:
    """(n,) float64, mm from each True voxel of one surface to the nearest of the other.

    One exact distance transform, so the cost is bounded by the box however rough the surfaces are.

    Source: Felzenszwalb and Huttenlocher, doi:10.4086/toc.2012.v008a019.
    """
    if not surface.any() or not target.any():
        return np.full(np.count_nonzero(surface), np.inf)
    return edt.edt(~target, anisotropy=spacing, parallel=1)[surface].astype(np.float64)
