"""From the network's grid back to the scan's own: the inverse of every forward step, in reverse order."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from autoseg.core.geometry import box_slices, turn_back
from autoseg.core.records import Label, Placement, PreprocessingSettings
from autoseg.preprocessing.forward import target_spacings
from autoseg.preprocessing.resampling import apply_matrices, axis_matrices, coarse_axis, resample_label, touched_box

SLAB = 16


def restore_label(voxels: np.ndarray, placement: Placement, settings: PreprocessingSettings) -> Label:
    """A label on the network's grid -> on the scan's own grid.

    Args:
        voxels: (Z,Y,X) integer on the preprocessed grid.
    """
    resized = resample_label(
        voxels, placement.cropped_shape, order=settings.label_order, apart=_apart(placement, settings)
    )
    return _place(resized, placement)


def restore_logits(
    logits: np.ndarray, placement: Placement, settings: PreprocessingSettings, *, values: Sequence[int], overlap: bool
) -> Label:
    """Network outputs -> the winning label value of every voxel of the scan's own grid.

    Logits are interpolated, then compared, slab by slab and only where a class other than background can win. That is
    exact: the weights of linear interpolation are not negative, so where background wins at all voxels around, it
    wins between them.

    Args:
        logits: (K,Z,Y,X) float32 on the preprocessed grid. Classes that exclude each other: channel 0 is background.
        values: label value of each channel.
        overlap: channels are regions; each is painted where its logit is positive, in order.
    """
    shape = placement.cropped_shape
    matrices = axis_matrices(logits.shape[1:], shape, settings.probability_order, _apart(placement, settings))
    dtype = np.uint8 if max(values) < 256 else np.int16
    out = np.zeros(shape, dtype)
    interesting: np.ndarray = np.any(logits > 0, axis=0) if overlap else _winner(logits) > 0
    if interesting.any():
        source, target, parts = touched_box(interesting, matrices, shape)
        inside = logits[(slice(None), *source)]
        lookup = np.asarray(values, dtype)
        for rows in _slabs(target[0].stop - target[0].start):
            resized = _resize_rows(inside, parts, rows)
            where = (slice(target[0].start + rows.start, target[0].start + rows.stop), *target[1:])
            out[where] = _paint(resized, lookup) if overlap else lookup[_winner(resized)]
    return _place(out, placement)


def restore_probabilities(
    logits: np.ndarray, placement: Placement, settings: PreprocessingSettings, *, overlap: bool
) -> np.ndarray:
    """Network outputs -> probabilities on the scan's own grid; outside the crop background has probability one.

    Args:
        logits: (K,Z,Y,X) float32 on the preprocessed grid.

    Returns:
        (K,Z,Y,X) float32 in the scan's own axis order; sums to one over K unless ``overlap``.
    """
    matrices = axis_matrices(
        logits.shape[1:], placement.cropped_shape, settings.probability_order, _apart(placement, settings)
    )
    resized = np.stack([apply_matrices(channel, matrices) for channel in logits])
    if overlap:
        resized = 1 / (1 + np.exp(-resized))
    else:
        resized = np.exp(resized - resized.max(axis=0))
        resized /= resized.sum(axis=0)
    turned_shape = tuple(placement.grid.shape[axis] for axis in placement.transpose)
    full = np.zeros((len(logits), *turned_shape), np.float32)
    full[0] = 0 if overlap else 1
    full[(slice(None), *box_slices(placement.crop))] = resized
    return np.ascontiguousarray(turn_back(full, placement.transpose, placement.flips))


def _apart(placement: Placement, settings: PreprocessingSettings) -> int | None:
    own, target = target_spacings(placement.cropped_spacing, settings)
    return coarse_axis((target, own), settings.coarse_axis_ratio)


def _slabs(rows: int) -> list[slice]:
    return [slice(start, min(start + SLAB, rows)) for start in range(0, rows, SLAB)]


def _resize_rows(logits: np.ndarray, matrices: Sequence[np.ndarray | None], rows: slice) -> np.ndarray:
    """The target rows asked for, from only the source rows that they read."""
    first, *others = matrices
    if first is None:
        return np.stack([apply_matrices(channel[rows], (None, *others)) for channel in logits])
    columns = np.flatnonzero((first[rows] != 0).any(axis=0))
    span = slice(int(columns[0]), int(columns[-1]) + 1)
    part = np.ascontiguousarray(first[rows, span])
    return np.stack([apply_matrices(np.ascontiguousarray(channel[span]), (part, *others)) for channel in logits])


def _winner(logits: np.ndarray) -> np.ndarray:
    """Arg-max over the first axis as a running comparison (numpy's own walks memory across it); ties go to the first.

    Args:
        logits: (K,Z,Y,X) float32.

    Returns:
        (Z,Y,X) uint8 channel numbers.
    """
    best, winner = logits[0].copy(), np.zeros(logits.shape[1:], np.uint8)
    for number, channel in enumerate(logits[1:], start=1):
        wins = channel > best
        winner[wins] = number
        np.copyto(best, channel, where=wins)
    return winner


def _paint(logits: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Regions in order, each over the former: (K,Z,Y,X) float32 -> (Z,Y,X) values."""
    out = np.zeros(logits.shape[1:], values.dtype)
    for channel, value in zip(logits, values, strict=True):
        out[channel > 0] = value
    return out


def _place(voxels: np.ndarray, placement: Placement) -> Label:
    """Into the crop's place in the scan, then back to the scan's own axes."""
    turned_shape = tuple(placement.grid.shape[axis] for axis in placement.transpose)
    full = np.zeros(turned_shape, voxels.dtype)
    full[box_slices(placement.crop)] = voxels
    own = np.ascontiguousarray(turn_back(full, placement.transpose, placement.flips))
    return Label(voxels=own, grid=placement.grid)
