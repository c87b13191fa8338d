"""Slices of a case to show, their layout and their brightness; arrays in, arrays out."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from autoseg.core.geometry import Box, bounding_box, box_slices

GAP_MM = 8.0  # at least this far apart are the slices shown of one case, so that they differ
MARGIN_MM = 4.0
LEVEL_VOXELS = 64  # per axis, at most, of the copy that brightness is measured in
ZOOM_MM = 30.0  # a lesion is never magnified beyond this field of view


@dataclass(frozen=True, kw_only=True)
class Slices:
    """A case ready to be drawn: slices first, rows from top to bottom, columns from left to right.

    Attributes:
        image: (C,N,H,W) float, from 0 (black) to 1 (white).
        reference: (N,H,W) integer, or None.
        prediction: (N,H,W) integer.
        numbers: index of each slice along the axis, and how many the axis has.
        pixel: mm along (row, column).
        axis: that the slices were cut along: 0 axial, 1 coronal, 2 sagittal.
    """

    image: np.ndarray
    reference: np.ndarray | None
    prediction: np.ndarray
    numbers: tuple[tuple[int, int], ...]
    pixel: tuple[float, float]
    axis: int = 0


def cut_slices(
    image: np.ndarray, reference: np.ndarray | None, prediction: np.ndarray, spacing: Sequence[float], *, limit: int
) -> Slices:
    """At most ``limit`` slices with the most lesion, cropped to the head.

    Args:
        image: (C,Z,Y,X) float, any units; axes run I->S, A->P, R->L.
        reference: (Z,Y,X) integer, or None.
        prediction: (Z,Y,X) integer.
        spacing: mm along (z,y,x).
    """
    axis = choose_axis(spacing)
    shown = reference if reference is not None and reference.any() else prediction
    chosen = choose_slices(np.moveaxis(shown > 0, axis, 0), spacing[axis], limit=limit)
    return _lay_out(image, reference, prediction, spacing, axis, chosen)


def cut_stack(
    image: np.ndarray, reference: np.ndarray | None, prediction: np.ndarray, spacing: Sequence[float], *, limit: int
) -> Slices:
    """At most ``limit`` slices to browse, in the order of the axis; slices with lesion have priority.

    Args:
        as for ``cut_slices``.
    """
    axis = choose_axis(spacing)
    lesions: np.ndarray = prediction > 0 if reference is None else (prediction > 0) | (reference > 0)
    in_plane = tuple(a for a in range(3) if a != axis)
    # Outside the head, every slice is constant.
    head = (image.max(axis=tuple(o + 1 for o in in_plane)) > image.min(axis=tuple(o + 1 for o in in_plane))).any(axis=0)
    main = reference if reference is not None and reference.any() else prediction
    chosen = choose_stack((main > 0).sum(axis=in_plane), np.asarray(lesions.any(axis=in_plane)), head, limit=limit)
    return _lay_out(image, reference, prediction, spacing, axis, chosen)


def cut_planes(image: np.ndarray, mask: np.ndarray | None, spacing: Sequence[float]) -> tuple[Slices, ...]:
    """An axial, a coronal and a sagittal slice with the largest part of the mask, cropped to what they show; only one
    of a scan of one slice.

    Args:
        image: (C,Z,Y,X) float, any units; axes run I->S, A->P, R->L.
        mask: (Z,Y,X) integer; without mask or where it is empty, slices through the middle are cut.
        spacing: mm along (z,y,x).
    """
    flat = [axis for axis in range(3) if image.shape[axis + 1] == 1]
    sample = image[(slice(None), *(slice(None, None, math.ceil(size / LEVEL_VOXELS)) for size in image.shape[1:]))]
    levels = [_find_levels(channel) for channel in sample]
    planes = []
    for axis in flat[:1] or range(3):
        in_plane = tuple(a for a in range(3) if a != axis)
        areas = np.zeros(image.shape[axis + 1]) if mask is None else np.count_nonzero(mask, axis=in_plane)
        number = int(np.argmax(areas)) if areas.any() else len(areas) // 2
        cut = image.take([number], axis + 1)
        bright = np.stack([_apply_levels(channel, level) for channel, level in zip(cut, levels, strict=True)])
        bright = np.moveaxis(bright, axis + 1, 1)
        label = (
            np.zeros(bright.shape[1:], np.int16) if mask is None else np.moveaxis(mask.take([number], axis), axis, 0)
        )
        if axis != 0:  # rows run along z there, and the head is up
            bright, label = bright[..., ::-1, :], label[..., ::-1, :]
        pixel = (spacing[in_plane[0]], spacing[in_plane[1]])
        shown = (bright.max(axis=0) > 0.1).any(axis=0) | (label > 0).any(axis=0)
        margin = tuple(math.ceil(MARGIN_MM / mm) for mm in pixel)
        rows, columns = box_slices(_grow(bounding_box(shown if shown.any() else ~shown), margin, shown.shape))
        planes.append(
            Slices(
                image=bright[..., rows, columns],
                reference=None,
                prediction=label[..., rows, columns],
                numbers=((number, len(areas)),),
                pixel=pixel,
                axis=axis,
            )
        )
    return tuple(planes)


def choose_stack(areas: np.ndarray, lesions: np.ndarray, head: np.ndarray, *, limit: int) -> tuple[int, ...]:
    """Slices to browse: all with lesion, then evenly spread ones; the one with the largest area is always included.

    Args:
        areas: (N,) integer, voxels of lesion in each slice.
        lesions: (N,) bool, slices with lesion in either mask.
        head: (N,) bool, slices that show something.
    """
    with_lesion = np.flatnonzero(lesions)
    if len(with_lesion) >= limit:
        chosen = set(_spread(with_lesion, limit - 1)) | {int(np.argmax(areas))}
    else:
        without_lesion = np.flatnonzero(head & ~lesions)
        chosen = set(with_lesion.tolist()) | set(_spread(without_lesion, limit - len(with_lesion)))
    return tuple(sorted(chosen)) or (len(areas) // 2,)


def _spread(indices: np.ndarray, count: int) -> list[int]:
    """At most ``count`` of the indices, evenly."""
    if count <= 0 or not indices.size:
        return []
    places = np.linspace(0, len(indices) - 1, min(count, len(indices)))
    return indices[np.rint(places).astype(int)].tolist()


def _lay_out(
    image: np.ndarray,
    reference: np.ndarray | None,
    prediction: np.ndarray,
    spacing: Sequence[float],
    axis: int,
    chosen: Sequence[int],
) -> Slices:
    """The chosen slices upright, with one brightness for all, cropped to the head."""
    pixel = tuple(mm for a, mm in enumerate(spacing) if a != axis)
    bright = np.stack([_window(channel) for channel in image])

    def lay(voxels: np.ndarray) -> np.ndarray:
        cut = np.moveaxis(voxels, voxels.ndim - 3 + axis, -3)[..., list(chosen), :, :]
        return cut if axis == 0 else cut[..., ::-1, :]  # rows run along z there, and the head is up

    laid, predicted = lay(bright), lay(prediction)
    referenced = None if reference is None else lay(reference)
    lesions = (predicted > 0) if referenced is None else (predicted > 0) | (referenced > 0)
    margin = tuple(math.ceil(MARGIN_MM / mm) for mm in pixel)
    box = _grow(bounding_box((laid.max(axis=0) > 0.1).any(axis=0) | lesions.any(axis=0)), margin, laid.shape[-2:])
    rows, columns = box_slices(box)
    return Slices(
        image=laid[..., rows, columns],
        reference=None if referenced is None else referenced[:, rows, columns],
        prediction=predicted[:, rows, columns],
        numbers=tuple((index, prediction.shape[axis]) for index in chosen),
        pixel=(pixel[0], pixel[1]),
        axis=axis,
    )


def choose_axis(spacing: Sequence[float]) -> int:
    """The axis the scan was sliced along: the coarsest if it is clearly coarser than the first, else the first."""
    coarsest = int(np.argmax(spacing))
    return coarsest if spacing[coarsest] > 1.25 * spacing[0] else 0


def choose_slices(lesions: np.ndarray, thickness_mm: float, *, limit: int) -> tuple[int, ...]:
    """Slices with the most lesion, not next to each other, upper ones first; the middle one without lesions.

    Args:
        lesions: (N,H,W) bool.
        thickness_mm: of one slice.
    """
    areas = lesions.sum(axis=(1, 2))
    gap = max(1, math.ceil(GAP_MM / thickness_mm))
    chosen: list[int] = []
    for index in np.argsort(-areas, kind="stable").tolist():
        if len(chosen) == limit or areas[index] == 0:
            break
        if all(abs(index - previous) >= gap for previous in chosen):
            chosen.append(index)
    return tuple(sorted(chosen, reverse=True)) or (len(areas) // 2,)


def find_field(mask: np.ndarray, pixel: tuple[float, float]) -> Box | None:
    """A window with the slice's proportions around the mask; None where it would hardly magnify.

    Args:
        mask: (H,W) bool.
        pixel: mm along (row, column).
    """
    if not mask.any():
        return None
    centres, needed = [], 0.0
    for (start, stop), voxels, mm in zip(bounding_box(mask), mask.shape, pixel, strict=True):
        centres.append((start + stop) / 2)
        needed = max(needed, ((stop - start) * mm + 2 * MARGIN_MM) / (voxels * mm), ZOOM_MM / (voxels * mm))
    if needed > 0.7:
        return None
    field = []
    for centre, voxels in zip(centres, mask.shape, strict=True):
        size = max(1, round(needed * voxels))
        start = min(max(round(centre - size / 2), 0), voxels - size)
        field.append((start, start + size))
    return tuple(field)


def _window(channel: np.ndarray) -> np.ndarray:
    """(Z,Y,X) float -> the same from 0 to 1."""
    return _apply_levels(channel, _find_levels(channel))


def _find_levels(channel: np.ndarray) -> tuple[float, float]:
    """Black and white: the darkest voxels, and the brightest half per cent of the head."""
    low = float(np.percentile(channel, 0.5))
    head = channel[channel > low]
    return low, float(np.percentile(head, 99.5)) if head.size else low


def _apply_levels(channel: np.ndarray, levels: tuple[float, float]) -> np.ndarray:
    low, high = levels
    return np.clip((channel - low) / (high - low if high > low else 1.0), 0.0, 1.0)


def _grow(box: Box, margin: Sequence[int], shape: Sequence[int]) -> Box:
    return tuple(
        (max(start - more, 0), min(stop + more, size))
        for (start, stop), more, size in zip(box, margin, shape, strict=True)
    )
