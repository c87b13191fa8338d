"""From the network's grid back to the scan's own: the inverse of every forward step, in reverse order."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from autoseg.core.geometry import box_slices, turn, turn_back
from autoseg.core.masks import running_argmax
from autoseg.core.records import Label, Placement, PreprocessingSettings
from autoseg.preprocessing.forward import target_spacings
from autoseg.preprocessing.resampling import apply_matrices, axis_matrices, coarse_axis, touched_box

SLAB = 16


class LogitRestorer:
    """Takes network outputs row by row along the first axis and paints the mask on the scan's own grid.

    Rows are released as soon as no later row of the scan reads them, and classes are compared one after the other, so
    that memory grows with the rows held and not with classes times the whole volume.

    Logits are interpolated, then compared, only where a class other than background can win. That is exact: the
    weights of linear interpolation are not negative, so where background wins at all voxels around, it wins between
    them.

    Args:
        placement: of the preprocessed case.
        settings: of the configuration.
        values: label value of each channel.
        overlap: channels are regions; each is painted where its logit is positive, in order. Else they are classes
            that exclude each other, and channel 0 is background.
        probabilities: type of the probabilities of all channels, which are also kept; they take classes times the scan.

    Attributes:
        probabilities: (K,Z,Y,X) in the scan's own axis order, complete after the last row; None if not requested.
    """

    def __init__(
        self,
        placement: Placement,
        settings: PreprocessingSettings,
        *,
        values: Sequence[int],
        overlap: bool,
        probabilities: np.dtype | None = None,
    ) -> None:
        self.placement, self.overlap = placement, overlap
        shape = placement.cropped_shape
        self.matrices = axis_matrices(
            placement.shape, shape, settings.probability_order, _separate_axis(placement, settings)
        )
        self.values = np.asarray(values, np.uint8 if max(values) < 256 else np.int16)
        self.mask = np.zeros(shape, self.values.dtype)
        self.begin, self.end = _read_spans(self.matrices[0], shape[0])
        self.rows = np.zeros((len(values), 0, *placement.shape[1:]), np.float32)
        self.first = self.done = 0  # the source row that ``rows`` begin with; target rows that are painted
        self.probabilities = None
        if probabilities is not None:
            self.probabilities = np.zeros((len(values), *placement.grid.shape), probabilities)
            self.probabilities[0] = 0 if overlap else 1

    def add(self, rows: np.ndarray) -> None:
        """The next rows of the first axis.

        Args:
            rows: (K,n,Y,X) float32.
        """
        self.rows = np.concatenate([self.rows, rows], axis=1) if self.rows.shape[1] else rows
        available = self.first + self.rows.shape[1]
        ready = int(np.searchsorted(self.end, available, side="right"))
        for start in range(self.done, ready, SLAB):
            self._restore(slice(start, min(start + SLAB, ready)))
        self.done = max(self.done, ready)
        read = int(self.begin[self.done]) if self.done < len(self.begin) else available
        drop = min(max(read - self.first, 0), self.rows.shape[1])
        if drop:
            self.rows = self.rows[:, drop:].copy()  # a view would keep all of them
            self.first += drop

    def finish(self) -> Label:
        """The mask, after the last row."""
        assert self.done == len(self.begin)  # callers add all rows
        return _place(self.mask, self.placement)

    def _restore(self, rows: slice) -> None:
        """Paint target rows from the source rows that they read."""
        span = slice(int(self.begin[rows.start]), int(self.end[rows.stop - 1]))
        source = self.rows[:, span.start - self.first : span.stop - self.first]
        first, *in_plane = self.matrices
        matrices = (None if first is None else np.ascontiguousarray(first[rows, span]), *in_plane)
        shape = (rows.stop - rows.start, *self.mask.shape[1:])
        interesting: np.ndarray = np.any(source > 0, axis=0) if self.overlap else running_argmax(source)[0] > 0
        if interesting.any():
            inside, target, parts = touched_box(interesting, matrices, shape)
            out = self.mask[rows][target]
            resized = (apply_matrices(np.ascontiguousarray(channel[inside]), parts) for channel in source)
            out[...] = _paint(resized, self.values) if self.overlap else self.values[running_argmax(resized)[0]]
        if self.probabilities is not None:
            self._keep_probabilities(source, matrices, rows)

    def _keep_probabilities(self, source: np.ndarray, matrices: Sequence[np.ndarray | None], rows: slice) -> None:
        assert self.probabilities is not None
        probabilities = _probabilities(
            np.stack([apply_matrices(channel, matrices) for channel in source]), self.overlap
        )
        turned = turn(self.probabilities, self.placement.transpose, self.placement.flips)
        (start, _), *in_plane = self.placement.crop
        turned[(slice(None), slice(start + rows.start, start + rows.stop), *box_slices(tuple(in_plane)))] = (
            probabilities
        )


def _probabilities(logits: np.ndarray, overlap: bool) -> np.ndarray:
    """(K,...) float32 logits -> probabilities: sigmoid for regions, softmax for classes."""
    if overlap:
        half = np.tanh(logits / 2)  # of a large logit exp would overflow
        return (1 + half) / 2
    probabilities = np.exp(logits - logits.max(axis=0))
    probabilities /= probabilities.sum(axis=0)
    return probabilities


def _separate_axis(placement: Placement, settings: PreprocessingSettings) -> int | None:
    scan_spacing, target = target_spacings(placement.cropped_spacing, settings)
    return coarse_axis((target, scan_spacing), settings.coarse_axis_ratio)


def _read_spans(matrix: np.ndarray | None, rows: int) -> tuple[np.ndarray, np.ndarray]:
    """For each target row the first source row that it or any later one reads, and the end of those read so far."""
    if matrix is None:
        return np.arange(rows), np.arange(rows) + 1
    read = matrix != 0
    begin, end = read.argmax(axis=1), matrix.shape[1] - read[:, ::-1].argmax(axis=1)
    return np.minimum.accumulate(begin[::-1])[::-1], np.maximum.accumulate(end)


def _paint(channels: Iterable[np.ndarray], values: np.ndarray) -> np.ndarray:
    """Regions in order, each over the previous: K times (Z,Y,X) float32 -> (Z,Y,X) values."""
    out: np.ndarray | None = None
    for channel, value in zip(channels, values, strict=True):
        out = np.zeros(channel.shape, values.dtype) if out is None else out
        out[channel > 0] = value
    assert out is not None  # a network has at least one output
    return out


def _place(voxels: np.ndarray, placement: Placement) -> Label:
    """Into the crop's place in the scan, then back to the scan's own axes."""
    turned_shape = tuple(placement.grid.shape[axis] for axis in placement.transpose)
    full = np.zeros(turned_shape, voxels.dtype)
    full[box_slices(placement.crop)] = voxels
    voxels_on_scan = np.ascontiguousarray(turn_back(full, placement.transpose, placement.flips))
    return Label(voxels=voxels_on_scan, grid=placement.grid)
