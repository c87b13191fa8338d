"""Distances between surfaces: voxel centres with a face neighbour outside the mask, in mm.

Source: Maier-Hein et al., Metrics reloaded, doi:10.1038/s41592-023-02151-z.
"""

from __future__ import annotations

import numpy as np

from autoseg.metrics.comparison import Comparison
from autoseg.metrics.declaration import Metric, metric

# Distances come in single precision: 20 voxels of 0.1 mm must still lie within 2 mm.
ROUNDING_MM = 1e-4


@metric(
    unit="mm",
    higher_is_better=False,
    both_empty=0.0,
    worst="diagonal",
    convention="the larger of the two directed 95th percentiles (BraTS, WMH)",
)
def hd95(comparison: Comparison) -> float | None:
    """95th-percentile Hausdorff distance, the larger direction."""
    return directed_percentile(comparison.distances, 95)


@metric(
    unit="mm",
    higher_is_better=False,
    both_empty=0.0,
    worst="diagonal",
    convention="the larger of the two directed 95th percentiles between the outlines of each slice, the last two axes "
    "of the file's grid (WMH)",
)
def hd95_in_plane(comparison: Comparison) -> float | None:
    """95th-percentile Hausdorff distance of outlines, the larger direction.

    Source: WMH challenge, doi:10.1109/TMI.2019.2905770, whose program erodes slice by slice.
    """
    return directed_percentile(comparison.in_plane_distances, 95)


@metric(
    unit="mm",
    higher_is_better=False,
    both_empty=0.0,
    worst="diagonal",
    convention="95th percentile of the pooled distances of both directions (medpy)",
)
def hd95_pooled(comparison: Comparison) -> float | None:
    """95th-percentile Hausdorff distance, both directions pooled."""
    return float(np.percentile(np.concatenate(comparison.distances), 95))


@metric(
    unit="mm",
    higher_is_better=False,
    both_empty=0.0,
    worst="diagonal",
    convention="mean of the pooled surface distances of both directions",
)
def assd(comparison: Comparison) -> float | None:
    """Average symmetric surface distance."""
    return float(np.concatenate(comparison.distances).mean())


def directed_percentile(distances: tuple[np.ndarray, np.ndarray], percent: float) -> float:
    """The larger of the two directions' percentiles, in mm.

    Args:
        distances: (n,) and (m,) float, mm, as in ``Comparison.distances``; neither empty.
    """
    return float(max(np.percentile(directed, percent) for directed in distances))


def normalized_surface_dice(tau_mm: float) -> Metric:
    """The metric ``nsd_<tau>mm``: share of both surfaces, counted in voxels, within ``tau_mm`` of the other.

    Source: Nikolov et al., doi:10.2196/26151.
    """

    def compute(comparison: Comparison) -> float | None:
        return float((np.concatenate(comparison.distances) <= tau_mm + ROUNDING_MM).mean())

    return Metric(
        name=f"nsd_{tau_mm:g}mm",
        unit="",
        higher_is_better=True,
        both_empty=1.0,
        worst=0.0,
        convention=f"share of both surfaces (in voxels) within {tau_mm:g} mm of the other; 0 where one is empty",
        compute=compute,
    )


nsd_1mm = normalized_surface_dice(1.0)
nsd_2mm = normalized_surface_dice(2.0)
