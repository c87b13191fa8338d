"""Lesions of a predicted mask: count, measurements and tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from autoseg.core.geometry import bounding_box, box_slices, nearest_axes
from autoseg.core.masks import connected_components, find_head, measure_components
from autoseg.core.records import CaseLesions, Grid, Image, LabelLesions, Plan, PredictedLesion, Side
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
    "side",
)
MIDLINE_MM = 5.0  # so near to the middle of the head's width a lesion is on no side


@dataclass(frozen=True, kw_only=True)
class Midline:
    """Plane between the sides of a head, through the middle of its width.

    Attributes:
        point: (3,) world (x,y,z) mm, LPS.
        towards_left: (3,) unit vector to the patient's left, along the axis of the scan that is nearest to it.
    """

    point: np.ndarray
    towards_left: np.ndarray

    def side_of(self, centre: np.ndarray) -> Side:
        """Side of a world point (x,y,z)."""
        distance = float((centre - self.point) @ self.towards_left)
        return "midline" if abs(distance) <= MIDLINE_MM else "left" if distance > 0 else "right"


def find_midline(image: Image) -> Midline:
    """Midline of a scan, from the bounding box of its head.

    Args:
        image: (C,Z,Y,X) float, scanner units.
    """
    box = bounding_box(find_head(image.voxels))
    centre = np.array([(start + stop - 1) / 2 for start, stop in box])
    transpose, flips = nearest_axes(image.grid.direction)
    left = np.asarray(image.grid.direction)[:, transpose[2]] * (-1 if flips[2] else 1)
    return Midline(point=image.grid.to_world(centre), towards_left=left)


def list_targets(plan: Plan) -> dict[str, tuple[int, tuple[int, ...]]]:
    """Label or region -> channel of the network's output, and the mask's values that belong to it."""
    outputs = plan.outputs
    return {
        name: (channel, plan.regions[name] if plan.regions else (value,))
        for channel, (name, value) in enumerate(zip(outputs.names, outputs.values, strict=True))
        if plan.regions or value != 0
    }


def list_lesions(
    mask: np.ndarray,
    probabilities: np.ndarray,
    grid: Grid,
    targets: Mapping[str, tuple[int, Sequence[int]]],
    midline: Midline | None = None,
) -> dict[str, LabelLesions]:
    """Every lesion of every label or region, largest first.

    Args:
        mask: (Z,Y,X) integer, one value per class.
        probabilities: (K,Z,Y,X) float, one channel per output of the network.
        grid: of both.
        targets: label or region -> its channel and mask values, as ``list_targets`` returns them.
        midline: of the head; without it no lesion has a side.
    """
    labels = {}
    for name, (channel, values) in targets.items():
        inside = np.isin(mask, values)
        if not inside.any():
            labels[name] = LabelLesions(volume_ml=0.0, mean_probability=None, lesions=())
            continue
        box = bounding_box(inside)
        cut = box_slices(box)
        lesions = _measure(inside[cut], probabilities[channel][cut], grid, [start for start, _ in box], midline)
        voxels = sum(lesion.voxels for lesion in lesions)
        mean = sum(lesion.mean_probability * lesion.voxels for lesion in lesions) / voxels
        labels[name] = LabelLesions(
            volume_ml=six_digits(voxels * grid.voxel_volume_ml),
            mean_probability=six_digits(mean),
            lesions=tuple(lesions),
        )
    return labels


def _measure(
    inside: np.ndarray, probability: np.ndarray, grid: Grid, corner: Sequence[int], midline: Midline | None
) -> list[PredictedLesion]:
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
            side="" if midline is None else midline.side_of(centres[i]),
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
        (
            case.case,
            label,
            number,
            lesion.volume_ml,
            lesion.voxels,
            *lesion.centre,
            lesion.mean_probability,
            lesion.side,
        )
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
