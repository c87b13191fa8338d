"""Detection of lesions by their size in the reference: missing a small one hardly changes any other score."""

from __future__ import annotations

import numpy as np

from autoseg.metrics.comparison import Comparison
from autoseg.metrics.declaration import Metric

# Upper bounds in ml of tiny, small and medium lesions; a lesion of exactly that volume is in the next class.
TINY_ML, SMALL_ML, MEDIUM_ML = 0.1, 1.0, 10.0


def recall_of_size(name: str, least_ml: float, below_ml: float, words: str) -> Metric:
    """The metric ``lesion_recall_<name>``: share of the reference lesions of a size that the prediction touches."""

    def compute(comparison: Comparison) -> float | None:
        lesions = comparison.lesions(26)
        volumes_ml = lesions.reference_sizes * comparison.voxel_volume_ml
        # A volume is a product of spacings: 100 voxels of 1 mm3 must not fall short of 0.1 ml by the last digit.
        volumes_ml = np.round(volumes_ml, 9)
        chosen = (volumes_ml >= least_ml) & (volumes_ml < below_ml)
        return float(lesions.detected[chosen].mean()) if chosen.any() else None

    return Metric(
        name=f"lesion_recall_{name}",
        unit="",
        higher_is_better=True,
        both_empty="undefined",
        worst="empty",
        convention=f"detected / reference lesions {words}, 26-connected, one shared voxel detects; "
        "undefined where the reference has none",
        compute=compute,
    )


lesion_recall_tiny = recall_of_size("tiny", 0.0, TINY_ML, "below 0.1 ml")
lesion_recall_small = recall_of_size("small", TINY_ML, SMALL_ML, "of 0.1 to 1 ml")
lesion_recall_medium = recall_of_size("medium", SMALL_ML, MEDIUM_ML, "of 1 to 10 ml")
lesion_recall_large = recall_of_size("large", MEDIUM_ML, float("inf"), "of 10 ml and more")
