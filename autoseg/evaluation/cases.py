"""One prediction against one reference: every label, every metric."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from autoseg.core.errors import DataError
from autoseg.core.records import CaseScores
from autoseg.metrics import METRICS, EmptyScore, compare

DEFAULT_METRICS = (
    "dice",
    "iou",
    "precision",
    "sensitivity",
    "specificity",
    "hd95",
    "volume_difference_ml",
    "lesion_f1",
)


def score_case(
    case_id: str,
    prediction: np.ndarray,
    reference: np.ndarray,
    *,
    spacing: Sequence[float],
    labels: Mapping[str, int],
    regions: Mapping[str, tuple[int, ...]],
    ignore_label: int | None,
    metrics: Sequence[str] = DEFAULT_METRICS,
    empty_score: EmptyScore = "undefined",
) -> CaseScores:
    """Score every label but the background, or every region where there are regions.

    Args:
        case_id: for the record and for messages.
        prediction: (Z,Y,X) integer, one value per class.
        reference: (Z,Y,X) integer, same grid.
        spacing: mm along (z,y,x).
        labels: label name -> value; 0 is background.
        regions: region name -> the values it unites; empty when classes exclude each other.
        ignore_label: voxels that hold it in the reference are removed from both masks and from the domain.
        metrics: names from the METRICS table.
        empty_score: what the overlap scores give where both masks are empty.

    Raises:
        DataError: other shapes, values that are no whole numbers, or values the dataset does not know.
        UsageError: a metric that does not exist.
    """
    values = {*labels.values(), *(value for region in regions.values() for value in region), 0}
    if ignore_label is not None:
        values.add(ignore_label)
    if prediction.shape != reference.shape:
        raise DataError(
            f"case {case_id}: the prediction has shape {prediction.shape} and the reference {reference.shape}; "
            f"both must lie on the scan's own grid"
        )
    _check_values(case_id, "prediction", prediction, values)
    _check_values(case_id, "reference", reference, values)
    counted = None if ignore_label is None else reference != ignore_label
    chosen = {name: METRICS[name] for name in metrics}

    scores, referenced_ml, predicted_ml = {}, {}, {}
    for label, members in name_targets(labels, regions, ignore_label).items():
        predicted, referenced = np.isin(prediction, members), np.isin(reference, members)
        if counted is not None:
            predicted &= counted
            referenced &= counted
        voxels = None if counted is None else int(np.count_nonzero(counted))
        comparison = compare(predicted, referenced, spacing, voxels=voxels)
        scores[label] = {name: metric(comparison, empty_score=empty_score) for name, metric in chosen.items()}
        referenced_ml[label] = comparison.referenced_ml
        predicted_ml[label] = comparison.predicted_ml
    return CaseScores(case=case_id, scores=scores, reference_volume_ml=referenced_ml, prediction_volume_ml=predicted_ml)


def name_targets(
    labels: Mapping[str, int], regions: Mapping[str, tuple[int, ...]], ignore_label: int | None
) -> dict[str, tuple[int, ...]]:
    """What is scored: name -> the values it unites."""
    if regions:
        return dict(regions)
    return {name: (value,) for name, value in labels.items() if value not in (0, ignore_label)}


def _check_values(case_id: str, what: str, voxels: np.ndarray, known: set[int]) -> None:
    """Refuse masks that would be scored as empty without a word (0/255, probabilities)."""
    if voxels.dtype.kind not in "iub":
        raise DataError(f"case {case_id}: the {what} holds {voxels.dtype} values; save it as whole numbers")
    strange = sorted(set(_distinct(voxels)) - known)
    if strange:
        raise DataError(
            f"case {case_id}: the {what} holds the value {strange[0]}, which the dataset does not know "
            f"(known: {', '.join(map(str, sorted(known)))}); check that the mask belongs to this dataset"
        )


def _distinct(voxels: np.ndarray) -> list[int]:
    """The values that occur; counting is much faster than sorting where the values are few."""
    low, high = int(voxels.min(initial=0)), int(voxels.max(initial=0))
    if low < 0 or high > 65535:
        return [int(value) for value in np.unique(voxels)]
    return [int(value) for value in np.flatnonzero(np.bincount(voxels.ravel().astype(np.intp)))]
