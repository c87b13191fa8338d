"""Scores of one prediction against one reference: every label, every metric."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from autoseg.core.errors import DataError, UsageError
from autoseg.core.records import CaseScores, Dataset
from autoseg.core.store import hash_settings, sha256
from autoseg.evaluation.conventions import Convention
from autoseg.metrics import METRICS, Comparison, Metric, compare


def score_case(
    case_id: str,
    prediction: np.ndarray | None,
    reference: np.ndarray,
    *,
    spacing: Sequence[float],
    dataset: Dataset,
    convention: Convention,
    probabilities: Mapping[str, np.ndarray] | None = None,
) -> CaseScores:
    """Score every label but the background, or every region where there are regions.

    Args:
        case_id: for the record and for messages.
        prediction: (Z,Y,X) integer, one value per class; None where it is missing, which is the worst score.
        reference: (Z,Y,X) integer, same grid.
        spacing: mm along (z,y,x).
        dataset: of the labels, regions and the value to ignore: its voxels are removed from both masks and the domain.
        convention: metrics, and their rules for empty masks.
        probabilities: label or region name -> (Z,Y,X) float on the same grid; for metrics that rank voxels.

    Raises:
        DataError: different shapes, values that are not integers, or values that are not in the dataset.
        UsageError: an unknown metric, or one that needs probabilities where there are none.
    """
    metrics = {name: METRICS[name] for name in convention.metrics}
    lacking = [name for name, metric in metrics.items() if metric.needs_probability]
    if lacking and probabilities is None and prediction is not None:
        raise UsageError(f"{lacking[0]} needs probabilities of case {case_id}; predict it with --probabilities")
    mask = np.zeros_like(reference) if prediction is None else prediction
    _check_pair(case_id, mask, reference, _dataset_values(dataset))
    compared = dict(_compare_targets(mask, reference, spacing, dataset, probabilities))

    def score(metric: Metric, comparison: Comparison) -> float | None:
        if prediction is None:
            return metric.score_missing(comparison, penalty_mm=convention.penalty_mm)
        return metric(comparison, empty_score=convention.empty_score, penalty_mm=convention.penalty_mm)

    return CaseScores(
        case=case_id,
        scores={
            label: {name: score(metric, comparison) for name, metric in metrics.items()}
            for label, comparison in compared.items()
        },
        reference_volume_ml={label: comparison.reference_ml for label, comparison in compared.items()},
        prediction_volume_ml={label: comparison.predicted_ml for label, comparison in compared.items()},
        missing=prediction is None,
        reference=hash_settings(reference.shape, sha256(reference.astype(np.uint8).tobytes())),
    )


def name_targets(dataset: Dataset) -> dict[str, tuple[int, ...]]:
    """Labels or regions to score: name -> the values it unites."""
    if dataset.regions:
        return dict(dataset.regions)
    return {name: (value,) for name, value in dataset.labels.items() if value not in (0, dataset.ignore_label)}


def _compare_targets(
    prediction: np.ndarray,
    reference: np.ndarray,
    spacing: Sequence[float],
    dataset: Dataset,
    probabilities: Mapping[str, np.ndarray] | None,
) -> Iterator[tuple[str, Comparison]]:
    """Each target's two masks side by side, without the ignored voxels."""
    counted = None if dataset.ignore_label is None else reference != dataset.ignore_label
    voxels = None if counted is None else int(np.count_nonzero(counted))
    for label, values in name_targets(dataset).items():
        predicted, referenced = _find_values(prediction, values), _find_values(reference, values)
        if counted is not None:
            predicted &= counted
            referenced &= counted
        ranked = None
        if probabilities is not None:
            counted_voxels = slice(None) if counted is None else counted.ravel()
            ranked = probabilities[label].ravel()[counted_voxels], referenced.ravel()[counted_voxels]
        yield label, compare(predicted, referenced, spacing, voxels=voxels, probability=ranked)


def _dataset_values(dataset: Dataset) -> set[int]:
    values = {*dataset.labels.values(), *(value for region in dataset.regions.values() for value in region), 0}
    return values if dataset.ignore_label is None else values | {dataset.ignore_label}


def _check_pair(case_id: str, prediction: np.ndarray, reference: np.ndarray, values: set[int]) -> None:
    if prediction.shape != reference.shape:
        raise DataError(
            f"case {case_id}: the prediction has shape {prediction.shape} and the reference {reference.shape}; "
            f"save both on the scan's own grid"
        )
    _check_values(case_id, "prediction", prediction, values)
    _check_values(case_id, "reference", reference, values)


def _check_values(case_id: str, what: str, voxels: np.ndarray, values: set[int]) -> None:
    """Refuse masks that would silently be scored as empty (0/255, probabilities)."""
    if voxels.dtype.kind not in "iub":
        raise DataError(f"case {case_id}: the {what} has {voxels.dtype} values; save it as integers")
    if sum(np.count_nonzero(voxels == value) for value in values) == voxels.size:
        return
    unknown = sorted({int(value) for value in np.unique(voxels)} - values)
    raise DataError(
        f"case {case_id}: the {what} has the value {unknown[0]}, which is not in the dataset "
        f"({', '.join(map(str, sorted(values)))}); check that the mask belongs to this dataset"
    )


def _find_values(voxels: np.ndarray, values: Sequence[int]) -> np.ndarray:
    """(Z,Y,X) bool; comparing once per value is faster than np.isin."""
    mask = voxels == values[0]
    for value in values[1:]:
        mask |= voxels == value
    return mask
