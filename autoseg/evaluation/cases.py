"""Scores of one prediction against one reference: every label, every metric."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from autoseg.core.errors import DataError, UsageError
from autoseg.core.records import CaseScores
from autoseg.evaluation.conventions import DEFAULT_METRICS
from autoseg.metrics import METRICS, Comparison, EmptyScore, compare


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
    penalty_mm: float | None = None,
    probabilities: Mapping[str, np.ndarray] | None = None,
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
        empty_score: overlap scores where both masks are empty.
        penalty_mm: distances where one mask is empty; None leaves them undefined.
        probabilities: label or region name -> (Z,Y,X) float on the same grid; for metrics that rank voxels.

    Raises:
        DataError: different shapes, values that are not integers, or values that are not in the dataset.
        UsageError: an unknown metric, or one that needs probabilities where there are none.
    """
    chosen = {name: METRICS[name] for name in metrics}
    lacking = [name for name, metric in chosen.items() if metric.needs_probability]
    if lacking and probabilities is None:
        raise UsageError(f"{lacking[0]} needs probabilities of case {case_id}; predict it with --probabilities")
    _check_pair(case_id, prediction, reference, _known_values(labels, regions, ignore_label))
    targets = name_targets(labels, regions, ignore_label)
    compared = dict(_compare_targets(prediction, reference, spacing, targets, ignore_label, probabilities))
    scores = {
        label: {
            name: metric(comparison, empty_score=empty_score, penalty_mm=penalty_mm) for name, metric in chosen.items()
        }
        for label, comparison in compared.items()
    }
    return _record(case_id, scores, compared)


def score_missing(
    case_id: str,
    reference: np.ndarray,
    *,
    spacing: Sequence[float],
    labels: Mapping[str, int],
    regions: Mapping[str, tuple[int, ...]],
    ignore_label: int | None,
    metrics: Sequence[str] = DEFAULT_METRICS,
    penalty_mm: float | None = None,
) -> CaseScores:
    """The worst score of every metric, for a case without a prediction; arguments and errors as for ``score_case``."""
    chosen = {name: METRICS[name] for name in metrics}
    nothing = np.zeros_like(reference)
    _check_pair(case_id, nothing, reference, _known_values(labels, regions, ignore_label))
    targets = name_targets(labels, regions, ignore_label)
    compared = dict(_compare_targets(nothing, reference, spacing, targets, ignore_label, None))
    scores = {
        label: {name: metric.score_missing(comparison, penalty_mm=penalty_mm) for name, metric in chosen.items()}
        for label, comparison in compared.items()
    }
    return _record(case_id, scores, compared).model_copy(update={"missing": True})


def _compare_targets(
    prediction: np.ndarray,
    reference: np.ndarray,
    spacing: Sequence[float],
    targets: Mapping[str, tuple[int, ...]],
    ignore_label: int | None,
    probabilities: Mapping[str, np.ndarray] | None,
) -> Iterator[tuple[str, Comparison]]:
    """Each target's two masks side by side, without the ignored voxels."""
    counted = None if ignore_label is None else reference != ignore_label
    voxels = None if counted is None else int(np.count_nonzero(counted))
    for label, members in targets.items():
        predicted, referenced = _find_values(prediction, members), _find_values(reference, members)
        if counted is not None:
            predicted &= counted
            referenced &= counted
        ranked = None
        if probabilities is not None:
            kept = slice(None) if counted is None else counted.ravel()
            ranked = probabilities[label].ravel()[kept], referenced.ravel()[kept]
        yield label, compare(predicted, referenced, spacing, voxels=voxels, probability=ranked)


def _record(case_id: str, scores: dict[str, dict[str, float | None]], compared: Mapping[str, Comparison]) -> CaseScores:
    return CaseScores(
        case=case_id,
        scores=scores,
        reference_volume_ml={label: comparison.reference_ml for label, comparison in compared.items()},
        prediction_volume_ml={label: comparison.predicted_ml for label, comparison in compared.items()},
    )


def name_targets(
    labels: Mapping[str, int], regions: Mapping[str, tuple[int, ...]], ignore_label: int | None
) -> dict[str, tuple[int, ...]]:
    """Labels or regions to score: name -> the values it unites."""
    if regions:
        return dict(regions)
    return {name: (value,) for name, value in labels.items() if value not in (0, ignore_label)}


def _known_values(
    labels: Mapping[str, int], regions: Mapping[str, tuple[int, ...]], ignore_label: int | None
) -> set[int]:
    values = {*labels.values(), *(value for region in regions.values() for value in region), 0}
    return values if ignore_label is None else values | {ignore_label}


def _check_pair(case_id: str, prediction: np.ndarray, reference: np.ndarray, known: set[int]) -> None:
    if prediction.shape != reference.shape:
        raise DataError(
            f"case {case_id}: the prediction has shape {prediction.shape} and the reference {reference.shape}; "
            f"save both on the scan's own grid"
        )
    _check_values(case_id, "prediction", prediction, known)
    _check_values(case_id, "reference", reference, known)


def _check_values(case_id: str, what: str, voxels: np.ndarray, known: set[int]) -> None:
    """Refuse masks that would silently be scored as empty (0/255, probabilities)."""
    if voxels.dtype.kind not in "iub":
        raise DataError(f"case {case_id}: the {what} has {voxels.dtype} values; save it as integers")
    if sum(np.count_nonzero(voxels == value) for value in known) == voxels.size:
        return
    unknown = sorted({int(value) for value in np.unique(voxels)} - known)
    raise DataError(
        f"case {case_id}: the {what} has the value {unknown[0]}, which is not in the dataset "
        f"({', '.join(map(str, sorted(known)))}); check that the mask belongs to this dataset"
    )


def _find_values(voxels: np.ndarray, values: Sequence[int]) -> np.ndarray:
    """(Z,Y,X) bool; comparing once per value is faster than np.isin."""
    found = voxels == values[0]
    for value in values[1:]:
        found |= voxels == value
    return found
