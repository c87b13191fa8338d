"""Resampling on any device: the same matrices as ``resampling``, multiplied by torch.

Apart from the rest of the room because preprocessing itself, in its many processes, needs no torch.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from autoseg.preprocessing.resampling import axis_matrices, growing_axes


def resample_tensor(
    voxels: Tensor, shape: Sequence[int], *, order: int, separate_axis: int | None, clip: bool = True
) -> Tensor:
    """Resize every channel as ``resample_image`` does, where the voxels are.

    One channel after the other, so that beside the result only one channel's intermediate product is held.

    Args:
        voxels: (C,Z,Y,X) floating, on any device.
        shape: (Z',Y',X').
        order: 0 nearest, 1 linear, 3 cubic spline.
        separate_axis: the axis that takes its nearest neighbour, or None.
        clip: keep each channel in its own range, as images are; logits need none, being interpolated linearly.

    Returns:
        (C,Z',Y',X') float32 on the same device; where nothing changes, the voxels as they came.
    """
    matrices = axis_matrices(tuple(voxels.shape[1:]), shape, order, separate_axis)
    if not any(matrix is not None for matrix in matrices):
        return voxels
    moved = [None if matrix is None else _on(voxels.device, matrix) for matrix in matrices]
    out = torch.empty((len(voxels), *shape), dtype=torch.float32, device=voxels.device)
    axes = growing_axes(matrices)
    # Under a training's autocast the products would be made in half precision.
    with torch.no_grad(), torch.autocast(voxels.device.type, enabled=False):
        for channel, resized in zip(voxels, out, strict=True):
            single = channel.float()
            _multiply(single, moved, axes, resized)
            if clip:
                _clip(single, None if separate_axis is None else matrices[separate_axis], separate_axis, resized)
    return out


def _on(device: torch.device, matrix: np.ndarray) -> Tensor:
    return torch.tensor(matrix, device=device)  # a copy: the matrix is cached and must stay as it is


def _multiply(voxels: Tensor, matrices: Sequence[Tensor | None], axes: Sequence[int], out: Tensor) -> None:
    """Multiply the axes in turn; the last product goes into ``out``, (Z',Y',X') float32."""
    for axis in axes:
        matrix = matrices[axis]
        assert matrix is not None
        last = axis == axes[-1]
        if axis == voxels.ndim - 1:
            voxels = torch.matmul(voxels, matrix.T, out=out) if last else voxels @ matrix.T
        elif axis == 0:
            flat = voxels.reshape(len(voxels), -1)
            shape = (len(matrix), *voxels.shape[1:])
            if last:
                torch.matmul(matrix, flat, out=out.view(len(matrix), -1))
            else:
                voxels = (matrix @ flat).view(shape)
        else:
            voxels = torch.matmul(matrix, voxels, out=out) if last else matrix @ voxels


def _clip(source: Tensor, matrix: np.ndarray | None, separate_axis: int | None, out: Tensor) -> None:
    """Into the range of the whole channel, or of each slice where one axis is resampled separately; in place."""
    other_axes = [axis for axis in range(source.ndim) if axis != separate_axis]
    low, high = source.amin(other_axes, keepdim=True), source.amax(other_axes, keepdim=True)
    if separate_axis is not None and matrix is not None:
        slices = torch.from_numpy(matrix.argmax(axis=1)).to(source.device)
        low, high = low.index_select(separate_axis, slices), high.index_select(separate_axis, slices)
    torch.clamp(out, low, high, out=out)
