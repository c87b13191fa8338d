"""Cutting a patch out of a volume with torch, on any device: the rules of ``spatial``, equal but for rounding.

Positions and weights are float64 and every sum is taken in the order of the compiled loop, so that a label that two
classes nearly share falls to the same one.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from autoseg.batches.augmentation.draws import Change
from autoseg.batches.augmentation.spatial import mirrored_matrix, patch_centre, spline_weights

SLAB = 2**19  # voxels whose corners and weights are in memory at once, about 250 bytes each


class _Ends(NamedTuple):
    """Along one axis, the two voxels around each position and their weights, 0 outside the box.

    Attributes:
        low, high: (*rows) int64, valid indices.
        first, second: (*rows) float64.
    """

    low: Tensor
    high: Tensor
    first: Tensor
    second: Tensor


def cut_tensors(
    image: Tensor,
    label: Tensor,
    low: Sequence[int],
    start: Sequence[int],
    change: Change,
    patch: Tensor,
    target: Tensor,
) -> None:
    """Fill a patch and its target from the part of a volume that they are made of; outside the volume both are 0.

    Args:
        image: (C,*box) float32 or float16.
        label: (*box) integer.
        low: first voxel of the box in the volume; see ``find_box``.
        start: first voxel of the patch in the volume; may be negative.
        change: what was drawn.
        patch: (C,*patch) float32, filled here, on the device of the others.
        target: (*patch) int16, filled here.
    """
    if change.matrix is None:
        _copy_box(image, low, start, change.mirrored, patch)
        _copy_box(label[None], low, start, change.mirrored, target[None])
        return
    matrix = mirrored_matrix(change)
    centre = patch_centre(start, target.shape) - list(low)
    flat, values = image.reshape(len(image), -1), label.reshape(-1)
    moved = None
    if change.elastic is not None:
        moved = torch.stack([smooth_tensor(points, target.shape, target.device) for points in change.elastic])
    rows = max(1, SLAB // (target.shape[1] * target.shape[2]))
    for first in range(0, len(target), rows):
        part = slice(first, min(first + rows, len(target)))
        offsets = _list_offsets(part, target.shape, moved, target.device)
        ends = [_find_ends(offsets, matrix[axis], centre[axis], n) for axis, n in enumerate(label.shape)]
        corners = _list_corners(ends, label.shape)
        _interpolate(flat, corners, ends, patch[:, part])
        _vote(values, corners, ends, target[part])


def smooth_tensor(points: np.ndarray, shape: Sequence[int], device: torch.device) -> Tensor:
    """A cubic B-spline with (k,k,k) float32 control points, as by ``smooth_field``: (*shape) float32."""
    field = torch.from_numpy(points).to(device)
    for n in shape:  # each turn consumes the first axis and appends the fine one
        field = torch.tensordot(field, torch.from_numpy(spline_weights(n, len(points))).to(device), dims=([0], [0]))
    return field


def _copy_box(box: Tensor, low: Sequence[int], start: Sequence[int], mirrored: Sequence[bool], patch: Tensor) -> None:
    """Copy a (C,*box) to its place in a (C,*patch) patch, 0 elsewhere; a mirrored axis counts from the patch's end."""
    place = []
    for first, begin, n, p, flipped in zip(low, start, box.shape[1:], patch.shape[1:], mirrored, strict=True):
        a, b = first - begin, first - begin + n
        place.append(slice(p - b, p - a) if flipped else slice(a, b))
    if box.shape[1:] != patch.shape[1:]:
        patch.zero_()
    if box.numel():
        patch[(slice(None), *place)] = box.flip([axis + 1 for axis, flipped in enumerate(mirrored) if flipped])


def _list_offsets(
    rows: slice, size: Sequence[int], displacement: Tensor | None, device: torch.device
) -> tuple[Tensor, Tensor, Tensor]:
    """Rows of a patch as (z,y,x) float64 offsets to its middle, voxels, ready to be added up.

    Args:
        rows: of the first axis.
        size: voxels per axis of the whole patch.
        displacement: (3,*size) float32 voxels, or None.
    """
    offsets = []
    for axis, n in enumerate(size):
        along = torch.arange(n, dtype=torch.float64, device=device) - (n - 1) / 2
        along = (along[rows] if axis == 0 else along).view([-1 if k == axis else 1 for k in range(3)])
        offsets.append(along if displacement is None else along + displacement[axis, rows])
    return offsets[0], offsets[1], offsets[2]


