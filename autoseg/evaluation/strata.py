"""Cases by the volume of their reference: a mean over small and large lesions hides how the small ones fare."""

from __future__ import annotations

from collections.abc import Sequence

from autoseg.core.records import CaseScores, Statistics
from autoseg.evaluation.statistics import describe_values

EMPTY = "empty"
# Upper bound in ml of each class but the last; a volume of exactly that much is in the next class.
BOUNDS_ML = {"below 0.1 ml": 0.1, "0.1 to 1 ml": 1.0, "1 to 10 ml": 10.0}
LARGEST = "10 ml and more"
STRATA = (EMPTY, *BOUNDS_ML, LARGEST)


def name_stratum(volume_ml: float) -> str:
    """The class of a reference of that volume."""
    if volume_ml == 0:
        return EMPTY
    # A volume is a product of spacings: 100 voxels of 1 mm3 must not fall short of 0.1 ml by the last digit.
    return next((name for name, bound in BOUNDS_ML.items() if round(volume_ml, 9) < bound), LARGEST)


def stratify(cases: Sequence[CaseScores], metrics: Sequence[str]) -> dict[str, dict[str, dict[str, Statistics]]]:
    """Statistics of each label and metric in each class of the label's volume that holds a case.

    Args:
        cases: scores per case.
        metrics: names from the METRICS table.
    """
    strata: dict[str, dict[str, dict[str, Statistics]]] = {}
    for label in dict.fromkeys(label for case in cases for label in case.scores):
        sorted_in: dict[str, list[CaseScores]] = {name: [] for name in STRATA}
        for case in cases:
            if label in case.scores:
                sorted_in[name_stratum(case.reference_volume_ml[label])].append(case)
        strata[label] = {
            name: {metric: describe_values([case.scores[label].get(metric) for case in found]) for metric in metrics}
            for name, found in sorted_in.items()
            if found
        }
    return strata
