"""Tiles: their positions, and the weight of each of their voxels."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache
from itertools import combinations

import numpy as np

# Range of normalised intensities that counts as constant: a spline's ringing far outside the head stays below it.
MAX_CONSTANT_RANGE = 1e-3


def tile_starts(size: int, tile: int, step: float) -> tuple[int, ...]:
    """First voxels of the tiles along one axis: evenly spread, at most ``step`` tiles apart, the last one flush.

    Source: nnU-Net, doi:10.1038/s41592-020-01008-z.

    Args:
        size: voxels along the axis, at least ``tile``.
        tile: voxels of a tile.
        step: largest distance between tiles as a fraction of the tile.
    """
    count = math.ceil((size - tile) / (tile * step)) + 1
    spread = (size - tile) / max(count - 1, 1)
    return tuple(round(number * spread) for number in range(count))


@lru_cache(maxsize=8)
def gaussian_weight(tile: tuple[int, ...], sigma: float) -> np.ndarray:
    """Gaussian weight of each voxel of a tile: 1 at its centre, never 0, so that every covered voxel gets a prediction.

    Along an even edge the centre is the later of the two middle voxels, as in nnU-Net.

    Source: nnU-Net, doi:10.1038/s41592-020-01008-z (sigma = tile / 8).

    Args:
        sigma: standard deviation as a fraction of the tile.

    Returns:
        (*tile) float32, read-only.
    """
    weight = np.ones((), np.float64)
    for size in tile:
        distance = (np.arange(size) - size // 2) / (sigma * size)
        weight = np.multiply.outer(weight, np.exp(-0.5 * distance**2))
    weight = (weight / weight.max()).astype(np.float32)
    weight = np.maximum(weight, weight[weight > 0].min())
    weight.setflags(write=False)
    return weight


def mirror_combinations(axes: Sequence[int]) -> tuple[tuple[int, ...], ...]:
    """Every set of axes to flip, the empty set first."""
    return tuple(chosen for count in range(len(axes) + 1) for chosen in combinations(axes, count))


def is_featureless(image: np.ndarray, start: Sequence[int], tile: Sequence[int]) -> bool:
    """Whether a tile and the voxels that touch it are constant in every channel: background without any head.

    The voxels that touch it count so that a skipped tile never borders on the head.

    Args:
        image: (C,Z,Y,X) float32, preprocessed.
        start: the tile's first voxel.
        tile: voxels per axis.
    """
    box = tuple(slice(max(s - 1, 0), s + t + 1) for s, t in zip(start, tile, strict=True))
    inside = image[(slice(None), *box)]
    sparse = inside[:, ::4, ::4, ::4]  # settles nearly every tile that holds some of the head
    return _is_constant(sparse) and _is_constant(inside)


def _is_constant(voxels: np.ndarray) -> bool:
    return all(float(channel.max()) - float(channel.min()) <= MAX_CONSTANT_RANGE for channel in voxels)
