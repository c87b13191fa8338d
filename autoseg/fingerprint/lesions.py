"""Lesions: of one case, and of all cases in a few numbers."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np

from autoseg.core.geometry import bounding_box, box_slices
from autoseg.core.masks import connected_components, measure_components
from autoseg.core.records import CaseFacts, LesionFacts, LesionPositions, LesionSummary
from autoseg.core.text import six_digits

SMALL_LESION_ML = 0.1
LEFT_RIGHT = 2  # the canonical axis that runs from the patient's right to the left


def measure_lesions(
    reference: np.ndarray,
    *,
    spacing: Sequence[float],
    crop: Sequence[tuple[int, int]],
    labels: Mapping[str, int],
) -> tuple[LesionFacts, ...]:
    """Every 26-connected component of one label, largest first.

    Args:
        reference: (Z,Y,X) integer, class values.
        spacing: mm.
        crop: (start, stop) per axis of the grid that centres are fractions of.
        labels: class name -> value, without background.
    """
    lesion_mask = np.isin(reference, list(labels.values()))
    if not lesion_mask.any():
        return ()
    box = bounding_box(lesion_mask)
    inside = np.where(lesion_mask, reference, 0)[box_slices(box)].astype(np.uint16)
    components, count = connected_components(inside)
    measured = measure_components(components)
    value_of = np.zeros(count + 1, np.int64)
    in_lesion = components > 0
    value_of[components[in_lesion]] = inside[in_lesion]
    start = np.array([c for c, _ in crop])
    size = np.array([stop - start for start, stop in crop])
    # + 0.5: a voxel's centre is half a voxel after its index.
    centres = (measured["centroids"] + np.array([b for b, _ in box]) - start + 0.5) / size
    names = {value: name for name, value in labels.items()}
    voxel_ml = math.prod(spacing) / 1000
    order = np.argsort(-measured["voxel_counts"][1:].astype(np.int64), kind="stable") + 1
    return tuple(
        LesionFacts(
            label=names[int(value_of[i])],
            volume_ml=six_digits(measured["voxel_counts"][i] * voxel_ml),
            centre=tuple(round(float(c), 3) for c in np.clip(centres[i], 0, 1)),  # type: ignore[arg-type]
        )
        for i in order
    )


def summarize_lesions(cases: Sequence[CaseFacts]) -> LesionSummary:
    """Count the lesions, their volumes and the empty cases; every volume is 0 when there is no lesion."""
    labelled = [case for case in cases if case.label_voxels]
    counts = [len(case.lesions) for case in labelled]
    loads = [sum(lesion.volume_ml for lesion in case.lesions) for case in labelled if case.lesions]
    volumes = np.array([lesion.volume_ml for case in labelled for lesion in case.lesions])
    levels = np.percentile(volumes if volumes.size else [0.0], (0, 5, 25, 50, 75, 95, 100))
    smallest, low, first, median, third, high, largest = (six_digits(level) for level in levels)
    return LesionSummary(
        cases=len(labelled),
        empty_cases=counts.count(0),
        count=int(volumes.size),
        per_case=float(np.median([n for n in counts if n] or [0])),
        most_per_case=max(counts, default=0),
        smallest_ml=smallest,
        percentile_05_ml=low,
        quartile_1_ml=first,
        median_ml=median,
        quartile_3_ml=third,
        percentile_95_ml=high,
        largest_ml=largest,
        total_ml=six_digits(volumes.sum()),
        per_case_ml=six_digits(np.median(loads or [0.0])),
        small_share=float(np.mean(volumes < SMALL_LESION_ML)) if volumes.size else 0.0,
        positions=_summarize_positions([lesion for case in labelled for lesion in case.lesions]),
    )


def _summarize_positions(lesions: Sequence[LesionFacts]) -> LesionPositions | None:
    if not lesions:
        return None
    centres = np.array([lesion.centre for lesion in lesions])
    volumes = np.array([lesion.volume_ml for lesion in lesions])
    left, right = (sign * (centres[:, LEFT_RIGHT] - 0.5) > 0 for sign in (1, -1))
    return LesionPositions(
        left_share=six_digits(left.mean()),
        right_share=six_digits(right.mean()),
        left_volume_share=_share(volumes, left),
        right_volume_share=_share(volumes, right),
        centre=_axes(centres.mean(axis=0)),
        spread=_axes(centres.std(axis=0)),
    )


def _share(volumes: np.ndarray, selected: np.ndarray) -> float:
    return six_digits(volumes[selected].sum() / volumes.sum())


def _axes(values: np.ndarray) -> tuple[float, float, float]:
    z, y, x = (round(float(value), 3) for value in values)
    return z, y, x
