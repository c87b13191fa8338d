"""Lesions of a predicted mask: count, measurements and tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from autoseg.core.geometry import bounding_box, box_slices
from autoseg.core.masks import connected_components, measure_components
from autoseg.core.records import CaseLesions, Grid, LabelLesions, Plan, PredictedLesion
from autoseg.core.text import render_csv_rows, six_digits

CASE_COLUMNS = ("case", "label", "lesions", "volume_ml", "largest_ml", "mean_probability")
LESION_COLUMNS = (
    "case",
    "label",
    "lesion",
    "volume_ml",
    "voxels",
    "centre_x_lps_mm",
    "centre_y_lps_mm",
    "centre_z_lps_mm",
    "mean_probability",
)


def list_targets(plan: Plan) -> dict[str, tuple[int, tuple[int, ...]]]:
    """Label or region -> channel of the network's output, and the mask's values that belong to it."""
    outputs = plan.outputs
    return {
        name: (channel, plan.regions[name] if plan.regions else (value,))
        for channel, (name, value) in enumerate(zip(outputs.names, outputs.values, strict=True))
        if plan.regions or value != 0
    }


def list_lesions(
    mask: np.ndarray, probabilities: np.ndarray, grid: Grid, targets: Mapping[str, tuple[int, Sequence[int]]]
) -> dict[str, LabelLesions]:
    """Every lesion of every label or region, largest first.

    Args:
        mask: (Z,Y,X) integer, one value per class.
        probabilities: (K,Z,Y,X) float, one channel per output of the network.
        grid: of both.
        targets: label or region -> its channel and mask values, as ``list_targets`` returns them.
    """
    labels = {}
    for name, (channel, values) in targets.items():
        inside = np.isin(mask, values)
        if not inside.any():
            labels[name] = LabelLesions(volume_ml=0.0, mean_probability=None, lesions=())
            continue
        box = bounding_box(inside)
        cut = box_slices(box)
        lesions = _measure(inside[cut], probabilities[channel][cut], grid, [start for start, _ in box])
        voxels = sum(lesion.voxels for lesion in lesions)
        mean = sum(lesion.mean_probability * lesion.voxels for lesion in lesions) / voxels
        labels[name] = LabelLesions(
            volume_ml=six_digits(voxels * grid.voxel_volume_ml),
            mean_probability=six_digits(mean),
            lesions=tuple(lesions),
        )
    return labels


def _measure(inside: np.ndarray, probability: np.ndarray, grid: Grid, corner: Sequence[int]) -> list[PredictedLesion]:
    """Components of a crop of the mask that begins at voxel ``corner`` of the grid."""
    components, count = connected_components(inside)
    measured = measure_components(components)
    sums = np.bincount(components.ravel(), weights=probability.ravel().astype(np.float64), minlength=count + 1)
    voxels = measured["voxel_counts"].astype(np.int64)
    centres = grid.to_world(measured["centroids"] + np.asarray(corner))
    order = np.argsort(-voxels[1:], kind="stable") + 1
    return [
        PredictedLesion(
            voxels=int(voxels[i]),
            volume_ml=six_digits(voxels[i] * grid.voxel_volume_ml),
            centre=tuple(round(float(mm), 2) for mm in centres[i]),  # type: ignore[arg-type]
            mean_probability=six_digits(sums[i] / voxels[i]),
        )
        for i in order
    ]


def render_case_table(cases: Sequence[CaseLesions]) -> str:
    """One row per case and label as CSV, also without any lesion."""
    rows = []
    for case in cases:
        for label, lesions in case.labels.items():
            largest = max((lesion.volume_ml for lesion in lesions.lesions), default=0.0)
            mean = lesions.mean_probability
            rows.append((case.case, label, len(lesions.lesions), lesions.volume_ml, largest, mean))
    return render_csv_rows(CASE_COLUMNS, rows)


def render_lesion_table(cases: Sequence[CaseLesions]) -> str:
    """One row per lesion as CSV."""
    rows = [
        (case.case, label, number, lesion.volume_ml, lesion.voxels, *lesion.centre, lesion.mean_probability)
        for case in cases
        for label, lesions in case.labels.items()
        for number, lesion in enumerate(lesions.lesions, start=1)
    ]
    return render_csv_rows(LESION_COLUMNS, rows)


def describe_lesions(labels: Mapping[str, LabelLesions]) -> list[str]:
    """One line per label: number of lesions and total volume."""
    return [
        f"{name}:  {len(lesions.lesions)} lesion{'s'[: len(lesions.lesions) != 1]}, {lesions.volume_ml:.3g} ml"
        for name, lesions in labels.items()
    ]