def _find_ends(offsets: tuple[Tensor, Tensor, Tensor], matrix: np.ndarray, centre: float, n: int) -> _Ends:
    """The ends along one axis.

    Args:
        offsets: of the patch's voxels, as listed.
        matrix: (3,) float64, the axis's row.
        centre: middle of the patch, voxels of the box.
        n: voxels of the box.
    """
    a, b, c = offsets
    position = matrix[0] * a + matrix[1] * b + matrix[2] * c + centre
    low = position.floor()
    second = position - low
    high, none = low + 1, torch.zeros_like(low)
    return _Ends(
        low=low.clamp(0, n - 1).long(),
        high=high.clamp(0, n - 1).long(),
        first=torch.where((low >= 0) & (low < n), 1.0 - second, none),
        second=torch.where((high >= 0) & (high < n), second, none),
    )


def _list_corners(ends: Sequence[_Ends], shape: Sequence[int]) -> list[Tensor]:
    """(rows * Y * X) int64 indices into the flat box of the eight voxels around each position, x changing soonest."""
    z, y, x = ends
    return [
        ((along_z * shape[1] + along_y) * shape[2] + along_x).reshape(-1)
        for along_z in (z.low, z.high)
        for along_y in (y.low, y.high)
        for along_x in (x.low, x.high)
    ]


def _interpolate(flat: Tensor, corners: Sequence[Tensor], ends: Sequence[_Ends], patch: Tensor) -> None:
    """Fill (C,rows,Y,X) float32 from the (C,voxels) box: the weighted sum over the eight corners."""
    z, y, x = ends
    weights = [
        (along_z * along_y).float().reshape(-1) for along_z in (z.first, z.second) for along_y in (y.first, y.second)
    ]
    sides = []
    for side in (0, 1):
        parts = [w * flat.index_select(1, corners[2 * i + side]).float() for i, w in enumerate(weights)]
        sides.append((parts[0] + parts[1]) + (parts[2] + parts[3]))
    along_x = [weight.float().reshape(-1) for weight in (x.first, x.second)]
    patch.copy_((along_x[0] * sides[0] + along_x[1] * sides[1]).view(patch.shape))


def _vote(values: Tensor, corners: Sequence[Tensor], ends: Sequence[_Ends], target: Tensor) -> None:
    """Fill (rows,Y,X) int16 with the label of the largest weight, the smaller one when two are equal.

    What lies outside the box votes for 0. Few voxels have corners that disagree, so only those are counted out.
    """
    z, y, x = ends
    labels = torch.stack([values.index_select(0, corner) for corner in corners])
    inside = ((z.first + z.second) * (y.first + y.second) * (x.first + x.second)).reshape(-1)
    first = labels[0]
    clear = (labels[1:] == first).all(dim=0) & ((first == 0) | (inside > 0.5))
    unclear = (~clear).nonzero().reshape(-1)
    elected = first.to(torch.int16)
    if len(unclear):
        weights = torch.stack(
            [
                (along_z * along_y).reshape(-1)[unclear] * along_x.reshape(-1)[unclear]
                for along_z in (z.first, z.second)
                for along_y in (y.first, y.second)
                for along_x in (x.first, x.second)
            ]
        )
        elected[unclear] = _count_votes(labels[:, unclear], weights, 1.0 - inside[unclear])
    target.copy_(elected.view(target.shape))


def _count_votes(labels: Tensor, weights: Tensor, rest: Tensor) -> Tensor:
    """The winner of each voxel: (8,N) labels with (8,N) float64 weights, ``rest`` (N,) for 0; (N,) int16."""

    def count(label: Tensor, total: Tensor) -> Tensor:
        for corner, weight in zip(labels, weights, strict=True):
            total = total + weight * (corner == label)
        return total

    best = torch.zeros_like(labels[0])
    most = count(best, rest)
    for label in labels:
        total = count(label, torch.where(label == 0, rest, torch.zeros_like(rest)))
        wins = (total > most) | ((total == most) & (label < best))
        best, most = torch.where(wins, label, best), torch.where(wins, total, most)
    return best.to(torch.int16)
