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
    convention="the larger of the two directed 95th percentiles (BraTS, WMH); undefined where one mask is empty",
)
def hd95(comparison: Comparison) -> float | None:
    """95th-percentile Hausdorff distance, the larger direction."""
    if comparison.one_empty:
        return None
    return float(max(np.percentile(directed, 95) for directed in comparison.distances))


@metric(
    unit="mm",
    higher_is_better=False,
    both_empty=0.0,
    convention="95th percentile of the pooled distances of both directions (medpy); undefined where one mask is empty",
)
def hd95_pooled(comparison: Comparison) -> float | None:
    """95th-percentile Hausdorff distance, both directions pooled."""
    if comparison.one_empty:
        return None
    return float(np.percentile(np.concatenate(comparison.distances), 95))


@metric(
    unit="mm",
    higher_is_better=False,
    both_empty=0.0,
    convention="mean of the pooled surface distances of both directions; undefined where one mask is empty",
)
def assd(comparison: Comparison) -> float | None:
    """Average symmetric surface distance."""
    if comparison.one_empty:
        return None
    return float(np.concatenate(comparison.distances).mean())


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
        convention=f"share of both surfaces (in voxels) within {tau_mm:g} mm of the other; 0 where one is empty",
        compute=compute,
    )


nsd_2mm = normalized_surface_dice(2.0)
