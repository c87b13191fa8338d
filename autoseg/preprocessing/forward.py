"""Turn, crop, normalise, resample: one path for training and for prediction."""

from __future__ import annotations

import math

import fill_voids
import numpy as np

from autoseg.core.errors import DataError
from autoseg.core.geometry import bounding_box, box_slices, nearest_axes, resampled_shape, turn
from autoseg.core.masks import connected_components, find_head
from autoseg.core.records import Grid, Image, Label, Lesions, Placement, PreparedCase, PreprocessingSettings
from autoseg.preprocessing.normalization import normalize
from autoseg.preprocessing.resampling import coarse_axis, resample_image, resample_label

POINTS_PER_LESION = 1000
MAX_VOXELS = 2**31  # of a preprocessed case: 8 GB a channel


def prepare_case(case_id: str, image: Image, label: Label | None, settings: PreprocessingSettings) -> PreparedCase:
    """One scan, and its label if it has one, on the network's grid.

    Source: nnU-Net, doi:10.1038/s41592-020-01008-z: crop to the non-zero region, normalise, then resample. The head
    as the region is ours.

    Args:
        case_id: the case.
        image: (C,Z,Y,X) float32 on the scan's own grid.
        label: (Z,Y,X) integer on the same grid, or None.
        settings: of the configuration.

    Raises:
        DataError: its spacing would make it larger than memory.
    """
    transpose, flips = _axes(image.grid, settings)
    turned = turn(image.voxels, transpose, flips)
    mask = find_head(turned) if settings.region == "head" else nonzero_mask(turned)
    crop = bounding_box(mask)
    inside = box_slices(crop)
    spacing = tuple(image.grid.spacing[axis] for axis in transpose)
    cropped_shape = tuple(stop - start for start, stop in crop)
    shape = resampled_shape(cropped_shape, spacing, settings.spacing)
    if math.prod(shape) > MAX_VOXELS:
        sizes = [" x ".join(f"{n:.4g}" for n in numbers) for numbers in (shape, spacing)]
        raise DataError(
            f"case {case_id}: at the planned spacing it would have {sizes[0]} voxels, more than memory holds; its own "
            f"spacing is {sizes[1]} mm: correct its header"
        )
    voxels = normalize(turned[(slice(None), *inside)], mask[inside], settings.channels)
    placement = Placement.model_validate(
        {
            "grid": image.grid,
            "transpose": transpose,
            "flips": flips,
            "crop": crop,
            "cropped_spacing": spacing,
            "shape": shape,
        }
    )
    voxels = resample_image(
        voxels, shape, order=settings.image_order, separate_axis=_separate_axis(placement, settings)
    )
    if label is None:
        return PreparedCase(id=case_id, image=voxels, label=None, placement=placement, lesions=None)
    prepared = prepare_label(label, placement, settings)
    return PreparedCase(id=case_id, image=voxels, label=prepared, placement=placement, lesions=find_lesions(prepared))


def prepare_label(label: Label, placement: Placement, settings: PreprocessingSettings) -> np.ndarray:
    """A label or a mask of a scan on the network's grid: turn, crop, resample.

    Args:
        label: (Z,Y,X) integer on the scan's own grid.
        placement: of the prepared scan.
        settings: of the configuration.

    Returns:
        (Z,Y,X) of the same dtype, on the grid of the prepared image.
    """
    turned = turn(label.voxels, placement.transpose, placement.flips)
    cropped = np.ascontiguousarray(turned[box_slices(placement.crop)])
    return resample_label(
        cropped, placement.shape, order=settings.label_order, separate_axis=_separate_axis(placement, settings)
    )


def _separate_axis(placement: Placement, settings: PreprocessingSettings) -> int | None:
    """The axis that is resampled separately, or None."""
    return coarse_axis(target_spacings(placement.cropped_spacing, settings), settings.coarse_axis_ratio)


def target_spacings(spacing: tuple[float, ...], settings: PreprocessingSettings) -> tuple[tuple[float, ...], ...]:
    """The scan's spacing and the one it is brought to, both in preprocessed axis order."""
    return spacing, tuple(
        scan_spacing if target is None else target
        for scan_spacing, target in zip(spacing, settings.spacing, strict=True)
    )


def nonzero_mask(voxels: np.ndarray) -> np.ndarray:
    """Mask of voxels where any channel is not zero, holes filled; everything if all is zero.

    Args:
        voxels: (C,Z,Y,X) any dtype.

    Returns:
        (Z,Y,X) bool.
    """
    mask = voxels[0] != 0
    for channel in voxels[1:]:
        mask |= channel != 0
    if not mask.any() or mask.all():
        return np.ones_like(mask)
    return fill_voids.fill(np.ascontiguousarray(mask)).astype(bool, copy=False)


def find_lesions(label: np.ndarray) -> Lesions:
    """Every lesion of every label value, and up to 1000 of its voxels, evenly spread over it.

    Args:
        label: (Z,Y,X) integer.
    """
    values, sizes, points = [], [], []
    box = box_slices(bounding_box(label != 0))
    offset = np.array([part.start for part in box])
    components, count = connected_components(label[box])
    where = np.argwhere(components)  # in index order, so lesions' voxels stay ordered within each lesion
    owner = components[tuple(where.T)]
    order = np.argsort(owner, kind="stable")
    for lesion in np.split(where[order], np.flatnonzero(np.diff(owner[order])) + 1) if count else []:
        chosen = lesion[np.linspace(0, len(lesion) - 1, min(len(lesion), POINTS_PER_LESION)).round().astype(int)]
        values.append(label[tuple(lesion[0] + offset)])
        sizes.append(len(lesion))
        points.append(chosen + offset)
    return Lesions(
        label=np.array(values, np.int16),
        size=np.array(sizes, np.int64),
        start=np.cumsum([0, *(len(chosen) for chosen in points)], dtype=np.int64),
        points=np.concatenate(points).astype(np.int32) if points else np.zeros((0, 3), np.int32),
    )


def _axes(grid: Grid, settings: PreprocessingSettings) -> tuple[tuple[int, ...], tuple[bool, ...]]:
    """Scan axis that each preprocessed axis comes from, and whether it is reversed."""
    canonical = settings.orientation == "canonical"
    transpose, flips = nearest_axes(grid.direction) if canonical else ((0, 1, 2), (False, False, False))
    return tuple(transpose[axis] for axis in settings.axis_order), tuple(flips[axis] for axis in settings.axis_order)
