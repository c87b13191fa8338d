"""Volume scores, regardless of position."""

from __future__ import annotations

from autoseg.metrics.comparison import Comparison
from autoseg.metrics.declaration import metric


@metric(unit="ml", higher_is_better=False, both_empty=0.0, worst="empty", convention="|V_P - V_R|, absolute (ISLES'22)")
def volume_difference_ml(comparison: Comparison) -> float | None:
    """Absolute volume difference.

    Source: ISLES'22, arXiv:2206.06694.
    """
    return abs(comparison.predicted_voxels - comparison.reference_voxels) * comparison.voxel_volume_ml


@metric(
    unit="%",
    higher_is_better=False,
    both_empty=0.0,
    worst="empty",
    convention="100 |V_P - V_R| / V_R (WMH); undefined where only the reference is empty",
)
def volume_difference_percent(comparison: Comparison) -> float | None:
    """Absolute volume difference as a share of the reference.

    Source: WMH challenge, doi:10.1109/TMI.2019.2905770.
    """
    if not comparison.reference_voxels:
        return None
    return 100 * abs(comparison.predicted_voxels - comparison.reference_voxels) / comparison.reference_voxels


@metric(
    unit="voxels", higher_is_better=False, both_empty=0.0, worst="empty", convention="|n_P - n_R| in voxels (ATLAS)"
)
def volume_difference_voxels(comparison: Comparison) -> float | None:
    """Absolute volume difference, in voxels.

    Source: ATLAS, doi:10.1038/s41597-022-01401-7.
    """
    return float(abs(comparison.predicted_voxels - comparison.reference_voxels))
